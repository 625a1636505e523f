"""A run on disk: its folder, its result, its records and its state."""
