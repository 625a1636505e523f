"""Sequences and training documents: the embedded corpus, the paper's dataset, and text of a user's own."""
