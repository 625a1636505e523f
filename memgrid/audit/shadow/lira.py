"""Ground truth: the likelihood ratio attack (Carlini et al., S&P 2022), for every model by leaving it out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from memgrid.audit.shadow.predictors import gap

FEW = 16  # up to so many models, one variance serves all samples
LEAST_VARIANCE = 1e-6  # scores that are the same in all models are no proof of anything


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


def lira(scores: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Λ of every sample under every model: how much likelier its score is if the model has seen it than if not.

    For model k the mean over views of log N(s; μ_in, σ_in) - log N(s; μ_out, σ_out), where both Gaussians come from the other models. With
    more than 16 models the variance is the sample's own; with fewer it is the mean over the samples that have one, with two models or more.

    Args:
        scores: float (views, models, samples). members: bool (models, samples).

    Returns:
        float64 (models, samples); NaN for samples that are in all of the other models, or in none, and where no sample has such a variance.
    """
    count = members.sum(0)
    audited = (count > 0) & (count < len(members))
    ratio = np.full(members.shape, np.nan)
    scores_audited, members_audited = scores[..., audited].astype(np.float64), members[:, audited]
    for left_out in range(len(members)):
        ratio[left_out, audited] = ratio_without(scores_audited, members_audited, left_out)
    return ratio


def ratio_without(scores: np.ndarray, members: np.ndarray, left_out: int) -> np.ndarray:
    """Λ under one model, left out of the models that it is compared with, float64 (samples,)."""
    others = np.arange(len(members)) != left_out
    rest, own = scores[:, others], scores[:, left_out]
    member = log_density(own, rest, members[others], len(members) <= FEW)
    other = log_density(own, rest, ~members[others], len(members) <= FEW)
    ratio: np.ndarray = (member - other).mean(0)
    return ratio


def log_density(own: np.ndarray, rest: np.ndarray, chosen: np.ndarray, shared: bool) -> np.ndarray:
    """Log-density, but for a constant, of scores (views, samples) under the Gaussians of those of chosen models; NaN where there are none.

    Args:
        rest: float64 (views, models, samples). chosen: bool (models, samples). shared: one variance per view for all samples.
    """
    count = chosen.sum(0)
    divisor = np.maximum(count, 1)
    mean = np.where(chosen, rest, 0).sum(1) / divisor
    variance = np.where(chosen, (rest - mean[:, None]) ** 2, 0).sum(1) / divisor
    if shared:
        several = count > 1
        variance = variance[:, several].mean(1, keepdims=True) if several.any() else np.full((len(rest), 1), np.nan)
    variance = np.maximum(variance, LEAST_VARIANCE)
    density: np.ndarray = -0.5 * ((own - mean) ** 2 / variance + np.log(variance))
    return np.where(count > 0, density, np.nan)
