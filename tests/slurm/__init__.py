"""A real Slurm of three nodes, and the batch scripts on it."""
