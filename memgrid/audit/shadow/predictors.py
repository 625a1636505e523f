"""Predictors of memorization, from one model and its members: PSMI, loss, logit gap, Mahalanobis distance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Name → whether high values predict memorization.
PREDICTORS = {"psmi": False, "loss": True, "gap": False, "mahalanobis": True}
# How many projections, times classes, are held at once: on a CPU what its cache has room for (measured: 1.7 times faster than 2^22).
BLOCK = {"cpu": 2**18, "cuda": 2**24}
# With `auto` directions come in so many at once, and at most so often, until PSMI has settled as far as this.
AUTO_BLOCK, AUTO_MOST, AUTO_CHANGE = 500, 200, 0.05
LOWEST = 0.05  # of the samples, those whose PSMI has to have settled


def predictors(
    features: Float[Tensor, "samples width"],
    logits: Float[Tensor, "samples classes"],
    labels: Int[Tensor, " samples"],
    directions: int | Literal["auto"],
    floor: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """Every predictor of every member, float64 (samples,).

    Args:
        features: the last hidden layer. logits: what the model makes of it. labels: those that it is trained on.
        directions, floor, seed: see `psmi`; `auto`: `settled_psmi`.
    """
    width = features.shape[1]
    sliced = (
        settled_psmi(features, labels, floor, blocks_of_directions(AUTO_BLOCK, width, seed))
        if directions == "auto"
        else psmi(features, labels, random_directions(directions, width, seed), floor)
    )
    losses = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    by_name = {
        "psmi": sliced,
        "loss": losses,
        "gap": gap(logits.double(), labels),
        "mahalanobis": mahalanobis(features, labels),
    }
    return {name: values.cpu().numpy() for name, values in by_name.items()}


def random_directions(count: int, width: int, seed: int) -> Float[Tensor, "count width"]:
    """Unit vectors, uniform on the sphere, float64."""
    return next(blocks_of_directions(count, width, seed))


def blocks_of_directions(count: int, width: int, seed: int) -> Iterator[Float[Tensor, "count width"]]:
    """The same in blocks without end: two blocks are what one of twice their size would be."""
    rng = np.random.default_rng([seed, 3])
    while True:
        drawn = rng.standard_normal((count, width))
        yield torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def settled_psmi(
    features: Float[Tensor, "samples width"],
    labels: Int[Tensor, " samples"],
    floor: float,
    blocks: Iterator[Float[Tensor, "block width"]],
) -> Float[Tensor, " samples"]:
    """`psmi` with as many directions as it needs, as the authors' package `psmi` decides it, but at most 200 blocks of them.

    After each block but the first one PSMI is compared with what the first half of the blocks gave: it has settled when that differs by 5 %
    at most, in the mean over the 5 % of samples with the lowest PSMI (one at least).
    """
    totals: list[Float[Tensor, " samples"]] = []
    for number, directions in enumerate(itertools.islice(blocks, AUTO_MOST), start=1):
        own = psmi(features, labels, directions, floor)
        totals.append(own + totals[-1] if totals else own)
        now, half = totals[-1] / number, number // 2
        lowest = now.argsort()[: max(1, int(LOWEST * len(now)))]
        if half and bool(((totals[half - 1] / half - now) / now)[lowest].abs().mean() <= AUTO_CHANGE):
            break
    return now


def psmi(
    features: Float[Tensor, "samples width"],
    labels: Int[Tensor, " samples"],
    directions: Float[Tensor, "directions width"],
    floor: float,
) -> Float[Tensor, " samples"]:
    """Pointwise sliced mutual information between the features of a sample and its label (Wongso et al., ISIT 2023), float64.

    The mean over directions of the log-ratio between the density of the projection in the sample's own class and in all classes, a
    Gaussian per class and direction. Low values predict memorization.

    Args:
        floor: least deviation of a class along a direction, as a share of that of all samples. A class with a single member has no
            deviation of its own and takes that within all classes; with floor 0, one that does not vary counts with deviation 1. Where all
            samples are the same along a direction, it tells nothing: 0.
    """
    labels = labels.to(features.device)
    names, own = labels.unique(return_inverse=True)
    total = torch.zeros(len(labels), dtype=torch.float64, device=features.device)
    features = features.double()
    step = max(1, BLOCK.get(features.device.type, BLOCK["cpu"]) // (len(labels) * len(names)))
    for block in directions.to(features.device).split(step):
        total += log_ratios(features @ block.T, own, len(names), floor).sum(1)
    return total / len(directions)


def log_ratios(
    projected: Float[Tensor, "samples block"], own: Int[Tensor, " samples"], classes: int, floor: float
) -> Float[Tensor, "samples block"]:
    """Along each direction of a block, log p(x | own class) - log p(x) of every sample; 0 where all samples are the same.

    Args:
        own: the class of each sample, of 0 … classes - 1, none of which is empty. floor: see `psmi`.
    """
    member = torch.nn.functional.one_hot(own, classes).double()  # (samples, classes)
    counts = member.sum(0)
    means = member.T @ projected / counts[:, None]  # (classes, block)
    centred = projected - means[own]
    variance = member.T @ centred.square() / counts[:, None]
    within = centred.square().mean(0)
    variance = torch.where(counts[:, None] > 1, variance, within)
    whole = projected.var(0, correction=0)
    deviation = variance.sqrt().maximum(floor * whole.sqrt())
    flat = whole <= 1e-24 * projected.square().mean(0).clamp_min(1e-300)
    deviation = torch.where(flat | (deviation == 0), 1.0, deviation)
    # log N(x; μ, σ) of every sample in every class, without the constant that cancels
    apart = (projected[:, None] - means) / deviation
    density = -0.5 * apart.square() - deviation.log()  # (samples, classes, block)
    prior = (counts / len(own)).log()
    ratio = density.gather(1, own[:, None, None].expand(-1, 1, density.shape[2]))[:, 0] - (density + prior[:, None]).logsumexp(1)
    return torch.where(flat, 0.0, ratio)


def gap(logits: Float[Tensor, "*batch classes"], labels: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The logit of the label minus the largest of the others: low values predict memorization."""
    own = logits.gather(-1, labels[..., None])
    others = logits.scatter(-1, labels[..., None], -torch.inf).amax(-1)
    return own[..., 0] - others


def mahalanobis(features: Float[Tensor, "samples width"], labels: Int[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Distance of a sample to the mean of its class, in the metric of the covariance within classes (Lee et al., NeurIPS 2018), float64.

    Directions in which no class varies (a unit that never fires) count for nothing. High values predict memorization.
    """
    labels = labels.to(features.device)
    names, own = labels.unique(return_inverse=True)
    member = torch.nn.functional.one_hot(own, len(names)).double()
    features = features.double()
    centred = features - (member.T @ features / member.sum(0)[:, None])[own]
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(labels))
    varying = values > 1e-10 * values[-1].clamp_min(1e-300)
    return (centred @ vectors[:, varying] / values[varying].sqrt()).square().sum(1).sqrt()
