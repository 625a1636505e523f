"""Intervals of scores hold what they are of as often as they say: the score of other trainings on other samples."""

import numpy as np
import pytest
from conftest import NIGHT
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from memgrid.metrics.intervals import decided, degrees, ends, over_runs, panel_scores, quantile, resampled_confusions, wilson
from memgrid.metrics.resampling import group_counts, how_often
from memgrid.metrics.scores import confusion_matrix, scores, summary_values

SIMULATED = 400 if NIGHT else 80
ALIKE = 0.6  # the share of samples on which two networks find the same thing hard


def population(kind: str, classes: int) -> np.ndarray:
    """How probable each answer is to a sample of each class, (classes, classes)."""
    right = {"equal": np.full(classes, 0.65), "unequal": np.linspace(0.45, 0.9, classes), "easy": np.full(classes, 0.97)}[kind]
    answers = np.repeat((1 - right)[:, None] / (classes - 1), classes, 1)
    np.fill_diagonal(answers, right)
    return answers


def trained(answers: np.ndarray, spread: float, random: np.random.Generator) -> np.ndarray:
    """A network of such a population: trainings differ by so much, in log-odds."""
    raw = answers * np.exp(random.normal(0, spread, answers.shape))
    return raw / raw.sum(1, keepdims=True)


def answered(networks: list[np.ndarray], labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What networks say of samples, int (members, n)."""
    luck, same = random.random(len(labels)), random.random(len(labels)) < ALIKE
    lots = [np.where(same, luck, random.random(len(labels))) for _ in networks]
    return np.stack(
        [(lot[:, None] > network[labels].cumsum(1)).sum(1).clip(0, len(network) - 1) for network, lot in zip(networks, lots, strict=True)]
    )


def true_min_f1(network: np.ndarray) -> float:
    """The min-F1 of a network on endless samples."""
    return summary_values((network * 1e6).astype(np.int64)[None])["min_f1"][0]


def covered(kind, classes, samples, members, runs, spread, seed):
    """How often the interval of min-F1 holds what it is of: the mean over trainings, or, of a single network, its own."""
    random = np.random.default_rng(seed)
    answers, labels = population(kind, classes), np.repeat(np.arange(classes), samples)
    over_trainings = np.mean([true_min_f1(trained(answers, spread, random)) for _ in range(1500 if spread else 1)])
    held = []
    for again in range(SIMULATED):
        made = []
        for _ in range(runs):
            networks = [trained(answers, spread, random) for _ in range(members)]
            made.append(panel_scores(labels, answered(networks, labels, random), classes, again, rounds=200)["min_f1"])
        low, high = over_runs(*([one[key] for one in made] for key in ("mean", "low", "high")))[1:]
        sought = true_min_f1(networks[0]) if members == runs == 1 else over_trainings
        held.append(low <= sought <= high)
    return np.mean(held)


SETTINGS = [("equal", 3, 20), ("unequal", 3, 160), ("equal", 5, 160), ("unequal", 5, 20), ("easy", 4, 20)]
MORE = [(kind, classes, n) for kind in ("equal", "unequal", "easy") for classes in (3, 4, 5) for n in (20, 80, 160, 2000)]


@pytest.mark.parametrize(("kind", "classes", "samples"), MORE if NIGHT else SETTINGS)
@pytest.mark.parametrize(("members", "runs", "spread"), [(1, 1, 0.3), (4, 1, 0.3), (1, 3, 0.3), (1, 1, 0.0)])
def test_an_interval_holds_what_it_is_of(kind, classes, samples, members, runs, spread):
    assert covered(kind, classes, samples, members, runs, spread, seed=0) >= 0.9


def test_two_runs_that_differ_much_say_next_to_nothing():
    mean, low, high = over_runs([15.6, 66.7], [12.0, 63.0], [20.0, 71.0])
    assert mean == pytest.approx(41.15)
    assert low < 15
    assert high > 67


def test_an_interval_over_runs_by_hand():
    """Runs that differ by 10 (standard deviation) with ends 3.92 away: a variance of 4 of samples, and of 100 / 3 of training."""
    variance, training = 4 + 100 / 3, 100 / 3
    reach = student.ppf(0.975, 2 * (variance / training) ** 2) * np.sqrt(variance)
    made = over_runs([40, 50, 60], [36.08, 46.08, 56.08], [43.92, 53.92, 63.92])
    assert made == pytest.approx((50, 50 - reach, 50 + reach), abs=0.01)


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_what_few_samples_make_of_equal_networks_is_no_spread_of_theirs(spread):
    """Eight networks, each score off by 2 for its samples: the variance of the mean is (4 + the spread's) / 8, and not 4 / 8 more."""
    random, variances = np.random.default_rng(0), []
    for _ in range(300):
        value = 50 + random.normal(0, 2, 8) + random.normal(0, spread, 8)
        low, high = ends(value, value + random.normal(0, 2, (200, 8)), np.array(1e9), 0.975)
        variances.append(((high - low) / 2 / 1.96) ** 2)
    # Student's quantile is larger than the normal one where the spread is seen on few networks.
    assert (4 + spread**2) / 8 < np.mean(variances) < 1.45 * (4 + spread**2) / 8


def test_the_upper_end_of_the_minimum_is_above_that_of_each_class():
    """It has to hold for all classes together."""
    labels = np.repeat(np.arange(3), 50)
    made = panel_scores(labels, np.where(np.arange(150) % 3 > 0, labels, (labels + 1) % 3)[None], 3, 0)
    assert made["min_f1"]["high"] > min(entry["high"] for entry in made["f1"]) + 0.5


def test_runs_that_agree_say_no_more_than_one():
    """They may look at the same samples."""
    assert over_runs([60.0, 60.0, 60.0], [55.0] * 3, [66.0] * 3) == pytest.approx((60, 55, 66))


@pytest.mark.parametrize("samples", [5, 20, 400])
def test_who_is_always_right_has_a_width(samples):
    labels = np.repeat(np.arange(3), samples)
    made = panel_scores(labels, labels[None], 3, 0, rounds=20)
    for name in ("min_f1", "accuracy"):
        assert made[name]["mean"] == made[name]["high"] == 100
        assert 100 - 500 / samples < made[name]["low"] < 100


def test_a_class_without_a_sample_is_never_scored():
    for labels in ([0, 0, 2], []):
        with pytest.raises(ValueError, match=r"none of class [01]"):
            panel_scores(np.array(labels, int), np.zeros((1, len(labels)), int), 3, 0)


def test_a_class_that_nobody_answers_has_an_interval_from_0():
    made = panel_scores(np.repeat([0, 1], 30), np.zeros((2, 60), int), 2, 0, rounds=20)
    assert made["f1"][1]["mean"] == made["f1"][1]["low"] == made["min_f1"]["low"] == 0
    assert 0 < made["min_f1"]["high"] < 30


@given(st.integers(2, 5), st.integers(1, 19), st.integers(1, 60), st.integers(0, 2**48))
def test_scores_are_means_and_lie_within_their_intervals(classes, members, samples, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(samples + classes) % classes)
    predicted = rng.integers(0, classes, (members, len(labels)))
    made = panel_scores(labels, predicted, classes, seed, rounds=20)
    for name, value in summary_values(confusion_matrix(labels, predicted, classes)).items():
        entries = made[name] if isinstance(made[name], list) else [made[name]]
        mean, std, low, high = (np.array([entry[key] for entry in entries]) for key in ("mean", "std", "low", "high"))
        np.testing.assert_array_equal(mean, np.atleast_1d(value.mean(0)))
        np.testing.assert_array_equal(std, np.atleast_1d(value.std(0)))
        assert ((low >= 0) & (low <= mean + 1e-9) & (mean <= high + 1e-9) & (high <= 100)).all()


@given(st.integers(2, 5), st.integers(1, 19), st.integers(1, 60), st.integers(0, 2**48))
def test_resampled_matrices_are_those_of_a_loop(classes, members, samples, seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, samples), rng.integers(0, classes, (members, samples))
    drawn = rng.integers(0, samples, (7, samples))
    expected = [confusion_matrix(labels[rows], predicted[:, rows], classes) for rows in drawn]
    np.testing.assert_array_equal(resampled_confusions(labels, predicted, classes, how_often(drawn)), expected)


def test_of_one_network_and_many_samples_it_is_wilsons():
    labels = np.repeat([0, 1], 1000)
    predicted = np.concatenate([np.repeat([0, 1], [640, 360]), np.repeat([1, 0], [640, 360])])
    made = panel_scores(labels, predicted[None], 2, 0, rounds=4000)
    for name, share, answers in (("accuracy", 0.64, 2000), ("recall", 0.64, 1000)):
        square = 1.959964**2 / answers
        centre, reach = (
            (share + square / 2) / (1 + square),
            1.959964 / (1 + square) * np.sqrt(share * (1 - share) / answers + square / 4 / answers),
        )
        entry = made[name] if name == "accuracy" else made[name][0]
        np.testing.assert_allclose((entry["low"], entry["high"]), (100 * (centre - reach), 100 * (centre + reach)), atol=0.1 * 100 * reach)


def test_members_that_differ_widen_the_interval():
    """Of samples enough that nothing but the networks is unsure."""
    labels = np.repeat(np.arange(3), 3000)
    random = np.random.default_rng(0)
    wrong = (labels + 1) % 3
    members = [np.where(random.random(len(labels)) < share, labels, wrong) for share in (0.5, 0.6, 0.7, 0.8)]
    apart = panel_scores(labels, np.stack(members), 3, 0, rounds=100)["min_f1"]
    alike = panel_scores(labels, np.stack([members[1]] * 4), 3, 0, rounds=100)["min_f1"]
    assert apart["high"] - apart["low"] > 5 * (alike["high"] - alike["low"])
    assert apart["mean"] == np.mean([scores(confusion_matrix(labels, one, 3))["min_f1"] for one in members])


def test_copies_of_samples_leave_the_interval_as_it_was():
    random = np.random.default_rng(0)
    labels, predicted = np.arange(90) % 3, random.integers(0, 3, (1, 90))
    alone = panel_scores(labels, predicted, 3, 0)
    copied = panel_scores(np.repeat(labels, 4), np.repeat(predicted, 4, 1), 3, 0, groups=np.repeat(np.arange(90), 4))
    for name in ("min_f1", "accuracy"):
        assert copied[name] == pytest.approx(alone[name], rel=1e-6)
    as_samples = panel_scores(np.repeat(labels, 4), np.repeat(predicted, 4, 1), 3, 0)["accuracy"]
    assert as_samples["high"] - as_samples["low"] < 0.6 * (alone["accuracy"]["high"] - alone["accuracy"]["low"])


def shared(share: float, variance: float, decisions: float) -> list[float]:
    """Both ends of an interval for a share, in percent."""
    return [float(end) for end in wilson(*(np.array(number, float) for number in (100 * share, variance, decisions, norm.ppf(0.975))))]


@pytest.mark.parametrize(("right", "answers"), [(0, 10), (1, 10), (37, 50), (10, 10)])
def test_of_independent_answers_it_is_wilsons_and_of_more_variance_that_of_fewer(right, answers):
    share = right / answers
    variance = 1e4 * share * (1 - share) / answers
    own = binomtest(right, answers).proportion_ci(0.95, "wilson")
    assert shared(share, variance, answers) == pytest.approx([100 * own.low, 100 * own.high])
    # A variance that is twice as large is that of half the answers; one that is smaller than so many answers have makes them no more.
    assert shared(share, 2 * variance, answers) == pytest.approx(shared(share, 0, answers / (2 if variance else 1)))
    assert shared(share, variance / 3, answers) == pytest.approx(shared(share, variance, answers))


def test_of_no_answers_nothing_is_known_and_of_half_an_answer_little():
    with np.errstate(all="raise"):  # whoever calls it hears of no division
        assert shared(0.0, 0, 0) == [0, 100]
        assert shared(0.4, 0, 0) == [0, 100]
    low, high = shared(0.4, 0, 0.5)
    assert 0 < low < 10
    assert 85 < high < 100


def test_where_training_makes_no_difference_the_freedom_has_no_end():
    with np.errstate(all="raise"):
        assert degrees(np.array([0.0, 4.0, 4.0]), np.array([0.0, 0.0, 0.5]), 3).tolist() == [np.inf, np.inf, 128]


def test_how_many_answers_a_score_is_a_share_of_by_hand():
    """Two networks; of the first class each sample is a group of its own, of the second two are one."""
    confusion = np.array([[[8, 2], [1, 9]], [[6, 4], [3, 7]]])
    f1 = np.array([75.0, 50.0])
    made = decided(confusion, f1, np.array([1.0, 0.5]))
    assert made["precision"].tolist() == [9, 5.5]
    assert made["recall"].tolist() == [10, 5]
    # Of a class or called so: 9 + 10 - 7, and 11 + 10 - 8; F1 = 2 J / (1 + J), so that a change of J is one of F1 times (2 - F1)² / 2.
    of_f1 = [2 * 12 / 1.25**2, 0.5 * 2 * 13 / 1.5**2]
    assert made["f1"] == pytest.approx(of_f1)
    assert made["min_f1"] == pytest.approx(of_f1[1])
    assert made["mean_f1"] == made["accuracy"] == 15


@given(st.integers(1, 5), st.integers(2, 9), st.sampled_from([0.1, 1.0, 10.0]), st.integers(0, 2**32))
def test_ends_are_those_of_a_plain_loop(members, rounds, apart, seed):
    random = np.random.default_rng(seed)
    value = 50 + apart * random.uniform(-3, 3, (members, 2))
    again = value + apart * random.normal(0, 1, (rounds, members, 2))
    decisions = np.array([30.0, 1e9])
    low, high = ends(value, again, decisions, 0.99)
    for score in range(2):
        own, drawn = value[:, score], again[..., score]
        variance, times = np.var([one.mean() for one in drawn]), norm.ppf(0.99)
        if members > 1:
            of_samples = np.mean([np.var(one - own, ddof=1) for one in drawn])
            training = max(np.var(own, ddof=1) - of_samples, 0) / members
            variance += training
            times = student.ppf(0.99, (members - 1) * (variance / training) ** 2) if training else times
        expected = wilson(own.mean(), np.array(variance), decisions[score], times)
        np.testing.assert_allclose((low[score], high[score]), expected, rtol=1e-9)


def test_quantiles_are_students_and_without_end_the_normal_ones():
    made = quantile(0.975, np.array([1.0, 2.5, 40.0, np.inf]))
    np.testing.assert_allclose(made, [*student.ppf(0.975, [1, 2.5, 40]), norm.ppf(0.975)], rtol=1e-9)


def test_ends_over_runs_stay_within_0_and_100_and_have_their_own_reach():
    assert over_runs([2.0, 30.0], [1.0, 20.0], [9.0, 40.0])[1] == 0
    assert over_runs([70.0, 98.0], [60.0, 90.0], [80.0, 99.0])[2] == 100
    assert over_runs([50.0], [40.0], [55.0]) == pytest.approx((50, 40, 55))
    # Lower ends 19.6 away, upper ones 9.8: what runs differ by is training's, for either end.
    mean, low, high = over_runs([40.0, 60.0], [20.4, 40.4], [49.8, 69.8])
    training = 200 / 2
    for reach, own in ((mean - low, 100), (high - mean, 25)):
        freedom = ((own + training) / training) ** 2
        assert reach == pytest.approx(min(student.ppf(0.975, freedom) * np.sqrt(own + training), 50), rel=1e-3)


def test_the_upper_end_of_the_minimum_is_the_least_of_all_classes_together():
    labels = np.repeat(np.arange(3), [20, 30, 50])
    random = np.random.default_rng(1)
    predicted = np.where(random.random((2, 100)) < [[0.6], [0.7]], labels, random.integers(0, 3, (2, 100)))
    groups = np.arange(100) // 2
    made = panel_scores(labels, predicted, 3, 5, groups=groups)  # of a thousand resamples
    confusion = confusion_matrix(labels, predicted, 3)
    value = summary_values(confusion)["f1"]
    again = summary_values(resampled_confusions(labels, predicted, 3, group_counts(groups, 1000, 5)))["f1"]
    decisions = decided(confusion, value.mean(0), np.full(3, 0.5))["f1"]
    np.testing.assert_allclose(made["min_f1"]["high"], ends(value, again, decisions, 1 - 0.025 / 3)[1].min())
    np.testing.assert_allclose([entry["high"] for entry in made["f1"]], ends(value, again, decisions, 0.975)[1])
    assert made["min_f1"]["std"] == pytest.approx(summary_values(confusion)["min_f1"].std())
