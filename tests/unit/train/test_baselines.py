from dataclasses import fields

import numpy as np
import pytest
import torch
from conftest import NIGHT

from memgrid.results.folder import BASELINES
from memgrid.results.result import BEHIND
from memgrid.train import baselines
from memgrid.train.baselines import (
    Side,
    TokenClassifier,
    by_token,
    linear,
    overlap,
    permuted,
    scored,
    tree,
    without_attention,
    zlib_ratio,
)

K, LENGTH = 8, 16
SIMULATED = 1000 if NIGHT else 200


def sides(make, samples=120, classes=3):
    """A train and an eval side of the same kind, every class equally often."""
    found = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        labels = np.arange(samples) % classes
        given = {
            "decoded": rng.integers(1, 400, (samples, LENGTH)).astype(np.int32),
            "confidence": rng.random(samples).astype(np.float32),
            "prefix_logprob": -rng.random(samples).astype(np.float32),
            "logprob": -rng.random((samples, LENGTH)).astype(np.float16),
            "min_k": rng.normal(size=samples).astype(np.float32),
            "zlib": rng.integers(40, 80, samples).astype(np.float32),
        }
        given["logprob"][:, 0] = np.nan
        make(rng, labels, given)
        found.append(Side(labels=labels, **given))
    return found


@pytest.fixture
def few_epochs(monkeypatch):
    """For tests to which it does not matter what the network learns."""
    monkeypatch.setattr(baselines, "EPOCHS", 4)


@pytest.fixture
def all_at_once(monkeypatch):
    """All permutations of a small test in one fit."""
    monkeypatch.setattr(baselines, "AT_ONCE", 1 + baselines.PERMUTATIONS)


def accuracies(train, evaluate):
    found = scored(without_attention(train, evaluate, K, 3, 0), evaluate.labels, 3, 0)
    assert list(found) == list(BASELINES)
    return {name: scores and scores.accuracy.mean for name, scores in found.items()}


def some_tokens(rng, labels, given):
    given["decoded"][np.arange(len(labels)), rng.integers(0, LENGTH, len(labels))] = 500 + labels


def an_overlap(rng, labels, given):
    for row, label in enumerate(labels):
        given["decoded"][row, K : K + 4 * label] = given["decoded"][row, : 4 * label]


def the_confidence(rng, labels, given):
    given["confidence"] = ((labels + rng.uniform(0.1, 0.9, len(labels))) / 3).astype(np.float32)


def the_likelihood(rng, labels, given):
    given["prefix_logprob"] = (labels - 3 + rng.uniform(0.1, 0.9, len(labels))).astype(np.float32)


def the_min_k(rng, labels, given):
    given["min_k"] = (labels - 1 + rng.uniform(0.1, 0.9, len(labels))).astype(np.float32)


def the_length(rng, labels, given):
    """The sum of the log-probabilities says nothing: the text's length does."""
    given["logprob"][:, 1:] = -0.5
    given["zlib"] = (30 + 20 * labels + rng.integers(0, 9, len(labels))).astype(np.float32)


def a_pattern(rng, labels, given):
    """As many improbable tokens in all classes, one by one, in pairs, or in fours: neither a place nor a sum tells."""
    for row, label in enumerate(labels):
        size = 2**label
        starts = rng.permutation(16 // size - 1)[: 4 // size] * size + rng.integers(1, size + 1)
        given["logprob"][row, 1:] = -0.01
        for start in starts:
            given["logprob"][row, start : start + size] = -3


MADE = {
    "tokens": some_tokens,
    "overlap": an_overlap,
    "confidence": the_confidence,
    "likelihood": the_likelihood,
    "min_k": the_min_k,
    "zlib": the_length,
}


@pytest.mark.parametrize(("name", "make"), MADE.items())
def test_what_one_thing_decides_is_found_by_its_baseline(name, make):
    found = accuracies(*sides(make))
    assert found[name] > 90
    assert found["together"] > 85
    others = set(BASELINES) - {name, "together"}
    assert all(found[other] < 60 for other in others)


def test_noise_is_chance():
    assert all(value < 55 for value in accuracies(*sides(lambda *_: None)).values())


def test_a_pattern_of_probabilities_is_found_by_the_network():
    found = accuracies(*sides(a_pattern, samples=600))
    assert found["probabilities"] > 80
    assert found["together"] > 75
    assert all(value < 60 for name, value in found.items() if name not in ("probabilities", "together"))


UNKNOWN = {
    "confidence": {"confidence"},
    "prefix_logprob": {"likelihood"},
    "min_k": {"min_k"},
    "zlib": {"zlib"},
    "logprob": {"zlib", "probabilities"},
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_left_out(few_epochs, name):
    def make(rng, labels, given):
        some_tokens(rng, labels, given)
        given[name][3] = np.nan

    found = accuracies(*sides(make))
    assert {baseline for baseline, value in found.items() if value is None} == UNKNOWN[name]
    assert found["together"] > 85


def test_the_same_twice(few_epochs):
    first, second = (without_attention(*sides(some_tokens), K, 3, 0) for _ in range(2))
    for name in BASELINES:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name].sum(1), 1)


def test_a_class_with_one_sample_is_no_error(few_epochs):
    train, evaluate = sides(some_tokens, samples=9)
    one = Side(**{field.name: getattr(train, field.name)[:3] for field in fields(train)})
    assert None not in accuracies(one, evaluate).values()


def test_what_older_shards_do_not_know_is_left_out(few_epochs):
    def make(rng, labels, given):
        some_tokens(rng, labels, given)
        for name in ("logprob", "min_k", "zlib"):
            given[name][:] = np.nan

    found = accuracies(*sides(make))
    assert {name for name, value in found.items() if value is None} == {"min_k", "zlib", "probabilities"}
    assert found["together"] > 85


def test_the_zlib_ratio_by_hand():
    logprob = np.array([[np.nan, -1, -2, -3], [np.nan, -0.5, -0.5, 0]], np.float16)
    np.testing.assert_array_equal(by_token(logprob), logprob[:, 1:])
    np.testing.assert_allclose(zlib_ratio(by_token(logprob), np.array([12, 8], np.float32)), [-0.5, -0.125])
    assert by_token(np.nan_to_num(logprob)).shape == (2, 4)  # after BOS the first token has a probability, too


def answers_of_the_network(seed=0, tokens=LENGTH, samples=60):
    random = np.random.default_rng(0)
    seen, labels = -random.random((samples, tokens)), np.arange(samples) % 3
    return TokenClassifier(seed).fit(seen, labels).predict_proba(seen)


def test_the_network_is_the_same_to_the_last_bit_whatever_is_computed_beside_it():
    first, threads = answers_of_the_network(), torch.get_num_threads()
    torch.manual_seed(5)
    torch.set_num_threads(threads + 1)
    try:
        drawn = torch.rand(3)
        torch.manual_seed(5)
        np.testing.assert_array_equal(answers_of_the_network(), first)
        assert torch.get_num_threads() == threads + 1
        assert torch.equal(torch.rand(3), drawn)
    finally:
        torch.set_num_threads(threads)
    assert (answers_of_the_network(seed=1) != first).any()
    np.testing.assert_allclose(first.sum(1), 1)


@pytest.mark.parametrize("tokens", [1, 2, 5, 63])
def test_the_network_reads_few_tokens_and_many(tokens):
    assert answers_of_the_network(tokens=tokens).shape == (60, 3)


def test_a_network_on_tokens_that_all_are_alike_or_impossible_gives_numbers():
    seen = np.full((30, 7), -1e4)
    assert np.isfinite(TokenClassifier().fit(seen, np.arange(30) % 2).predict_proba(seen)).all()


def test_overlap_of_what_is_decoded():
    decoded = np.array([[1, 2, 3, 4, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 4, 9, 9, 9]])
    rouge_l, rouge_3, share = overlap(decoded, 4).T
    np.testing.assert_allclose(rouge_l, [1, 0, 0.25])
    np.testing.assert_allclose(rouge_3, [1, 0, 0])
    np.testing.assert_allclose(share, [1, 0, 0.25])
    assert overlap(np.tile(decoded, 20), 70).shape == (3, 1)


def probe_loss(rng, signal):
    """As a share of a guess's loss, of few to many samples of two to four classes."""
    classes, each, numbers = int(rng.integers(2, 5)), int(rng.integers(10, 60)), int(rng.integers(4, 49))
    labels = np.repeat(np.arange(classes), each)
    seen = rng.normal(size=(classes * each, numbers)) + signal * np.eye(classes, numbers)[labels]
    return linear([seen, seen[:2]], labels, 0)[1] / np.log(classes)


def test_no_network_that_guesses_is_called_undertrained_where_there_is_nothing_to_learn():
    """Nor one that is a little worse than a guess, as dropout makes it; where there is much to learn, all of them are."""
    nothing = [probe_loss(np.random.default_rng(seed), 0.0) for seed in range(60)]
    much = [probe_loss(np.random.default_rng(seed), 4.0) for seed in range(20)]
    guess = 1.02
    assert np.mean([guess > loss + BEHIND for loss in nothing]) <= 0.05
    assert all(guess > loss + BEHIND for loss in much)


def test_a_probe_of_a_class_with_one_sample_knows_nothing():
    assert linear([np.random.default_rng(0).normal(size=(9, 3)), np.zeros((1, 3))], np.array([0] * 8 + [1]), 0)[1] == np.log(2)


def probed(classes, each, signal, seed):
    """The test of a probe that sees as much of a class in each number."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    seen = [random.normal(size=(len(labels), 6)) + signal * np.eye(classes, 6)[labels] for _ in range(2)]
    return permuted(seen, [labels, labels], 10**6 + seed)


def test_permutations_in_parts_are_those_all_at_once(monkeypatch):
    found = []
    for at_once in (baselines.AT_ONCE, 10, 1 + baselines.PERMUTATIONS):
        monkeypatch.setattr(baselines, "AT_ONCE", at_once)
        found.append([probed(classes, 20, 0.5, seed=classes) for classes in (2, 3, 4)])
    assert found[0] == found[1] == found[2]


def test_a_linear_classifier_is_tested_against_permuted_labels(all_at_once):
    """Where there is nothing to see, the test says so in 19 of 20 (3.8 % of 2,000 seeds); where there is much, it sees it."""
    nothing = [probed(2 + seed % 3, 20, 0.0, 1000 + seed).chance for seed in range(SIMULATED)]
    assert np.mean(np.array(nothing) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATED)
    much = [probed(3, 40, 2.0, seed) for seed in range(5)]
    assert {test.chance for test in much} == {1 / 1000}
    assert all(test.accuracy > 70 > 45 > test.permuted > 20 for test in much)
    assert {test.permutations for test in much} == {999}


def test_near_duplicates_are_no_evidence_for_a_linear_classifier(all_at_once):
    """Two classes that are alike, of texts with five copies each, on both sides: whatever is learned, luck is with whole texts."""
    wrong = []
    for seed in range(SIMULATED):
        random = np.random.default_rng(2000 + seed)
        labels = [np.repeat(random.permutation(24) % 2, 5) for _ in range(2)]
        seen = [np.repeat(random.normal(size=(24, 6)), 5, axis=0) + 0.1 * random.normal(size=(120, 6)) for _ in range(2)]
        wrong.append(permuted(seen, labels, seed).chance <= 0.05)
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATED)


def test_the_tree_of_the_confidence_is_a_small_one():
    """Where the confidence says nothing, a tree of any size would learn the train samples by heart."""
    random = np.random.default_rng(0)
    labels, sure = np.arange(600) % 3, random.random((600, 1))
    answers = tree([sure, sure], labels, 3, 0)[np.argsort(sure[:, 0])]
    steps = np.flatnonzero((np.diff(answers, axis=0) != 0).any(1))
    assert 1 <= len(steps) < 12
    assert np.diff(steps).min() >= 5
