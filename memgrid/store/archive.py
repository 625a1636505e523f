"""What can be done with stores without the model: checked, described, and carried home as one shard."""

from __future__ import annotations

import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import polars as pl

from memgrid.config.names import ATTENTION
from memgrid.config.overrides import command_of
from memgrid.errors import FAULTS, StoreError, UserError
from memgrid.io.files import DAMAGED, stop_if_unreadable, whole
from memgrid.store import shard
from memgrid.store.shard import Identity, Maps
from memgrid.store.store import Store

BLOCK_BYTES = 2**26  # maps in memory at a time while exporting
NOBODY = Identity("", "", "", "", 0, 0, 0)  # of a store of which no shard can be read: none will be compared with it


def count(number: int, noun: str) -> str:
    """Such as `1 shard` or `1,200 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def parse_ids(given: str) -> np.ndarray:
    """Sequence ids, int64 (N,), from `1,2,3`, a text file with an id per line, or the column `sequence_id` of a parquet file.

    Raises:
        UserError: it is none of these, or holds no ids.
    """
    path = Path(given)
    try:
        if re.fullmatch(r"\s*-?\d+(\s*,\s*-?\d+)*\s*", given):
            words = given.split(",")
        elif path.suffix == ".parquet":
            column = pl.read_parquet(path, columns=["sequence_id"], glob=False)["sequence_id"]
            if not column.dtype.is_integer() or column.null_count() or not len(column):
                raise UserError(f"ids={given} has no usable ids: its column sequence_id must hold integers, and at least one")
            return column.cast(pl.Int64).to_numpy()
        else:
            words = path.read_text(encoding="utf-8-sig").split("\n")
        numbers = [int(word) for word in words if word.strip()]
        if not numbers:
            raise UserError(f"ids={given} holds no ids: write one per line")
        return np.array(numbers, np.int64)
    except OSError as error:
        reason = error.strerror or "no such file"
        raise UserError(f"ids={given} cannot be read ({reason}): give ids=1,2,3 or a text or parquet file that exists") from None
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"ids={given} cannot be read ({reason}): give a parquet file with a column sequence_id") from None
    except (ValueError, OverflowError) as error:
        raise UserError(f"ids={given} holds something else than sequence ids ({error}): write one integer per line") from None


# The folders and what their shards say


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a store, sorted by name.

    Raises:
        UserError: there is no such folder, it cannot be read, or it holds no shard.
    """
    try:
        paths = [folder / name for name in sorted(os.listdir(folder)) if name.endswith(".h5") and not name.startswith(".")]
    except OSError as error:
        hint = "give the folder of a store, such as folder=memgrid-runs/attention/<llm>/<corpus>"
        raise UserError(f"folder={folder} cannot be read ({error.strerror}): {hint}") from None
    if not paths:
        raise UserError(f"folder={folder} holds no shards: give a folder with *.h5 files, such as memgrid-runs/attention/<llm>/<corpus>")
    return paths


def verify_command(folder: Path) -> str:
    """What is typed to check a store."""
    return f"python -m memgrid.store verify {shlex.quote(f'folder={folder}')}"


def stores_below(root: Path) -> list[Path]:
    """Every folder at or below `root` that holds shards, except those set aside; of a root of runs, those below its `attention`.

    Runs and audits keep HDF5 files of other kinds in folders of their own, which are no stores.

    Raises:
        UserError: there is none, or a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            f"root={root} cannot be searched for stores ({error.strerror}: {error.filename}): set that right or name folder=..."
        )

    stores = []
    attention = root / ATTENTION
    for name, below, files in os.walk(attention if attention.is_dir() else root, onerror=refuse):
        below[:] = [folder for folder in below if folder != DAMAGED]
        if any(file.endswith(".h5") and not file.startswith(".") for file in files):
            stores.append(Path(name))
    if not stores:
        start = command_of("run", root.parent if root.name == ATTENTION else root)
        raise UserError(f"root={root} holds no stores: extract attention first with `{start}`, or name folder=<store>")
    return sorted(stores)


def made_from(path: Path) -> tuple[Identity, bool] | None:
    """What a shard was made from and whether it is compressed; None if it is damaged.

    Raises:
        StoreError: it is of another format version, or the disk fails.
    """
    try:
        sets = shard.opened(path)
        with sets["sequence_id"].file:
            return shard.identity_of(sets, path), shard.packed(sets)
    except StoreError:
        raise
    except FAULTS as error:
        stop_if_unreadable(path, error)
        return None


def survey(folder: Path) -> tuple[Identity | None, dict[Path, bool]]:
    """The identity that a store's readable shards share (None if there are none), and each of those with whether it is compressed.

    Raises:
        UserError: two shards differ, or as `shard_paths`. StoreError: as `made_from`.
    """
    shared, first, compressed = None, folder, {}
    for path in shard_paths(folder):
        if (origin := made_from(path)) is None:
            continue
        identity, compressed[path] = origin
        shared, first = (shared, first) if shared else (identity, path)
        if identity != shared:
            name = next(key for key, value in asdict(shared).items() if asdict(identity)[key] != value)
            where = f"{name} {asdict(shared)[name]!r} in {first.name} and {asdict(identity)[name]!r} in {path.name}"
            raise UserError(f"folder={folder} mixes shards of different stores ({where}): move them to folders of their own")
    return shared, compressed


def open_store(folder: Path) -> Store | None:
    """The store that a folder holds, whosever it is; None where no shard in it can be read. Raises: as `survey`."""
    identity = survey(folder)[0] if any(folder.glob("[!.]*.h5")) else None
    return None if identity is None else Store(folder, identity)


# The commands


def verify(folder: Path) -> bool:
    """Read every byte of a store and tell; False if shards were damaged."""
    store = Store(folder, survey(folder)[0] or NOBODY)
    sentences = store.verify()
    if not sentences:
        paths = shard_paths(folder)
        size = sum(path.stat().st_size for path in paths)
        print(f"{folder}: {count(len(paths), 'shard')}, {count(len(store.ids()), 'sample')}, {size:,} bytes, all whole")
    for sentence in sentences:
        print(sentence)
    return not sentences


def info(folder: Path) -> bool:
    """Print what a store holds, from its tables alone: nothing is set aside, and damage of the maps is not seen."""
    identity, compressed = survey(folder)
    parts, size, packed = [], 0, 0
    for path, is_packed in compressed.items():
        try:
            sets = shard.opened(path)
            with sets["sequence_id"].file:
                parts.append(shard.check(sets, path, identity or NOBODY))
            size, packed = size + path.stat().st_size, packed + is_packed
        except StoreError:
            raise
        except FAULTS as error:
            stop_if_unreadable(path, error)
    rows, samples = sum(map(len, parts)), len(np.unique(np.concatenate(parts))) if parts else 0
    damaged = len(shard_paths(folder)) - len(parts)
    if not rows:
        raise UserError(f"folder={folder} holds no whole shard: see what is wrong with `{verify_command(folder)}`")
    table: dict[str, Any] = asdict(identity or NOBODY)
    table |= {"shards": len(parts), "samples": f"{samples:,}", "bytes per sample": f"{size / rows:,.0f}"}
    table["compressed"] = "no" if not packed else "yes" if packed == len(parts) else f"{packed} of {count(len(parts), 'shard')}"
    if rows > samples:
        table["stored again"] = f"{rows - samples:,}"
    if damaged:
        table["damaged"] = f"{count(damaged, 'shard')}: run `{verify_command(folder)}`"
    print(folder, *(f"  {key:<18}{value}" for key, value in table.items()), "", sep="\n")
    return True


def export(folder: Path, ids: str, out: Path) -> None:
    """Write the samples of `ids` to one shard `out`, sorted by id, compressed if the store is; whole or not at all.

    Raises:
        UserError: an input is of no use, or samples are missing. StoreError: the disk fails, or a shard turns out damaged.
    """
    if out.suffix != ".h5" or out.name.startswith("."):
        raise UserError(f"out={out} is no name of a shard: give a file name that ends in .h5, such as out=subset.h5")
    refuse_existing(out)
    identity, compressed = survey(folder)
    if identity is None:
        raise UserError(f"folder={folder} holds no whole shard: see what is wrong with `{verify_command(folder)}`")
    wanted, store = np.unique(parse_ids(ids)), Store(folder, identity)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        missing = store.missing(wanted)
    for warning in caught:
        print(f"memgrid: {warning.message}", file=sys.stderr)
    if len(missing):
        lacking = f"{len(missing):,} of the {count(len(wanted), 'id')}, the first is {missing[0]}"
        raise UserError(f"folder={folder} lacks {lacking}: extract them first, or leave them out")
    packed = any(compressed.values())

    def fill(file: BinaryIO) -> None:
        """Write the samples; StoreError where the disk cannot take them."""
        sink = Sink(file)
        try:
            shard.compose(cast(BinaryIO, sink), identity, packed, len(wanted), blocks(store, wanted, sink))
        finally:
            sink.stop_if_failed()  # whatever HDF5 says about it
        refuse_existing(out)  # somebody else's, made meanwhile

    with whole(out, StoreError) as partial, partial.open("r+b") as file:
        fill(file)
    print(f"{out}: {count(len(wanted), 'sample')}, {out.stat().st_size:,} bytes, of {identity.llm} on {identity.corpus}")


def blocks(store: Store, wanted: np.ndarray, sink: Sink) -> Iterator[Maps]:
    """The wanted samples a few at a time, until the disk is full."""
    step = shard.block_rows(store.identity, len(wanted), BLOCK_BYTES)
    for start in range(0, len(wanted), step):
        yield store.read(wanted[start : start + step], measured=True)
        sink.stop_if_failed()


class Sink:
    """A file for HDF5, which cannot give up a file that the disk has no room for: after a failure, it takes all it is given for written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        act = getattr(self.file, name)

        def attempt(*arguments: Any) -> Any:
            """Do it, or remember that it failed."""
            if self.failure is None:
                try:
                    return act(*arguments)
                except OSError as error:
                    self.failure = error
            return len(arguments[0]) if name in ("write", "readinto") else 0

        return attempt

    def stop_if_failed(self) -> None:
        """Raise the OSError that the file gave, if any."""
        if self.failure is not None:
            raise self.failure


def refuse_existing(out: Path) -> None:
    """Raise UserError if the file is there."""
    if os.path.lexists(out):
        raise UserError(f"out={out} exists and is not overwritten: remove it or choose another name")


# The arguments
