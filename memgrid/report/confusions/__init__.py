"""All confusion matrices: as a table of cells, and in pages of figures with the paper's sums."""
