"""Training of the panel, its controls and what it is compared with."""
