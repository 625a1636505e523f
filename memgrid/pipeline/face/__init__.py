"""What is finished, to be looked at in Python."""
