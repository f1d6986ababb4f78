"""Show runs while they are written, on a local page; it reads their folders and nothing else."""
