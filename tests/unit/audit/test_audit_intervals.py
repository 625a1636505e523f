"""Intervals of areas and shares: against plain counting, and how often they hold the truth in a simulation."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memgrid.audit.attack.intervals import Measured, area, beaten, deviation, influence, mean_area, p_of, pooled_area, share


def test_area_and_influence_against_counting_pairs():
    rng = np.random.default_rng(0)
    answers, values = rng.random(30) < 0.4, rng.integers(0, 9, 30).astype(float)
    pairs = [[(a > b) + 0.5 * (a == b) for b in values[~answers]] for a in values[answers]]
    assert area(answers, values) == pytest.approx(np.mean(pairs))
    assert area(answers, values) == pytest.approx(roc_auc_score(answers, values))
    parts = influence(answers, values)
    assert parts[answers] == pytest.approx((np.mean(pairs, 1) - np.mean(pairs)) / answers.sum())
    assert parts[~answers] == pytest.approx((np.mean(pairs, 0) - np.mean(pairs)) / (~answers).sum())
    assert parts.sum() == pytest.approx(0)


def test_what_is_shared_counts_and_what_is_not_averages_out():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(40, 50)) / 2000
    assert deviation(own) == pytest.approx(np.sqrt((own**2).sum()), rel=0.15)
    of_samples = np.tile(rng.normal(size=50) / 50 / 40, (40, 1))
    assert deviation(of_samples) == pytest.approx(np.sqrt((of_samples.sum(0) ** 2).sum()), rel=0.05)
    assert deviation(np.zeros((3, 4))) == 0


def simulated(rng, models=16, samples=120, strength=1.0):
    """Half of the models see each sample; whether it is memorized hangs on the sample, as the predictor does, and on luck."""
    order = rng.random((models, samples)).argsort(0)
    members = order < models // 2
    difficulty, luck = rng.normal(size=samples), rng.normal(0, 0.3, models)
    answers = difficulty + luck[:, None] + rng.normal(size=(models, samples)) > 0.3
    values = strength * difficulty + rng.normal(0, 0.2, models)[:, None] + rng.normal(size=(models, samples))
    return members, answers, values


def measured(members, answers, values):
    asked = [(k, members[k], answers[k, members[k]], values[k, members[k]]) for k in range(len(members))]
    return mean_area(asked, members.shape), pooled_area(members, answers[members], values[members]), share(members, answers)


def test_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    rounds = [measured(*simulated(rng)) for _ in range(300)]
    for kind in zip(*rounds, strict=True):
        truth = np.mean([one.value for one in kind])
        held = [low <= truth <= high for one in kind for low, high in [one.interval()]]
        assert 0.90 <= np.mean(held) <= 0.99
        spread = np.std([one.value for one in kind])
        assert np.mean([one.deviation() for one in kind]) == pytest.approx(spread, rel=0.15)


def test_two_predictors_that_are_alike_are_seldom_told_apart():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(200):
        members, answers, values = simulated(rng)
        other = values + rng.normal(size=values.shape)
        values = values + rng.normal(size=values.shape)
        first, second = (measured(members, answers, each)[0] for each in (values, other))
        found.append(p_of(first, second) < 0.05)
    assert np.mean(found) < 0.09


def test_the_best_has_no_p_and_all_pairs_that_are_left_count_for_the_others():
    rng = np.random.default_rng(3)
    members, answers, values = simulated(rng)
    worse = [values + scale * rng.normal(size=values.shape) for scale in (0.0, 0.3, 5.0)]
    areas = [measured(members, answers, each)[0] for each in worse]
    found = beaten(areas)
    assert found[0] is None
    raw = [p_of(areas[0], one) for one in areas[1:]]
    assert raw[1] < raw[0]
    assert found[2] == pytest.approx(3 * raw[1])
    assert found[1] == pytest.approx(max(raw[0], 3 * raw[1]))
    assert found[2] < 0.001


def test_the_best_of_many_that_are_alike_is_seldom_called_better():
    rng, found = np.random.default_rng(5), []
    for _ in range(300):
        parts = rng.normal(size=(10, 16, 1)) + rng.normal(size=(10, 16, 20))  # predictors, models, samples
        alike = [Measured(0.5 + each.mean() / 100, (each - each.mean()) / each.size / 100, 16) for each in parts]
        found.append(any(p is not None and p < 0.05 for p in beaten(alike)))
    assert np.mean(found) < 0.07


def test_what_does_not_vary_has_no_interval():
    perfect = mean_area([(0, np.array([True, True]), np.array([True, False]), np.array([1.0, 0.0]))], (1, 2))
    assert perfect.value == 1
    assert perfect.interval() is None
    assert beaten([perfect, perfect]) == [None, None]


@pytest.mark.parametrize("pool", [False, True])
def test_a_single_positive_says_nothing_of_others(pool):
    rng = np.random.default_rng(4)
    asked, answers, values = np.ones((6, 40), bool), np.zeros((6, 40), bool), rng.normal(size=(6, 40))
    answers[:, 3] = True  # the same sample in all models
    models = [(number, asked[number], answers[number], values[number]) for number in range(6)]
    found = pooled_area(asked, answers[asked], values[asked]) if pool else mean_area(models, asked.shape)
    assert found.few == 1
    assert found.interval() is None
    answers[2, 7] = True
    models = [(number, asked[number], answers[number], values[number]) for number in range(6)]
    found = pooled_area(asked, answers[asked], values[asked]) if pool else mean_area(models, asked.shape)
    assert found.few == 2
    assert found.interval() is not None


@pytest.mark.parametrize("models", [2, 3, 10])
def test_few_models_are_corrected_for(models):
    parts = np.zeros((models, 1))
    parts[:2, 0] = 1, -1
    parts[2:, 0] = 1e-9  # which have a part in it, and hardly one that counts
    assert deviation(parts) == pytest.approx(np.sqrt(2 * models / (models - 1)), rel=1e-6)
