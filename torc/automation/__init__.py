"""What happens automatically, within limits set by the user: following a workflow, and recovering it."""
