"""The part of the page that opens sequences: tokens, attention, Δ, and what every network and baseline says of them."""
