"""Finished runs as a data set folder that others can load: tables, what their columns mean, and a card."""
