"""Content groups against a naive version of the same definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memgrid.corpus import ngrams
from memgrid.label import groups
from memgrid.label.groups import content_groups, has_period, row_type, sharing_rows, split_groups


def tables(rows: int = 8, length: int = 12) -> st.SearchStrategy[np.ndarray]:
    """Small tables of tokens from 0 to 2, so that the same content comes back often."""
    shapes = st.tuples(st.integers(0, rows), st.integers(1, length))
    return shapes.flatmap(lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, 2)))


def naive_groups(sequences: np.ndarray, n: int) -> list[int]:
    """The smallest row that each row reaches, by spreading the minimum until nothing changes."""
    windows = [{tuple(row[i : i + n]) for i in range(len(row) - n + 1)} for row in sequences.tolist()]
    groups = list(range(len(sequences)))
    while True:
        spread = [min([groups[j] for j in range(len(groups)) if windows[i] & windows[j]] + [groups[i]]) for i in range(len(groups))]
        if spread == groups:
            return groups
        groups = spread


@settings(max_examples=150)
@given(tables(), st.integers(1, 13), st.sampled_from((np.uint16, np.int32, np.int64)))
def test_groups_equal_the_naive_groups(sequences: np.ndarray, n: int, dtype: type) -> None:
    found = content_groups(sequences.astype(dtype), n)
    assert found.dtype == np.int32
    assert found.tolist() == naive_groups(sequences, n)


@settings(max_examples=100)
@given(tables(rows=12), st.integers(1, 7), st.integers(1, 9), st.integers(1, 30), st.integers(1, 9))
def test_groups_do_not_depend_on_passes_and_blocks(sequences: np.ndarray, n: int, windows: int, block: int, pairs: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "WINDOWS_PER_PASS", windows)
        patch.setattr(groups, "PAIRS_PER_BLOCK", pairs)
        patch.setattr(ngrams, "BLOCK_TOKENS", block)
        assert content_groups(sequences, n).tolist() == naive_groups(sequences, n)


def test_rows_are_numbered_in_32_bits_as_long_as_they_fit():
    assert [row_type(rows) for rows in (0, 100, 2**31 - 1, 2**31, 2**40)] == [np.int32] * 3 + [np.int64] * 2


def test_groups_chain_shifted_copies() -> None:
    text = np.random.default_rng(0).integers(0, 50_000, 1_000)
    rows = np.stack([text[start : start + 64] for start in (600, 0, 32, 64, 400, 633)])
    assert content_groups(rows, 32).tolist() == [0, 1, 1, 1, 4, 5]
    assert content_groups(rows, 31).tolist() == [0, 1, 1, 1, 4, 0]


def test_few_rows_are_looked_at_that_share_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 50_000, (3000, 64))
    rows[1000, 3:35] = rows[2000, 30:62]
    found = sharing_rows(rows, 32).tolist()
    assert {1000, 2000} <= set(found)
    assert len(found) < 20


@settings(max_examples=150)
@given(tables(rows=10))
def test_a_period_is_found_wherever_there_is_one(sequences: np.ndarray) -> None:
    naive = [any(row[p:] == row[:-p] for p in range(1, len(row) // 2 + 1)) for row in sequences.tolist()]
    assert has_period(sequences).tolist() == naive


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_repetitions_of_one_pattern_are_together_and_no_others(periods: list[list[int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes, rows = [], []
    for period in periods:
        for _ in range(2):  # once more, with other tokens and from another place on
            names = rng.choice(50_000, 4, replace=False)
            rows.append(np.roll(np.resize(names[period], 64 * len(period)), rng.integers(8))[:64])
            shapes.append(min(repr(naive_shape(np.roll(period, shift).tolist() * 24)) for shift in range(len(period))))
    loose = rng.integers(0, 50_000, (3, 64))
    found = split_groups(np.concatenate([np.stack(rows), loose]), 32)
    assert found[:-3].tolist() == [shapes.index(shape) for shape in shapes]
    assert found[-3:].tolist() == [len(rows), len(rows) + 1, len(rows) + 2]


def naive_shape(tokens: list[int]) -> list[int]:
    """Tokens by the order in which they first come, as many as tell any two shapes of up to 8 apart."""
    return [tokens.index(token) for token in tokens[:24]] if len(set(tokens)) > 1 else [0]
