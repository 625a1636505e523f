"""What a run gives besides tables: the text of a sequence, and maps of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SequenceText:
    """A sequence of the corpus as text.

    Attributes:
        prefix, suffix: what the model was given, and how the training text goes on. tokens: the text of every single token.
    """

    prefix: str
    suffix: str
    tokens: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.prefix}⟶{self.suffix}"


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Decision maps: where the networks' decision for each class comes from (Δ in the paper).

    Attributes:
        maps: float32 (classes, layers, query, key), from 0 to 1, zero above the diagonal.
        classes: their titles. samples: how many eval samples each is the mean over. k: tokens in the prefix. method: of attribution.
    """

    maps: np.ndarray
    classes: tuple[str, ...]
    samples: tuple[int, ...]
    k: int
    method: str

    def __getitem__(self, title: str) -> np.ndarray:
        """The map of one class, float32 (layers, query, key)."""
        return self.maps[self.classes.index(title)]  # type: ignore[no-any-return]
