"""The arrays of an audit in files: HDF5, written whole, summed, and believed only if they belong to the audit that reads them.

| file                    | datasets                                                                                          |
|-------------------------|---------------------------------------------------------------------------------------------------|
| population.h5           | labels, truth int64 (N,), kind uint8 (N,), members bool (K, N), identifiers int64 (N,)            |
| shadows/shadow-0007.h5  | logits float32 (views, audited, classes), members bool (N,), curve float32 (epochs, 3), and for   |
|                         | start, trigger and end psmi, loss, gap, mahalanobis float32 (N,), NaN for samples that are no      |
|                         | members                                                                                           |
| shadows/weights-0007.h5 | with keep=weights, for the same three moments, every tensor of the network under its name         |
| attack-*/attack.h5      | scores float64 (views, K, audited); ratio float64 (K, N): Λ; likelihood float64 (K, N): the       |
|                         | likelihood ratio; NaN for samples that are not audited                                            |
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from memgrid.errors import FAULTS, DamagedError, UserError
from memgrid.io.files import reason, replace_damaged, stop_if_unreadable, write_bytes

FORMAT_VERSION = 2


def write_arrays(path: Path, identity: str, numbers: Mapping[str, float], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file whole or not at all.

    Args:
        identity: what the arrays were made from. numbers: scalars, kept as attributes.

    Raises:
        UserError: the folder cannot take it.
    """

    # HDF5's 1.10 format sums its metadata; data are summed by Fletcher-32, and all of them by SHA-256. Words are kept as bytes of fixed
    # length: HDF5 puts strings where no sum protects them, and damage there can make it read forever.
    words = {"identity": np.bytes_(identity), "digest": np.bytes_(digest(arrays))}
    content = io.BytesIO()  # HDF5 crashes where the disk takes no more
    with h5py.File(content, "w", libver=("v110", "v110")) as file:
        for name, array in arrays.items():
            if array.shape:
                file.create_dataset(name, data=array, chunks=array.shape, fletcher32=True)
            else:  # a single number has no chunks
                file.create_dataset(name, data=array)
        file.attrs.update({"format_version": FORMAT_VERSION, **words, **numbers})
    write_bytes(content.getvalue(), path)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A sum of all arrays with their names, in hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()


def stored_digest(path: Path) -> str | None:
    """The sum of a file's contents, as the file itself gives it; None if there is none to be read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return bytes(file.attrs["digest"]).decode()
    except FAULTS:
        return None


def read_arrays(path: Path, identity: str, replaced: bool = False) -> tuple[dict[str, float], dict[str, np.ndarray]] | None:
    """The numbers and arrays of a file; None if there is none, or, with a warning, if it is damaged.

    Args:
        replaced: also None if it was made from something else, since the caller replaces it.

    Raises:
        UserError: it was made from something else or by another version, or the disk cannot read it.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            numbers = dict(file.attrs)
            version, made_from, stored = (numbers.pop(name) for name in ("format_version", "identity", "digest"))
            arrays: dict[str, np.ndarray] = {}
            file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        if stored != digest(arrays).encode():
            raise ValueError("its contents do not match their digest")
    except FileNotFoundError:
        return None
    except FAULTS as error:
        stop_if_unreadable(path, error)
        replace_damaged(DamagedError(path, reason(error)))
        return None
    if version != FORMAT_VERSION or made_from != identity.encode():
        if replaced:
            return None
        raise UserError(f"{path} was made from other data or by another version of memgrid: start with force=true, or use another root")
    return {name: float(value) for name, value in numbers.items()}, arrays
