"""A real Slurm cluster of virtual nodes on this machine, to try workflows and to test Torc."""
