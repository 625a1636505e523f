"""What a file of Δ maps says of itself, made up."""

CLASSES = ("Non-Memo", "Guess[1k] · ü")


def attributes(**changes):
    """As `memgrid.localize.localize.provenance` gives them."""
    texts = dict.fromkeys(("llm", "corpus", "training", "weights", "memgrid"), "x")
    made = {"method": "guided", "classes": list(CLASSES), "members": ["a", "b", "c"], "samples": [2, 1], "k": 4, "inputs": "0123456789"}
    return {**texts, **made, **changes}
