"""What goes on by itself, within limits that somebody set: following a workflow, and recovering it."""
