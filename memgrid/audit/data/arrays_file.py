"""A data set of a user's own: arrays in a file of numpy's."""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

from memgrid.audit.data.dataset import Source
from memgrid.errors import UserError
from memgrid.io.files import told

NAMES = ("x", "y", "x_test", "y_test")
SHAPES = "(n, height, width), (n, channels, height, width) or (n, features)"


def arrays_file(path: str, samples: int | None) -> Source:
    """The arrays x, y, x_test and y_test of a file as `numpy.savez` writes it.

    `x` and `x_test`: (n, height, width), (n, channels, height, width) or (n, features), of bytes from 0 to 255 or of floats, which stay as
    they are; `y` and `y_test`: whole numbers from 0.

    Raises:
        UserError: the file is missing or damaged, or its arrays do not fit; the sentence names the array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in NAMES if name not in file]:
                raise UserError(f"dataset.path={path} has no array {missing[0]!r}: it needs {', '.join(NAMES)}")
            x, y, x_test, y_test = (file[name] for name in NAMES)
    except UserError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, TypeError, AttributeError) as error:
        raise UserError(
            f"dataset.path={path} cannot be read ({told(error)}): give a file that numpy.savez wrote, of numbers alone"
        ) from None
    images, held_out = pixels(x, path, "x"), pixels(x_test, path, "x_test")
    labels, held_out_labels = whole_numbers(y, len(x), path, "y"), whole_numbers(y_test, len(x_test), path, "y_test")
    if images.shape[1:] != held_out.shape[1:]:
        raise UserError(f"dataset.path={path}: samples of x have the shape {x.shape[1:]}, of x_test {x_test.shape[1:]}: give both the same")
    classes = int(labels.max()) + 1
    if classes < 2:
        raise UserError(f"dataset.path={path}: all of y are 0, but there are two classes at least")
    if held_out_labels.max() >= classes:
        raise UserError(f"dataset.path={path}: y_test has the label {held_out_labels.max()}, and y none above {classes - 1}")
    return Source(images[:samples], labels[:samples], held_out, held_out_labels, classes, all_pixels=images)


def pixels(array: np.ndarray, path: str, name: str) -> np.ndarray:
    """Numbers as (n, channels, height, width), float32: bytes over 255; rows of features are images of one row."""
    if array.ndim not in (2, 3, 4) or not array.size or array.dtype.kind not in "fu" or (array.dtype.kind == "u" and array.itemsize > 1):
        raise UserError(f"dataset.path={path}: {name} is {array.dtype} of shape {array.shape}, and has to be bytes or floats, {SHAPES}")
    numbers = array.astype(np.float32) / np.float32(255 if array.dtype.kind == "u" else 1)
    if not np.isfinite(numbers).all():
        raise UserError(f"dataset.path={path}: {name} has numbers that are not finite: leave those samples out")
    return numbers[:, None, None] if array.ndim == 2 else numbers[:, None] if array.ndim == 3 else numbers


def whole_numbers(array: np.ndarray, count: int, path: str, name: str) -> np.ndarray:
    """Labels, int64 (count,)."""
    if array.shape != (count,) or array.dtype.kind not in "iu" or int(array.min()) < 0:
        told = f"{array.dtype} of shape {array.shape}" + (f", the least {array.min()}" if array.dtype.kind == "i" and array.size else "")
        raise UserError(f"dataset.path={path}: {name} is {told}, and has to be {count} whole numbers from 0 on, a label for each sample")
    return array.astype(np.int64)
