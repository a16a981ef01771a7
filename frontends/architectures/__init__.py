"""Model architectures: one file each, the plain forward and nothing else."""
