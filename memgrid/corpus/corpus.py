"""Corpora: the sequences to be labelled, and the training documents in which their duplicates are counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from memgrid.config.schema import CorpusConfig
from memgrid.corpus.parquet import (
    PART_ROWS,
    collect,
    count_rows,
    query,
    read_parts,
    read_table,
    refuse_nulls,
    require_columns,
    require_own,
)
from memgrid.errors import UserError
from memgrid.io.paths import TOY

BLOCK_ROWS = 1 << 16
PART_TOKENS = 1 << 22  # of documents that are read at once, about ...
FIRST_ROWS = 256  # ... and how many documents before it is known how long they are
LONGEST_WORD = 60  # characters of what another column says of a document, which may be its whole text
DOCUMENTS = {"tokens": "lists of integers", "copies": "integers"}
SEQUENCES = {"sequence_id": "integers", "tokens": "lists of integers"}
TOGETHER = "split_group"  # a column of sequences that may be there


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts that a corpus brings, which stay in its files until they are asked for.

    Attributes:
        files: in their order.
        kept: bool (rows of all files,); which of them are sequences of the corpus.
        column: the column with the text.
    """

    files: tuple[Path, ...]
    kept: np.ndarray
    column: str

    def of(self, rows: np.ndarray) -> list[str | None]:
        """The texts of some sequences of the corpus, by their rows in it; None where a text is null.

        Raises:
            UserError: a file cannot be read or has no such column.
        """
        places = np.flatnonzero(self.kept)[rows]
        order, before = np.argsort(places, kind="stable"), 0
        found = []
        for path in self.files:
            for part in read_parts(path, {self.column: "strings"}):
                inside = slice(*np.searchsorted(places, (before, before + len(part)), sorter=order))
                found += part[self.column].gather(places[order[inside]] - before).to_list()
                before += len(part)
        texts: list[str | None] = [None] * len(rows)
        for row, text in zip(order.tolist(), found, strict=True):
            texts[row] = text
        return texts


@dataclass(frozen=True, eq=False)
class Brought:
    """The tables that a corpus was read from, for columns of the user's own.

    Attributes:
        files: in their order.
        kept: as in `Texts`; None: all.
    """

    files: tuple[Path, ...]
    kept: np.ndarray | None = None

    def columns(self, names: tuple[str, ...]) -> pl.DataFrame:
        """Some columns, a row per sequence of the corpus.

        Raises:
            UserError: a file lacks one, or one holds neither truth values nor numbers nor words, or a sequence has none.
        """
        tables = []
        for path in self.files:
            require_own(path, names)
            tables.append(collect(path, pl.scan_parquet(path, glob=False).select(names)))
        table = pl.concat(tables, how="vertical_relaxed")
        table = table if self.kept is None else table.filter(pl.Series(self.kept))
        for column in table:
            unknown = column.null_count() + (int(column.is_nan().sum()) if column.dtype.is_float() else 0)
            if unknown:
                raise UserError(f"column {column.name!r} of {self.files[0]} does not say what {unknown} sequences are: fill it")
        return table


@dataclass(frozen=True, eq=False)
class Corpus:
    """Sequences of one length with their ids, and where the documents lie.

    Attributes:
        sequence_id: int64 (N,), unique.
        tokens: int32 (N, length); uint16 of a published corpus whose token ids fit.
        k: tokens in the prefix.
        documents_path: parquet with `tokens` and `copies`, or None where the training documents are unknown.
        given: labels that the corpus brings itself, (N,) each: memorized (bool), duplicates (int64), is_repeating (bool),
            is_incrementing (bool), or some of them.
        left_out: rows of its files that are no sequences of it, since they have a null.
        texts: the texts that the corpus brings, or None.
        together: int64 (N,) or None; sequences of equal numbers from 0 on never stand on both sides of a split.
        brought: where columns of the user's own stand, or None.
    """

    name: str
    sequence_id: np.ndarray
    tokens: np.ndarray
    k: int
    documents_path: Path | None
    given: Mapping[str, np.ndarray] = field(default_factory=dict)
    left_out: int = 0
    texts: Texts | None = None
    together: np.ndarray | None = None
    brought: Brought | None = None

    @property
    def prefix(self) -> np.ndarray:
        """int32 (N, k)."""
        return self.tokens[:, : self.k]

    @property
    def suffix(self) -> np.ndarray:
        """int32 (N, length - k)."""
        return self.tokens[:, self.k :]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of ids, tokens and what else is given: labels and attention made from other sequences are not taken for these."""
        digest = hashlib.sha256(np.ascontiguousarray(self.sequence_id).data)
        for start in range(0, len(self.tokens), BLOCK_ROWS):
            digest.update(np.ascontiguousarray(self.tokens[start : start + BLOCK_ROWS], np.int32).data)
        for name, column in sorted({**self.given, **({} if self.together is None else {TOGETHER: self.together})}.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()[:16]

    def own(self, names: tuple[str, ...]) -> pl.DataFrame:
        """Columns of the user's own, a row per sequence; raises UserError as `Brought.columns`, or if there is no table."""
        if self.brought is None:
            raise UserError(f"corpus {self.name!r} has no table with the column {names[0]!r}, which a rule compares: use another column")
        return self.brought.columns(names)

    def origin(self, names: tuple[str, ...]) -> str:
        """The fingerprint, or, with columns of the user's own, one of both."""
        if not names:
            return self.fingerprint
        digest = hashlib.sha256(self.fingerprint.encode())
        for column in self.own(tuple(sorted(names))):
            digest.update(f"{column.name} {len(column)}".encode())
            if column.dtype == pl.String:  # their lengths tell words apart that are the same when joined
                digest.update(column.str.len_bytes().cast(pl.Int64).to_numpy().tobytes())
                digest.update("".join(column).encode())
            else:
                kind = bool if column.dtype == pl.Boolean else np.float64 if column.dtype.is_float() else np.int64
                digest.update(column.to_numpy().astype(kind).tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def token_range(self) -> tuple[int, int]:
        """The lowest and the highest token id."""
        return int(self.tokens.min()), int(self.tokens.max())

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Where sequences stand in the corpus, int64, from their ids."""
        return self._order[np.searchsorted(self.sequence_id, ids, sorter=self._order)]

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.sequence_id, kind="stable")

    def documents(self, rows: slice = slice(None)) -> Iterator[tuple[np.ndarray, int]]:
        """Every training document with tokens and copies: (tokens int32 (n,), copies); read part by part, never all at once.

        Args:
            rows: of the table, without a step, for processes that share the work. Whoever begins with the first checks the file for all.

        Raises:
            UserError: the corpus has no documents, or they are damaged; a document is null, has a null or an id that is none, or copies
                that are no number from 0 on.
        """
        for table in self.document_tables(rows):
            tokens, ends = table["tokens"].explode().to_numpy(), table["tokens"].list.len().cum_sum().to_list()
            for start, end, copies in zip([0, *ends], ends, table["copies"].to_list(), strict=False):
                yield tokens[start:end], copies

    def document_tables(self, rows: slice = slice(None)) -> Iterator[pl.DataFrame]:
        """The same as tables of some documents after others, with the columns `row`, tokens and copies."""
        if self.documents_path is None:
            raise UserError(
                f"corpus {self.name!r} has no documents.parquet, in which duplicates are counted: add it, or use a taxonomy without δ"
            )
        yield from document_parts(self.documents_path, *rows.indices(count_rows(self.documents_path))[:2])

    def name_of(self, row: int) -> str:
        """A document in words: its row, and what other columns say of it."""
        assert self.documents_path is not None
        other = pl.scan_parquet(self.documents_path, glob=False).slice(row, 1).select(pl.exclude(list(DOCUMENTS))).collect()
        texts = {column.name: str(column[0]) for column in other}
        said = [f"{name} {text if len(text) <= LONGEST_WORD else text[:LONGEST_WORD] + '…'}" for name, text in texts.items()]
        return f"row {row} of {self.documents_path.name}" + (f" ({', '.join(said)})" if said else "")


def sequences_file(config: CorpusConfig) -> Path:
    """Where the sequences of a corpus of tables lie; UserError if they do not."""
    path = (Path(config.path) if config.path else TOY) / "sequences.parquet"
    if not path.is_file():
        raise UserError(f"corpus {config.name!r} has no file {path}: set corpus.path to a folder with sequences.parquet")
    return path


def load_corpus(config: CorpusConfig) -> Corpus:
    """The corpus in folder `config.path` (the embedded one without a path): sequences.parquet and, beside it, documents.parquet.

    Raises:
        UserError: the folder, a column or the promised length is not there.
    """
    path = sequences_file(config)
    folder = path.parent
    require_columns(path, SEQUENCES)
    brought = TOGETHER in pl.scan_parquet(path, glob=False).collect_schema()
    table = read_table(path, SEQUENCES | ({TOGETHER: "integers"} if brought else {}))
    if not table["sequence_id"].is_first_distinct().all():
        raise UserError(f"{path} has a sequence_id twice: every sequence needs an id of its own")
    documents = folder / "documents.parquet"
    if documents.is_file():
        require_columns(documents, DOCUMENTS)
    tokens, whole = token_matrix(table["tokens"], config.length, path)
    if not whole.all():
        raise UserError(f"column 'tokens' of {path} has a null within a list: every token needs an id")
    sequence_id = table["sequence_id"].to_numpy(writable=True)
    together = table[TOGETHER].to_numpy() if brought else None
    where = documents if documents.is_file() else None
    return Corpus(config.name, sequence_id, tokens, config.k, where, together=together, brought=Brought((path,)))


def document_parts(path: Path, start: int, stop: int) -> Iterator[pl.DataFrame]:
    """Some rows of a table of documents, those with tokens and copies, in tables of about `PART_TOKENS`; raises as `Corpus.documents`.

    The column `row` says where each stands.
    """
    asked, rows = query(path, DOCUMENTS, check=not start).with_row_index("row"), FIRST_ROWS
    while start < stop:
        part = collect(path, asked.slice(start, min(rows, stop - start)))
        refuse_nulls(part, path)
        if len(few := part["copies"].filter(part["copies"] < 0)):
            raise UserError(f"column 'copies' of {path} has {few[0]}: say how often a document is in the training text, from 0 on")
        full = part.filter(pl.col("tokens").list.len() > 0)
        flat = full["tokens"].explode()
        if flat.null_count():
            raise UserError(f"column 'tokens' of {path} has a null within a list: every token needs an id")
        if len(low := flat.filter(flat < 0)):
            raise UserError(f"column 'tokens' of {path} has {low[0]}, which is no token id: they are counted from 0")
        if len(kept := full.filter(pl.col("copies") > 0)):
            yield kept
        start += rows
        rows = min(max(rows * PART_TOKENS // max(len(flat), 1), 1), PART_ROWS, 8 * rows)  # as long as the last ones, the next just fit


def token_matrix(lists: pl.Series, length: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Lists of token ids, as `read_table` reads them from `path`, in one array: int32 (rows, length), and which rows have no null within.

    Raises:
        UserError: there is no list, or one of another length.
    """
    lengths = lists.list.len()
    given = "no rows" if lists.is_empty() else f"{lengths.min()!r} to {lengths.max()!r} tokens"
    if lists.is_empty() or lengths.min() != length or lengths.max() != length:
        raise UserError(f"{path} must hold sequences of corpus.length={length} tokens, but they have {given}")
    flat = lists.explode()
    whole = np.ones(len(lists), bool)
    if flat.null_count():
        flat.is_not_null().to_numpy().reshape(-1, length).all(axis=1, out=whole)
    return flat.fill_null(0).to_numpy(writable=True).reshape(-1, length), whole
