"""Reading wandb's own files, `run-<id>.wandb`: which run they belong to and which epochs they hold."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK, WHOLE, LAST = 7, 32768, 1, 4


def records(path: Path) -> Iterator[tuple[Any, int]]:
    """The records of a `.wandb` file and where each ends, up to the first that is not whole.

    The file is a log as LevelDB writes it, behind seven bytes: blocks of pieces, each behind a checksum, its length and its kind.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        at += HEADER + length
        if at > len(data):
            return
        parts += data[at - length : at]
        if kind in (WHOLE, LAST):
            try:
                yield Record.FromString(parts), at
            except DecodeError:
                return
            parts = b""


def begun(path: Path) -> bool:
    """Whether the file says which run it belongs to; one whose process was killed at once does not, and wandb cannot read it."""
    return any(record.HasField("run") for record, _ in records(path))


def logged_steps(path: Path) -> list[int]:
    """The steps that a part of a run holds."""
    items = (item for record, _ in records(path) for item in record.history.item)
    return [int(item.value_json) for item in items if "_step" in (item.key, *item.nested_key)]


def logged_epochs(parts: Iterable[Path]) -> set[int]:
    """The epochs that the parts of a run hold."""
    items = (item for path in parts for record, _ in records(path) for item in record.history.item)
    return {int(item.value_json) for item in items if "epoch" in (item.key, *item.nested_key)}
