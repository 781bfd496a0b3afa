"""Slurm: what a cluster has, how to ask for allocations, follow them, and work in them."""
