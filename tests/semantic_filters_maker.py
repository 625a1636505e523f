"""Parquet files with the columns of `usvsnsp/semantic-filters` and invented rows: for tests of correctness and of speed.

Memorized rows cover what the taxonomies look at: duplicates from 0 to a million, texts that repeat or count, suffixes that share anything
from nothing to everything with their prefix, exact copies and near-duplicates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.schema import CorpusConfig

SPLITS = ("memories_deduped_12b", "pile_deduped_12b")
LENGTH, K = 64, 32
VOCABULARY = 50_000
IDS = 146_432_000  # sequences that Pythia was trained on
FILE_ROWS = 100_000
WORDS = np.array(["the", "of", "model", "and", "attention", "in", "to", "a", "memory", "text", "from", "layer", "is", "token", "that"])


def config(path: Path | str, splits: Sequence[str] = SPLITS, **settings: Any) -> CorpusConfig:
    """The corpus of some splits below a folder."""
    return CorpusConfig(name="paper", path=str(path), **{"kind": "semantic_filters", "splits": list(splits)} | settings)


def rows(ids: Sequence[int], **columns: Any) -> pl.DataFrame:
    """A few rows with the columns that are read, some of which are given."""
    count = len(ids)
    usual = {
        "sequence_id": ids,
        "tokens": [[index] * 64 for index in range(count)],
        "memorization_score": [1.0] * count,
        "sequence_duplicates": list(range(count)),
        "is_repeating": [False] * count,
        "is_incrementing": [True] * count,
    }
    return pl.DataFrame(usual | columns)


def make_semantic_filters(folder: Path, rows: int, seed: int = 0, splits: tuple[str, ...] = SPLITS) -> Path:
    """Write `rows` rows in all, two fifths of them into the splits `memories_…`, as `<folder>/data/<split>-00000-of-00004.parquet`.

    Half of the pile's memorized rows (1 % of it) are rows of the memories too: the same sequence_id and tokens.
    """
    rng = np.random.default_rng(seed)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    memories = [split for split in splits if split.startswith("memories")]
    others = [split for split in splits if split not in memories]
    share = 0.4 if memories and others else 1.0
    known, first = None, 0
    for split in (*memories, *others):
        of_memories = split in memories
        count = round(rows * share / len(memories)) if of_memories else round(rows * (1 - share if memories else 1) / len(others))
        starts = range(0, max(count, 1), FILE_ROWS)
        for number, start in enumerate(starts):
            size = min(FILE_ROWS, count - start)
            made = memorized_rows(rng, size, first) if of_memories else pile_rows(rng, size, first, known)
            known = made.head(FILE_ROWS // 50) if of_memories else known
            extra_columns(made, rng).write_parquet(folder / "data" / f"{split}-{number:05d}-of-{len(starts):05d}.parquet")
            first += size
    return folder


def memorized_rows(rng: np.random.Generator, rows: int, first: int) -> pl.DataFrame:
    """Rows with a score of 1: a third resemble their prefix, 15 % repeat, 8 % count, 1 % are copies and 1 % nearly so."""
    tokens = random_tokens(rng, rows)
    kind = rng.random(rows)
    repeating, incrementing, resembling = kind < 0.15, (kind >= 0.15) & (kind < 0.23), (kind >= 0.23) & (kind < 0.56)
    tokens[repeating] = repeated(rng, tokens[repeating])
    tokens[incrementing] = counted(rng, tokens[incrementing])
    tokens[resembling] = resembled(rng, tokens[resembling])
    duplicates = np.floor(10 ** rng.uniform(-0.3, 6, rows)).astype(np.int64)
    copies, near = np.array_split(rng.permutation(rows)[: rows // 50], 2)
    for chosen in (copies, near):
        models = rng.integers(0, rows, len(chosen))
        for column in (tokens, repeating, incrementing, duplicates):
            column[chosen] = column[models]
    tokens[near, : rng.integers(1, 24)] = random_tokens(rng, len(near))[:, :1]
    return table(sequence_ids(first, rows), tokens, np.ones(rows), duplicates, repeating, incrementing)


def pile_rows(rng: np.random.Generator, rows: int, first: int, known: pl.DataFrame | None) -> pl.DataFrame:
    """Rows of which 1 % have a score of 1, and half of those are among the `known` ones."""
    tokens, ids = random_tokens(rng, rows), sequence_ids(first, rows)
    score = np.round(rng.beta(0.6, 6, rows) * 31) / K
    memorized = np.flatnonzero(rng.random(rows) < 0.01)
    score[memorized] = 1.0
    duplicates = np.floor(rng.pareto(1.1, rows)).clip(0, 1e6).astype(np.int64)
    repeating, incrementing = rng.random((2, rows)) < 0.004
    tokens[repeating], tokens[incrementing] = repeated(rng, tokens[repeating]), counted(rng, tokens[incrementing])
    if known is not None:
        again = memorized[: min(len(memorized) // 2, len(known))]
        ids[again] = known["sequence_id"][: len(again)].to_numpy()
        tokens[again] = known["tokens"][: len(again)].list.to_array(LENGTH).to_numpy()
    return table(ids, tokens, score, duplicates, repeating, incrementing)


def random_tokens(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Token ids of which low ones are frequent, as in a vocabulary of merges: int64 (rows, 64)."""
    return (VOCABULARY ** rng.random((rows, LENGTH), np.float32)).astype(np.int64) % VOCABULARY


def repeated(rng: np.random.Generator, tokens: np.ndarray) -> np.ndarray:
    """The first 1 to 12 tokens of each row again and again."""
    period = rng.integers(1, 13, (len(tokens), 1))
    return np.take_along_axis(tokens, np.arange(LENGTH) % period, axis=1)


def counted(rng: np.random.Generator, tokens: np.ndarray) -> np.ndarray:
    """Rows of four tokens again and again, of which one counts up."""
    made = np.take_along_axis(tokens, np.broadcast_to(np.arange(LENGTH) % 4, tokens.shape), axis=1)
    made[:, 3::4] = rng.integers(100, 40_000, (len(tokens), 1)) + np.arange(LENGTH // 4)
    return made


def resembled(rng: np.random.Generator, tokens: np.ndarray) -> np.ndarray:
    """Rows whose suffix has 0 to 32 tokens of the prefix in their places."""
    taken = np.arange(K) < rng.integers(0, K + 1, (len(tokens), 1))
    tokens[:, K:] = np.where(taken, tokens[:, :K], tokens[:, K:])
    return tokens


def sequence_ids(first: int, rows: int) -> np.ndarray:
    """Distinct ids in no order: the stride and the number of ids have no common divisor."""
    return np.arange(first, first + rows) * 97_000_019 % IDS


def table(ids: np.ndarray, tokens: np.ndarray, score: np.ndarray, duplicates: np.ndarray, *flags: np.ndarray) -> pl.DataFrame:
    """The columns that memgrid reads."""
    lists = pl.Series(tokens).cast(pl.List(pl.Int64))
    columns = {"sequence_id": ids, "tokens": lists, "memorization_score": score, "sequence_duplicates": duplicates}
    return pl.DataFrame(columns | dict(zip(("is_repeating", "is_incrementing"), flags, strict=True)))


def extra_columns(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The same rows with all the columns of the dataset, in its order."""
    size, tokens = len(rows), rows["tokens"].list.to_array(LENGTH).to_numpy()
    frequencies = (1e10 / (tokens + 1)).astype(np.int64)
    ordered = np.sort(frequencies, axis=1)
    pool = " ".join(rng.choice(WORDS, 5_000))
    perplexities = {f"{part}_perplexity": rng.lognormal(1, 1, size).astype(np.float32) for part in ("prompt", "generation", "sequence")}
    text = pl.select(pl.lit(pool).str.slice(pl.Series(rng.integers(0, len(pool) - 300, size)), 250)).to_series()
    counts = {name: rng.integers(0, 9, size) for name in ("0_8_snowclones", "0_9_snowclones", "0_8_templates", "0_9_templates")}
    columns = {
        "sequence_id": rows["sequence_id"],
        "loss": rng.gamma(2, 0.5, size).astype(np.float32),
        **perplexities,
        "text": text,
        "is_incrementing": rows["is_incrementing"],
        "is_repeating": rows["is_repeating"],
        "sequence_duplicates": rows["sequence_duplicates"],
        "max_frequency": ordered[:, -1],
        "avg_frequency": frequencies.mean(axis=1),
        "min_frequency": ordered[:, 0],
        "median_frequency": (ordered[:, 31] + ordered[:, 32]) / 2,
        "p25_frequency": ordered[:, 16],
        "p75_frequency": ordered[:, 48],
        "frequencies": pl.Series(frequencies).cast(pl.List(pl.Int64)),
        "tokens": rows["tokens"],
        "repeating_offset": rng.integers(0, 2, size).astype(np.int32),
        "num_repeating": rng.integers(-1, 5, size).astype(np.int32),
        "smallest_repeating_chunk": pl.Series(tokens[:, :2]).cast(pl.List(pl.Int64)),
        "nl_scores": rng.random(size, np.float32),
        **counts,
        "huffman_coding_length": rng.normal(5, 0.5, size),
        "memorization_score": rows["memorization_score"],
    }
    return pl.DataFrame(columns)
