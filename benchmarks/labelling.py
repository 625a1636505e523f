"""The rows about labelling: ROUGE of many rows, and duplicates in many tokens."""

from __future__ import annotations

from statistics import median

import numpy as np
import polars as pl

from benchmarks import reference
from benchmarks.measure import Row, interleaved, timed_row
from benchmarks.shapes import K, Settings
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.counting import count_exactly
from memgrid.label.rouge import rouge_scores


def population(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Prefixes and suffixes int32 (rows, 32): a third random, a third with a repeated pattern, a third with a shifted copy."""
    rng = np.random.default_rng(0)
    prefix, suffix = rng.integers(0, 50304, (2, rows, K), dtype=np.int32)
    kind, width = rng.integers(0, 3, rows), rng.integers(1, 9, rows)
    at = np.arange(2 * K) % width[:, None]
    whole = np.where((kind == 1)[:, None], np.take_along_axis(prefix, at[:, :K], 1), prefix)
    again = np.where((kind == 1)[:, None], np.take_along_axis(prefix, at[:, K:], 1), suffix)
    copied = (kind == 2)[:, None] & (rng.random((rows, K)) < 0.6)
    shifted = np.take_along_axis(prefix, (np.arange(K) + width[:, None]) % K, 1)
    return whole, np.where(copied, shifted, again)


def rouge(settings: Settings) -> list[Row]:
    """Rows per second, after checking that both agree in every bit.

    Raises:
        AssertionError: they do not.
    """
    many, few = (2000, 20) if settings.quick else (200_000, 400)
    prefix, suffix = population(many)
    for made, expected in zip(rouge_scores(prefix[:few], suffix[:few]), reference.rouge(prefix[:few], suffix[:few]), strict=True):
        if not np.array_equal(made, expected):
            raise AssertionError("memgrid's ROUGE differs from rouge_score")
    times = interleaved(
        {"memgrid": lambda: rouge_scores(prefix, suffix), "reference": lambda: reference.rouge(prefix[:few], suffix[:few])}, settings.rounds
    )
    value, baseline = many / median(times["memgrid"]), few / median(times["reference"])
    how = f"{many:,} rows of 32 + 32 tokens, one thread, against rouge_score row by row on {few} of them, with which it agrees bit for bit"
    return [Row("labelling: ROUGE-L + ROUGE-3", value, baseline, value / baseline, "rows/s", ("value", ">=", 700_000.0), how)]


def counting(settings: Settings) -> list[Row]:
    """CPU of exact counts for each GB of tokens, against reading the documents alone, after checking what is known.

    Raises:
        AssertionError: a sequence that was cut out of a document is not found there.
    """
    documents, sequences = (200, 100) if settings.quick else (8_000, 200_000)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50304, (documents, 1000), dtype=np.int32)
    path = settings.folder / "documents.parquet"
    lists = pl.Series("tokens", tokens).cast(pl.List(pl.Int32))
    pl.DataFrame({"tokens": lists, "copies": np.ones(documents, np.int64)}).write_parquet(path, row_group_size=4096)
    rows, starts = rng.integers(0, documents, sequences), rng.integers(0, 1000 - 2 * K, sequences)
    wanted = np.lib.stride_tricks.sliding_window_view(tokens, 2 * K, axis=1)[rows, starts]
    corpus = Corpus("random", np.arange(sequences), wanted, K, path)
    if count_exactly(corpus, processes=1).min() < 1:
        raise AssertionError("a sequence of the documents was not found in them")
    tasks = {"count": lambda: count_exactly(corpus, processes=1), "read": lambda: sum(copies for _, copies in corpus.documents())}
    times = interleaved(tasks, settings.rounds)
    how = (
        f"CPU for {tokens.size:,} tokens of 4 bytes in {documents:,} documents of parquet, {sequences:,} sequences of {2 * K}, one "
        "process, against reading the documents alone"
    )
    return [timed_row(times, "labelling: exact duplicates", "count", "read", 1e9 / tokens.nbytes, "s/GB of tokens", None, how)]
