"""Intervals of scores: what another training on other samples may be expected to reach.

A score has two reasons to be another one next time: other samples, and other networks. The first is seen by the bootstrap over samples, the
second by how far the members of a panel differ beyond what few samples make of equal networks, or by how far runs of several seeds differ.
Both variances are added; where there is one network the interval speaks of that network. Near-duplicates are drawn together: a hundred
copies of a text are one sample of what texts there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from memgrid.metrics.resampling import group_counts
from memgrid.metrics.scores import confusion_matrix, summary_values

LEVEL = 0.95
SIDE = (1 + LEVEL) / 2  # of a quantile: as much is left out above as below


def panel_scores(
    labels: np.ndarray, predicted: np.ndarray, classes: int, seed: int, rounds: int = 1000, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """The panel on one eval set: mean over members, spread over members, and a 95 % interval, in percent.

    Args:
        labels: int (n,).
        predicted: int (members, n), each member's class.
        groups: int (n,), equal for near-duplicates, which are drawn together; without, each sample is a group of its own.

    Raises:
        ValueError: a class has no sample, so that nothing can be said of it.

    Returns:
        `f1`, `precision`, `recall`: a list of {mean, std, low, high} per class; `min_f1`, `mean_f1`, `accuracy`: one such entry. `std` is
        the standard deviation over members (0 for one member); `low` and `high` bound what the mean would be over all trainings and all
        samples, as the module says. The upper end of min-F1 is the least upper end of all classes, each of which is wide enough that all
        hold together: the minimum over classes that differ by chance lies too low, so that its own upper end would, too.
    """
    if absent := sorted(set(range(classes)) - set(np.unique(labels).tolist())):
        raise ValueError(f"{len(labels)} samples, but none of class {absent[0]}")
    groups = np.arange(len(labels)) if groups is None else groups
    confusion = confusion_matrix(labels, predicted, classes)
    values = summary_values(confusion)
    again = summary_values(resampled_confusions(labels, predicted, classes, group_counts(groups, rounds, seed)))
    apart = np.bincount(np.unique(np.stack([labels, groups], 1), axis=0)[:, 0], minlength=classes)  # groups of each class
    decisions = decided(confusion, values["f1"].mean(0), apart / np.bincount(labels, minlength=classes))
    result: dict[str, Any] = {}
    for name, value in values.items():
        low, high = ends(value, again[name], decisions[name], SIDE)
        if name == "min_f1":
            high = ends(values["f1"], again["f1"], decisions["f1"], 1 - (1 - SIDE) / classes)[1].min()
        entries = {"mean": value.mean(0), "std": value.std(0), "low": low, "high": high}
        if value.ndim == 1:
            result[name] = {key: float(number) for key, number in entries.items()}
        else:
            result[name] = [{key: float(numbers[c]) for key, numbers in entries.items()} for c in range(classes)]
    return result


def ends(value: np.ndarray, again: np.ndarray, decisions: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of an interval for the mean over members, in percent, (...).

    Args:
        value: float (members, ...), of each member. again: float (rounds, members, ...), in each resample.
        decisions: how many answers a score is a share of, (...): with fewer no spread may be seen where there is one.
        side: the quantile of the upper end.
    """
    members = len(value)
    variance = again.mean(1).var(0)
    freedom = np.full(variance.shape, np.inf)
    if members > 1:
        # How far members differ, less what few samples would make of members that are equal: what training makes of it.
        of_samples = (again - value).var(1, ddof=1).mean(0)
        training = np.maximum(value.var(0, ddof=1) - of_samples, 0) / members
        variance = variance + training
        freedom = degrees(variance, training, members)
    return wilson(value.mean(0), variance, decisions, quantile(side, freedom))


def over_runs(mean: Sequence[float], low: Sequence[float], high: Sequence[float]) -> tuple[float, float, float]:
    """The mean of several runs and both ends of its interval, in percent, from theirs.

    Runs of several seeds may look at the same samples, so that the variance of samples is that of one run, while what runs differ by is
    divided by their number. Runs with other samples differ by these, too: that part is counted twice, on the safe side. Two runs that
    differ much say next to nothing.
    """
    centre, between = float(np.mean(mean)), float(np.var(mean, ddof=1)) if len(mean) > 1 else 0.0
    training, reached = np.array(between / len(mean)), []
    for side in (low, high):
        variance = np.mean((np.subtract(side, mean) / ndtri(SIDE)) ** 2) + training
        times = quantile(SIDE, degrees(variance, training, len(mean)))
        reached.append(float(times * np.sqrt(variance)))
    return centre, max(centre - reached[0], 0.0), min(centre + reached[1], 100.0)


def degrees(variance: np.ndarray, training: np.ndarray, number: int) -> np.ndarray:
    """The degrees of freedom of a sum of two variances, of which that of training was seen on `number` trainings (Satterthwaite 1946)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(training > 0, (number - 1) * (variance / training) ** 2, np.inf)


def quantile(side: float, freedom: np.ndarray | float) -> np.ndarray:
    """A quantile of Student's distribution; of the normal one without end to the degrees of freedom."""
    freedom = np.asarray(freedom, float)
    return np.where(np.isinf(freedom), ndtri(side), stdtrit(np.where(np.isinf(freedom), 1.0, freedom), side))


def wilson(mean: np.ndarray, variance: np.ndarray, decisions: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends in percent, (...), of an interval for a share with a known variance (Wilson 1927, of so many answers as have it).

    It stays between 0 and 100, and has a width where all answers are right.

    Args:
        mean: in percent, (...). variance: in percent². decisions: the number of answers, at most. times: the quantile.
    """
    share = mean / 100
    with np.errstate(divide="ignore", invalid="ignore"):
        answers = np.fmin(1e4 * share * (1 - share) / variance, decisions)
        answers = np.where(variance > 0, answers, decisions)
        square = times**2 / answers
        middle = (share + square / 2) / (1 + square)
        reach = times / (1 + square) * np.sqrt(share * (1 - share) / answers + square / (4 * answers))
    known = answers > 0
    return 100 * np.where(known, np.clip(middle - reach, 0, share), 0.0), 100 * np.where(known, np.clip(middle + reach, share, 1), 1.0)


def decided(confusion: np.ndarray, f1: np.ndarray, independent: np.ndarray) -> dict[str, np.ndarray]:
    """How many answers each score is a share of, means over members: (classes,) or of all.

    F1 is a function of a share: of the samples that are of a class or called so, those that are both (Hand et al. 2021). So many answers
    have the variance that follows from it.

    Args:
        confusion: int (members, classes, classes). f1: their mean, in percent, (classes,).
        independent: groups for each sample of a class, in 0..1, (classes,): so many of its answers are independent.
    """
    hits = np.diagonal(confusion, axis1=1, axis2=2).mean(0)
    predicted, true = confusion.sum(1).mean(0), confusion.sum(2).mean(0)
    of_f1 = independent * 2 * (predicted + true - hits) / (2 - f1 / 100) ** 2
    every = np.array((independent * true).sum())
    return {
        "precision": independent * predicted,
        "recall": independent * true,
        "f1": of_f1,
        "min_f1": of_f1[f1.argmin()],
        "mean_f1": every,
        "accuracy": every,
    }


def resampled_confusions(labels: np.ndarray, predicted: np.ndarray, classes: int, counts: np.ndarray) -> np.ndarray:
    """The matrices of each resample, int64 (rounds, members, classes, classes); the arguments are those of `panel_scores`.

    Args:
        counts: how often each resample has every sample, int (rounds, n).
    """
    kinds = labels * classes + predicted  # (members, n), of classes² kinds
    each = (kinds[..., None] == np.arange(classes**2)).transpose(1, 0, 2).reshape(len(labels), -1)
    # One product for all resamples: whole numbers far below 2^53 are exact as float64, and only these have a fast product.
    total = counts.astype(float) @ each.astype(float)
    return total.astype(np.int64).reshape(len(counts), len(kinds), classes, classes)
