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
        labels: int (n,). probabilities: float (n, classes).

    Returns:
        Whether a sample is of the first class, bool (m,), and by how much more probable that is called than the second, float (m,).
    """
    inside = np.isin(labels, pair)
    return labels[inside] == pair[0], probabilities[inside, pair[0]] - probabilities[inside, pair[1]]


def balanced_accuracy(first: np.ndarray, lead: np.ndarray) -> float:
    """The mean over both classes of the share that is right, in percent; a tie is right by half. NaN where a class has no sample."""
    right = (np.sign(np.where(first, lead, -lead)) + 1) / 2
    return float(50 * (right[first].mean() + right[~first].mean())) if 0 < first.sum() < len(first) else float("nan")


def chance(first: np.ndarray, lead: np.ndarray) -> float:
    """How probable so high a balanced accuracy is if labels are permuted among the samples: exact (Fisher 1935), one-sided.

    With as many of each class and as many answers as there are, the number of right ones in the first class says all, and it is
    hypergeometric. A tie is called the second class, which no label has a part in. 1 where a class has no sample, or all get one answer.
    """
    called = lead > 0
    return float(hypergeom.sf((called & first).sum() - 1, len(first), first.sum(), called.sum()))


def holm(chances: Sequence[float]) -> list[float]:
    """p-values of several questions, so that the chance of any wrong yes is at most the level (Holm 1979)."""
    order = np.argsort(chances, kind="stable")
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(chances)[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted.tolist()


def pair_scores(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Each pair of classes on the eval side: {first, second, accuracy, chance, adjusted}, in the order of `pairs`.

    Args:
        labels: int (n,). probabilities: float (n, classes), the panel's means.

    Returns:
        `accuracy` is balanced, in percent; `chance` is its p, `adjusted` the same by Holm over all pairs.
    """
    asked = [leads(labels, probabilities, pair) for pair in pairs(probabilities.shape[1])]
    chances = [chance(*told) for told in asked]
    return [
        {"first": first, "second": second, "accuracy": balanced_accuracy(*told), "chance": p, "adjusted": adjusted}
        for (first, second), told, p, adjusted in zip(pairs(probabilities.shape[1]), asked, chances, holm(chances), strict=True)
    ]
