"""Jobs as steps of a Slurm allocation."""
