"""Columns that rules can compare: those of labels with the group that each is of, and all others, which a user's own table brings."""

from __future__ import annotations

import math

OWN = "own"  # the group of columns that the user's table of sequences brings; no file of labels holds them

KNOWN = ("memorized", "confidence", "prefix_logprob", "suffix_logprob")
DEGREES = ("p_extract", "shortest_prefix", "extraction_strength", "min_k", "min_k_plus", "zlib_ratio")
REFERENCE = "reference_"  # what the columns of a reference model begin with

# The groups of labels and their columns; see `memgrid.label.labels`.
GROUPS: dict[str, tuple[str, ...]] = {
    "memorized": KNOWN,
    "degrees": DEGREES,
    "duplicates": ("duplicates",),
    "templates": ("is_repeating", "is_incrementing"),
    "rouge": ("rouge_l", "rouge_3"),
    "code": ("is_code",),
    "near": ("near", "right_share"),
    "reference": (*(f"{REFERENCE}{name}" for name in (*KNOWN, *DEGREES)), "counterfactual"),
    "onset": ("onset",),
}
GROUP_OF = {column: group for group, columns in GROUPS.items() for column in columns}

SHARE, COUNT = (0.0, 1.0), (0.0, math.inf)
OF_ONE_MODEL: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("confidence", "p_extract", "extraction_strength", "rouge_l", "rouge_3", "right_share"), SHARE),
    **dict.fromkeys(("duplicates", "near", "onset"), COUNT),
    **dict.fromkeys(("prefix_logprob", "suffix_logprob", "min_k", "zlib_ratio"), (-math.inf, 0.0)),
    "shortest_prefix": (1.0, math.inf),
}
# The least and the most that a column can be, where it has limits of its own.
RANGES = {**OF_ONE_MODEL, **{f"{REFERENCE}{name}": limits for name, limits in OF_ONE_MODEL.items() if name in (*KNOWN, *DEGREES)}}
# A sequence is memorized just where these columns have these values.
WHOLE = {"near": 0.0, "right_share": 1.0}

TRUTHS = ("memorized", "is_repeating", "is_incrementing", "is_code", f"{REFERENCE}memorized")  # all others hold numbers


def group_of(column: str) -> str:
    """The group of labels that a column is of, or `OWN`."""
    return GROUP_OF.get(column, OWN)
