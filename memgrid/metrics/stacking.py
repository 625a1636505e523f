"""What one source of answers adds to others: a classifier that sees both, against one that sees the others alone (Wolpert 1992).

Which of two is more often right says nothing of that. A source may be worse alone and still know something that the others do not, and it
may be better alone and know nothing more.
"""

from __future__ import annotations

import numpy as np

FOLDS, STEPS = 10, 25
RIDGE = 0.3  # of all weights but the constant one, on standardised columns: fixed
LEAST = 1e-6  # a column that varies less does not vary
GAIN = 1e-3  # nats per sample: whose interval does not begin above this has added nothing that is seen


def added(labels: np.ndarray, others: np.ndarray, source: np.ndarray, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """By how many nats a sample's log-loss falls when a logistic regression on others also sees a source, float64 (..., n).

    Cross-fitted: a sample is judged by regressions that were not fitted on it, both on the same folds. What says nothing adds a little
    less than 0.

    Args:
        labels: bool (n,). others: float (..., n, m), log-odds or other numbers. source: float (n,).
        groups: int (n,), equal for near-duplicates, which are in one fold; without, each sample is a group of its own.
    """
    folds = stratified(labels, np.arange(len(labels)) if groups is None else groups, seed)
    return cross_fitted_loss(labels, others, folds) - cross_fitted_loss(labels, others, folds, source)


def both_ways(odds: np.ndarray) -> np.ndarray:
    """Log-odds and, beside them, what they are as probabilities (from -1 to 1), float64 (..., m) → (..., 2 m).

    A regression that sees others as log-odds alone can be mended by any source that bends these, and says nothing more: where classes are
    nearly told apart, a saturated copy of the log-odds would seem to add something in a quarter of all cases.
    """
    return np.concatenate([odds, np.tanh(odds / 2)], -1)


def stratified(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """In which fold a sample is, int (n,): in each as many groups of either label as can be (a group has that of its first sample)."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    random, folds = np.random.default_rng(seed), np.empty(len(first), int)
    order = np.concatenate([random.permutation(np.flatnonzero(mine)) for mine in (~labels[first], labels[first])])
    folds[order] = np.arange(len(order)) % FOLDS
    return folds[member]


def cross_fitted_loss(labels: np.ndarray, others: np.ndarray, folds: np.ndarray, source: np.ndarray | None = None) -> np.ndarray:
    """The log-loss of every sample, in nats, float64 (..., n), by a logistic regression that was fitted on the other folds.

    Of a source it sees only what is no linear function of the others: a source that repeats them would else soften the ridge, and seem to
    add something where the classes are far apart.
    """
    inside = (folds != np.arange(FOLDS)[:, None]).astype(float)  # (folds, n)
    usual = standardised(others[..., None, :, :], inside)
    columns = np.concatenate([np.ones((*usual.shape[:-1], 1)), usual], -1)  # (..., folds, n, m + 1)
    if source is not None:
        columns = np.concatenate([columns, standardised(left_over(source, columns, inside), inside)], -1)
    weights = fitted(columns, labels.astype(float), inside)
    lead = (columns @ weights[..., None])[..., folds, np.arange(len(labels)), 0]
    return np.logaddexp(0, np.where(labels, -lead, lead))


def standardised(features: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and variance 1 over the samples inside of each fold, float64 (..., folds, n, m); those that do not vary are 0.

    Args:
        features: float (..., folds or 1, n, m). inside: whether a sample is fitted on, 0 or 1, (folds, n).
    """
    number = inside.sum(1)[:, None, None]
    apart = features - (inside[:, None] @ features) / number
    scale = np.sqrt((inside[:, None] @ apart**2) / number)
    return np.where(scale > LEAST, apart / np.maximum(scale, LEAST), 0)


def left_over(source: np.ndarray, columns: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What is no linear function of other columns, by least squares on the samples inside of each fold, float64 (..., folds, n, 1)."""
    own = (source - source.mean()) / max(float(source.std()), LEAST)
    turned = np.swapaxes(columns * inside[..., None], -1, -2)
    weights = np.linalg.pinv(turned @ columns, hermitian=True) @ (turned @ own)[..., None]
    return own[:, None] - columns @ weights


def fitted(columns: np.ndarray, labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The weights of logistic regressions with a ridge, one for each fold, float64 (..., folds, m), by Newton's method.

    Args:
        columns: float (..., folds, n, m), of which the first is constant and has no ridge. labels: 0 or 1, (n,).
    """
    ridge = np.full(columns.shape[-1], RIDGE)
    ridge[0] = 1e-6
    weights, turned = np.zeros((*columns.shape[:-2], columns.shape[-1])), np.swapaxes(columns, -1, -2)
    for _ in range(STEPS):
        chances = 1 / (1 + np.exp(-np.clip((columns @ weights[..., None])[..., 0], -30, 30)))
        slope = (turned @ (inside * (chances - labels))[..., None])[..., 0] + ridge * weights
        bend = (turned * (inside * chances * (1 - chances))[..., None, :]) @ columns + np.diag(ridge)
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return weights
