"""What surrounds the sections of a page: one self-contained file, and what is said of all sections together."""
