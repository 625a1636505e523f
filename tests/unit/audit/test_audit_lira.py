"""The attack against its definition, written out as loops over models and samples."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score

from memgrid.audit.attack.lira import Density, lira, membership_scores
from memgrid.audit.config import AttackConfig
from memgrid.audit.data.population import half_of

FEW, LEAST = 16, 1e-3  # with variance=auto: up to so many models one variance serves all samples; and the least deviation
STUDENT, NORMAL = Density(), Density(student=False, ddof=0)
DENSITIES = [Density(student, shared, ddof) for student in (True, False) for shared in (True, False) for ddof in (0, 1)]


def distribution(given_scores, shared, density):
    """What a further score follows, given some of a side, of whom `shared` is the mean variance within samples.

    Degrees of freedom (of a normal distribution infinitely many), mean and spread.
    """
    count = len(given_scores)
    alone = count == 1  # has no variance of its own
    variance = shared if density.shared or alone else np.var(given_scores, ddof=density.ddof)
    spread = np.sqrt(max(LEAST**2, variance)) if np.isfinite(variance) else np.nan
    if density.student:
        spread *= np.sqrt(1 + 1 / count)
    freedom = count - 1 if density.student and not density.shared and not alone else np.inf
    return freedom, np.mean(given_scores), spread


def naive(scores, members, density):
    """Λ from its definition: leave a model out, and compare its score with those of the others, in every view."""
    views, models, samples = scores.shape
    audited = [n for n in range(samples) if 0 < members[:, n].sum() < models]
    follows = np.full((2, models, views, samples, 3), np.nan)
    for k, view in itertools.product(range(models), range(views)):
        others = [i for i in range(models) if i != k]
        for place, side in enumerate((True, False)):
            every = {n: [scores[view, i, n] for i in others if members[i, n] == side] for n in audited}
            several = [np.var(values, ddof=density.ddof) for values in every.values() if len(values) > 1]
            shared = np.mean(several) if several else np.nan
            for n, values in every.items():
                if values:
                    follows[place, k, view, n] = distribution(values, shared, density)
    own = np.swapaxes(scores, 0, 1)
    logs = np.where(
        np.isinf(follows[..., 0]),
        norm.logpdf(own, follows[..., 1], follows[..., 2]),
        student_t.logpdf(own, follows[..., 0], follows[..., 1], follows[..., 2]),
    )
    ratio: np.ndarray = (logs[0] - logs[1]).mean(1)
    return ratio


def some_scores(views, models, samples, seed=0):
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.1, 3, samples)
    return rng.normal(size=(views, models, samples)) * scale + rng.normal(size=samples)


def some_members(models, samples, seed=0, ordinary=3):
    """Half of the models, but for a few samples that all of them have seen."""
    members = half_of(models, samples, seed)
    members[:, :ordinary] = True
    return members


def remembered(models, samples, strength, seed=0):
    """Scores that members have higher by `strength` deviations."""
    members = half_of(models, samples, seed)
    scores = np.random.default_rng([seed, 9]).normal(size=(1, models, samples)) + strength * members
    return scores, members


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("models", [4, 6, 16, 24])
@pytest.mark.parametrize("views", [1, 3])
def test_the_attack_is_its_definition(models, views, density):
    scores, members = some_scores(views, models, 23, models), some_members(models, 23)
    ratio = lira(scores, members, density)
    assert ratio.shape == members.shape
    assert ratio.dtype == np.float64
    assert np.isfinite(ratio[:, 3:]).all()
    np.testing.assert_allclose(ratio, naive(scores, members, density), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("members_of_one", [2, 3, 4])
def test_samples_are_looked_at_in_blocks(monkeypatch, members_of_one):
    """Where one has two scores on a side, one of them is alone when the other is left out, and shares a variance with all."""
    scores, members = some_scores(2, 6, 23), some_members(6, 23)
    members[:, 9] = np.arange(6) < members_of_one
    expected = {density: lira(scores, members, density) for density in DENSITIES}
    monkeypatch.setattr("memgrid.audit.attack.lira.BLOCK", 100)
    for density, ratio in expected.items():
        np.testing.assert_array_equal(lira(scores, members, density), ratio)


@pytest.mark.parametrize(
    ("models", "variance", "shared"), [(16, "auto", True), (18, "auto", False), (18, "shared", True), (4, "own", False)]
)
def test_settings_say_what_scores_follow(models, variance, shared):
    attack = AttackConfig(name="hinge", density="normal", variance=variance, ddof=0, least_deviation=0.5)
    assert Density.of(attack, models) == Density(student=False, shared=shared, ddof=0, least=0.5)
    assert Density.of(AttackConfig(name="hinge"), 8) == Density(student=True, shared=False, ddof=1, least=1e-3)
    assert [Density.of(AttackConfig(name="hinge"), models).shared for models in (6, 7)] == [True, False]
    assert [Density.of(AttackConfig(name="hinge", density="normal"), models).shared for models in (16, 17)] == [True, False]


def test_the_published_ratio_by_hand():
    """Means and deviations of the others with ddof 1, as the published code has them: torch.std, and a normal density."""
    scores, members = some_scores(2, 6, 3), half_of(6, 3, 0)
    published = lira(scores, members, Density(student=False, shared=False, ddof=1, least=1e-30))
    others = np.arange(6) != 2
    for sample in range(3):
        logs = []
        for view in range(2):
            sides = [torch.from_numpy(scores[view, others & (members[:, sample] == side), sample]) for side in (True, False)]
            own = scores[view, 2, sample]
            logs.append([norm.logpdf(own, side.mean().item(), side.std().item() + 1e-30) for side in sides])
        assert published[2, sample] == pytest.approx(np.mean(logs, 0) @ [1, -1], rel=1e-12)


@settings(max_examples=40)
@given(
    models=st.sampled_from([4, 6, 16, 17, 18]),
    samples=st.integers(1, 6),
    views=st.integers(1, 2),
    seed=st.integers(0, 2**31),
    pool=st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e-9, 30.0, -1e4, 1e6]), min_size=1, max_size=4),
    half=st.booleans(),
    density=st.sampled_from(DENSITIES),
)
def test_the_attack_is_its_definition_on_awkward_scores(models, samples, views, seed, pool, half, density):
    rng = np.random.default_rng(seed)
    scores = rng.choice(pool, (views, models, samples))
    members = half_of(models, samples, seed) if half and models % 2 == 0 else rng.random((models, samples)) < 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ratio = lira(scores, members, density)
    expected = naive(scores, members, density)
    np.testing.assert_allclose(ratio, expected, rtol=1e-10, atol=1e-10 * max(1.0, np.nanmax(np.abs(expected), initial=0)))


def ratios(scores, members):
    """As without any setting, but for normal densities."""
    return lira(scores, members, replace(NORMAL, shared=len(members) <= FEW))


@pytest.mark.parametrize("models", [4, 16, 18])
def test_scores_that_are_the_same_in_all_models_prove_nothing(models):
    scores = np.broadcast_to(np.arange(7.0), (2, models, 7))
    np.testing.assert_array_equal(ratios(scores, half_of(models, 7, 0)), 0)


def test_single_precision_is_computed_in_double():
    scores, members = some_scores(2, 6, 9).astype(np.float32), half_of(6, 9, 0)
    np.testing.assert_array_equal(ratios(scores, members), ratios(scores.astype(np.float64), members))


@pytest.mark.parametrize("models", [4, 18])
def test_samples_that_all_or_no_models_have_seen_are_not_audited(models):
    members = half_of(models, 8, 0)
    members[:, 2], members[:, 5] = True, False
    ratio = ratios(some_scores(1, models, 8), members)
    assert np.isnan(ratio[:, [2, 5]]).all()
    assert np.isfinite(np.delete(ratio, [2, 5], axis=1)).all()


@pytest.mark.parametrize("side", [True, False])
def test_a_model_that_stands_alone_on_its_side_has_no_others_to_compare_with(side):
    members = half_of(6, 5, 0)
    members[:, 3] = not side
    members[4, 3] = side
    ratio = ratios(some_scores(1, 6, 5), members)
    assert np.isnan(ratio[:, 3]).tolist() == [False] * 4 + [True, False]


def test_with_two_models_there_is_no_attack():
    assert np.isnan(ratios(some_scores(1, 2, 5), half_of(2, 5, 0))).all()


def test_where_no_sample_has_two_models_to_share_a_variance_all_is_unknown():
    members = half_of(4, 1, 0)
    ratio = ratios(some_scores(1, 4, 1), members)
    np.testing.assert_array_equal(np.isnan(ratio), np.ones((4, 1), bool))


def test_without_audited_samples_all_is_unknown():
    assert np.isnan(ratios(some_scores(1, 4, 5), np.ones((4, 5), bool))).all()


@pytest.mark.parametrize("models", [6, 18])
def test_samples_that_are_not_audited_do_not_influence_the_others(models):
    scores, members = some_scores(1, models, 12), some_members(models, 12, ordinary=4)
    changed = scores.copy()
    changed[:, :, :4] = 1e6 * np.random.default_rng(1).normal(size=(models, 4))
    np.testing.assert_array_equal(ratios(changed, members), ratios(scores, members))
    np.testing.assert_array_equal(ratios(scores[..., 4:], members[:, 4:]), ratios(scores, members)[:, 4:])


@pytest.mark.parametrize(("models", "shared"), [(FEW, True), (FEW + 2, False)])
def test_few_models_share_a_variance_and_many_do_not(models, shared):
    scores, members = some_scores(1, models, 12), half_of(models, 12, 0)
    changed = scores.copy()
    changed[..., 0] *= 50
    same = np.allclose(ratios(changed, members)[:, 1:], ratios(scores, members)[:, 1:])
    assert same is not shared


@pytest.mark.parametrize("models", [16, 18])
def test_what_is_memorized_is_found(models):
    scores, members = remembered(models, 200, strength=8)
    ratio = ratios(scores, members)
    assert roc_auc_score(members.ravel(), ratio.ravel()) > 0.99
    assert np.median(ratio[members]) > 10
    assert np.median(ratio[~members]) < -10


@pytest.mark.parametrize("models", [16, 18, 40])
def test_in_noise_nothing_is_found(models):
    scores, members = remembered(models, 400, strength=0)
    assert abs(roc_auc_score(members.ravel(), ratios(scores, members).ravel()) - 0.5) < 0.04


@settings(max_examples=20)
@given(models=st.sampled_from([4, 8, 20]), seed=st.integers(0, 2**31))
def test_the_order_of_models_and_samples_does_not_matter(models, seed):
    rng = np.random.default_rng(seed)
    scores, members = some_scores(2, models, 9, seed), some_members(models, 9, seed)
    ratio = ratios(scores, members)
    order, places = rng.permutation(models), rng.permutation(9)
    np.testing.assert_allclose(ratios(scores[:, order], members[order]), ratio[order], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ratios(scores[..., places], members[:, places]), ratio[:, places], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ratios(scores, ~members)[:, 3:], -ratio[:, 3:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("models", [6, 18])
def test_where_scores_begin_and_their_unit_do_not_matter(models):
    scores, members = some_scores(1, models, 9), half_of(models, 9, 0)
    np.testing.assert_allclose(ratios(5 * scores + 3, members), ratios(scores, members), rtol=1e-7, atol=1e-7)


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 5)),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([0.1, 5, 300]),
)
def test_statistics_are_their_definitions(shape, seed, scale):
    rng = np.random.default_rng(seed)
    logits, labels = (scale * rng.normal(size=shape)).astype(np.float32), rng.integers(0, shape[2], shape[1])
    hinge, logit = (membership_scores(torch.from_numpy(logits), torch.from_numpy(labels), name) for name in ("hinge", "logit"))
    assert hinge.dtype == logit.dtype == torch.float64
    wide = logits.astype(np.float64)
    for view in range(shape[0]):
        for sample, label in enumerate(labels):
            own, others = wide[view, sample, label], np.delete(wide[view, sample], label)
            assert hinge[view, sample] == own - others.max()
            np.testing.assert_allclose(logit[view, sample], own - logsumexp(others), rtol=1e-12, atol=1e-12)


def test_the_logit_score_is_that_of_the_probability():
    logits = np.random.default_rng(0).normal(size=(7, 4))
    labels = np.arange(7) % 4
    log_probability = log_softmax(logits, axis=1)[np.arange(7), labels]
    ratio = membership_scores(torch.from_numpy(logits), torch.from_numpy(labels), "logit")
    np.testing.assert_allclose(ratio, log_probability - np.log1p(-np.exp(log_probability)), rtol=1e-12)


def test_a_probability_that_rounds_to_one_has_a_finite_statistic():
    logits, labels = torch.tensor([[900.0, -900.0], [-900.0, 900.0]]), torch.tensor([0, 0])
    assert membership_scores(logits, labels, "logit").tolist() == [1800, -1800]
