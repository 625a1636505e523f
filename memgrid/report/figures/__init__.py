"""Figures, for runs and for the page."""
