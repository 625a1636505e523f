"""What networks that were trained on one run say of the samples of another: which runs are asked for, and what is kept of it."""
