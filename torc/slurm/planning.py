"""Which allocations to ask for, when, and of which size. Pure."""
