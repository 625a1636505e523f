"""Sweeps: combinations, jobs, and launchers for SLURM and local processes."""
