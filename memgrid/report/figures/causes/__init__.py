"""Figures of where networks decide, and of what switching that off does."""
