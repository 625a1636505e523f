import numpy as np
import pytest
from conftest import NIGHT

from memgrid.results.folder import BASELINES
from memgrid.results.result import BEHIND
from memgrid.train.baselines import Side, linear, overlap, permuted, scored, tree, without_attention

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
        }
        make(rng, labels, given)
        found.append(Side(labels=labels, **given))
    return found


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


@pytest.mark.parametrize(
    ("make", "name"),
    [(some_tokens, "tokens"), (an_overlap, "overlap"), (the_confidence, "confidence"), (the_likelihood, "likelihood")],
)
def test_what_one_thing_decides_is_found_by_its_baseline(make, name):
    found = accuracies(*sides(make))
    assert found[name] > 90
    assert found["together"] > 85
    others = set(BASELINES) - {name, "together"}
    assert all(found[other] < 60 for other in others)


def test_noise_is_chance():
    assert all(value < 55 for value in accuracies(*sides(lambda *_: None)).values())


@pytest.mark.parametrize("name", ["confidence", "prefix_logprob"])
def test_what_is_not_known_is_left_out(name):
    def make(rng, labels, given):
        some_tokens(rng, labels, given)
        given[name][3] = np.nan

    found = accuracies(*sides(make))
    assert found[{"prefix_logprob": "likelihood"}.get(name, name)] is None
    assert found["together"] > 85


def test_the_same_twice():
    first, second = (without_attention(*sides(some_tokens), K, 3, 0) for _ in range(2))
    for name in BASELINES:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name].sum(1), 1)


def test_a_class_with_one_sample_is_no_error():
    train, evaluate = sides(some_tokens, samples=9)
    one = Side(*(getattr(train, name)[:3] for name in ("decoded", "confidence", "prefix_logprob", "labels")))
    assert accuracies(one, evaluate)["together"] is not None


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


def test_a_linear_classifier_is_tested_against_permuted_labels():
    """Where there is nothing to see, the test says so in 19 of 20 (3.8 % of 2,000 seeds); where there is much, it sees it."""
    nothing = [probed(2 + seed % 3, 20, 0.0, 1000 + seed).chance for seed in range(SIMULATED)]
    assert np.mean(np.array(nothing) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATED)
    much = [probed(3, 40, 2.0, seed) for seed in range(5)]
    assert {test.chance for test in much} == {1 / 1000}
    assert all(test.accuracy > 70 > 45 > test.permuted > 20 for test in much)
    assert {test.permutations for test in much} == {999}


def test_near_duplicates_are_no_evidence_for_a_linear_classifier():
    """Two classes that are alike, of texts with ten copies each, on both sides: whatever is learned, luck is with whole texts."""
    wrong = []
    for seed in range(SIMULATED):
        random = np.random.default_rng(2000 + seed)
        labels = [np.repeat(random.permutation(24) % 2, 10) for _ in range(2)]
        seen = [np.repeat(random.normal(size=(24, 6)), 10, axis=0) + 0.1 * random.normal(size=(240, 6)) for _ in range(2)]
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
