"""Which eval samples of one run are known to another from its training: asked about them it would answer from memory of its own."""

from __future__ import annotations

import numpy as np
import polars as pl

from memgrid.corpus.corpus import Corpus
from memgrid.label.selection.draw import GROUP_NGRAM
from memgrid.label.selection.groups import split_groups


def familiar(trained_on: np.ndarray, asked: np.ndarray, together: np.ndarray | None = None) -> np.ndarray:
    """Which sequences are among those of a training, or are near-duplicates of one, directly or through others that are asked about.

    Near-duplicates are those that selection keeps on one side: they share 32 tokens in a row, or repeat one pattern.

    Args:
        trained_on, asked: integers (rows, length), by the same tokenizer.
        together: int64 (rows of both,), those of the training first; rows of equal numbers from 0 on are near-duplicates, too.

    Returns:
        bool (rows of `asked`,).
    """
    groups = split_groups(np.concatenate([trained_on, asked]), min(GROUP_NGRAM, asked.shape[1]), together)
    return np.isin(groups[len(trained_on) :], groups[: len(trained_on)])


def known_samples(source: Corpus, train: pl.DataFrame, here: Corpus, evaluated: pl.DataFrame) -> np.ndarray:
    """`familiar`, of the train samples of one run and the eval samples of another, which may read another corpus: bool (eval samples,).

    Args:
        train, evaluated: tables of samples with sequence_id.
    """
    rows = source.rows_of(train["sequence_id"].to_numpy()), here.rows_of(evaluated["sequence_id"].to_numpy())
    together = None
    if source.together is not None and here.together is not None and source.fingerprint == here.fingerprint:
        together = np.concatenate([source.together[rows[0]], here.together[rows[1]]])
    return familiar(source.tokens[rows[0]].astype(np.int64), here.tokens[rows[1]].astype(np.int64), together)
