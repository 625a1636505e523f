"""A data set that is audited, and how the numbers of its pixels are scaled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from memgrid.audit.config import HELD_OUT, DatasetConfig
from memgrid.errors import UserError


@dataclass(frozen=True)
class Source:
    """Images before they are scaled, with pixels from 0 to 1: float32 or float64 (n, channels, height, width); labels int64 (n,).

    Attributes:
        all_pixels: the images that give mean and deviation, where they are others than both together.
        together: whether one mean and deviation serve all channels.
    """

    images: np.ndarray
    labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray
    classes: int
    all_pixels: np.ndarray | None = None
    together: bool = False


@dataclass(frozen=True)
class Scale:
    """Pixels from 0 to 1 as networks see them: minus `mean`, over `deviation`, both float32 (channels,)."""

    mean: np.ndarray
    deviation: np.ndarray

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Scaled images, float32, of images (n, channels, height, width) with pixels from 0 to 1."""
        scaled: np.ndarray = ((images - self.mean[:, None, None]) / self.deviation[:, None, None]).astype(np.float32)
        return scaled

    def undo(self, images: np.ndarray) -> np.ndarray:
        """Pixels from 0 to 1 again, of images (n, channels, height, width)."""
        pixels: np.ndarray = images * self.deviation[:, None, None] + self.mean[:, None, None]
        return pixels

    @property
    def black(self) -> np.ndarray:
        """What a black pixel is, float32 (channels,)."""
        dark: np.ndarray = (-self.mean / self.deviation).astype(np.float32)
        return dark


def unscaled() -> Scale:
    """Of what are no images."""
    return Scale(np.zeros(1, np.float32), np.ones(1, np.float32))


@dataclass(frozen=True)
class Dataset:
    """Images and labels.

    images, held_out_images: float32 (n, channels, height, width), scaled by `scale`; packed maps float16 (n, positions, layers) for
        attention. labels, held_out_labels: int64 (n,).
    length: tokens per sequence, for attention alone. fill: what comes in where an image is moved, float32 (channels,).
    identifiers: int64 (n,), by which a user finds a sample again: its place in the training data, or a sequence_id.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray
    classes: int
    length: int = 0
    scale: Scale = field(default_factory=unscaled)
    fill: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))
    identifiers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell contents apart."""
        total = hashlib.sha256()
        for array in (self.images, self.labels, self.held_out_images, self.held_out_labels):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()[:16]

    @property
    def are_images(self) -> bool:
        """Whether there is something to be looked at: rows of features are no images, and maps of attention are not."""
        return self.images.ndim == 4 and min(self.images.shape[2:]) > 1


def split(images: np.ndarray, labels: np.ndarray, samples: int | None) -> Source:
    """Of data without a test set of their own every sixth sample is held out; images (n, height, width) with pixels from 0 to 1."""
    images, labels = images[:samples, None], labels[:samples]
    test = np.arange(len(labels)) % HELD_OUT == HELD_OUT - 1
    return Source(images[~test], labels[~test], images[test], labels[test], 10, images, together=True)


def scaled(source: Source, config: DatasetConfig) -> Dataset:
    """A source as a data set, by the mean and deviation that are asked for, or its own.

    Raises:
        UserError: there are not as many of these numbers as channels, or all pixels are equal.
    """
    channels = source.images.shape[1]
    pixels = source.images if source.all_pixels is None else source.all_pixels
    axes = (0, 1, 2, 3) if source.together else (0, 2, 3)
    values = {}
    for name, given, statistic in (("mean", config.mean, "mean"), ("deviation", config.deviation, "std")):
        if given is not None and len(given) not in (1, channels):
            raise UserError(
                f"dataset.{name}={given} has {len(given)} numbers, and the images {channels} channels: give one for each, or one"
            )
        own = np.atleast_1d(getattr(pixels, statistic)(axis=axes, dtype=np.float64)) if given is None else np.array(given, np.float64)
        values[name] = np.broadcast_to(own, channels).astype(np.float32)
    if not (values["deviation"] > 0).all():
        raise UserError(f"all pixels of dataset {config.name!r} are equal, so that there is nothing to be learned: give other data")
    scale = Scale(**values)
    fill = scale.black if config.fill == "black" else np.zeros(channels, np.float32)
    images, held_out = scale.apply(source.images), scale.apply(source.held_out_images)
    places = np.arange(len(images), dtype=np.int64)
    return Dataset(config.name, images, source.labels, held_out, source.held_out_labels, source.classes, 0, scale, fill, identifiers=places)
