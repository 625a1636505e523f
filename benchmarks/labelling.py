"""The row about labelling: ROUGE of many rows."""

from __future__ import annotations

from statistics import median

import numpy as np

from benchmarks import reference
from benchmarks.measure import Row, interleaved
from benchmarks.shapes import K, Settings
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
