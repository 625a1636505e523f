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
from memgrid.corpus.parquet import BROUGHT, read_table, require_columns
from memgrid.errors import UserError
from memgrid.io.digests import check_file
from memgrid.io.paths import TOY


@dataclass(frozen=True, eq=False)
class Corpus:
    """Sequences of one length with their ids, and where the documents lie.

    Attributes:
        sequence_id: int64 (N,), unique.
        tokens: int32 (N, length).
        k: tokens in the prefix.
        documents_path: parquet with `tokens` and `copies`, or None where the training documents are unknown.
        given: labels that the corpus brings itself, (N,) each: memorized (bool), duplicates (int64), is_repeating (bool),
            is_incrementing (bool), or some of them.
    """

    name: str
    sequence_id: np.ndarray
    tokens: np.ndarray
    k: int
    documents_path: Path | None
    given: Mapping[str, np.ndarray] = field(default_factory=dict)

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
        """A digest of ids, tokens and given labels: labels and attention made from other sequences are not taken for these."""
        digest = hashlib.sha256(np.ascontiguousarray(self.sequence_id).data)
        digest.update(np.ascontiguousarray(self.tokens).data)
        for name, column in sorted(self.given.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()[:16]

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Where sequences stand in the corpus, int64, from their ids."""
        return self._order[np.searchsorted(self.sequence_id, ids, sorter=self._order)]

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.sequence_id, kind="stable")

    def documents(self) -> Iterator[tuple[np.ndarray, int]]:
        """Every training document with copies: (tokens int32 (n,), copies).

        Raises:
            UserError: the corpus has no documents, or they are damaged.
        """
        if self.documents_path is None:
            raise UserError(
                f"corpus {self.name!r} has no documents.parquet, in which duplicates are counted: add it, or use a taxonomy without δ"
            )
        check_file(self.documents_path, BROUGHT)
        table = pl.read_parquet(self.documents_path, columns=["tokens", "copies"], glob=False).filter(pl.col("copies") > 0)
        for tokens, copies in zip(table["tokens"], table["copies"], strict=True):
            yield tokens.to_numpy().astype(np.int32), copies


def load_corpus(config: CorpusConfig) -> Corpus:
    """The corpus in folder `config.path` (the embedded one without a path): sequences.parquet and, beside it, documents.parquet.

    Raises:
        UserError: the folder, a column or the promised length is not there.
    """
    folder = Path(config.path) if config.path else TOY
    path = folder / "sequences.parquet"
    if not path.is_file():
        raise UserError(f"corpus {config.name!r} has no file {path}: set corpus.path to a folder with sequences.parquet")
    table = read_table(path, {"sequence_id": "integers", "tokens": "lists of integers"})
    if not table["sequence_id"].is_first_distinct().all():
        raise UserError(f"{path} has a sequence_id twice: every sequence needs an id of its own")
    documents = folder / "documents.parquet"
    if documents.is_file():
        require_columns(documents, {"tokens": "lists of integers", "copies": "integers"})
    tokens = token_matrix(table["tokens"], config.length, path)
    sequence_id = table["sequence_id"].to_numpy(writable=True)
    return Corpus(config.name, sequence_id, tokens, config.k, documents if documents.is_file() else None)


def token_matrix(lists: pl.Series, length: int, path: Path) -> np.ndarray:
    """Lists of token ids, as `read_table` reads them from `path`, in one array: int32 (rows, length).

    Raises:
        UserError: there is no list, one of another length, or an empty entry in one.
    """
    lengths = lists.list.len()
    given = "no rows" if lists.is_empty() else f"{lengths.min()!r} to {lengths.max()!r} tokens"
    if lists.is_empty() or lengths.min() != length or lengths.max() != length:
        raise UserError(f"{path} must hold sequences of corpus.length={length} tokens, but they have {given}")
    tokens = lists.list.to_array(length).to_numpy(writable=True)
    if tokens.dtype != np.int32:  # polars turns integers with nulls into floats
        raise UserError(f"column {lists.name!r} of {path} has a null within a list: every token needs an id")
    return tokens
