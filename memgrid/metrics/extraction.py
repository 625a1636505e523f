"""How memorized a sequence is: numbers from what a model says of its suffix, token by token. Pure functions.

`p_extract` is the probability that one sampled continuation of the prefix is the suffix, the product of the probabilities of its tokens. A
sequence is (n, p)-extractable if one of n continuations is its suffix with a probability of at least p: 1 - (1 - p_extract)^n >= p (Hayes
et al. 2024, Cooper et al. 2025). `shortest_prefix` is the least number of first tokens from which greedy decoding gives all the others, the
whole length where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy.special import ndtri

from memgrid.metrics.intervals import SIDE, wilson

TRIES = np.unique(np.geomspace(1, 10_000, 41).round().astype(int))  # n, ten a decade
CHANCES = (0.1, 0.5, 0.9)  # p
COUNTED = ("extraction", "prefix", "copies")
ALL = "all"  # of the classes
MODELS = {"model": "", "reference": "reference_"}  # in the column `by` → what the names of labels begin with
BINS = 12  # of numbers of copies, at most; so many different ones, or fewer, are a bin each


def least_probability(tries: Int[np.ndarray, " n"] | int, chance: float) -> Float[np.ndarray, " n"]:
    """The `p_extract` from which on a sequence is extractable in so many tries with a probability of `chance`, in 0..1.

    1 - (1 - chance)^(1/n), by way of logarithms: the difference from 1 is lost neither for a million tries nor for a chance near 0.

    Args:
        tries: n, from 1. chance: p, above 0 and below 1.
    """
    n = np.asarray(tries, float)
    return np.where(n == 1, chance, -np.expm1(np.log1p(-chance) / n))


def extractable(
    p_extract: Float[np.ndarray, " sequences"], tries: Int[np.ndarray, " n"] = TRIES, chance: float = CHANCES[1]
) -> Int[np.ndarray, " n"]:
    """How many sequences are extractable in each number of tries with a probability of `chance`.

    A sequence of probability 1 is with any, one of probability 0 never.
    """
    return len(p_extract) - np.searchsorted(np.sort(p_extract), least_probability(tries, chance), side="left")


def reproduced(shortest_prefix: Int[np.ndarray, " sequences"], length: int) -> Int[np.ndarray, " length"]:
    """How many sequences greedy decoding reproduces from a prefix of 1, 2, … `length` tokens; from all of them, every one."""
    return np.bincount(shortest_prefix, minlength=length + 1)[: length + 1].cumsum()[1:]


def length_of(shortest_prefix: Int[np.ndarray, " sequences"], extraction_strength: Float[np.ndarray, " sequences"]) -> int:
    """The tokens of a sequence, which its labels do not tell: the strength of a prefix of j tokens is 1 - j / length. Of no sequence, 0."""
    if not len(shortest_prefix):
        return 0
    at = int(extraction_strength.argmax())
    return round(int(shortest_prefix[at]) / (1 - float(extraction_strength[at])))


def share_interval(count: np.ndarray | float, number: np.ndarray | int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A share in percent, and both ends of its 95 % interval (Wilson 1927), (...) each; of nothing, all three are 0, 0 and 100.

    Sequences count as independent, which near-duplicates are not: of many of these the interval is too narrow.
    """
    many = np.asarray(number, float)
    share = 100 * np.asarray(count, float) / np.maximum(many, 1)
    low, high = wilson(share, np.zeros_like(share), many, np.asarray(ndtri(SIDE)))
    return share, low, high


def median_interval(values: Float[np.ndarray, " sequences"]) -> tuple[float, float, float]:
    """The median of numbers in 0..1, and both ends of an interval that holds that of all there are in 95 % of cases at least.

    The ends are two of the numbers, as far from the middle as the count of heads of so many coins is; 0 and 1 where there are too few.
    """
    ordered, many = np.sort(values), len(values)
    if not many:
        return float("nan"), 0.0, 1.0
    outside = int(np.floor(many / 2 - float(ndtri(SIDE)) * np.sqrt(many) / 2))
    low, high = (ordered[outside - 1], ordered[many - outside]) if outside > 0 else (0.0, 1.0)
    return float(np.median(ordered)), float(low), float(high)


def copy_bins(duplicates: Int[np.ndarray, " sequences"]) -> list[tuple[int, int]]:
    """Numbers of copies that are counted together, the least and the most of each bin, in their order; no bin is empty.

    Where there are at most `BINS` different numbers, as in a corpus that was designed with 0, 1, 4 or 16 copies, each is a bin. Else 0 is
    one, and the others begin at powers of 2 (1, 2-3, 4-7), or of 4, of 8 and so on, the first of which there are few enough.
    """
    different = np.unique(duplicates)
    if len(different) <= BINS:
        return [(int(number), int(number)) for number in different]
    for power in range(1, 64):
        starts = np.array([0, *(2 ** (power * at) for at in range(64 // power) if 2 ** (power * at) <= different[-1])], np.int64)
        filled = np.unique(np.searchsorted(starts, different, side="right") - 1)
        if len(filled) <= BINS:
            break
    ends = np.append(starts[1:], different[-1] + 1) - 1
    return [(int(starts[at]), int(max(ends[at], starts[at]))) for at in filled]


def copies_row(memorized: Bool[np.ndarray, " sequences"], p_extract: Float[np.ndarray, " sequences"], prefix: str = "") -> dict[str, float]:
    """Which share of some sequences is memorized, in percent, and the median and the mean of their `p_extract`, each with its interval.

    Args:
        prefix: of the names. The interval of the mean is as wide as that of a share: numbers in 0..1 with that mean cannot vary more.
    """
    share = share_interval(int(memorized.sum()), len(memorized))
    mean = [end / 100 for end in share_interval(float(p_extract.sum()), len(p_extract))]
    numbers: dict[str, Sequence[Any]] = {"memorized": share, "p_extract_median": median_interval(p_extract), "p_extract_mean": mean}
    ends = ("", "_low", "_high")
    return {f"{prefix}{name}{end}": float(one) for name, three in numbers.items() for end, one in zip(ends, three, strict=True)}


def tables_of(features: pl.DataFrame, classes: dict[str, np.ndarray], length: int) -> dict[str, pl.DataFrame]:
    """The tables of one set of weights by `COUNTED`; `by` says whether the model itself is meant, or its reference.

    Args:
        classes: bool (sequences,), which are of each class.
    """
    some = {ALL: np.ones(features.height, bool), **{title: own for title, own in classes.items() if own.any()}}
    models = {by: start for by, start in MODELS.items() if f"{start}p_extract" in features.columns}
    tries, prefixes = list[dict[str, Any]](), list[dict[str, Any]]()
    for by, start in models.items():
        p_extract, shortest = (features[f"{start}{name}"].to_numpy() for name in ("p_extract", "shortest_prefix"))
        for title, own in some.items():
            names = {"by": by, "class": title, "sequences": int(own.sum())}
            for chance in CHANCES:
                tries += rows_of(names | {"p": chance}, "n", TRIES, extractable(p_extract[own], TRIES, chance))
            prefixes += rows_of(names, "prefix", np.arange(1, length + 1), reproduced(shortest[own], length))
    return dict(zip(COUNTED, (pl.DataFrame(tries), pl.DataFrame(prefixes), copies_of(features, list(models.values()))), strict=True))


def copies_of(features: pl.DataFrame, models: Sequence[str]) -> pl.DataFrame:
    """A row per number of copies, or bin of numbers; without rows where it is not known.

    Args:
        models: what the names of the columns of each model begin with.
    """
    if "duplicates" not in features.columns:
        return pl.DataFrame()
    rows = []
    for least, most in copy_bins(features["duplicates"].to_numpy()):
        some = features.filter(pl.col("duplicates").is_between(least, most))
        numbers: dict[str, Any] = {"copies": f"{least:,}" if least == most else f"{least:,}–{most:,}", "least": least, "most": most}
        numbers["sequences"] = some.height
        for start in models:
            numbers |= copies_row(some[f"{start}memorized"].to_numpy(), some[f"{start}p_extract"].to_numpy(), start)
        rows.append(numbers)
    return pl.DataFrame(rows)


def rows_of(names: dict[str, Any], axis: str, numbers: np.ndarray, counts: np.ndarray) -> Iterator[dict[str, Any]]:
    """A row per number: how many of `sequences`, and their share with its interval."""
    shares = share_interval(counts, names["sequences"])
    for number, count, share, low, high in zip(numbers.tolist(), counts.tolist(), *(end.tolist() for end in shares), strict=True):
        yield names | {axis: number, "count": count, "share": share, "low": low, "high": high}
