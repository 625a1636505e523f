import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memgrid.intervene.statistics import RESAMPLES, difference, share_interval, widened
from memgrid.metrics.resampling import bootstrap, group_counts, how_often, mean_interval, middle


@given(st.integers(1, 80), st.integers(1, 5), st.integers(0, 2**32))
def test_intervals_are_those_of_a_loop(samples, seeds, seed):
    rng = np.random.default_rng(seed)
    target, control = rng.random(samples) < 0.4, rng.random((seeds, samples)) < 0.6
    drawn = np.random.default_rng(0).multinomial(samples, np.full(samples, 1 / samples), RESAMPLES)
    masks = np.random.default_rng(1).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    of_loop = widened(*np.percentile(drawn @ target / samples, [2.5, 97.5]), samples, 0.0)
    np.testing.assert_allclose(share_interval(target), of_loop, atol=1.01 / samples)
    values = (drawn @ target - ((masks @ control) * drawn).sum(1) / seeds) / samples
    expected = float(target.mean() - control.mean()), *widened(*middle(values), samples, -1.0)
    np.testing.assert_allclose(difference(target, control), expected, atol=1e-12)
    gap = rng.normal(size=samples)
    rows = np.random.default_rng(0).integers(0, samples, (1000, samples))
    np.testing.assert_allclose(mean_interval(gap), np.percentile(gap[rows].mean(1), [2.5, 97.5]), rtol=1e-9, atol=1e-12)


@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 2**32))
def test_rows_and_counts_say_the_same(samples, rounds, seed):
    rows = np.random.default_rng(seed).integers(0, samples, (rounds, samples))
    np.testing.assert_array_equal(how_often(rows), [np.bincount(row, minlength=samples) for row in rows])


def test_resamples_spread_as_the_mean_does():
    """The bootstrap of a mean has the standard error of the mean, drawn in either way."""
    values = np.random.default_rng(0).normal(size=400)
    by_groups = group_counts(np.arange(400), 4000, 0) @ values / 400
    by_counts = bootstrap(lambda counts: counts @ values / 400, 400, 4000, 0)
    for means in (by_groups, by_counts):
        low, high = middle(means)
        np.testing.assert_allclose(means.std(), values.std() / 20, rtol=0.05)
        np.testing.assert_allclose((low, high), values.mean() + np.array([-1.96, 1.96]) * values.std() / 20, atol=0.01)


def test_groups_are_drawn_as_a_whole():
    """Copies of a sample are no samples more: the interval is that of the groups."""
    values = np.random.default_rng(0).normal(size=100)
    copies = np.repeat(values, 5), np.repeat(np.arange(100), 5)
    counts = group_counts(copies[1], 50, 0)
    assert (counts.reshape(50, 100, 5) == counts.reshape(50, 100, 5)[..., :1]).all()
    assert (counts.sum(1) == 500).all()
    np.testing.assert_allclose(mean_interval(*copies), mean_interval(values), rtol=1e-9)
    low, high = mean_interval(copies[0])
    assert high - low < 0.6 * np.diff(mean_interval(*copies))[0]


def test_the_middle_is_of_each_number_for_itself():
    drawn = np.stack([np.arange(101.0), 1000 - 10 * np.arange(101.0)], 1)
    np.testing.assert_allclose(middle(drawn), [[2.5, 25], [97.5, 975]])


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 2**32))
def test_counts_of_groups_are_those_of_a_loop(samples, rounds, seed):
    groups = np.random.default_rng(seed).integers(0, 5, samples)
    names = sorted(set(groups.tolist()))
    drawn = np.random.default_rng(seed).integers(0, len(names), (rounds, len(names)))
    expected = [[list(lots).count(names.index(group)) for group in groups] for lots in drawn]
    np.testing.assert_array_equal(group_counts(groups, rounds, seed), expected)


def test_the_interval_of_a_mean_is_of_a_thousand_resamples_and_the_seed_0_if_nothing_else_is_said():
    values = np.random.default_rng(0).normal(size=30)
    drawn = np.random.default_rng(0).integers(0, 30, (1000, 30))
    expected = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    for made in (mean_interval(values), mean_interval(values, rounds=1000, seed=0), mean_interval(values, np.arange(30))):
        np.testing.assert_allclose(made, expected)
    assert mean_interval(values, rounds=999) != mean_interval(values) != mean_interval(values, seed=1)
