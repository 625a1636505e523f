"""Whether classes are told apart: a statement about pairs of them.

The F1 of a class is no answer. Who separates {a, b} from {c, d} and guesses inside each of the two reaches 50 on all four classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import hypergeom


def pairs(classes: int) -> list[tuple[int, int]]:
    """All pairs of classes, the first before the second."""
    return list(combinations(range(classes), 2))


def leads(labels: np.ndarray, probabilities: np.ndarray, pair: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What is said on the samples of two classes when asked which of the two it is.

    Args:
        labels: int (n,). probabilities: float (..., n, classes).

    Returns:
        Whether a sample is of the first class, bool (m,), and by how much more probable that is called than the second, float (..., m).
    """
    inside = np.isin(labels, pair)
    return labels[inside] == pair[0], probabilities[..., inside, pair[0]] - probabilities[..., inside, pair[1]]


def right(first: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """Whose class is the one that is called more probable: float64 (..., m) of 0, 1, and 0.5 for a tie; the arguments as `leads` gives."""
    return (np.sign(np.where(first, lead, -lead)) + 1) / 2


def balanced_accuracy(first: np.ndarray, lead: np.ndarray) -> float:
    """The mean over both classes of the share that is right, in percent; a tie is right by half. NaN where a class has no sample."""
    hits = right(first, lead)
    return float(50 * (hits[first].mean() + hits[~first].mean())) if 0 < first.sum() < len(first) else float("nan")


def chance(first: np.ndarray, lead: np.ndarray) -> float:
    """How probable so high a balanced accuracy is if labels are permuted among the samples: exact (Fisher 1935), one-sided.

    With as many of each class and as many answers as there are, the number of right ones in the first class says all, and it is
    hypergeometric. A tie is called the second class, which no label has a part in. 1 where a class has no sample, or all get one answer.
    """
    called = lead > 0
    return float(hypergeom.sf((called & first).sum() - 1, len(first), first.sum(), called.sum()))


def of_groups(first: np.ndarray, lead: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of groups of samples, by their mean lead: near-duplicates are answered alike, and would count as often as there are copies.

    Args:
        groups: int (m,). A group that has samples of both classes counts in each.
    """
    units, member = np.unique(np.stack([groups, first], 1), axis=0, return_inverse=True)
    return units[:, 1].astype(bool), np.bincount(member.ravel(), lead) / np.bincount(member.ravel())


def holm(chances: Sequence[float]) -> list[float]:
    """p-values of several questions, so that the chance of any wrong yes is at most the level (Holm 1979)."""
    order = np.argsort(chances)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(chances)[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted.tolist()


def pair_scores(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Each pair of classes on the eval side: {first, second, accuracy, chance, adjusted}, in the order of `pairs`.

    Args:
        labels: int (n,). probabilities: float (n, classes), the panel's means.
        groups: int (n,), equal for near-duplicates; without, each sample is a group of its own.

    Returns:
        `accuracy` is balanced, in percent, over samples; `chance` is its p over groups, `adjusted` the same by Holm over all pairs.
    """
    asked = units = [leads(labels, probabilities, pair) for pair in pairs(probabilities.shape[1])]
    if groups is not None:
        inside = [groups[np.isin(labels, pair)] for pair in pairs(probabilities.shape[1])]
        units = [of_groups(*told, own) for told, own in zip(asked, inside, strict=True)]
    chances = [chance(*told) for told in units]
    return [
        {"first": first, "second": second, "accuracy": balanced_accuracy(*told), "chance": p, "adjusted": adjusted}
        for (first, second), told, p, adjusted in zip(pairs(probabilities.shape[1]), asked, chances, holm(chances), strict=True)
    ]
