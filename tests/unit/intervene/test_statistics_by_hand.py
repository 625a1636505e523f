"""The numbers of an intervention, each against what it is defined as."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from memgrid.intervene.statistics import MORE, UNMATCHED, difference, share_interval, shares_of, verdict


@pytest.mark.parametrize(("samples", "right"), [(1000, 300), (700, 650), (90, 13)])
def test_the_interval_of_a_share_leaves_a_fortieth_out_on_either_side(samples, right):
    low, high = (samples * np.array(share_interval(np.arange(samples) < right))).round()
    share = right / samples
    assert binom.cdf(low - 1, samples, share) < 0.025 <= binom.cdf(low, samples, share)
    assert binom.cdf(high - 1, samples, share) < 0.975 <= binom.cdf(high, samples, share)


def test_the_interval_of_a_difference_is_of_two_thousand_resamples_of_samples_and_of_draws():
    """From the same random numbers whenever it is asked for."""
    random = np.random.default_rng(5)
    target, control = random.random(97) < 0.4, random.random((41, 97)) < 0.6
    drawn = np.random.default_rng(0).multinomial(97, np.full(97, 1 / 97), 2000)
    masks = np.random.default_rng(1).multinomial(41, np.full(41, 1 / 41), 2000)
    gaps = [(target @ own - (which @ control) @ own / 41) / 97 for own, which in zip(drawn, masks, strict=True)]
    expected = target.mean() - control.mean(), *np.percentile(gaps, [2.5, 97.5])
    np.testing.assert_allclose(difference(target, control), expected, atol=1e-12)


@pytest.mark.parametrize("samples", [3, 50])
def test_a_difference_of_all_samples_reaches_as_far_as_others_may_be_unseen(samples):
    unseen = 1 - 0.05 ** (1 / samples)
    none, every = np.zeros(samples, bool), np.ones((4, samples), bool)
    assert difference(none, every) == (-1, -1, pytest.approx(-1 + unseen))
    assert difference(~none, ~every) == (1, pytest.approx(1 - unseen), 1)
    assert difference(none, ~every) == (0, pytest.approx(-unseen), pytest.approx(unseen))


def rows_of(name, removed=0.625, control=(0.9, 0.625), draws=3):
    """One dose of a class: the target, draws that differ by 1 % each, and the most attended positions."""

    def row(masked, share, taken, seed=None):
        shares = {"samples": 100, "extractable": share, "overlap": 0.0, "removed": taken}
        return {"class": name, "q": 1.0, "masked": masked, "seed": seed, **shares, "kept": (np.arange(100) < 100 * share).tolist()}

    others = [row("random", 0.5 + seed / 100, removed, seed) for seed in range(draws)]
    return [*others[::-1], row("attended", *control), row("target", 0.1, removed)]


def test_the_target_comes_before_its_draws_whatever_the_order_of_the_table():
    rows = rows_of("A")
    both = pl.DataFrame(rows + [{**row, "q": 0.5, "extractable": row["extractable"] / 2} for row in rows])
    np.testing.assert_allclose(shares_of(both), [[0.05, 0.1], [0.25, 0.5], [0.255, 0.51], [0.26, 0.52]])


@pytest.mark.parametrize(("taken", "verdict_"), [(0.6875, MORE), (0.5625, MORE), (0.6876, UNMATCHED), (0.5624, UNMATCHED)])
def test_a_control_may_take_a_tenth_more_or_less_and_no_more(taken, verdict_):
    """The target takes 0.625."""
    (found,) = verdict(pl.DataFrame(rows_of("A", control=(0.9, taken))))
    assert {one.control: one.verdict for one in found.doses[0].comparisons}["attended"] == verdict_


def test_classes_stay_in_the_order_of_the_table():
    names = [str(number) for number in np.random.default_rng(0).permutation(30)]
    assert [one.title for one in verdict(pl.DataFrame([row for name in names for row in rows_of(name)]))] == names
