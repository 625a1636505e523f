"""What a folder holds after a command, such that two folders can be compared: by what their files say, and not by how that came about."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import polars as pl
import yaml

Content = TypeVar("Content")

# Locks, notes of the process that works or was killed, what a training goes on from, and what other programs keep beside it.
OF_NO_ACCOUNT = re.compile(
    r".*\.lock|\.claims|wandb|multirun|checkpoints|control|checkpoint\.pt.*|.*\.ckpt|(job|doing|failed)\.json|damaged"
)
CHECKPOINT = re.compile(r"checkpoint\.pt.*|.*\.ckpt")  # of which it counts alone that they are there: they name a time
LEFTOVER = re.compile(r"\.partial-.*|\.model-.*|\.writable|\.degrees|\.near")
WHEN = re.compile(rb"Written on [^<]* by memgrid")
TIMES = {"time", "digest"}


def contents(root: Path) -> dict[str, str]:
    """A digest of each file's content by its path below `root`; the shards of a store count as one file, by sequence."""
    found: dict[str, str] = {}
    stores: dict[str, dict[int, str]] = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if CHECKPOINT.fullmatch(path.name) and "damaged" not in parts:
            found[str(path.relative_to(root))] = "there"
        if not path.is_file() or any(OF_NO_ACCOUNT.fullmatch(part) or LEFTOVER.fullmatch(part) for part in parts):
            continue
        if (name := name_of(path, root)).endswith("*.h5"):
            stores.setdefault(name, {}).update(readable(samples, path, dict[int, str]()))
        else:
            found[name] = readable(said_by, path, "cannot be read")
    return found | {name: digest(json.dumps(sorted(ids.items())).encode()) for name, ids in stores.items()}


def name_of(path: Path, root: Path) -> str:
    """What a file is called here: its path below `root`; the shards of a store share one name."""
    own = path.relative_to(root)
    return str(own.with_name("*.h5") if path.suffix == ".h5" and "attention" in own.parts else own)


def readable(read: Callable[[Path], Content], path: Path, otherwise: Content) -> Content:
    """What is read from a file, which may be damaged."""
    try:
        return read(path)
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, yaml.YAMLError, pl.exceptions.PolarsError):
        return otherwise


def leftovers(root: Path) -> list[str]:
    """What nobody needs any more, such as a file that was being written."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if LEFTOVER.fullmatch(path.name))


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """The files that are missing, too many, or say something else."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def said_by(path: Path) -> str:
    """The digest of what a file says."""
    if path.suffix == ".parquet":
        metadata = {key: value for key, value in pl.read_parquet_metadata(path).items() if key != "ARROW:schema"}
        return digest(json.dumps(metadata, sort_keys=True).encode() + pl.read_parquet(path).write_json().encode())
    if path.suffix == ".h5":
        return digest(json.dumps(arrays(path), sort_keys=True).encode())
    if path.suffix == ".json" and path.name != "tokenizer.json":
        return digest(json.dumps(without_times(json.loads(path.read_bytes())), sort_keys=True).encode())
    if path.name == "config.yaml":  # the stages of a run are those that it was last started with
        settings = yaml.safe_load(path.read_bytes())
        return digest(json.dumps({key: value for key, value in settings.items() if key != "stages"}, sort_keys=True).encode())
    return digest(WHEN.sub(b"", path.read_bytes()))


def without_times(content: Any) -> Any:
    """JSON without what differs from start to start."""
    return {key: value for key, value in content.items() if key not in TIMES} if isinstance(content, dict) else content


def arrays(path: Path) -> dict[str, str]:
    """A digest of every dataset and of the attributes of an HDF5 file."""
    with h5py.File(path, "r", locking=False) as file:
        found = {"": digest(repr(sorted((name, str(value)) for name, value in file.attrs.items())).encode())}
        file.visititems(lambda name, item: found.update({name: digest(item[()].tobytes())}) if isinstance(item, h5py.Dataset) else None)
    return found


def samples(path: Path) -> dict[int, str]:
    """A digest of each sample of a shard, by sequence."""
    with h5py.File(path, "r", locking=False) as file:
        columns = [np.asarray(file[name]) for name in ("decoded", "confidence", "mean", "max")]
        return {int(one): digest(b"".join(column[row].tobytes() for column in columns)) for row, one in enumerate(file["sequence_id"][:])}


def digest(content: bytes) -> str:
    """A short one."""
    return hashlib.sha256(content).hexdigest()[:16]
