"""Degrees of memorization against their definitions in exact fractions, on random numbers and on awkward ones."""

from fractions import Fraction
from itertools import pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgrid.metrics.extraction import (
    BINS,
    CHANCES,
    TRIES,
    copies_row,
    copy_bins,
    extractable,
    least_probability,
    length_of,
    median_interval,
    reproduced,
    share_interval,
)

PROBABILITIES = st.one_of(st.sampled_from([0.0, 1.0, 0.5, 1e-300, 1 - 2**-53]), st.floats(0, 1))


def chance_of(probability, tries):
    """1 - (1 - p)^n, exactly."""
    return 1 - (1 - Fraction(probability)) ** tries


@given(st.lists(PROBABILITIES, max_size=8), st.integers(1, 60), st.sampled_from(CHANCES))
def test_extractable_sequences_are_those_of_the_definition(probabilities, tries, chance):
    (made,) = extractable(np.array(probabilities), np.array([tries]), chance)
    exact = [chance_of(one, tries) for one in probabilities]
    near = sum(abs(float(one) - chance) < 1e-12 for one in exact)  # may be rounded either way
    assert abs(int(made) - sum(one >= Fraction(chance) for one in exact)) <= near


@given(st.lists(PROBABILITIES, min_size=1, max_size=20))
def test_more_tries_extract_more_and_a_greater_chance_less(probabilities):
    values = np.array(probabilities)
    table = np.stack([extractable(values, TRIES, chance) for chance in CHANCES])
    assert (np.diff(table, axis=1) >= 0).all()
    assert (np.diff(table, axis=0) <= 0).all()
    assert (table >= (values == 1).sum()).all()
    assert (table <= (values > 0).sum()).all()
    assert table[:, 0].tolist() == [(values >= chance).sum() for chance in CHANCES]


@pytest.mark.parametrize("tries", [1, 2, 1000, 10**6])
@pytest.mark.parametrize("chance", [1e-9, *CHANCES])
def test_no_digit_is_lost(tries, chance):
    """A threshold fulfils the equation to the last digits, where 1 - (1 - chance) ** (1 / n) would have none left."""
    (least,) = np.atleast_1d(least_probability(tries, chance))
    assert -np.expm1(tries * np.log1p(-least)) == pytest.approx(chance, rel=1e-13)
    assert least >= chance / tries


def test_certain_and_impossible_sequences():
    assert extractable(np.array([1.0])).tolist() == [1] * len(TRIES)
    assert extractable(np.array([0.0])).tolist() == [0] * len(TRIES)
    assert extractable(np.array([])).tolist() == [0] * len(TRIES)
    assert extractable(np.array([1e-6]), np.array([10**5, 10**6]), 0.5).tolist() == [0, 1]
    assert (TRIES[0], TRIES[-1]) == (1, 10_000)


@given(st.integers(2, 70).flatmap(lambda length: st.tuples(st.just(length), st.lists(st.integers(1, length), max_size=30))))
def test_reproduced_from_a_prefix_equals_counting_by_hand(drawn):
    length, shortest = drawn
    made = reproduced(np.array(shortest, np.int16), length)
    assert made.tolist() == [sum(one <= j for one in shortest) for j in range(1, length + 1)]
    strength = (1 - np.array(shortest) / length).astype(np.float32)
    assert length_of(np.array(shortest, np.int16), strength) == (length if shortest else 0)


def test_the_shortest_sequences():
    assert reproduced(np.array([1]), 2).tolist() == [1, 1]
    assert reproduced(np.array([2]), 2).tolist() == [0, 1]
    assert reproduced(np.array([], np.int16), 2).tolist() == [0, 0]


@given(st.integers(1, 400).flatmap(lambda many: st.tuples(st.integers(0, many), st.just(many))))
def test_intervals_of_shares_hold_the_share_and_are_those_of_wilson(drawn):
    count, many = drawn
    share, low, high = share_interval(count, many)
    z = 1.959963984540054
    middle, reach = (count + z**2 / 2) / (many + z**2), z / (many + z**2) * np.sqrt(count * (many - count) / many + z**2 / 4)
    assert 0 <= low <= share <= high <= 100
    assert low == pytest.approx(100 * max(middle - reach, 0), abs=1e-9)
    assert high == pytest.approx(100 * min(middle + reach, 1), abs=1e-9)


def test_of_nothing_nothing_is_known():
    assert [float(end) for end in share_interval(0, 0)] == [0, 0, 100]
    assert median_interval(np.array([]))[1:] == (0.0, 1.0)


@pytest.mark.parametrize("many", [1, 5, 6, 7, 8, 9, 10, 23, 100, 401])
def test_the_interval_of_a_median_covers_it(many):
    """The median lies between two of the numbers just when so many coins show heads between the two ranks: exactly counted."""
    ranks = np.arange(1, many + 1) / (many + 1)
    middle, low, high = median_interval(ranks)
    assert 0 <= low <= middle <= high <= 1
    first = round(low * (many + 1))  # 0 where the interval is all there is
    missed = 2 * sum(comb(many, heads) for heads in range(first)) / 2**many
    assert missed <= 0.05 if first else (low, high) == (0, 1)
    assert many < 8 or first > 0


@given(st.lists(st.one_of(st.integers(0, 20), st.integers(0, 10**9)), min_size=1, max_size=60))
def test_bins_hold_every_number_once(copies):
    values = np.array(copies)
    bins = copy_bins(values)
    assert 1 <= len(bins) <= BINS
    counts = [int(((values >= least) & (values <= most)).sum()) for least, most in bins]
    assert sum(counts) == len(values)
    assert all(counts)
    assert all(before[1] < after[0] for before, after in pairwise(bins))
    if len(np.unique(values)) <= BINS:
        assert bins == [(number, number) for number in np.unique(values).tolist()]
    elif 0 in copies:
        assert bins[0] == (0, 0)


def test_bins_of_many_numbers_begin_at_powers():
    assert copy_bins(np.arange(14)) == [(0, 0), (1, 1), (2, 3), (4, 7), (8, 13)]
    assert copy_bins(np.array([0, 1, 4, 16, 64, 256, 256])) == [(at, at) for at in (0, 1, 4, 16, 64, 256)]
    assert copy_bins(2 ** np.arange(40))[:3] == [(1, 15), (16, 255), (256, 4095)]


@given(st.lists(st.tuples(st.booleans(), PROBABILITIES), min_size=1, max_size=30))
def test_a_row_of_copies_is_what_it_says(drawn):
    memorized, p_extract = (np.array(column) for column in zip(*drawn, strict=True))
    row = copies_row(memorized, p_extract, "reference_")
    assert row["reference_memorized"] == pytest.approx(100 * memorized.mean())
    assert row["reference_p_extract_mean"] == pytest.approx(p_extract.mean())
    assert row["reference_p_extract_median"] == pytest.approx(np.median(p_extract))
    for name in ("memorized", "p_extract_mean", "p_extract_median"):
        low, middle, high = (row[f"reference_{name}{end}"] for end in ("_low", "", "_high"))
        assert low <= middle + 1e-12
        assert middle <= high + 1e-12
    if memorized.all():
        assert row["reference_memorized"] == row["reference_memorized_high"] == 100
    if not memorized.any():
        assert row["reference_memorized"] == row["reference_memorized_low"] == 0
