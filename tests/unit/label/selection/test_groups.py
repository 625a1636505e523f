"""Content groups against a naive version of the same definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from memgrid.corpus import ngrams
from memgrid.label.selection import groups
from memgrid.label.selection.groups import (
    content_groups,
    distances,
    has_period,
    join_groups,
    least_hashes,
    row_type,
    shared_windows,
    sharing_rows,
    split_groups,
)


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


@pytest.mark.parametrize(("n", "windows"), [(3, 16), (3, 15), (3, 8), (3, 7), (6, 4), (6, 3), (1, 24), (1, 23)])
def test_windows_are_sorted_in_as_few_passes_as_they_fit_into(n: int, windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where one is not enough, those rows are found first that may share anything."""
    sequences, seen, first = np.arange(24).reshape(4, 6), [], []
    monkeypatch.setattr(groups, "WINDOWS_PER_PASS", windows)
    monkeypatch.setattr(groups, "sharing_rows", lambda *_: first.append(n) or np.arange(4))
    monkeypatch.setattr(groups, "shared_windows", lambda *given: seen.append(given[3:]) or shared_windows(*given))
    content_groups(sequences, n)
    every = 4 * (6 - n + 1)
    assert seen == [(number, math.ceil(every / windows)) for number in range(math.ceil(every / windows))]
    assert first == [n] * (every > windows)


@pytest.mark.parametrize("n", [7, 8, 40])
def test_rows_that_are_shorter_than_a_window_share_none(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "shared_windows", lambda *_: pytest.fail("there are no windows"))
    assert content_groups(np.zeros((4, 6), int), n).tolist() == [0, 1, 2, 3]


@settings(max_examples=60)
@given(tables(rows=6), st.integers(1, 7), st.integers(1, 3))
def test_shared_windows_are_those_that_occur_again(sequences: np.ndarray, n: int, passes: int) -> None:
    length = sequences.shape[1]
    windows = [(tuple(row[i : i + n]), number) for number, row in enumerate(sequences.tolist()) for i in range(length - n + 1)]
    again = [[owner for window, owner in windows if window == one] for one in sorted({window for window, _ in windows})]
    found = []
    for number in range(passes):
        members, starts = shared_windows(sequences, np.arange(len(sequences)), n, number, passes) if len(sequences) else ([], [])
        found += [sorted(run.tolist()) for run in np.split(members, starts)[1:]] if len(starts) else []
    assert sorted(found) == sorted(sorted(owners) for owners in again if len(owners) > 1)


@settings(max_examples=60)
@given(tables(rows=6), st.integers(1, 9), st.integers(1, 30))
def test_a_window_is_known_by_the_least_hash_of_its_runs_once_for_neighbours(sequences: np.ndarray, n: int, block: int) -> None:
    bits = np.uint64(len(sequences).bit_length())
    run, expected = max(n // 2, 1), []
    for number, row in enumerate(ngrams.window_hashes(sequences, run).tolist()):
        last = None
        for start in range(sequences.shape[1] - n + 1):
            least = min(row[start : start + n - run + 1])
            if least != last:
                expected.append((least >> int(bits) << int(bits)) | number)
            last = least
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "BLOCK_TOKENS", block)
        assert sorted(key for found in least_hashes(sequences, n, bits) for key in found.tolist()) == sorted(expected)


@settings(max_examples=80)
@given(tables(rows=9), st.integers(1, 6), st.integers(1, 9), st.integers(1, 30))
def test_no_row_that_shares_a_window_is_missing_and_none_is_there_for_itself(sequences: np.ndarray, n: int, pairs: int, block: int) -> None:
    run = max(n // 2, 1)
    runs, windows = ([{tuple(row[i : i + k]) for i in range(len(row) - k + 1)} for row in sequences.tolist()] for k in (run, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "PAIRS_PER_BLOCK", pairs)
        patch.setattr(ngrams, "BLOCK_TOKENS", block)
        found = set(sharing_rows(sequences, n).tolist())
    others = [[other for other in range(len(sequences)) if other != row] for row in range(len(sequences))]
    assert found >= {row for row, more in enumerate(others) if any(windows[row] & windows[other] for other in more)}
    assert found <= {row for row, more in enumerate(others) if any(runs[row] & runs[other] for other in more)}


def test_many_windows_of_few_rows_are_all_kept() -> None:
    """A row that has the same windows twice shares nothing with another one."""
    rows = np.random.default_rng(0).permutation(600).reshape(3, 200)
    rows[0, 150:] = rows[0, :50]
    rows[2, 190:] = rows[1, 3:13]
    assert sharing_rows(rows, 1).tolist() == [1, 2]
    assert sharing_rows(rows, 10).tolist() == [1, 2]
    assert sharing_rows(rows[:2], 10).tolist() == []


def test_distances_go_back_to_where_a_token_stood_last() -> None:
    rows = np.array([[5, 5, 7, 5, 7, 9, 5], [1, 2, 3, 4, 5, 6, 1]])
    assert distances(rows).tolist() == [[0, 1, 0, 2, 2, 0, 3], [0, 0, 0, 0, 0, 0, 6]]


def test_joined_groups_are_named_by_their_smallest_row() -> None:
    numbers = np.array([0, 1, 2, 3, 4, 2, 6], np.int32)
    joined = join_groups(numbers, np.array([4, 3, 6, 1]), np.array([2, 3, 4, 0]))
    assert joined.tolist() == [0, 0, 2, 3, 2, 2, 2]
    assert joined.dtype == np.int32


def test_what_is_told_to_be_together_is_one_group() -> None:
    rows = np.random.default_rng(0).integers(0, 50_000, (7, 64))
    together = np.array([-1, 0, 5, 5, -1, 0, 5])
    assert split_groups(rows, 32, together).tolist() == [0, 1, 2, 2, 4, 1, 2]
