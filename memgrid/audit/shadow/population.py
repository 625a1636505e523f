"""Who is a member of which shadow model, and which samples are canaries."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from memgrid.audit.shadow.datasets import Dataset, foreign_images
from memgrid.errors import UserError

# What a sample can be, one of the crowd or a canary of one of three kinds; and of which kinds the canaries of a setting are.
KINDS = ("ordinary", "clean", "label_noise", "ood")
CANARIES = {"clean": ("clean",), "label_noise": ("label_noise",), "ood": ("ood",), "mixed": ("clean", "label_noise", "ood")}


@dataclass(frozen=True)
class Population:
    """N samples and K shadow models.

    images: float32 (N, channels, height, width), with the images of OOD canaries in their place; or packed maps (see
        `memgrid.audit.shadow.datasets`).
    labels: int64 (N,), what the models are trained on. truth: int64 (N,), what they would be without label noise.
    kind: uint8 (N,), an index into KINDS. members: bool (K, N).
    """

    images: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    kind: np.ndarray
    members: np.ndarray

    @property
    def audited(self) -> np.ndarray:
        """Samples that some models have not seen, bool (N,): only of them can memorization be measured."""
        audited: np.ndarray = self.members.sum(0) < len(self.members)
        return audited


def draw_population(data: Dataset, canary: str, count: int, membership: str, shadows: int, seed: int) -> Population:
    """Draw canaries and members.

    Args:
        canary: a key of CANARIES. count: how many canaries, shared out over their kinds as evenly as possible.
        membership: `canaries`: each canary is in exactly half of the models, all others are in all; `all`: every sample is in half.
        shadows: the number of models, even.

    Raises:
        UserError: there are fewer samples than canaries, or the data has no foreign images.
    """
    size = len(data.labels)
    if count > size:
        raise UserError(f"canary.count={count} is more than the {size} samples of dataset {data.name!r}: use at most so many")
    rng = np.random.default_rng([seed, 0])
    chosen = rng.permutation(size)[:count]
    kinds = CANARIES[canary]
    kind = np.zeros(size, np.uint8)
    kind[chosen] = [KINDS.index(name) for name, _ in zip(itertools.cycle(kinds), chosen, strict=False)]
    labels = data.labels.copy()
    noisy = np.flatnonzero(kind == KINDS.index("label_noise"))
    # Uniform over the other classes.
    labels[noisy] = (labels[noisy] + rng.integers(1, data.classes, len(noisy))) % data.classes
    images = data.images
    foreign = np.flatnonzero(kind == KINDS.index("ood"))
    if len(foreign):
        images = images.copy()
        images[foreign] = foreign_images(data, len(foreign), seed)
    audited = kind > 0 if membership == "canaries" else np.ones(size, bool)
    members = np.ones((shadows, size), bool)
    members[:, audited] = half_of(shadows, int(audited.sum()), seed)
    return Population(images, labels, data.labels, kind, members)


def half_of(shadows: int, samples: int, seed: int) -> np.ndarray:
    """Bool (shadows, samples): each sample is in exactly half of the models, drawn uniformly."""
    order = np.random.default_rng([seed, 1]).random((shadows, samples)).argsort(axis=0)
    members: np.ndarray = order < shadows // 2
    return members
