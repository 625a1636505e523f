"""Files, locks, logs, the hub and progress bars."""
