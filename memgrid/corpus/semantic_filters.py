"""The paper's corpus: the Hugging Face dataset `usvsnsp/semantic-filters`, which brings most of its labels.

It belongs to Prashanth et al. (2024), "Recite, Reconstruct, Recollect", and has two splits for each Pythia model: `memories_…`, everything
that the model continues word for word, and `pile_…`, a random sample of its training sequences.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path

import numpy as np
import polars as pl

from memgrid.config.schema import CorpusConfig
from memgrid.corpus.corpus import Corpus, token_matrix
from memgrid.corpus.parquet import read_table
from memgrid.errors import UserError
from memgrid.io.hub import LATER, cached, download

HUB = re.compile(r"hf://datasets/([^/@\s]+/[^/@\s]+)(?:@(\S+))?")
# Where the files of a split lie below the dataset's folder.
LAYOUTS = tuple(f"{folder}{files}" for folder in ("", "data/") for files in ("{}-*-of-*.parquet", "{}.parquet", "{}/*.parquet"))
COLUMNS = {
    "sequence_id": "integers",
    "tokens": "lists of integers",
    "memorization_score": "numbers",
    "sequence_duplicates": "integers",
    "is_repeating": "booleans",
    "is_incrementing": "booleans",
}
PROMPT = 32  # tokens of the prefix after which the dataset says what is memorized
NAMED_FILES = 6


def load_semantic_filters(config: CorpusConfig) -> Corpus:
    """The rows of all splits, in order, with their labels; of rows with the same sequence_id the first stays.

    Nothing is downloaded: `config.path` is a folder, or `hf://datasets/<owner>/<name>[@<revision>]` with its files in the hub cache.

    Raises:
        UserError: a split, file or column is missing or holds something else, or `config.k` is not the dataset's.
    """
    if config.k != PROMPT:
        raise UserError(
            f"corpus.k={config.k} does not go with {config.name}, which says what is memorized after {PROMPT} tokens: set it to {PROMPT}"
        )
    mend = "fetch it with stages=[fetch]" if is_on_hub(config) else "set corpus.splits or corpus.path"
    parts, matrices = [], []
    for path in split_files(local_folder(config), config, mend):
        part = read_table(path, COLUMNS)
        matrices.append(token_matrix(part["tokens"], config.length, path))
        parts.append(part.drop("tokens"))
    tokens = np.concatenate(matrices)
    matrices.clear()
    table = pl.concat(parts)
    first = table["sequence_id"].is_first_distinct()
    if not first.all():
        table, tokens = table.filter(first), tokens[first.to_numpy()]
    return Corpus(config.name, table["sequence_id"].to_numpy(), tokens, config.k, None, given_labels(table))


def given_labels(table: pl.DataFrame) -> dict[str, np.ndarray]:
    """The dataset's columns under the names of memgrid's labels (see `Corpus.given`)."""
    return {
        "memorized": (table["memorization_score"] == 1.0).to_numpy(),
        "duplicates": table["sequence_duplicates"].to_numpy(),
        "is_repeating": table["is_repeating"].to_numpy(),
        "is_incrementing": table["is_incrementing"].to_numpy(),
    }


def fetch_semantic_filters(config: CorpusConfig) -> Path:
    """Download the files of `config.splits` into the hub cache, where the network allows it; returns their folder.

    Files that are already there are not downloaded again. A local `config.path` is only checked.

    Raises:
        UserError: the hub cannot be reached, or does not have the dataset, revision or a split.
    """
    folder = on_hub(config, offline=False) if is_on_hub(config) else local_folder(config)
    split_files(folder, config, "set corpus.splits to some that the dataset has")
    return folder


def local_folder(config: CorpusConfig) -> Path:
    """The folder of the dataset's files on this machine.

    Raises:
        UserError: there is none.
    """
    if is_on_hub(config):
        return on_hub(config)
    if config.path is None or not Path(config.path).is_dir():
        raise UserError(f"corpus.path={config.path} is no folder: set it to one with parquet files, or to hf://datasets/<owner>/<name>")
    return Path(config.path)


def is_on_hub(config: CorpusConfig) -> bool:
    """Whether the path names a dataset on the Hugging Face hub."""
    return config.path is not None and config.path.startswith("hf://")


def on_hub(config: CorpusConfig, offline: bool = True) -> Path:
    """The hub cache's folder with the files of the wanted splits; not `offline`, they are downloaded.

    Raises:
        UserError: the path is malformed, or there is no such folder and none can be made.
    """
    named = HUB.fullmatch(config.path or "")
    if named is None:
        raise UserError(
            f"corpus.path={config.path} names no dataset: write hf://datasets/<owner>/<name>, and @<revision> after it if you like"
        )
    wanted = [layout.format(split) for split in split_names(config) for layout in LAYOUTS]
    if not offline:
        return download(f"corpus.path={config.path}", named[1], "dataset", named[2], allow_patterns=wanted)
    folder = cached(named[1], "dataset", named[2], allow_patterns=wanted)
    if folder is None:
        raise UserError(f"corpus.path={config.path} is not in the local hub cache: {LATER}")
    return folder


def split_names(config: CorpusConfig) -> list[str]:
    """The wanted splits.

    Raises:
        UserError: there is none, or the language model has none in the dataset.
    """
    if not config.splits:
        raise UserError("corpus.splits is empty: list the splits to read, such as [memories_deduped_12b,pile_deduped_12b]")
    for split in config.splits:
        if split.split("_")[-1] == "None":  # the null of llm.semantic_filters, interpolated
            raise UserError(
                f"corpus.splits has {split!r}, since this llm has no split in semantic-filters: choose a Pythia model, or set "
                "llm.semantic_filters to what the dataset calls the model, such as deduped_12b"
            )
    return list(config.splits)


def split_files(folder: Path, config: CorpusConfig, mend: str) -> list[Path]:
    """The parquet files of all splits, in the order of the splits; `mend` says what to do where some are missing.

    Raises:
        UserError: a split has no file, or only some of its numbered ones.
    """
    files = []
    for split in split_names(config):
        patterns = [layout.format(glob.escape(split)) for layout in LAYOUTS]
        of_split = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
        promised = max((int(number) for path in of_split for number in re.findall(r"-of-(\d+)", path.name)), default=0)
        if not of_split:
            raise UserError(f"{folder} has no file of the split {split!r}, but {named_files(folder)}: {mend}")
        if len(of_split) < promised:
            raise UserError(f"{folder} has {len(of_split)} of the {promised} files of the split {split!r}: get the others, or {mend}")
        files += of_split
    return files


def named_files(folder: Path) -> str:
    """Which parquet files lie below a folder, in words."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
    return ", ".join(names[:NAMED_FILES]) + more or "no parquet file at all"
