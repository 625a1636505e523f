"""Predictors against the definition: PSMI against the package `psmi`, the others against plain numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from psmi import PSMI

from memgrid.audit.shadow import predictors as module
from memgrid.audit.shadow.predictors import (
    PREDICTORS,
    blocks_of_directions,
    gap,
    log_ratios,
    mahalanobis,
    predictors,
    psmi,
    random_directions,
    settled_psmi,
)


def some_features(samples, width, labels, seed=0, apart=1.0):
    """Normal features around a mean per class."""
    rng = np.random.default_rng(seed)
    means = apart * rng.normal(size=(labels.max() + 1, width))
    return means[labels] + rng.normal(size=(samples, width)) * rng.uniform(0.5, 2, width)


def labels_of(*counts):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


def by_the_package(features, labels, count, seed):
    """PSMI by the package `psmi`, and the directions that it drew."""
    np.random.seed(seed)  # noqa: NPY002
    estimator = PSMI(n_estimators=count)
    values, _, _ = estimator.fit_transform(features, labels)
    return values, torch.from_numpy(estimator.thetas)


def naive_psmi(features, labels, directions, floor):
    """The definition, one sample and direction after the other."""
    total = np.zeros(len(labels))
    for direction in directions:
        projected = features @ direction
        names, own = np.unique(labels, return_inverse=True)
        mean = np.array([projected[own == name].mean() for name in range(len(names))])
        within = ((projected - mean[own]) ** 2).mean()
        spread = [projected[own == name].std() if (own == name).sum() > 1 else within**0.5 for name in range(len(names))]
        spread = np.maximum(spread, floor * projected.std())
        for at, x in enumerate(projected):
            logs = [-0.5 * ((x - mean[name]) / spread[name]) ** 2 - np.log(spread[name]) for name in range(len(names))]
            mixed = [log + np.log((own == name).mean()) for name, log in enumerate(logs)]
            total[at] += logs[own[at]] - np.logaddexp.reduce(mixed)
    return total / len(directions)


@pytest.mark.parametrize("counts", [(20, 20), (2, 30), (5, 40, 90), (50,), (12,) * 10])
@pytest.mark.parametrize(("width", "directions"), [(1, 5), (3, 40), (32, 300)])
def test_psmi_is_that_of_the_package(counts, width, directions):
    labels = labels_of(*counts)
    features = some_features(len(labels), width, labels, seed=width)
    expected, drawn = by_the_package(features, labels, directions, seed=3)
    values = psmi(torch.from_numpy(features), torch.from_numpy(labels), drawn, 0.0)
    assert values.dtype == torch.float64
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(2, 25), min_size=1, max_size=6),
    width=st.integers(1, 12),
    apart=st.sampled_from([0.0, 0.5, 2.0]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 2**31),
)
def test_psmi_is_that_of_the_package_for_random_classes(counts, width, apart, scale, seed):
    labels = labels_of(*counts)
    features = scale * some_features(len(labels), width, labels, seed, apart)
    expected, drawn = by_the_package(features, labels, 8, seed)
    if np.isfinite(expected).all():  # without logarithms of sums, the package underflows
        np.testing.assert_allclose(psmi(torch.from_numpy(features), torch.from_numpy(labels), drawn, 0.0), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("counts", "change"),
    [
        ((1, 30, 9), lambda features, labels: features),
        ((1, 1, 12), lambda features, labels: features),
        ((20, 20, 20), lambda features, labels: np.where(labels[:, None] == 1, 0.25, features)),
        ((20, 20, 20), lambda features, labels: np.where(np.arange(8) < 5, 0.0, features)),
        ((2, 60), lambda features, labels: np.where(labels[:, None] == 0, 1.5, features)),
    ],
    ids=["one member", "two classes of one member", "a class without variance", "dead features", "two equal members"],
)
@pytest.mark.parametrize("floor", [1e-3, 0.2])
def test_psmi_of_degenerate_classes_is_the_definition_with_its_floor(counts, change, floor):
    labels = labels_of(*counts)
    features = change(some_features(len(labels), 8, labels), labels)
    directions = random_directions(25, 8, 0)
    values = psmi(torch.from_numpy(features), torch.from_numpy(labels), directions, floor).numpy()
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values, naive_psmi(features, labels, directions.numpy(), floor), rtol=1e-9, atol=1e-9)


def test_where_the_package_is_nan_psmi_is_not():
    labels = labels_of(20, 20)
    features = np.where(labels[:, None] == 1, 0.25, some_features(40, 8, labels))
    with np.errstate(all="ignore"):
        expected, drawn = by_the_package(features, labels, 10, seed=0)
    assert np.isnan(expected).any()
    assert psmi(torch.from_numpy(features), torch.from_numpy(labels), drawn, 1e-3).isfinite().all()


def test_psmi_far_from_every_class_does_not_underflow():
    labels = labels_of(30, 30)
    features = some_features(60, 4, labels)
    features[7] += 1e4
    values = psmi(torch.from_numpy(features), torch.from_numpy(labels), random_directions(20, 4, 0), 1e-3).numpy()
    np.testing.assert_allclose(values, naive_psmi(features, labels, random_directions(20, 4, 0).numpy(), 1e-3), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 1e-30])
@pytest.mark.parametrize("counts", [(10, 10), (1, 19), (20,)])
def test_features_that_are_all_the_same_tell_nothing(value, counts):
    labels = torch.from_numpy(labels_of(*counts))
    features = torch.full((20, 6), value)
    assert (psmi(features, labels, random_directions(30, 6, 0), 1e-3) == 0).all()
    assert (mahalanobis(features, labels) == 0).all()


@pytest.mark.parametrize("count", [1, 40])
def test_with_a_single_class_psmi_is_zero(count):
    features = torch.randn(count, 5, generator=torch.Generator().manual_seed(0))
    assert psmi(features, torch.full((count,), 3), random_directions(30, 5, 0), 1e-3).abs().max() < 1e-12


def test_the_floor_holds_only_where_a_class_varies_less():
    labels = labels_of(40, 40)
    features = some_features(80, 6, labels)
    tensors = torch.from_numpy(features), torch.from_numpy(labels), random_directions(50, 6, 0)
    np.testing.assert_array_equal(psmi(*tensors, 1e-3), psmi(*tensors, 0.0))
    assert not np.allclose(psmi(*tensors, 1.0), psmi(*tensors, 0.0))


def test_psmi_does_not_depend_on_scale_and_origin():
    labels = labels_of(1, 30, 30)
    features = some_features(61, 6, labels)
    given = [
        psmi(torch.from_numpy(scaled), torch.from_numpy(labels), random_directions(50, 6, 0), 1e-3)
        for scaled in (features, 1e-4 * features + 3)
    ]
    np.testing.assert_allclose(*given, rtol=1e-6, atol=1e-8)


def test_a_mislabelled_sample_has_the_lowest_psmi():
    labels = labels_of(50, 50)
    features = some_features(100, 8, labels, apart=2.0)
    wrong = labels.copy()
    wrong[5] = 1 - wrong[5]
    values = psmi(torch.from_numpy(features), torch.from_numpy(wrong), random_directions(200, 8, 0), 1e-3)
    assert values.argmin() == 5
    assert values[5] < 0
    assert values.median() > 0


@pytest.mark.parametrize("block", [1, 700, 2**30])
def test_the_size_of_blocks_does_not_matter(monkeypatch, block):
    labels = torch.from_numpy(labels_of(20, 30, 1))
    features = torch.from_numpy(some_features(51, 7, labels.numpy()))
    directions = random_directions(101, 7, 0)
    usual = psmi(features, labels, directions, 1e-3)
    monkeypatch.setattr(module, "BLOCK", {"cpu": block})
    np.testing.assert_allclose(psmi(features, labels, directions, 1e-3), usual, rtol=1e-11, atol=1e-12)


def test_single_precision_is_computed_in_double():
    labels = torch.from_numpy(labels_of(30, 30))
    features = torch.from_numpy(some_features(60, 7, labels.numpy())).float()
    directions = random_directions(40, 7, 0)
    for function in (lambda some: psmi(some, labels, directions, 1e-3), lambda some: mahalanobis(some, labels)):
        assert function(features).dtype == torch.float64
        assert torch.equal(function(features), function(features.double()))


def test_the_names_of_classes_do_not_matter():
    labels = torch.from_numpy(labels_of(20, 30, 10))
    features = torch.from_numpy(some_features(60, 7, labels.numpy()))
    renamed = torch.tensor([70, 3, 12])[labels]
    directions = random_directions(40, 7, 0)
    np.testing.assert_allclose(psmi(features, renamed, directions, 1e-3), psmi(features, labels, directions, 1e-3), rtol=1e-11)
    np.testing.assert_allclose(mahalanobis(features, renamed), mahalanobis(features, labels), rtol=1e-11)


@settings(max_examples=30)
@given(count=st.integers(1, 60), width=st.integers(1, 40), seed=st.integers(0, 2**63 - 1))
def test_directions_are_units_that_a_seed_decides(count, width, seed):
    drawn = random_directions(count, width, seed)
    assert drawn.shape == (count, width)
    assert drawn.dtype == torch.float64
    np.testing.assert_allclose(drawn.norm(dim=1), 1, rtol=1e-12)
    assert torch.equal(drawn, random_directions(count, width, seed))
    assert width == 1 or not torch.equal(drawn, random_directions(count, width, seed + 1))


def test_directions_are_uniform_on_the_sphere():
    drawn = random_directions(20_000, 3, 0).numpy()
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), np.eye(3) / 3, atol=0.02)


@settings(max_examples=40)
@given(
    logits=st.lists(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=3, max_size=3), min_size=1, max_size=8),
    seed=st.integers(0, 2**31),
)
def test_the_gap_is_the_label_minus_the_best_of_the_others(logits, seed):
    labels = np.random.default_rng(seed).integers(0, 3, len(logits))
    wide = np.array(logits)
    expected = [row[label] - np.delete(row, label).max() for row, label in zip(wide, labels, strict=True)]
    given_twice = gap(torch.from_numpy(np.stack([wide, wide])), torch.from_numpy(np.stack([labels, labels])))
    np.testing.assert_array_equal(gap(torch.from_numpy(wide), torch.from_numpy(labels)), expected)
    np.testing.assert_array_equal(given_twice, [expected, expected])


def naive_mahalanobis(features, labels):
    """With the pseudo-inverse of the covariance within classes."""
    means = np.array([features[labels == label].mean(0) for label in labels])
    covariance = sum(np.outer(row, row) for row in features - means) / len(labels)
    inverse = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    return np.array([np.sqrt(max(0.0, row @ inverse @ row)) for row in features - means])


@pytest.mark.parametrize(
    "change",
    [
        lambda features: features,
        lambda features: np.where(np.arange(6) == 2, 0.0, features),
        lambda features: np.where(np.arange(6) >= 1, 7.5, features),
        lambda features: features[:, [0, 1, 2, 0, 1, 2]],
        lambda features: features[:, :2] @ np.array([[1.0, 0, 2, 0, 3, 0], [0, 1, 0, 2, 0, 3]]),
        lambda features: 1e-8 * features,
    ],
    ids=["full rank", "a dead unit", "one live unit", "units twice", "rank two", "tiny"],
)
@pytest.mark.parametrize("counts", [(30, 30), (1, 20, 40), (60,)])
def test_mahalanobis_is_the_distance_in_the_covariance_within_classes(change, counts):
    labels = labels_of(*counts)
    features = change(some_features(len(labels), 6, labels))
    values = mahalanobis(torch.from_numpy(features), torch.from_numpy(labels))
    np.testing.assert_allclose(values, naive_mahalanobis(features, labels), rtol=1e-7, atol=1e-7)


def test_mahalanobis_of_fewer_samples_than_units():
    labels = labels_of(4, 4)
    features = some_features(8, 20, labels)
    np.testing.assert_allclose(
        mahalanobis(torch.from_numpy(features), torch.from_numpy(labels)), naive_mahalanobis(features, labels), rtol=1e-7
    )


def test_all_predictors_of_all_samples():
    labels = torch.from_numpy(labels_of(20, 20, 20))
    features = torch.from_numpy(some_features(60, 5, labels.numpy())).float()
    logits = 30 * torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    by_name = predictors(features, logits, labels, 30, 1e-3, seed=4)
    assert list(by_name) == list(PREDICTORS)
    assert all(values.shape == (60,) and values.dtype == np.float64 for values in by_name.values())
    wide = logits.double().numpy()
    losses = np.logaddexp.reduce(wide, axis=1) - wide[np.arange(60), labels]
    np.testing.assert_allclose(by_name["loss"], losses, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(by_name["psmi"], psmi(features, labels, random_directions(30, 5, 4), 1e-3))
    np.testing.assert_array_equal(by_name["gap"], gap(logits.double(), labels))
    np.testing.assert_array_equal(by_name["mahalanobis"], mahalanobis(features, labels))


@pytest.mark.parametrize(("samples", "width", "apart"), [(60, 2, 0.3), (80, 20, 0.4), (240, 12, 0.5)])
def test_directions_are_as_many_as_the_package_takes(samples, width, apart):
    """The blocks that the package drew, and not one more, give the values that it gives."""
    labels = labels_of(samples // 2, samples // 4, samples // 4)
    features = some_features(len(labels), width, labels, seed=width, apart=apart)
    expected, drawn = by_the_package(features, labels, "auto", seed=3)
    blocks = iter([*drawn.split(500), None])
    values = settled_psmi(torch.from_numpy(features), torch.from_numpy(labels), 0.0, blocks)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)
    assert next(blocks) is None


def test_some_features_need_more_directions_than_others():
    """Otherwise the test above could not fail."""
    taken = set()
    for samples, width, apart in [(60, 2, 0.3), (80, 20, 0.4), (240, 12, 0.5)]:
        labels = labels_of(samples // 2, samples // 4, samples // 4)
        taken.add(len(by_the_package(some_features(len(labels), width, labels, seed=width, apart=apart), labels, "auto", seed=3)[1]))
    assert len(taken) > 1


def scripted(monkeypatch, values):
    """PSMI of one sample, block after block as it is given; how many blocks are taken."""
    given = iter(values)
    monkeypatch.setattr(module, "psmi", lambda *_: torch.tensor([next(given)], dtype=torch.float64))
    taken = []
    blocks = (taken.append(number) or number for number in range(1000))
    return settled_psmi(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), 0.0, blocks).item(), len(taken)


@pytest.mark.parametrize(
    ("values", "mean", "blocks"),
    [
        ([1.0, 1.0], 1.0, 2),
        ([1.0, 1.105], 1.0525, 2),  # the first half differs by .0525 / 1.0525
        ([1.0, 1.106, 1.0], (1.0 + 1.106 + 1.0) / 3, 3),
        ([1.0, 2.0, 9.0, -5.0, 0.5], 7.5 / 5, 5),
        ([3.0**number for number in range(300)], (3.0**200 - 1) / 2 / 200, 200),
    ],
)
def test_it_has_settled_when_the_first_half_says_the_same(monkeypatch, values, mean, blocks):
    assert scripted(monkeypatch, values) == (pytest.approx(mean, rel=1e-12), blocks)


def test_of_few_samples_the_lowest_alone_has_to_settle(monkeypatch):
    given = iter([torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 9.0]), None])
    monkeypatch.setattr(module, "psmi", lambda *_: next(given))
    assert settled_psmi(torch.zeros(2, 2), torch.zeros(2), 0.0, iter(range(9))).tolist() == [-1.0, 5.0]


def test_two_blocks_are_one_of_twice_the_size():
    blocks = blocks_of_directions(5, 3, 7)
    both = torch.cat([next(blocks), next(blocks)])
    assert torch.equal(both, random_directions(10, 3, 7))


def test_directions_by_the_settings():
    labels = labels_of(30, 30)
    features = torch.from_numpy(some_features(60, 4, labels))
    given = (features, features[:, :2], torch.from_numpy(labels))
    fixed = predictors(*given, 40, 0.0, 5)["psmi"]
    np.testing.assert_array_equal(fixed, psmi(features, given[2], random_directions(40, 4, 5), 0.0))
    auto = predictors(*given, "auto", 0.0, 5)["psmi"]
    np.testing.assert_array_equal(auto, settled_psmi(features, given[2], 0.0, blocks_of_directions(500, 4, 5)))
    assert (auto != predictors(*given, 1000, 0.3, 5)["psmi"]).any()


def test_which_values_predict_memorization():
    assert PREDICTORS == {"psmi": False, "loss": True, "gap": False, "mahalanobis": True}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("spread", "is_flat"), [(1e-13, True), (1e-11, False)])
def test_what_differs_by_rounding_alone_is_flat(spread, is_flat, scale):
    """Relative to how far the projections lie from zero: variance 1e-24 of their mean square."""
    projected = scale * torch.tensor([[1.0], [1.0 + 2 * spread], [1.0], [1.0 + 2 * spread]], dtype=torch.float64)
    ratios = log_ratios(projected, torch.tensor([0, 0, 1, 1]), 2, 0.0)
    shifted = log_ratios(projected, torch.tensor([0, 1, 0, 1]), 2, 1e-3)
    assert (ratios == 0).all()  # both classes have the same values
    assert bool((shifted == 0).all()) is is_flat


def test_a_class_that_does_not_vary_counts_with_deviation_one():
    """With floor 0: N(x; 0, 1) at x = 0 against itself and a class around 3 of deviation 1."""
    projected = torch.tensor([[0.0], [0.0], [2.0], [4.0]], dtype=torch.float64)
    ratios = log_ratios(projected, torch.tensor([0, 0, 1, 1]), 2, 0.0)[:, 0]
    assert ratios[0].item() == pytest.approx(-np.log(0.5 + 0.5 * np.exp(-4.5)))
    assert ratios[2].item() == pytest.approx(-0.5 - np.log(0.5 * np.exp(-2.0) + 0.5 * np.exp(-0.5)))


def test_units_that_hardly_vary_count_in_mahalanobis_and_dead_ones_do_not():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(labels_of(20, 20))
    features = torch.from_numpy(rng.normal(size=(40, 3)) * [1.0, 1e-4, 1e-7])
    two = mahalanobis(features[:, :2], labels)
    torch.testing.assert_close(mahalanobis(features, labels), two, rtol=1e-5, atol=1e-5)  # a deviation of 1e-7 is none, of 1e-4 is one
    assert (two - mahalanobis(features[:, :1], labels)).abs().max() > 0.1
    assert (mahalanobis(torch.zeros(6, 2), torch.tensor([0, 0, 0, 1, 1, 1])) == 0).all()
