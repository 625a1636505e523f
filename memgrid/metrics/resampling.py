"""The bootstrap: statistics when samples are drawn again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], samples: int, rounds: int, seed: int, *, counted: bool = False) -> np.ndarray:
    """A statistic when samples are drawn again, with as many as there are: its value in each resample, (rounds, ...).

    Args:
        statistic: of all resamples at once. It is given which samples each of them has, int64 (rounds, samples), or, with `counted`, how
            often each has every sample (see `how_often`). The two are drawn in ways of their own, by the same law.
    """
    random = np.random.default_rng(seed)
    if counted:
        return statistic(random.multinomial(samples, np.full(samples, 1 / samples), rounds))
    return statistic(random.integers(0, samples, (rounds, samples)))


def how_often(drawn: np.ndarray) -> np.ndarray:
    """How often each resample has every sample, int64 (rounds, samples), from which samples it has, int (rounds, samples)."""
    rounds, samples = drawn.shape
    return np.bincount((drawn + samples * np.arange(rounds)[:, None]).ravel(), minlength=drawn.size).reshape(drawn.shape)


def middle(values: np.ndarray, low: float = 0.025, high: float = 0.975) -> np.ndarray:
    """What bounds the middle of bootstrap values, 95 % where nothing else is said: (2, ...) from (rounds, ...)."""
    return np.quantile(values, [low, high], axis=0)


def mean_interval(values: np.ndarray, rounds: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the mean of some values, float64 (n,), when they are drawn again."""
    low, high = middle(bootstrap(lambda drawn: values[drawn].mean(1), len(values), rounds, seed))
    return float(low), float(high)
