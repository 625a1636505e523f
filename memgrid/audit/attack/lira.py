"""Ground truth: the likelihood ratio attack (Carlini et al., S&P 2022), for every model by leaving it out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from memgrid.audit.config import AUTO, AttackConfig
from memgrid.audit.shadow.predictors import gap

FEW = {"student": 6, "normal": 16}  # with `variance=auto`: up to so many models, by density, one variance serves all samples
BLOCK = 1 << 24  # numbers that are looked at in one go: 128 MB


@dataclass(frozen=True)
class Density:
    """What the scores of a sample are thought to follow, in the models that have seen it and in those that have not.

    Attributes:
        student: the predictive Student-t of a sample of n, which has n - 1 degrees of freedom and the scale √(1 + 1/n): it says what a
            further score will be, and not only where those are that are known. Otherwise a normal density.
        shared: one variance per view for all samples (the mean over those with two scores and more); the sample's own otherwise.
        ddof: taken off the divisor of variances. least: the least deviation.
    """

    student: bool = True
    shared: bool = False
    ddof: int = 1
    least: float = 1e-3

    @classmethod
    def of(cls, attack: AttackConfig, models: int) -> Density:
        """As settings say it, for so many models."""
        shared = models <= FEW[attack.density] if attack.variance == AUTO else attack.variance == "shared"
        return cls(attack.density == "student", shared, attack.ddof, attack.least_deviation)


def membership_scores(logits: Tensor, labels: Tensor, score: str) -> Tensor:
    """The statistic of the attack, float64 (..., samples), of logits (..., samples, classes) and labels int64 (samples,).

    `hinge`: the logit of the label minus the largest of the others. `logit`: log p / (1 - p), p the label's probability.
    """
    logits = logits.double()
    labels = labels.expand(logits.shape[:-1])
    if score == "hinge":
        return gap(logits, labels)
    own = labels[..., None]
    return logits.gather(-1, own)[..., 0] - logits.scatter(-1, own, -torch.inf).logsumexp(-1)


def lira(scores: np.ndarray, members: np.ndarray, density: Density) -> np.ndarray:
    """Λ of every sample under every model: how much likelier its score is if the model has seen it than if not.

    For model k the mean over views of log p(s | in) - log p(s | out), where both densities come from the other models.

    Args:
        scores: float (views, models, samples). members: bool (models, samples).

    Returns:
        float64 (models, samples); NaN for samples that are in all of the other models, or in none, and where there is no variance.
    """
    ratio = np.full(members.shape, np.nan)
    count = members.sum(0)
    audited = np.flatnonzero((count > 0) & (count < len(members)))
    # Where a variance is shared, by all or by those that stand alone on their side, all are looked at together.
    apart = not density.shared and (np.minimum(count, len(members) - count)[audited] > 2).all()
    step = max(1, BLOCK // (len(scores) * len(members))) if apart else len(audited)
    for start in range(0, len(audited), max(step, 1)):
        block = audited[start : start + step]
        of_block, own = scores[..., block].astype(np.float64), members[:, block]
        for left_out in range(len(members)):
            ratio[left_out, block] = ratio_without(of_block, own, left_out, density)
    return ratio


def ratio_without(scores: np.ndarray, members: np.ndarray, left_out: int, density: Density) -> np.ndarray:
    """Λ under one model, left out of the models that it is compared with, float64 (samples,)."""
    others = np.arange(len(members)) != left_out
    rest, own = scores[:, others], scores[:, left_out]
    member = log_density(own, rest, members[others], density)
    other = log_density(own, rest, ~members[others], density)
    ratio: np.ndarray = (member - other).mean(0)
    return ratio


def log_density(own: np.ndarray, rest: np.ndarray, chosen: np.ndarray, density: Density) -> np.ndarray:
    """Log-density, but for a constant, of scores (views, samples), given those of chosen models; NaN where they tell nothing.

    A sample of which one score is known has no variance of its own: it takes the shared one, and a normal density.

    Args:
        rest: float64 (views, models, samples). chosen: bool (models, samples).
    """
    count = chosen.sum(0)
    mean = np.where(chosen, rest, 0).sum(1) / np.maximum(count, 1)
    squares = np.where(chosen, (rest - mean[:, None]) ** 2, 0).sum(1)
    several = count > 1
    variance = squares / np.where(several, count - density.ddof, 1)
    together = variance[:, several].mean(1, keepdims=True) if several.any() else np.full((len(rest), 1), np.nan)
    variance = np.where(several & (not density.shared), variance, together)
    variance = np.maximum(variance, density.least**2)
    if density.student:
        variance = variance * (1 + 1 / np.maximum(count, 1))
    apart = (own - mean) ** 2 / variance
    logs = -0.5 * (apart + np.log(2 * np.pi * variance))
    if density.student and not density.shared:
        freedom = np.maximum(count - 1, 1)
        constant = gammaln((freedom + 1) / 2) - gammaln(freedom / 2)
        of_t = constant - 0.5 * (np.log(freedom * np.pi * variance) + (freedom + 1) * np.log1p(apart / freedom))
        logs = np.where(several, of_t, logs)
    return np.where(count > 0, logs, np.nan)
