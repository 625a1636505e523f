"""The language model: continuation, extractability and pooled attention in one pass."""
