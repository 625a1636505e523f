"""What is asked: the settings with their types and limits, what follows from them, and what a run is called."""
