"""The documents in files of text: which files there are, and what stands in them."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import polars as pl

from memgrid.config.schema import CorpusConfig
from memgrid.corpus.parquet import BROUGHT, first_line, read_parts, refuse_nulls
from memgrid.corpus.splits import files_of_splits, is_on_hub
from memgrid.errors import UserError

SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
TEXT_ROWS = 1 << 10  # documents that are read at once
SURROGATE = re.compile("[\ud800-\udfff]")


def text_files(config: CorpusConfig, folder: Path) -> list[Path]:
    """The file `config.path`, or the files of `SUFFIXES` below it, sorted; hidden ones and those in `folder` are left out.

    With `config.splits` it is a data set, and its splits' files are the text.

    Raises:
        UserError: nothing is there, or nothing of these kinds.
    """
    if config.splits:
        return [path for of_split in files_of_splits(config) for path in of_split]
    if is_on_hub(config):
        raise UserError(f"corpus.path={config.path} is a data set: say which of its splits to read, such as corpus.splits=[train]")
    path = Path(config.path or "")
    if config.path is None or not path.exists():
        raise UserError(f"corpus.path={config.path} does not exist: set it to a text file, or to a folder with {', '.join(SUFFIXES)} files")
    below = sorted(entry for entry in path.rglob("*") if not any(part.startswith(".") for part in entry.relative_to(path).parts))
    files = [path] if path.is_file() else [entry for entry in below if entry.is_file() and folder.resolve() not in entry.resolve().parents]
    texts = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    if not texts:
        kinds = Counter(file.suffix or file.name for file in files).most_common(5)
        there = ", ".join(f"{count} {kind}" for kind, count in kinds) or "nothing"
        raise UserError(f"corpus.path={config.path} has no file in {', '.join(SUFFIXES)}, but {there}: convert the text to one of them")
    return texts


def read_documents(files: Iterable[Path], column: str, copies: str | None = None) -> Iterator[tuple[str, int]]:
    """The documents of all files in their order, and how often the model has read each; without a column of copies, once.

    Raises:
        UserError: a file is not UTF-8, a line is no JSON object with the columns, or a table lacks them.
    """
    for path in files:
        if path.suffix.lower() == ".parquet":
            yield from read_rows(path, column, copies)
        elif path.suffix.lower() == ".txt":
            yield decode(path.read_bytes(), path), 1
        else:
            yield from read_lines(path, column, copies)


def read_rows(path: Path, column: str, copies: str | None) -> Iterator[tuple[str, int]]:
    """The texts in the rows of a .parquet file, some after others."""
    wanted = {column: "strings"} | ({copies: "integers"} if copies else {})
    for part in read_parts(path, wanted, ": set corpus.column to the one with the text", TEXT_ROWS):
        refuse_nulls(part, path)
        for text, count in zip(part[column], part[copies] if copies else repeat(1), strict=False):
            yield text, refuse_negative(count, copies, path)


def read_lines(path: Path, column: str, copies: str | None) -> Iterator[tuple[str, int]]:
    """The text in each line of a .jsonl file that is not blank."""
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            where = f"line {number} of {path}"
            fields = fields_of(line, column, where)
            count = fields.get(copies, None) if copies else 1
            if not isinstance(count, int) or isinstance(count, bool):
                raise UserError(f"{where} has no whole number in {copies!r}: set corpus.copies to the one that says how often it was read")
            yield text_of(fields, column, where), refuse_negative(count, copies, where)


def refuse_negative(count: int, copies: str | None, where: str | Path) -> int:
    """The count; UserError if a document was read less than never."""
    if count < 0:
        raise UserError(f"{where} has {count} in {copies!r}: say how often the document is in the training text, from 0 on")
    return count


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file, unpacked if its name ends with .gz or .zst, one after the other.

    Raises:
        UserError: it is not UTF-8, is damaged, or this version of polars cannot unpack it.
    """
    if path.suffix.lower() == ".zst":
        yield from zst_lines(path)
        return
    offset = 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for line in file:
                yield decode(line, path, offset)
                offset += len(line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked ({first_line(error)}): {BROUGHT}") from None


def zst_lines(path: Path) -> Iterator[str]:
    """The lines of a .zst file, which polars unpacks bit by bit."""
    if not hasattr(pl, "scan_lines"):
        raise UserError(f"{path} cannot be unpacked by polars {pl.__version__}: pip install --upgrade polars, or unpack it yourself")
    try:
        for lines in pl.scan_lines(path, glob=False).collect_batches(chunk_size=TEXT_ROWS, lazy=True, engine="streaming"):
            yield from (line.removeprefix("\ufeff") for line in lines["line"])
    except (OSError, pl.exceptions.PolarsError) as error:
        if "utf" in str(error).lower():
            raise UserError(f"{path} is not UTF-8 text: convert it to UTF-8, or move it out of corpus.path") from None
        raise UserError(f"{path} cannot be unpacked ({first_line(error)}): {BROUGHT}") from None


def fields_of(line: str, column: str, where: str) -> dict[str, Any]:
    """The object in a line of JSON; a `UserError` says `where` that line is."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({str(error).partition(': line')[0]}): mend the line, or take it out") from None
    if not isinstance(fields, dict):
        raise UserError(f"{where} holds no JSON object: write {json.dumps({column: '...'})}")
    return fields


def text_of(fields: dict[str, Any], column: str, where: str) -> str:
    """The text among the fields of a line."""
    text = fields.get(column)
    if not isinstance(text, str):
        there = ", ".join(f"{key} ({type(value).__name__})" for key, value in fields.items()) or "no key"
        raise UserError(f"{where} has no string in {column!r}, but {there}: set corpus.column to the one with the text")
    if SURROGATE.search(text):
        raise UserError(f"{where} has half a character (a lone \\ud… escape) in {column!r}: mend the line, or take it out")
    return text


def decode(data: bytes, path: Path, offset: int = 0) -> str:
    """UTF-8 as text, without a byte order mark.

    Raises:
        UserError: it is something else; the sentence names the first wrong byte of the file, in which `data` begins at `offset`.
    """
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = offset + error.start
        raise UserError(f"{path} is not UTF-8 text (byte {at} is wrong): convert it to UTF-8, or move it out of corpus.path") from None
