"""What a run's networks, its probes and its baselines say of the samples of another run, and whether that is more than chance."""
