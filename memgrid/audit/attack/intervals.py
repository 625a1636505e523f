"""How sure an area or a share is: 95 % intervals and p over other shadow models and other samples.

A number is a mean of what every sample of every model adds to it. These parts hang together along both sides, since a sample is the same in
all models and a model's luck meets all its samples: variances are clustered along both (Cameron, Gelbach and Miller 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata, t

LEVEL = 0.95
LEAST = 2  # models, and samples of either kind


@dataclass(frozen=True)
class Measured:
    """A number from 0 to 1, and what it hangs on.

    Attributes:
        parts: what every sample of every model moves it by, float64 (models, samples), which add up to 0.
        few: the least number of what it rests on: models, or samples of either kind. From one alone nothing is known of others.
    """

    value: float
    parts: np.ndarray
    few: int

    def deviation(self) -> float:
        """Its standard deviation over other models and other samples."""
        return deviation(self.parts)

    def interval(self) -> tuple[float, float] | None:
        """A 95 % interval, which stays between 0 and 1; None where nothing varies, such as where an area is 1, or from one alone."""
        spread = self.deviation()
        if not 0 < self.value < 1 or spread == 0 or self.few < LEAST:
            return None
        reach = float(t.ppf((1 + LEVEL) / 2, self.few - 1)) * spread / (self.value * (1 - self.value))
        low, high = expit(logit(self.value) + reach * np.array([-1, 1]))
        return float(low), float(high)


def deviation(parts: np.ndarray) -> float:
    """The standard deviation of the sum of parts, (models, samples), which depend on each other within rows and within columns."""
    ways = []
    for axis in (0, 1):
        sums = parts.sum(axis)
        many = int(parts.any(axis).sum())
        ways.append((sums**2).sum() * many / max(many - 1, 1))
    return float(np.sqrt(max(sum(ways) - (parts**2).sum(), *ways)))


def influence(answers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """By how much each sample moves the area under the ROC curve, float64 (n,); they add up to 0.

    A positive moves it by the share of negatives below it, a negative by that of positives above it (DeLong et al. 1988).

    Args:
        answers: bool (n,), of both kinds. values: float (n,).
    """
    ranks, parts = rankdata(values), np.empty(len(values))
    many = int(answers.sum()), int((~answers).sum())
    above = (ranks[answers] - rankdata(values[answers])) / many[1]
    below = 1 - (ranks[~answers] - rankdata(values[~answers])) / many[0]
    parts[answers] = (above - above.mean()) / many[0]
    parts[~answers] = (below - below.mean()) / many[1]
    return parts


def mean_area(models: Sequence[tuple[int, np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int]) -> Measured:
    """The mean over models of the area under the ROC curve.

    Args:
        models: for each its number, who is asked, bool (samples,), and of those the answers, both of which occur, and the values.
        shape: models and samples in all.
    """
    areas, parts, kinds = [], np.zeros(shape), np.zeros((2, shape[1]), bool)
    for number, asked, answers, values in models:
        parts[number, asked] = influence(answers, values)
        kinds[:, asked] |= np.stack([answers, ~answers])
        areas.append(area(answers, values))
    mean = float(np.mean(areas))
    for (number, asked, *_), own in zip(models, areas, strict=True):
        parts[number, asked] += (own - mean) / int(asked.sum())
    return Measured(mean, parts / len(models), min(len(models), *kinds.sum(1).tolist()))


def pooled_area(asked: np.ndarray, answers: np.ndarray, values: np.ndarray) -> Measured:
    """The area under one ROC curve of all models together.

    Args:
        asked: bool (models, samples). answers, values: of those that are asked.
    """
    parts = np.zeros(asked.shape)
    parts[asked] = influence(answers, values)
    kinds = np.zeros((2, *asked.shape), bool)
    kinds[:, asked] = np.stack([answers, ~answers])
    return Measured(area(answers, values), parts, min(int(asked.any(1).sum()), *kinds.any(1).sum(1).tolist()))


def share(asked: np.ndarray, holds: np.ndarray) -> Measured:
    """The share of those that are asked of which something holds, both bool (models, samples)."""
    value = float(holds[asked].mean())
    parts = np.where(asked, holds - value, 0.0) / int(asked.sum())
    return Measured(value, parts, min(int(asked.any(axis).sum()) for axis in (0, 1)))


def area(answers: np.ndarray, values: np.ndarray) -> float:
    """The area under the ROC curve, from ranks."""
    positives = int(answers.sum())
    above = rankdata(values)[answers].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(answers) - positives)))


def beaten(areas: Sequence[Measured]) -> list[float | None]:
    """For each area p of being as high as the highest; None for the highest itself, and for all where too little is known.

    Which is the highest is seen in the same data, so that each pair of those that are left counts, and not only those with the highest:
    Holm's steps, by which the next pair has fewer to be corrected for.
    """
    if min(one.few for one in areas) < LEAST:
        return [None] * len(areas)
    best = int(np.argmax([one.value for one in areas]))
    others = [at for at in range(len(areas)) if at != best]
    raw = {at: p_of(areas[best], areas[at]) for at in others}
    adjusted: list[float | None] = [None] * len(areas)
    least = 0.0
    for place, at in enumerate(sorted(raw, key=raw.__getitem__)):
        least = min(1.0, max(least, comb(len(areas) - place, 2) * raw[at]))
        adjusted[at] = least
    return adjusted


def p_of(one: Measured, other: Measured) -> float:
    """p of so large a difference between two areas where there is none, two-sided."""
    difference, spread = one.value - other.value, deviation(one.parts - other.parts)
    if spread == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * t.sf(abs(difference) / spread, min(one.few, other.few) - 1))
