"""Who is a member of which shadow model, and which samples are canaries."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from memgrid.audit.config import CanaryConfig
from memgrid.audit.data.canaries import canary_images
from memgrid.audit.data.dataset import Dataset
from memgrid.errors import UserError

# What a sample can be, one of the crowd or a canary of a kind; of which kinds the canaries of a setting are; and which are no images of
# the data.
KINDS = ("ordinary", "clean", "label_noise", "ood", "ood_matched", "blank")
CANARIES = {**{name: (name,) for name in KINDS[1:]}, "duplicated": ("clean",), "mixed": ("clean", "label_noise", "ood")}
OUT_OF_DOMAIN = ("ood", "ood_matched", "blank")


@dataclass(frozen=True)
class Population:
    """N samples and K shadow models.

    images: float32 (N, channels, height, width), with the images of OOD canaries in their place; or packed maps (see
        `memgrid.audit.data.dataset`).
    labels: int64 (N,), what the models are trained on. truth: int64 (N,), what they would be without label noise.
    kind: uint8 (N,), an index into KINDS. members: bool (K, N). copies: how often canaries are in the training data of their models.
    """

    images: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    kind: np.ndarray
    members: np.ndarray
    copies: int = 1

    @property
    def out_of_domain(self) -> np.ndarray:
        """Canaries whose images are none of the data, bool (N,)."""
        return is_out_of_domain(self.kind)

    def rows(self, model: int) -> np.ndarray:
        """What a model is trained on, int64: its members, canaries as many times as they have copies."""
        members = np.flatnonzero(self.members[model])
        return np.repeat(members, np.where(self.kind[members] > 0, self.copies, 1))

    @property
    def audited(self) -> np.ndarray:
        """Samples that some models have not seen, bool (N,): only of them can memorization be measured."""
        audited: np.ndarray = self.members.sum(0) < len(self.members)
        return audited


def is_out_of_domain(kind: np.ndarray) -> np.ndarray:
    """Which kinds, indices into KINDS, are out of domain; bool, as `kind`."""
    outside: np.ndarray = np.isin(kind, [KINDS.index(name) for name in OUT_OF_DOMAIN])
    return outside


def draw_population(data: Dataset, canary: CanaryConfig, membership: str, shadows: int, seed: int) -> Population:
    """Draw canaries and members.

    Args:
        canary: which canaries, and how many, shared out over their kinds as evenly as possible.
        membership: `canaries`: each canary is in exactly half of the models, all others are in all; `all`: every sample is in half.
        shadows: the number of models, even.

    Raises:
        UserError: there are fewer samples than canaries, or the data has no foreign images.
    """
    size = len(data.labels)
    if canary.count > size:
        raise UserError(f"canary.count={canary.count} is more than the {size} samples of dataset {data.name!r}: use at most so many")
    rng = np.random.default_rng([seed, 0])
    chosen = rng.permutation(size)[: canary.count]
    kind = np.zeros(size, np.uint8)
    kind[chosen] = [KINDS.index(name) for name, _ in zip(itertools.cycle(CANARIES[canary.name]), chosen, strict=False)]
    labels = data.labels.copy()
    noisy = np.flatnonzero(kind == KINDS.index("label_noise"))
    # Uniform over the other classes.
    labels[noisy] = (labels[noisy] + rng.integers(1, data.classes, len(noisy))) % data.classes
    images = data.images
    for name in OUT_OF_DOMAIN:
        if len(places := np.flatnonzero(kind == KINDS.index(name))):
            images = images.copy()
            images[places] = canary_images(name, data, places, seed, canary.path)
    audited = kind > 0 if membership == "canaries" else np.ones(size, bool)
    members = np.ones((shadows, size), bool)
    members[:, audited] = half_of(shadows, int(audited.sum()), seed)
    return Population(images, labels, data.labels, kind, members, canary.copies)


def half_of(shadows: int, samples: int, seed: int) -> np.ndarray:
    """Bool (shadows, samples): each sample is in exactly half of the models, drawn uniformly."""
    order = np.random.default_rng([seed, 1]).random((shadows, samples)).argsort(axis=0)
    members: np.ndarray = order < shadows // 2
    return members
