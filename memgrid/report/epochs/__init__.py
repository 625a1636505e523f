"""How the networks of a run learned, epoch by epoch."""
