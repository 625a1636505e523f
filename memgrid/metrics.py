"""Scores of a classifier from confusion matrices, and how sure they are. Rows of a matrix are true classes, columns predicted ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class in percent, float64 (..., classes), from int (..., classes, classes).

    A class that is never predicted has precision 0 and F1 0, not NaN.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    predicted, true = confusion.sum(-2), confusion.sum(-1)
    return {
        "precision": 100 * hits / np.maximum(predicted, 1),
        "recall": 100 * hits / np.maximum(true, 1),
        "f1": 200 * hits / np.maximum(predicted + true, 1),
    }


def scores(confusion: np.ndarray) -> dict[str, Any]:
    """All scores of one matrix in percent: per class, min-F1 (the paper's score), mean-F1 and accuracy, as plain numbers."""
    by_class = class_scores(confusion)
    return {
        **{name: values.tolist() for name, values in by_class.items()},
        "min_f1": float(by_class["f1"].min()),
        "mean_f1": float(by_class["f1"].mean()),
        "accuracy": float(100 * np.trace(confusion) / max(1, confusion.sum())),
    }


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts, int64 (..., classes, classes), of labels (n,) or (..., n) against predictions (..., n)."""
    labels, predicted = np.broadcast_arrays(labels, predicted)
    kinds = labels * classes + predicted
    flat = kinds.reshape(-1, kinds.shape[-1]) + (np.arange(kinds.size // kinds.shape[-1]) * classes**2)[:, None]
    counts = np.bincount(flat.ravel(), minlength=len(flat) * classes**2)
    return counts.reshape(*kinds.shape[:-1], classes, classes)


def panel_scores(labels: np.ndarray, predicted: np.ndarray, classes: int, seed: int, rounds: int = 1000) -> dict[str, Any]:
    """The panel on one eval set: mean over members, spread over members, and a 95 % bootstrap interval over samples, in percent.

    Args:
        labels: int (n,).
        predicted: int (members, n), each member's class.

    Returns:
        `f1`, `precision`, `recall`: a list of {mean, std, low, high} per class; `min_f1`, `mean_f1`, `accuracy`: one such entry. `std` is
        the standard deviation over members (0 for one member); `low` and `high` bound the panel's mean when eval samples are drawn again.
    """
    values = summary_values(confusion_matrix(labels, predicted, classes))
    drawn = bootstrap(partial(resampled_confusions, labels, predicted, classes), len(labels), rounds, seed)
    again = summary_values(drawn)
    result: dict[str, Any] = {}
    for name, value in values.items():
        low, high = middle(again[name].mean(1))
        entries = {"mean": value.mean(0), "std": value.std(0), "low": low, "high": high}
        if value.ndim == 1:
            result[name] = {key: float(number) for key, number in entries.items()}
        else:
            result[name] = [{key: float(numbers[c]) for key, numbers in entries.items()} for c in range(classes)]
    return result


def resampled_confusions(labels: np.ndarray, predicted: np.ndarray, classes: int, drawn: np.ndarray) -> np.ndarray:
    """The matrices of each resample, int64 (rounds, members, classes, classes); the arguments are those of `panel_scores`.

    Args:
        drawn: which samples each resample has, int (rounds, n).
    """
    kinds = labels * classes + predicted  # (members, n), of classes² kinds
    each = (kinds[..., None] == np.arange(classes**2)).transpose(1, 0, 2).reshape(len(labels), -1)
    # One product for all resamples: whole numbers far below 2^53 are exact as float64, and only these have a fast product.
    total = how_often(drawn).astype(float) @ each.astype(float)
    return total.astype(np.int64).reshape(len(drawn), len(kinds), classes, classes)


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


def summary_values(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Per class (..., members, classes) and overall (..., members) scores in percent, from (..., members, classes, classes)."""
    by_class = class_scores(confusion)
    correct = np.trace(confusion, axis1=-2, axis2=-1)
    return {
        **by_class,
        "min_f1": by_class["f1"].min(-1),
        "mean_f1": by_class["f1"].mean(-1),
        "accuracy": 100 * correct / confusion.sum((-2, -1)),
    }
