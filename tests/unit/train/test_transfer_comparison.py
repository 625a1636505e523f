"""What is said of a transfer: scores in the order of the classes, p-values by hand, and how often each claim is wrong where nothing is."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from conftest import NIGHT

from memgrid.metrics.intervals import panel_scores
from memgrid.results.result import PanelScores
from memgrid.results.transfers.record import PANEL, SourceRun
from memgrid.train.transfer.comparison import Asked, chance, corrected, gap, min_f1, transfer_of

SOURCE = SourceRun("toy/rasy/a", "toy · rasy · seed 1", "toy", "", "toy", "rasy", 1, 6)
RUNS, MOST = (1000, 67) if NIGHT else (100, 11)  # more would be seen once in a hundred times, if 5 % were wrong


def answered(random, labels, accuracy, members, spread=0.0, shared=None):
    """Answers of networks that are right as often as is said of each class, int (members, n); on what is shared they agree."""
    classes, rows = int(labels.max()) + 1, []
    for _ in range(members):
        luck = random.random(len(labels))
        luck = luck if shared is None else np.where(random.random(len(labels)) < 0.5, shared, luck)
        right = luck < np.asarray(accuracy)[labels] + random.normal(0, spread)
        rows.append(np.where(right, labels, (labels + random.integers(1, classes, len(labels))) % classes))
    return np.array(rows)


def test_chance_is_the_share_of_all_orders_that_reach_as_much():
    labels, predicted = np.array([0, 0, 0, 1, 1, 1]), np.array([[0, 0, 0, 1, 1, 0]])
    reached = [min_of(np.array(order), predicted[0]) for order in itertools.permutations(labels.tolist())]
    exact = np.mean(np.array(reached) >= min_of(labels, predicted[0]) - 1e-9)
    assert chance(labels, predicted, 2, np.arange(6), seed=0) == pytest.approx(exact, abs=0.03)


def min_of(labels, predicted):
    return min(200 * ((labels == c) & (predicted == c)).sum() / max(1, (labels == c).sum() + (predicted == c).sum()) for c in (0, 1))


def test_one_answer_to_all_is_no_more_than_chance():
    labels = np.repeat([0, 1, 2], 20)
    assert chance(labels, np.zeros((2, 60), int), 3, np.arange(60), seed=0) == 1
    assert chance(labels, labels[None], 3, np.arange(60), seed=0) == pytest.approx(1 / 1000)


def test_copies_of_a_text_are_one_sample():
    labels, groups = np.repeat([0, 1], 10), np.repeat([0, 1], 10)
    assert chance(labels, labels[None], 2, groups, seed=0) > 0.4  # two texts can be named in two ways
    assert chance(labels, labels[None], 2, np.arange(20), seed=0) == pytest.approx(1 / 1000)


def test_the_same_answers_differ_by_nothing():
    labels = np.repeat([0, 1, 2], 20)
    answers = answered(np.random.default_rng(0), labels, (0.7,) * 3, 4)
    same = gap(labels, answers, answers, 3, np.arange(60), seed=0)
    assert (same.points, same.chance) == (0, 1)
    assert same.low <= 0 <= same.high
    one = gap(labels, answers[:1], answers[:1], 3, np.arange(60), seed=0)
    assert (one.points, one.low, one.high, one.chance) == (0, 0, 0, 1)


def test_a_large_difference_is_seen_and_has_its_sign():
    labels, random = np.repeat([0, 1, 2], 60), np.random.default_rng(0)
    worse, better = answered(random, labels, (0.5,) * 3, 4), answered(random, labels, (0.9,) * 3, 4)
    lost = gap(labels, worse, better, 3, np.arange(180), seed=0)
    assert lost.points < lost.high < 0
    assert lost.chance < 0.001
    won = gap(labels, better, worse, 3, np.arange(180), seed=0)
    assert (won.points, won.low, won.high) == pytest.approx((-lost.points, -lost.high, -lost.low))


@pytest.mark.parametrize(("per_class", "members", "classes"), [(20, 1, 3), (40, 4, 3), (30, 1, 2)])
def test_answers_without_meaning_are_rarely_called_more_than_chance(per_class, members, classes):
    labels, wrong = np.repeat(np.arange(classes), per_class), 0
    for seed in range(RUNS):
        random = np.random.default_rng([seed, members])
        shared = random.integers(0, classes, len(labels))  # networks that agree with each other, as those of a panel do
        own = random.integers(0, classes, (members, len(labels)))
        wrong += chance(labels, np.where(random.random(own.shape) < 0.5, shared, own), classes, np.arange(len(labels)), seed) <= 0.05
    assert wrong <= MOST


@pytest.mark.parametrize(
    ("per_class", "members", "spread", "others", "own"),
    [
        (40, 1, 0.0, (0.7, 0.7, 0.7), (0.7, 0.7, 0.7)),
        (40, 1, 0.0, (0.9, 0.6, 0.9), (0.6, 0.9, 0.9)),
        (60, 4, 0.03, (0.7, 0.7, 0.7), (0.7, 0.7, 0.7)),
        (60, 4, 0.03, (0.9, 0.6, 0.9), (0.9, 0.6, 0.9)),
    ],
)
def test_networks_that_do_equally_well_are_rarely_called_different(per_class, members, spread, others, own):
    labels, wrong = np.repeat(np.arange(3), per_class), 0
    for seed in range(RUNS):
        random = np.random.default_rng([seed, per_class, members])
        shared = random.random(len(labels))
        sides = (answered(random, labels, accuracy, members, spread, shared) for accuracy in (others, own))
        wrong += gap(labels, *sides, 3, np.arange(len(labels)), seed).chance <= 0.05
    assert wrong <= MOST


@pytest.fixture
def asked():
    return Asked(np.repeat([0, 1, 2], 20), np.arange(60), np.array([2, 0, 1]), seed=3)


def test_scores_are_those_of_a_run_in_the_order_of_its_classes(asked):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (2, 60)) + np.eye(3)[asked.labels]
    plain = panel_scores(asked.labels, probabilities.argmax(-1), 3, 3)
    scores = asked.scores(probabilities)
    assert [one.mean for one in scores.f1] == [one["mean"] for one in plain["f1"]]
    assert scores.min_f1 == PanelScores.of(plain).min_f1
    assert asked.some(asked.labels > 0).counts() == [0, 20, 20]


def test_ties_go_where_the_networks_order_of_classes_says(asked):
    assert asked.predicted(np.full((1, 3), 0.5)).tolist() == [[0]]  # the first that networks see, which is the second of the run's


def test_what_both_sides_have_is_compared_and_corrected_over_sources(asked):
    random = np.random.default_rng(0)
    good, bad = (random.dirichlet(np.ones(3), (2, 60)) + weight * np.eye(3)[asked.labels] for weight in (1, 0))
    own = {PANEL: good, "tokens": good[0]}
    made = [
        transfer_of(SOURCE, asked, [1, 0, 2], {PANEL: said, "zlib": said[0]}, own, {"tokens": "other tokens"}, "") for said in (good, bad)
    ]
    assert [list(one.classifiers) for one in made] == [[PANEL], [PANEL]]
    assert made[0].samples == [20, 20, 20]
    assert made[0].known == [1, 0, 2]
    assert (made[0].panel.ratio, made[0].difference.points) == (100, 0)
    assert made[1].panel.ratio < 60
    assert min_f1(np.eye(2, dtype=int)[None]) == 100
    both = corrected(made)
    assert both[0].adjusted == pytest.approx(2 * made[0].chance)
    assert both[1].adjusted == pytest.approx(max(made[1].chance, both[0].adjusted))
    assert both[1].difference.adjusted == pytest.approx(min(1, 2 * made[1].difference.chance))
    assert replace(both[0], adjusted=made[0].adjusted, difference=made[0].difference) == made[0]
