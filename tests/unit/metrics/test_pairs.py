"""Classes that are alike are not told apart, whatever else is; classes that differ a little are, with samples enough."""

import numpy as np
import pytest
from conftest import NIGHT
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from memgrid.metrics.pairs import balanced_accuracy, chance, holm, leads, of_groups, pair_scores, pairs, right

LEVEL, SIMULATED = 0.05, 1000 if NIGHT else 300
# Which classes are alike: inside a group nothing but a coin tells them.
ALIKE = [[[0, 1]], [[0, 1, 2]], [[0], [1, 2]], [[0, 1], [2, 3]], [[0, 1, 2, 3]], [[0, 1], [2, 3], [4]], [[0, 1, 2, 3, 4]]]


def answers(groups, samples, random, difference=0.0):
    """Labels and probabilities: groups are told from each other, classes of a group by `difference` (in log-odds, beside noise of 1)."""
    classes = sum(map(len, groups))
    labels = np.repeat(np.arange(classes), samples)
    group = np.array([place for place, members in enumerate(groups) for _ in members])
    seen = random.normal(size=(len(labels), len(groups))) + 2 * (group[labels][:, None] == np.arange(len(groups)))
    logits = 2 * seen[:, group] + random.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += difference
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("samples", [20, 160])
@pytest.mark.parametrize("groups", ALIKE, ids=str)
def test_classes_that_are_alike_are_told_apart_in_one_of_twenty_at_most(groups, samples):
    """Not more often than by chance more than the level, of so many simulations, with everything else told apart."""
    random = np.random.default_rng(samples)
    same = {(a, b) for group in groups for a in group for b in group if a < b}
    wrong = different = 0
    for _ in range(SIMULATED):
        found = {(pair["first"], pair["second"]): pair["adjusted"] <= LEVEL for pair in pair_scores(*answers(groups, samples, random))}
        wrong += any(found[pair] for pair in same)
        different += all(apart for pair, apart in found.items() if pair not in same)
    assert wrong / SIMULATED <= LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / SIMULATED)
    assert different > 0.9 * SIMULATED


@pytest.mark.parametrize("as_groups", [True, False])
def test_near_duplicates_are_no_evidence_of_their_own(as_groups):
    """Two classes that are alike, of texts that occur up to twenty times: a text is of one class, and its copies are answered alike.

    Who takes each copy for a sample calls the classes told apart far more often than in one of twenty.
    """
    random, wrong = np.random.default_rng(0), 0
    for _ in range(SIMULATED):
        copies = random.integers(1, 21, 40)
        labels, groups = np.repeat(np.arange(40) % 2, copies), np.repeat(np.arange(40), copies)
        lead = np.repeat(random.normal(size=40), copies) + 0.1 * random.normal(size=copies.sum())
        answers = 1 / (1 + np.exp(-np.stack([lead, -lead], 1)))
        wrong += pair_scores(labels, answers, groups if as_groups else None)[0]["adjusted"] <= LEVEL
    assert (wrong / SIMULATED <= LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / SIMULATED)) == as_groups
    assert as_groups or wrong / SIMULATED > 0.2


def test_a_group_answers_by_its_mean_and_counts_in_each_class_that_it_has():
    first, lead = of_groups(np.array([True, True, False, False]), np.array([1.0, -3.0, 2.0, 5.0]), np.array([7, 7, 7, 9]))
    assert sorted(zip(first.tolist(), lead.tolist(), strict=True)) == [(False, 2.0), (False, 5.0), (True, -1.0)]


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_who_always_gives_one_answer_tells_nothing_apart(classes):
    labels = np.repeat(np.arange(classes), 50)
    for constant in (np.full((len(labels), classes), 1 / classes), np.eye(classes)[np.zeros(len(labels), int)]):
        made = pair_scores(labels, constant)
        assert {pair["accuracy"] for pair in made} == {50}
        assert {pair["adjusted"] for pair in made} == {1}


@pytest.mark.parametrize(("samples", "difference", "least"), [(80, 0.5, 0.8), (160, 0.5, 0.97), (20, 1.0, 0.5)])
def test_a_weak_difference_is_found(samples, difference, least):
    """Classes whose log-odds differ by half a standard deviation of their noise, in a run of three classes; measured: .95, 1, .79."""
    random = np.random.default_rng(0)
    found = [
        next(pair["adjusted"] for pair in pair_scores(*answers([[0], [1, 2]], samples, random, difference)) if pair["first"] == 1) <= LEVEL
        for _ in range(100)
    ]
    assert np.mean(found) >= least


@given(st.integers(1, 15), st.integers(1, 15), st.integers(0, 2**32))
def test_the_chance_is_fishers(first, second, seed):
    random = np.random.default_rng(seed)
    labels, lead = np.repeat([True, False], [first, second]), random.choice([-1.0, 1.0], first + second)
    table = [[(lead[labels] > 0).sum(), (lead[labels] < 0).sum()], [(lead[~labels] > 0).sum(), (lead[~labels] < 0).sum()]]
    assert chance(labels, lead) == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
    # Whoever swaps the two classes finds the same.
    assert chance(~labels, -lead) == pytest.approx(chance(labels, lead))
    assert balanced_accuracy(~labels, -lead) == pytest.approx(balanced_accuracy(labels, lead))


def test_only_the_samples_and_the_chances_of_both_classes_count():
    labels, probabilities = np.array([0, 0, 1, 2]), np.array([[0.4, 0.1, 0.5], [0.1, 0.2, 0.7], [0.0, 0.3, 0.7], [0.9, 0.1, 0.0]])
    first, lead = leads(labels, probabilities, (0, 1))
    assert first.tolist() == [True, True, False]
    assert balanced_accuracy(first, lead) == 75
    assert pairs(3) == [(0, 1), (0, 2), (1, 2)]
    assert np.isnan(balanced_accuracy(np.array([True, True]), np.array([1.0, -1.0])))
    assert chance(np.array([True, True]), np.array([1.0, -1.0])) == 1


@pytest.mark.filterwarnings("error")
def test_of_one_class_alone_nothing_is_said_and_a_single_sample_of_either_is_enough():
    for first in ([True, True], [False, False], []):
        assert np.isnan(balanced_accuracy(np.array(first, bool), np.zeros(len(first))))
    assert balanced_accuracy(np.array([True, False]), np.array([1.0, 1.0])) == 50


def test_a_tie_is_called_the_second_class():
    first = np.array([True, True, True, False, False, False])
    assert chance(first, np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])) == pytest.approx(1 / 20)  # one of the ways to choose three of six
    assert chance(first, np.zeros(6)) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_two_classes_are_asked_alone_and_a_tie_is_half_right():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1], [0, 0, 1]])
    labels = np.array([1, 0, 1, 2])
    assert right(*leads(labels, probabilities, (0, 1))).tolist() == [1, 0.5, 0]
    assert right(*leads(labels, np.stack([probabilities] * 2), (0, 2))).shape == (2, 2)
