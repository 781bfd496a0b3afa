"""The tools, grouped by purpose."""
