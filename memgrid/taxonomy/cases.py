"""Cases: every way in which rules can tell sequences apart; a taxonomy is a function of these alone."""

from __future__ import annotations

import itertools

import polars as pl

from memgrid.taxonomy.thresholds import Thresholds


def all_cases() -> pl.DataFrame:
    """A row for every way in which rules can tell sequences apart: not memorized, or memorized with each answer of the four features."""
    answers = itertools.product((True, False), repeat=4)
    rows = [(True, template, template, int(many), float(high), float(high), code) for many, template, high, code in answers]
    names = ("memorized", "is_repeating", "is_incrementing", "duplicates", "rouge_l", "rouge_3", "is_code")
    return pl.DataFrame([(False, *rows[-1][1:]), *rows], schema=list(names), orient="row")


CASES = all_cases()
NULL_CASES = pl.DataFrame(
    [(heads, float(upper)) for heads, upper in itertools.product((True, False), repeat=2)], schema=["heads", "rank"], orient="row"
)
CASE_THRESHOLDS = Thresholds(delta=0, rho=0.5, rouge="both")
