"""What is going on now: what a process says of its work while it lasts, and what SLURM's queue says of jobs."""
