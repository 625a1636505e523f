"""Window hashes and duplicate counts against naive versions of the same definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memgrid.corpus import ngrams

SETTINGS = settings(max_examples=150)
DTYPES = (np.uint16, np.int32, np.int64)
Documents = list[tuple[np.ndarray, int]]


def tables(rows: int = 8, length: int = 12, least_length: int = 1) -> st.SearchStrategy[np.ndarray]:
    """Small tables of tokens from 0 to 2, so that the same content comes back often."""
    shapes = st.tuples(st.integers(0, rows), st.integers(least_length, length))
    return shapes.flatmap(lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, 2)))


def corpora() -> st.SearchStrategy[Documents]:
    """Documents of up to 20 tokens, some empty, some with no copies."""
    tokens = st.lists(st.integers(0, 2), max_size=20).map(lambda ids: np.array(ids, np.int64))
    return st.lists(st.tuples(tokens, st.integers(0, 3)), max_size=6)


def naive_counts(sequences: np.ndarray, documents: Documents) -> list[int]:
    """Every sequence against every window."""
    n = sequences.shape[1]
    windows = [(tokens[i : i + n].tolist(), copies) for tokens, copies in documents for i in range(len(tokens) - n + 1)]
    return [sum(copies for window, copies in windows if window == row) for row in sequences.tolist()]


@SETTINGS
@given(tables(), st.integers(1, 13))
def test_window_hashes_are_equal_exactly_where_windows_are(tokens: np.ndarray, n: int) -> None:
    hashes = ngrams.window_hashes(tokens, n)
    assert hashes.shape == (len(tokens), max(tokens.shape[1] - n + 1, 0))
    assert hashes.dtype == np.uint64
    by_content: dict[tuple[int, ...], int] = {}
    for row, row_hashes in zip(tokens, hashes, strict=True):
        np.testing.assert_array_equal(ngrams.window_hashes(row, n), row_hashes)
        for start, value in enumerate(row_hashes.tolist()):
            assert by_content.setdefault(tuple(row[start : start + n].tolist()), value) == value
    assert len(set(by_content.values())) == len(by_content)


@pytest.mark.parametrize("length", [*range(1, 40), 64, 100])
def test_whole_rows_have_the_hash_of_their_longest_window(length: int) -> None:
    tokens = np.random.default_rng(length).integers(0, 2**16, (7, length))
    made = ngrams.seeded_hashes(tokens, 0, 5)
    windows = ngrams.window_hashes(tokens, length)[:, 0]
    for seed, hashes in zip((0, 5), made, strict=True):
        np.testing.assert_array_equal(hashes, ngrams._mix(windows ^ ngrams._mix(np.array([seed], np.uint64))))


@pytest.mark.parametrize("n", [1, 3, 32, 64])
def test_hashes_do_not_depend_on_the_integer_type(n: int) -> None:
    tokens = np.random.default_rng(0).integers(0, 2**16, (5, 64))
    for dtype in DTYPES:
        np.testing.assert_array_equal(ngrams.window_hashes(tokens.astype(dtype), n), ngrams.window_hashes(tokens, n))
        np.testing.assert_array_equal(ngrams.sequence_hashes(tokens.astype(dtype)), ngrams.sequence_hashes(tokens))


def test_hashes_tell_similar_windows_apart() -> None:
    swapped = [np.concatenate([np.roll(np.arange(64), shift), np.arange(64)[::-1]]) for shift in range(64)]
    parity = np.array([bin(i).count("1") % 2 for i in range(4096)])  # Thue-Morse: where polynomial hashes modulo 2**64 fail
    for tokens in (*swapped, parity):
        windows = {tuple(window) for window in np.lib.stride_tricks.sliding_window_view(tokens, 32).tolist()}
        assert len(np.unique(ngrams.window_hashes(tokens, 32))) == len(windows)


def test_hashes_refuse_what_are_no_token_windows() -> None:
    with pytest.raises(ValueError, match="choose n >= 1"):
        ngrams.window_hashes(np.arange(3), 0)
    with pytest.raises(ValueError, match="float64 in 1"):
        ngrams.window_hashes(np.zeros(3), 1)


def test_seeds_give_independent_uniform_orders() -> None:
    tokens = np.random.default_rng(0).integers(0, 2, (20_000, 64))
    first, second = ngrams.sequence_hashes(tokens), ngrams.sequence_hashes(tokens, seed=1)
    np.testing.assert_array_equal(first, ngrams.sequence_hashes(tokens, seed=0))
    ranks = np.argsort(np.argsort(first)), np.argsort(np.argsort(second))
    assert abs(np.corrcoef(*ranks)[0, 1]) < 0.03
    assert np.histogram(first, bins=10, range=(0, 2.0**64))[0].min() > 1_800
    assert ngrams.sequence_hashes(tokens[:0]).shape == (0,)


@SETTINGS
@given(tables(length=5), corpora())
def test_counts_equal_the_naive_count(sequences: np.ndarray, documents: Documents) -> None:
    counts = ngrams.count_occurrences(sequences, documents)
    assert counts.dtype == np.int64
    assert counts.tolist() == naive_counts(sequences, documents)
    narrow = ((tokens.astype(np.uint16), copies) for tokens, copies in documents)
    assert ngrams.count_occurrences(sequences.astype(np.int32), narrow).tolist() == counts.tolist()


@settings(max_examples=50)
@given(tables(length=5), corpora(), st.integers(1, 9), st.integers(1, 9))
def test_counts_do_not_depend_on_buffers_nor_on_hash_collisions(
    sequences: np.ndarray, documents: Documents, buffer: int, block: int
) -> None:
    exact = ngrams.window_hashes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "BUFFER_TOKENS", buffer)
        patch.setattr(ngrams, "BLOCK_TOKENS", block)
        patch.setattr(ngrams, "window_hashes", lambda tokens, n: exact(tokens, n) % np.uint64(3))
        assert ngrams.count_occurrences(sequences, documents).tolist() == naive_counts(sequences, documents)


def test_counts_know_overlaps_borders_and_copies() -> None:
    sequences = np.array([[1, 1], [1, 2], [1, 1]])
    documents = [(np.array([1, 1, 1, 1]), 2), (np.array([2, 1]), 1), (np.array([2]), 5), (np.array([1, 2]), 0)]
    assert ngrams.count_occurrences(sequences, documents).tolist() == [6, 0, 6]
    assert ngrams.count_occurrences(sequences, []).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="-1 copies"):
        ngrams.count_occurrences(sequences, [(np.array([1, 1]), -1)])
