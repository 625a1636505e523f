"""Where the networks decide: attribution, Δ maps and their test by random weights."""
