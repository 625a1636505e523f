"""Taxonomies of memorization: ordered classes, each with a rule."""
