"""What a workflow will take, and which allocations it needs. Pure."""
