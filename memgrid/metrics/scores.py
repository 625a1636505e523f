"""Scores of a classifier from confusion matrices. Rows of a matrix are true classes, columns predicted ones."""

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
    kinds = labels * classes + predicted
    flat = kinds.reshape(-1, kinds.shape[-1]) + (np.arange(kinds.size // kinds.shape[-1]) * classes**2)[:, None]
    counts = np.bincount(flat.ravel(), minlength=len(flat) * classes**2)
    return counts.reshape(*kinds.shape[:-1], classes, classes)


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
