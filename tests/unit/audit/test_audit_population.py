"""Who is a canary of which kind, and who is a member of which model."""

from collections import Counter

import numpy as np
import pytest
from conftest import refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.audit.config import CanaryConfig
from memgrid.audit.data import population
from memgrid.audit.data.dataset import Dataset
from memgrid.audit.data.population import CANARIES, KINDS, OUT_OF_DOMAIN

ARRAYS = ("images", "labels", "truth", "kind", "members")


def some_data(samples=60, classes=10, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(samples, 1, 8, 8)).astype(np.float32)
    return Dataset("some", images, rng.integers(0, classes, samples), images[:2], np.zeros(2, np.int64), classes)


def draw_population(data, canary, count, membership, shadows, seed, **of_canaries):
    return population.draw_population(data, CanaryConfig(name=canary, count=count, **of_canaries), membership, shadows, seed)


def of_kind(drawn, name):
    return drawn.kind == KINDS.index(name)


@settings(max_examples=60)
@given(
    canary=st.sampled_from(list(CANARIES)),
    membership=st.sampled_from(["canaries", "all"]),
    samples=st.integers(2, 60),
    classes=st.integers(2, 12),
    half=st.integers(2, 20),
    seed=st.integers(0, 2**48),
    draw=st.data(),
)
def test_a_population_is_what_it_says(canary, membership, samples, classes, half, seed, draw):
    data = some_data(samples, classes)
    before = data.images.copy(), data.labels.copy()
    count = draw.draw(st.integers(0, samples))
    drawn = draw_population(data, canary, count, membership, 2 * half, seed)

    numbers = [int(of_kind(drawn, name).sum()) for name in CANARIES[canary]]
    assert sum(numbers) == count == (drawn.kind > 0).sum()
    assert max(numbers) - min(numbers) <= 1

    noisy, foreign = of_kind(drawn, "label_noise"), drawn.out_of_domain
    np.testing.assert_array_equal(foreign, np.any([of_kind(drawn, name) for name in OUT_OF_DOMAIN], axis=0))
    assert (drawn.labels[noisy] != data.labels[noisy]).all()
    assert ((drawn.labels >= 0) & (drawn.labels < classes)).all()
    np.testing.assert_array_equal(drawn.labels[~noisy], data.labels[~noisy])
    np.testing.assert_array_equal(drawn.truth, data.labels)
    np.testing.assert_array_equal(drawn.images[~foreign], data.images[~foreign])
    alone = np.bincount(data.labels)[data.labels] == 1  # nothing distinguishes it from the mean of its class
    assert all((drawn.images[at] != data.images[at]).any() for at in np.flatnonzero(foreign) if canary != "ood_matched" or not alone[at])
    assert drawn.images.dtype == np.float32

    audited = np.ones(samples, bool) if membership == "all" else drawn.kind > 0
    np.testing.assert_array_equal(drawn.members.sum(0), np.where(audited, half, 2 * half))
    np.testing.assert_array_equal(drawn.audited, audited)
    assert drawn.members.shape == (2 * half, samples)
    for now, then in zip((data.images, data.labels), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_wrong_labels_are_uniform_over_the_others():
    data = some_data(9000)
    drawn = draw_population(data, "label_noise", 9000, "canaries", 4, 0)
    moved = Counter(((drawn.labels - data.labels) % 10).tolist())
    assert set(moved) == set(range(1, 10))
    assert all(abs(number - 1000) < 150 for number in moved.values())  # five deviations


def test_with_two_classes_the_wrong_label_is_the_other_one():
    data = some_data(30, classes=2)
    np.testing.assert_array_equal(draw_population(data, "label_noise", 30, "all", 4, 1).labels, 1 - data.labels)


def test_members_are_drawn_uniformly_and_each_sample_for_itself():
    members = draw_population(some_data(3000), "clean", 3000, "canaries", 6, 0).members
    assert np.abs(members.mean(1) - 0.5).max() < 0.05
    halves = Counter(map(bytes, members.T))
    assert len(halves) == 20  # all ways to choose 3 of 6
    assert all(abs(number - 150) < 75 for number in halves.values())


def test_canaries_are_drawn_uniformly():
    chosen = np.sum([draw_population(some_data(20), "clean", 5, "canaries", 4, seed).audited for seed in range(400)], 0)
    assert np.abs(chosen - 100).max() < 50


def test_the_same_seed_gives_the_same_population():
    first, second = (draw_population(some_data(), "mixed", 31, "canaries", 8, 7) for _ in range(2))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_another_seed_draws_everything_anew():
    first, second = (draw_population(some_data(300), "mixed", 150, "canaries", 8, seed) for seed in (0, 1))
    for name in ("images", "labels", "kind", "members"):
        assert (getattr(first, name) != getattr(second, name)).any(), name
    both = [of_kind(drawn, "ood") for drawn in (first, second)]
    assert not {image.tobytes() for image in first.images[both[0]]} & {image.tobytes() for image in second.images[both[1]]}
    members, others = (draw_population(some_data(300), "clean", 9, "all", 8, seed).members for seed in (0, 1))
    assert abs((members == others).mean() - 0.5) < 0.1
    agreed = (first.members == second.members)[:, first.audited & second.audited].mean()
    assert abs(agreed - 0.5) < 0.1


def test_who_is_chosen_and_who_is_a_member_does_not_depend_on_the_kind_of_canary():
    populations = [draw_population(some_data(), canary, 31, "canaries", 8, 7) for canary in CANARIES]
    for drawn in populations[1:]:
        np.testing.assert_array_equal(drawn.kind > 0, populations[0].kind > 0)
        np.testing.assert_array_equal(drawn.members, populations[0].members)


@pytest.mark.parametrize("membership", ["canaries", "all"])
def test_more_canaries_than_samples_are_refused(membership):
    assert draw_population(some_data(60), "clean", 60, membership, 4, 0).audited.all()
    sentence = refusal(draw_population, some_data(60), "clean", 61, membership, 4, 0)
    assert "canary.count=61" in sentence
    assert "60" in sentence


@pytest.mark.parametrize("canary", ["ood", "mixed", "ood_matched", "blank"])
def test_attention_has_no_foreign_images(canary):
    maps = np.zeros((20, 10, 2), np.float16)
    data = Dataset("maps", maps, np.zeros(20, np.int64), maps[:2], np.zeros(2, np.int64), 3, length=4)
    assert "canary=clean" in refusal(draw_population, data, canary, 9, "canaries", 4, 0)
    assert draw_population(data, "label_noise", 9, "canaries", 4, 0).images is maps


@pytest.mark.parametrize("copies", [1, 3])
def test_a_model_is_trained_on_its_members_and_on_copies_of_its_canaries(copies):
    drawn = draw_population(some_data(), "duplicated", 20, "canaries", 4, 0, copies=copies)
    for model, members in enumerate(drawn.members):
        counts = np.bincount(drawn.rows(model), minlength=60)
        np.testing.assert_array_equal(counts, members * np.where(drawn.kind > 0, copies, 1))
