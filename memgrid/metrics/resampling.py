"""The bootstrap: statistics when samples are drawn again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], samples: int, rounds: int, seed: int) -> np.ndarray:
    """A statistic when samples are drawn again, with as many as there are: its value in each resample, (rounds, ...).

    Args:
        statistic: of all resamples at once. It is given how often each has every sample, int64 (rounds, samples).
    """
    return statistic(np.random.default_rng(seed).multinomial(samples, np.full(samples, 1 / samples), rounds))


def group_counts(groups: np.ndarray, rounds: int, seed: int) -> np.ndarray:
    """How often each of some resamples has every sample, int64 (rounds, n), when whole groups are drawn, as many as there are.

    Near-duplicates are no independent samples: a group stays together, and resamples of unequal groups differ in size.

    Args:
        groups: int (n,), the group of each sample.
    """
    names, member = np.unique(groups, return_inverse=True)
    counts = how_often(np.random.default_rng(seed).integers(0, len(names), (rounds, len(names))))
    alone = np.array_equal(member, np.arange(len(names)))  # each sample is a group of its own: to copy the counts takes as long as they do
    return counts if alone else counts[:, member]


def how_often(drawn: np.ndarray) -> np.ndarray:
    """How often each resample has every sample, int64 (rounds, samples), from which samples it has, int (rounds, samples)."""
    rounds, samples = drawn.shape
    return np.bincount((drawn + samples * np.arange(rounds)[:, None]).ravel(), minlength=drawn.size).reshape(drawn.shape)


def middle(values: np.ndarray, low: float = 0.025, high: float = 0.975) -> np.ndarray:
    """What bounds the middle of bootstrap values, 95 % where nothing else is said: (2, ...) from (rounds, ...)."""
    return np.quantile(values, [low, high], axis=0)


def mean_interval(values: np.ndarray, groups: np.ndarray | None = None, rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the mean of some values, float64 (n,), when they are drawn again, whole groups of them where there are such."""
    counts = group_counts(np.arange(len(values)) if groups is None else groups, rounds, seed)
    low, high = middle(counts @ values / counts.sum(1))
    return float(low), float(high)
