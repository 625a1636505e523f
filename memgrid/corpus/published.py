"""Corpora that others have published with labels, about the models of Pythia: parquet files on the Hugging Face hub, or copies of them.

| `corpus.kind`    | dataset                                                 | brings                                       |
|------------------|---------------------------------------------------------|----------------------------------------------|
| semantic_filters | `usvsnsp/semantic-filters`; `…-intermediate`, for steps | memorized, duplicates, templates and the text |
| memorized_evals  | `EleutherAI/pythia-memorized-evals`                     | memorized                                    |

The first belongs to Prashanth et al. (2024), "Recite, Reconstruct, Recollect", and is the paper's corpus; it has two splits for each model:
`memories_…`, everything that the model continues word for word, and `pile_…`, a random sample of its training sequences. The second belongs
to Biderman et al. (2023), "Emergent and Predictable Memorization", and has a split for each model, with what that model memorized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from memgrid.config.schema import CorpusConfig
from memgrid.corpus.corpus import Brought, Corpus, Texts, token_matrix
from memgrid.corpus.parquet import count_rows, read_parts
from memgrid.corpus.splits import files_of_splits, split_names
from memgrid.errors import UserError

PROMPT = 32  # tokens of the prefix after which the datasets say what is memorized
NARROW = 1 << 16  # token ids below it take two bytes
BLOCK_ROWS = 1 << 16
Given = dict[str, np.ndarray]


@dataclass(frozen=True)
class Format:
    """What is read of a dataset.

    Attributes:
        columns: their kinds (see `parquet.KINDS`); the first is the sequence's id, and `tokens` are its tokens.
        labels: the labels that some rows bring, from their columns and the place of their split among those that are read.
        text: the column with the text, or None.
    """

    columns: Mapping[str, str]
    labels: Callable[[pl.DataFrame, int], Given]
    text: str | None = None


def semantic_filters_labels(rows: pl.DataFrame, _: int) -> Given:
    """The dataset's columns under the names of memgrid's labels (see `Corpus.given`)."""
    return {
        "memorized": (rows["memorization_score"] == 1.0).to_numpy(),
        "duplicates": rows["sequence_duplicates"].to_numpy(),
        "is_repeating": rows["is_repeating"].to_numpy(),
        "is_incrementing": rows["is_incrementing"].to_numpy(),
    }


def memorized_evals_labels(rows: pl.DataFrame, split: int) -> Given:
    """The first split is the model's own: all memorized; what only others memorized stands in the others' splits alone."""
    return {"memorized": np.full(len(rows), split == 0)}


FORMATS = {
    "semantic_filters": Format(
        {
            "sequence_id": "integers",
            "tokens": "lists of integers",
            "memorization_score": "numbers",
            "sequence_duplicates": "integers",
            "is_repeating": "booleans",
            "is_incrementing": "booleans",
        },
        semantic_filters_labels,
        "text",
    ),
    "memorized_evals": Format({"index": "integers", "tokens": "lists of integers"}, memorized_evals_labels),
}


def load_published(config: CorpusConfig) -> Corpus:
    """The rows of all splits, in order, with their labels; of rows with the same id the first stays, and rows with a null are left out.

    Nothing is downloaded: `config.path` is a folder, or `hf://datasets/<owner>/<name>[@<revision>]` with its files in the hub cache. Files
    are read part by part, and token ids are kept in two bytes where they fit: 150 bytes for a row of 64 tokens, and the part at hand.

    Raises:
        UserError: a split, file or column is missing or holds something else, or `config.k` is not the dataset's.
    """
    if config.k != PROMPT:
        raise UserError(
            f"corpus.k={config.k} does not go with {config.name}, which says what is memorized after {PROMPT} tokens: set it to {PROMPT}"
        )
    if len({name.partition(".")[0] for name in split_names(config)}) > 1 and config.kind == "memorized_evals":
        raise UserError(
            f"corpus.splits=[{','.join(config.splits)}] mixes deduped and duped, in which the same id is another sequence: keep to one"
        )
    files = files_of_splits(config)
    kind = FORMATS[config.kind]
    rows = {path: count_rows(path) for of_split in files for path in of_split}
    tokens, at = np.empty((sum(rows.values()), config.length), np.uint16), 0
    kept, parts = np.zeros(len(tokens), bool), []
    for places, matrix, part in complete_parts(files, kind, config.length):
        if tokens.dtype != np.int32 and (matrix.min() < 0 or matrix.max() >= NARROW):
            tokens = tokens.astype(np.int32)
        tokens[at : at + len(matrix)] = matrix
        kept[places] = True
        at += len(matrix)
        parts.append(part)
    if not at:
        raise UserError(f"{files[0][0]} must hold sequences of corpus.length={config.length} tokens, but it has no rows without a null")
    columns = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    left_out, first = len(kept) - at, pl.Series(columns["sequence_id"]).is_first_distinct().to_numpy()
    kept[np.flatnonzero(kept)[~first]] = False
    tokens = compacted(tokens[:at], first)
    columns = {name: column[first] for name, column in columns.items()} if not first.all() else columns
    texts = None if kind.text is None else Texts(tuple(rows), kept, kind.text)
    return Corpus(
        config.name, columns.pop("sequence_id"), tokens, config.k, None, columns, left_out, texts, brought=Brought(tuple(rows), kept)
    )


def complete_parts(files: list[list[Path]], kind: Format, length: int) -> Iterator[tuple[np.ndarray, np.ndarray, Given]]:
    """The rows without a null, some after others: where each stands among all rows, int64, its tokens int32, its id and its labels."""
    before = 0
    for split, of_split in enumerate(files):
        for path in of_split:
            for part in read_parts(path, kind.columns):
                complete = part.with_row_index("place", before).drop_nulls()
                before += len(part)
                if not len(complete):
                    continue
                tokens, whole = token_matrix(complete["tokens"], length, path)
                if whole.any():
                    complete, tokens = (complete, tokens) if whole.all() else (complete.filter(whole), tokens[whole])
                    labels = kind.labels(complete, split)
                    yield complete["place"].to_numpy(), tokens, {"sequence_id": complete[next(iter(kind.columns))].to_numpy(), **labels}


def compacted(tokens: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """The rows to keep, moved together in place: a second matrix would double the memory."""
    if keep.all():
        return tokens
    at = 0
    for start in range(0, len(tokens), BLOCK_ROWS):
        rows = tokens[start : start + BLOCK_ROWS][keep[start : start + BLOCK_ROWS]]
        tokens[at : at + len(rows)] = rows
        at += len(rows)
    return tokens[:at]
