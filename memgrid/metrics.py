"""Scores of a classifier from confusion matrices, and how sure they are. Rows of a matrix are true classes, columns predicted ones."""

from __future__ import annotations

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
    cells = labels * classes + predicted
    flat = cells.reshape(-1, cells.shape[-1]) + (np.arange(cells.size // cells.shape[-1]) * classes**2)[:, None]
    counts = np.bincount(flat.ravel(), minlength=len(flat) * classes**2)
    return counts.reshape(*cells.shape[:-1], classes, classes)


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
    drawn = np.random.default_rng(seed).integers(0, len(labels), (rounds, len(labels)))
    again = [summary_values(confusion_matrix(labels[rows], predicted[:, rows], classes)) for rows in drawn]
    result: dict[str, Any] = {}
    for name, value in values.items():
        low, high = np.percentile([one[name].mean(0) for one in again], [2.5, 97.5], axis=0)
        entries = {"mean": value.mean(0), "std": value.std(0), "low": low, "high": high}
        if value.ndim == 1:
            result[name] = {key: float(number) for key, number in entries.items()}
        else:
            result[name] = [{key: float(numbers[c]) for key, numbers in entries.items()} for c in range(classes)]
    return result


def summary_values(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Per class (members, classes) and overall (members,) scores in percent, from (members, classes, classes)."""
    by_class = class_scores(confusion)
    correct = np.trace(confusion, axis1=-2, axis2=-1)
    return {
        **by_class,
        "min_f1": by_class["f1"].min(-1),
        "mean_f1": by_class["f1"].mean(-1),
        "accuracy": 100 * correct / confusion.sum((-2, -1)),
    }
