"""Rules: conditions on the features of a sequence, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from memgrid.taxonomy.thresholds import Thresholds


@dataclass(frozen=True)
class Rule:
    """A condition, the feature groups (see `memgrid.label.labels`) that it reads, and a sentence for people."""

    condition: Callable[[Thresholds], pl.Expr]
    needs: tuple[str, ...]
    meaning: str


def _reconstruct(_: Thresholds) -> pl.Expr:
    return pl.col("memorized") & (pl.col("is_repeating") | pl.col("is_incrementing"))


def _guess(t: Thresholds) -> pl.Expr:
    return pl.col("memorized") & (pl.col("is_repeating") | pl.col("is_incrementing") | t.high_rouge)


# how-it-works 4 (Rules): all but the first need `memorized`; thresholds compare the value itself.
RULES: dict[str, Rule] = {
    "non_memorized": Rule(lambda _: ~pl.col("memorized"), (), "the continuation differs from the suffix"),
    "recite": Rule(lambda t: pl.col("memorized") & (pl.col("duplicates") > t.delta), ("duplicates",), "more than δ duplicates"),
    "recollect": Rule(lambda t: pl.col("memorized") & (pl.col("duplicates") <= t.delta), ("duplicates",), "at most δ duplicates"),
    "reconstruct": Rule(_reconstruct, ("templates",), "the text repeats itself or counts"),
    "guess": Rule(_guess, ("templates", "rouge"), "the text repeats itself or counts, or prefix and suffix overlap by ρ"),
    "code": Rule(lambda _: pl.col("memorized") & pl.col("is_code"), ("code",), "the text is code"),
    "memorized": Rule(lambda _: pl.col("memorized"), (), "any memorized sequence that no earlier class took"),
    "heads": Rule(lambda _: pl.col("memorized") & pl.col("heads"), ("coin",), "a coin, drawn from tokens and seed, shows heads"),
    "frequent": Rule(
        lambda _: pl.col("memorized") & (pl.col("rank") > MEDIAN),
        ("duplicates", "rank"),
        "more duplicates than the median of the memorized",
    ),
}
NULL = ("coin", "rank")  # feature groups of rules that split for no reason; no file holds them
MEDIAN = 0.5
