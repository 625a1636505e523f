"""CIFAR-10 as its authors give it: pickles, of which nothing but arrays of numbers is believed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from memgrid.audit.data.dataset import Source
from memgrid.errors import UserError
from memgrid.io.files import told

CIFAR_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


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


def cifar10(path: str, samples: int | None) -> Source:
    """CIFAR-10 from a folder with its Python batches: its training images, or the first so many, and its 10,000 test images.

    Raises:
        UserError: a batch is missing or damaged.
    """
    images, labels = [], []
    for name in CIFAR_FILES:
        try:
            with (Path(path) / name).open("rb") as file:
                batch = ArraysOnly(file, encoding="bytes").load()
            images.append(np.asarray(batch[b"data"], np.float32).reshape(len(batch[b"labels"]), 3, 32, 32) / 255)
            labels.append(np.asarray(batch[b"labels"], np.int64))
            if not np.isin(labels[-1], range(10)).all():
                raise ValueError("labels of other classes")
        except Exception as error:  # damaged pickles raise whatever they like
            where = "it must be the folder cifar-10-batches-py"
            raise UserError(f"dataset.path={path} has no sound {name} ({told(error)}): {where}") from None
    train = np.concatenate(images[:-1])
    return Source(train[:samples], np.concatenate(labels[:-1])[:samples], images[-1], labels[-1], 10, all_pixels=train)
