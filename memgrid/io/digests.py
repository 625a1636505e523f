"""Digests: a file of ours says what its bytes were when it was written, so that no flipped bit is ever used.

A sealed file holds, once, `sha256:` and 64 hexadecimal digits: the SHA-256 of all its bytes, with zeros in place of these digits. JSON has
them under its last key, YAML in its last line, parquet in its metadata, all under the name `digest`. What an older version wrote has none
and is believed. HDF5 files have sums of their own (`store.shard`, `localize.maps`, `audit.shadow.arrays`); a checkpoint has its digest
beside it (`io.checkpoints`).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from memgrid.errors import DamagedError
from memgrid.io.files import content_of, reason, replace_damaged, write_bytes

if TYPE_CHECKING:
    import polars as pl

KEY, DIGITS = "digest", 64
UNSEALED = "sha256:" + "0" * DIGITS  # what `sealed` replaces
# What says that there is a digest, and the digest: in the metadata of parquet, where lengths stand before words, and at the end of JSON and
# YAML. Others' words may look alike, such as those in the statistics of a table that a user brings: so they must stand in their place.
IN_PARQUET = rb"\x06digest\x18", rb"\x06digest\x18Gsha256:([0-9a-f]{64})"
IN_TEXT = rb'"digest": "|# digest: ', rb'sha256:([0-9a-f]{64})"?[\s}\]]*\Z'
END, TEXT_END = 2**20, 160  # bytes at a file's end, among which one that was sealed names its digest
BLOCK = 2**24  # bytes read at once


def sealed(content: bytes | memoryview) -> memoryview:
    """The content of a file with its digest in place of `UNSEALED`, which must stand near its end."""
    whole = memoryview(bytearray(content))
    at = len(whole) - len(end := bytes(whole[-END:])) + end.rindex(UNSEALED.encode()) + len(UNSEALED) - DIGITS
    whole[at : at + DIGITS] = hashlib.sha256(whole).hexdigest().encode()
    return whole


def is_sound(content: bytes, old: bool = True) -> bool:
    """Whether the content is what was sealed; of what never was, `old` says it."""
    return fault_of(iter([content]), len(content), content[-END:], old) is None


def fault_of(blocks: Iterator[bytes], size: int, end: bytes, old: bool = True) -> str | None:
    """What is wrong with a file that comes in blocks, in words, or None.

    Args:
        size: bytes in all. end: the last of them, where the digest stands. old: whether it may be of a version that wrote no digests.
    """
    sign, written = IN_PARQUET if end.endswith(b"PAR1") else IN_TEXT
    looked = end if end.endswith(b"PAR1") else end[-TEXT_END:]
    found = list(re.finditer(written, looked))
    if not found:
        return None if old and not re.search(sign, looked) else "its digest is not legible"
    digits, total, read, first = found[-1][1], hashlib.sha256(), 0, size - len(looked) + found[-1].start(1)
    for block in blocks:
        start, stop = (min(max(at - read, 0), len(block)) for at in (first, first + DIGITS))
        view = memoryview(block)
        for part in (view[:start], b"0" * (stop - start), view[stop:]):
            total.update(part)
        read += len(block)
    return None if total.hexdigest().encode() == digits else "its content does not match its digest"


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The content of a file.

    Args:
        most: of so many bytes, if it is what was written.

    Raises:
        DamagedError: it is not what was written. OSError: it cannot be read.
    """
    content = content_of(path, most)
    if most is not None and len(content) > most:
        raise DamagedError(path, f"it has more than {most} bytes")
    if (fault := fault_of(iter([content]), len(content), content[-END:])) is not None:
        raise DamagedError(path, fault)
    return content


def check_file(path: Path, mend: str = "remove it and run again") -> None:
    """The same without keeping the content, for large files; raises as `read_bytes`, with what mends it."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - END))
        end = file.read()
        file.seek(0)
        fault = fault_of(iter(lambda: file.read(BLOCK), b""), size, end)
    if fault is not None:
        raise DamagedError(path, fault, mend)


def is_usable(path: Path) -> bool:
    """Whether a file is there and sound; a damaged one is named and set aside, for whoever makes it anew. OSError: it cannot be read."""
    try:
        check_file(path)
    except DamagedError as error:
        replace_damaged(error)
        return False
    except FileNotFoundError:
        return False
    return True


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write JSON with its digest, as `io.files.whole` does."""
    write_bytes(sealed(json.dumps({**content, KEY: UNSEALED}, indent=1).encode()), path)


def json_object(content: bytes | str) -> dict[str, Any] | None:
    """The object that a file of JSON holds, without its digest; None if it is damaged."""
    content = content.encode() if isinstance(content, str) else content
    try:
        plain = json.loads(content) if is_sound(content) else None
    except (ValueError, RecursionError):
        return None
    return {key: value for key, value in plain.items() if key != KEY} if isinstance(plain, dict) else None


def read_json(path: Path, most: int | None = None) -> dict[str, Any]:
    """The object that a file of at most so many bytes holds; raises as `read_bytes`."""
    if (plain := json_object(read_bytes(path, most))) is None:
        raise DamagedError(path, "it is no JSON")
    return plain


def write_yaml(config: DictConfig, path: Path) -> None:
    """Write a configuration with its digest, as `io.files.whole` does."""
    write_bytes(sealed(f"{OmegaConf.to_yaml(config)}# {KEY}: {UNSEALED}\n".encode()), path)


def read_yaml(path: Path) -> DictConfig:
    """The configuration that a file holds; raises as `read_bytes`."""
    from yaml import YAMLError

    try:
        config = OmegaConf.create(read_bytes(path).decode())
    except (YAMLError, ValueError) as error:
        raise DamagedError(path, f"it is no YAML: {reason(error)}") from None
    if not isinstance(config, DictConfig) or not config:
        raise DamagedError(path, "it holds no keys")
    return config


def write_parquet(table: pl.DataFrame, path: Path, metadata: Mapping[str, str] | None = None, **options: Any) -> None:
    """Write a table with its digest, as `io.files.whole` does; options are those of `polars.DataFrame.write_parquet`."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata={**(metadata or {}), KEY: UNSEALED}, **options)
    write_bytes(sealed(buffer.getvalue()), path)


def read_parquet(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """The table that a file holds, or some columns of it; raises as `read_bytes`."""
    return read_table(path, columns)[0]


def read_table(path: Path, columns: list[str] | None = None) -> tuple[pl.DataFrame, dict[str, str]]:
    """The table that a file holds, or some columns of it, and its metadata; raises as `read_bytes`."""
    import polars as pl
    from polars.exceptions import PanicException, PolarsError

    content = io.BytesIO(read_bytes(path))
    try:
        metadata = pl.read_parquet_metadata(content)
        content.seek(0)
        return pl.read_parquet(content, columns=columns), metadata
    except (PolarsError, PanicException, OSError) as error:
        raise DamagedError(path, f"it is no parquet: {reason(error)}") from None


def parquet_metadata(path: Path) -> dict[str, str] | None:
    """What a parquet file says of itself, without its rows and its digest; None where there is no file, or none that can be read."""
    import polars as pl
    from polars.exceptions import PanicException, PolarsError

    try:
        return pl.read_parquet_metadata(path)
    except (PolarsError, PanicException, OSError):
        return None
