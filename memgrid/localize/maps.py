"""The file of decision maps (Δ), `localize-<method>.h5`: written whole or not at all, read without the networks that it was made from."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.stats import rankdata

from memgrid.errors import UserError
from memgrid.io.files import content_of, write_bytes

FORMAT_VERSION = 1
USER_BLOCK = 512  # bytes, the least that HDF5 allows


@dataclass(frozen=True, eq=False)
class DecisionMaps:
    """Decision maps, the paper's Δ maps: the content of a `localize-<method>.h5`.

    Attributes:
        values: float32 (classes, layers, query, key), the panel's average, zero above the diagonal; from 0 to 1.
        members: name to the same of one network; empty unless asked for.
        classes: titles. ids: for each class the int64 ids of the samples averaged over; samples: how many.
        k: tokens in the prefix.
        training: key of the training. weights: digest of the networks. inputs: digest of everything that the maps were made from.
    """

    values: np.ndarray
    members: dict[str, np.ndarray]
    method: str
    classes: tuple[str, ...]
    ids: tuple[np.ndarray, ...]
    samples: tuple[int, ...]
    k: int
    llm: str
    corpus: str
    training: str
    weights: str
    inputs: str
    memgrid: str

    def votes(self) -> np.ndarray:
        """The networks' votes, float32 as `values`: the mean over them of each position's rank within its class (Borda's count).

        Each has as much to say, however large its Δ is and however few positions hold most of it. A rank is the share of all positions that
        are less decisive: 0 where Δ is 0.
        """
        return np.stack([ranks(of_member) for of_member in self.members.values()]).mean(0).astype(np.float32)


def ranks(by_class: np.ndarray) -> np.ndarray:
    """For each class and position the share of positions with a smaller value, float64 (classes, layers, query, key)."""
    flat = by_class.reshape(len(by_class), -1)
    return np.asarray((rankdata(flat, method="min", axis=1) - 1) / flat.shape[1]).reshape(by_class.shape)


def write_decision_maps(path: Path, attributes: dict[str, Any], values: np.ndarray, ids: list[np.ndarray]) -> None:
    """Write the file, whole or not at all; values (members, classes, layers, query, key), attributes as in `DecisionMaps`.

    It begins with a user block, which HDF5 passes over: the SHA-256 in hex of all that follows it. Damaged bytes can crash the library.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=USER_BLOCK) as file:
        file.attrs.update({"format_version": FORMAT_VERSION, **attributes})
        for name, array in zip(
            ["delta", *(f"members/{member}" for member in attributes["members"])], [values.mean(0), *values], strict=True
        ):
            shape = (1, 1, *array.shape[2:])
            file.create_dataset(name, data=array.astype(np.float32), chunks=shape, compression="gzip", shuffle=True)
        for label, averaged in enumerate(ids):
            file[f"ids/{label}"] = averaged
    content = buffer.getvalue()
    seal = hashlib.sha256(memoryview(content)[USER_BLOCK:]).hexdigest().encode()
    write_bytes(seal + content[len(seal) :], path)


def read_decision_maps(path: Path, with_members: bool = False) -> DecisionMaps:
    """The Δ maps that `write_decision_maps` wrote.

    Raises:
        UserError: the file is missing, damaged or of another version.
    """
    again = "remove it and localize again"
    try:
        content = content_of(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): localize first") from None
    seal = hashlib.sha256(memoryview(content)[USER_BLOCK:]).hexdigest().encode()
    if not content.startswith(seal):
        raise UserError(f"{path} is damaged: {again}")
    with h5py.File(io.BytesIO(content), "r") as file:
        attributes = dict(file.attrs)
        if (version := attributes["format_version"]) != FORMAT_VERSION:
            raise UserError(f"{path} has format version {version} and this memgrid reads {FORMAT_VERSION}: {again}")
        names = [str(name) for name in attributes["members"]] if with_members else []
        return DecisionMaps(
            values=file["delta"][:],
            members={name: file[f"members/{name}"][:] for name in names},
            classes=tuple(map(str, attributes["classes"])),
            ids=tuple(file[f"ids/{label}"][:] for label in range(len(attributes["classes"]))),
            samples=tuple(map(int, attributes["samples"])),
            k=int(attributes["k"]),
            **{name: str(attributes[name]) for name in ("method", "llm", "corpus", "training", "weights", "inputs", "memgrid")},
        )


def made_from(path: Path) -> str | None:
    """The `inputs` of a whole file of this version; None where it has to be made."""
    try:
        return read_decision_maps(path).inputs
    except UserError:
        return None
