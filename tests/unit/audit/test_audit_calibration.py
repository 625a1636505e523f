"""Λ means the same whatever the number of models: its share where nothing is memorized, in simulations."""

import warnings

import numpy as np
import pytest
from scipy.stats import genpareto
from sklearn.metrics import roc_auc_score

from memgrid.audit.attack.calibration import Null, log_odds, log_tail, null_of, residuals
from memgrid.audit.attack.lira import Density, lira
from memgrid.audit.data.population import half_of

NOMINAL = {eta: 1 / (1 + np.exp(eta)) for eta in (2, 4)}
DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed": lambda rng, shape: -rng.exponential(size=shape),  # most scores are high, some very low
    "heavy": lambda rng, shape: rng.standard_t(4, size=shape),
}


@pytest.fixture(autouse=True)
def few_values(monkeypatch):
    """The null is known to fewer digits than usual, to as many as are asked for here."""
    monkeypatch.setattr("memgrid.audit.attack.calibration.VALUES", 40_000)
    monkeypatch.setattr("memgrid.audit.attack.calibration.ROUNDS", 60)


def nothing_memorized(models, samples, seed, draw="normal", views=1):
    """Scores of samples of different spreads, whose views have much in common, and that know nothing of membership."""
    rng = np.random.default_rng([seed, models])
    scores = DRAWS[draw](rng, (1, models, samples)) + 0.5 * DRAWS[draw](rng, (views, models, samples))
    return scores * rng.uniform(0.2, 3, samples) + 5 * rng.normal(size=samples), half_of(models, samples, seed)


def calibrated(scores, members, density, seed=0):
    ratio = lira(scores, members, density)
    return null_of(scores, members, density, seed).calibrated(ratio, members)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("models", [6, 8, 16, 18, 32, 64])
@pytest.mark.parametrize("kind", ["student", "published"])
def test_where_nothing_is_memorized_as_many_reach_a_value_as_should(models, draw, kind, monkeypatch):
    """A mean of four seeds: 1.5 to 2.2 % at 4, where 1.8 % should, of whatever number of models, shape of scores and density."""
    monkeypatch.setattr("memgrid.audit.attack.calibration.VALUES", 60_000)
    density = Density(shared=models <= 6) if kind == "student" else Density(student=False, least=1e-30)
    samples = 24_000 // models
    scores, members = nothing_memorized(models, samples, 1, draw)
    found = calibrated(scores, members, density)
    for eta, expected in NOMINAL.items():
        for side in (members, ~members):
            share = (found[side] >= eta).mean()
            assert expected / 3 < share < 3 * expected, (eta, share)


def test_the_likelihood_ratio_itself_keeps_to_no_share():
    """The published statistic: of 8 models a tenth of those that were not seen reach 4, of 64 none of a thousand."""
    shares = {}
    for models in (8, 64):
        scores, members = nothing_memorized(models, 24_000 // models, 1)
        shares[models] = (lira(scores, members, Density(student=False))[~members] >= 4).mean()
    assert shares[8] > 0.05
    assert shares[64] < 0.002


def test_views_that_have_much_in_common_are_calibrated_too():
    scores, members = nothing_memorized(18, 900, 2, views=9)
    share = (calibrated(scores, members, Density()) >= 4).mean()
    assert NOMINAL[4] / 3 < share < 3 * NOMINAL[4]


def test_what_is_memorized_is_found_and_stays_in_order():
    scores, members = nothing_memorized(18, 300, 3)
    memorized = np.arange(300) < 150
    spread = scores.std(1, keepdims=True)
    scores = scores + 6 * spread * members * memorized
    ratio = lira(scores, members, Density())
    null = null_of(scores, members, Density(), 0)
    found = null.calibrated(ratio, members)
    assert (found[:, memorized][members[:, memorized]] >= 4).mean() > 0.9
    assert (found[:, ~memorized] >= 4).mean() < 3 * NOMINAL[4]
    for side in (members, ~members):
        order = np.argsort(ratio[side])
        assert (np.diff(found[side][order]) >= 0).all()


def test_leaving_a_model_out_takes_it_from_its_own_side():
    areas = {}
    for models in (4, 8, 64):
        scores, members = nothing_memorized(models, 6000 // models, 4)
        density = Density(student=False, shared=True)
        areas[models] = null_of(scores, members, density, 0).area
        told = roc_auc_score(members.ravel(), lira(scores, members, density).ravel())
        assert told == pytest.approx(areas[models], abs=0.03)
    assert areas[4] < areas[8] < areas[64] == pytest.approx(0.5, abs=0.01)
    assert areas[4] < 0.4


def test_the_area_by_hand():
    assert Null(np.array([1.0, 3.0]), np.array([0.0, 2.0, 3.0])).area == (1 + 2.5) / 6


def test_residuals_have_the_spread_of_scores_and_no_trace_of_membership():
    scores, members = nothing_memorized(10, 50, 5, views=2)
    rest = residuals(scores + 9 * members, members)
    np.testing.assert_allclose(rest, residuals(scores, members), atol=1e-9)
    for side in (True, False):
        chosen = members[:, 7] == side
        own = scores[1, chosen, 7]
        np.testing.assert_allclose(rest[1, chosen, 7], (own - own.mean()) * np.sqrt(5 / 4))
    alone = np.zeros((4, 1), bool)
    alone[2] = True
    assert residuals(np.arange(4.0).reshape(1, 4, 1), alone)[0, 2, 0] == 0


def test_log_odds_by_hand():
    null = np.arange(1000.0)
    np.testing.assert_allclose(log_odds(np.array([499.5, 249.5, 749.5]), null), [0, -np.log(3), np.log(3)], atol=1e-12)
    assert log_odds(np.array([500.0]), null) == pytest.approx(np.log(500.5 / 499.5))
    np.testing.assert_array_equal(log_odds(np.zeros(3), np.zeros(10)), np.zeros(3))  # all are alike


def test_beyond_the_null_rarity_goes_on_growing_and_stays_finite():
    null = np.sort(np.random.default_rng(0).exponential(size=200_000))
    far = np.array([3.0, 6.0, 10.0, 20.0, 1000.0])
    found = log_odds(far, null)
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found[:4], np.log(np.expm1(far[:4])), rtol=0.12)
    assert np.isfinite(log_odds(-far, null)).all()
    np.testing.assert_allclose(log_odds(far, null), -log_odds(-far, -null[::-1]), rtol=1e-9)


@pytest.mark.parametrize("shape", [0.0, 0.2, 0.4])
def test_a_tail_is_fitted_as_it_was_drawn(shape):
    known = np.sort(genpareto.rvs(shape, scale=2, size=20_000, random_state=0))
    excess = np.array([0.0, 2.0, 10.0])
    np.testing.assert_allclose(log_tail(excess, known), genpareto.logsf(excess, shape, scale=2), rtol=0.08, atol=0.02)
    assert log_tail(np.array([1.0]), np.zeros(5))[0] < -20  # nothing of the null lies above


def test_what_is_not_audited_stays_unknown():
    scores, members = nothing_memorized(8, 40, 6)
    members[:, :5] = True
    found = calibrated(scores, members, Density())
    assert np.isnan(found[:, :5]).all()
    assert np.isfinite(found[:, 5:]).all()


@pytest.mark.parametrize("shared", [True, False])
def test_samples_that_are_not_audited_are_no_part_of_the_null(shared):
    scores, members = nothing_memorized(8, 60, 6)
    members[:, :5], members[:, 5:9] = True, False
    scores[..., :9] += 50 * np.random.default_rng(0).normal(size=(1, 8, 9))
    density = Density(shared=shared)
    whole, some = null_of(scores, members, density, 0), null_of(scores[..., 9:], members[:, 9:], density, 0)
    np.testing.assert_array_equal(whole.inside, some.inside)
    np.testing.assert_array_equal(whole.outside, some.outside)


def test_a_sample_that_one_model_alone_has_seen_is_part_of_the_null():
    scores, members = nothing_memorized(8, 40, 6)
    members[:, 3] = np.arange(8) == 5
    assert len(null_of(scores, members, Density(), 0).inside) > len(
        null_of(np.delete(scores, 3, 2), np.delete(members, 3, 1), Density(), 0).inside
    )


def test_the_same_seed_gives_the_same_null():
    scores, members = nothing_memorized(8, 40, 7)
    first, again, other = (calibrated(scores, members, Density(), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def share_found(models, density, spreads):
    """Of scores that lie two deviations higher under members the share that is found at 1.8 % of false alarms; samples differ in spread."""
    rng = np.random.default_rng(models)
    members, memorized = half_of(models, 9600 // models, 0), np.arange(9600 // models) % 4 == 0
    scores = (rng.standard_normal((1, *members.shape)) + 2 * members * memorized) * rng.uniform(*spreads, len(memorized))
    return (calibrated(scores, members, density)[:, memorized][members[:, memorized]] >= 4).mean()


@pytest.mark.parametrize(("models", "least"), [(8, 0.05), (18, 0.05), (64, 0.0)])
def test_a_predictive_density_finds_more_than_a_normal_one(models, least, monkeypatch):
    """Four seeds each: 21 and 12 % with 8 models, 52 and 40 with 18, 72 and 71 with 64."""
    monkeypatch.setattr("memgrid.audit.attack.calibration.VALUES", 60_000)
    assert share_found(models, Density(), (0.2, 3)) >= share_found(models, Density(student=False), (0.2, 3)) + least


def test_one_variance_for_all_helps_where_samples_are_alike_or_models_few(monkeypatch):
    """Four seeds of 16 models: where spreads are equal 61 and 48 %, where they differ up to fifteenfold 38 and 48."""
    monkeypatch.setattr("memgrid.audit.attack.calibration.VALUES", 60_000)
    assert share_found(16, Density(shared=True), (1, 1)) > share_found(16, Density(), (1, 1)) + 0.05
    assert share_found(16, Density(shared=True), (0.2, 3)) < share_found(16, Density(), (0.2, 3)) - 0.03


def test_residuals_of_two_scores():
    members = np.array([[True], [True], [False], [False], [False]])
    rest = residuals(np.array([[[1.0], [3.0], [0.0], [0.0], [6.0]]]), members)[0, :, 0]
    np.testing.assert_allclose(rest, [-np.sqrt(2), np.sqrt(2), -2 * np.sqrt(1.5), -2 * np.sqrt(1.5), 4 * np.sqrt(1.5)])


@pytest.mark.parametrize(("count", "beyond"), [(10_000, 10), (1000, 2), (2, 1)])
def test_a_thousandth_at_either_end_is_a_tail(count, beyond):
    null = np.sort(np.random.default_rng(count).normal(size=count))
    edge = null[-beyond - 1]
    for value in (null[-1] + 0.5, (null[-1] + edge) / 2)[: 1 if count == 2 else 2]:
        share = beyond / count * np.exp(log_tail(np.array([value - edge]), null[-beyond:] - edge))[0]
        assert log_odds(np.array([value]), null)[0] == pytest.approx(np.log((1 - share) / share))
    if count > 2:
        below = (null[-beyond - 2] + edge) / 2  # within the body, by its rank
        assert log_odds(np.array([below]), null)[0] == pytest.approx(np.log((count - beyond - 1) / (beyond + 1)))


def test_values_beyond_all_of_the_null_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(log_odds(np.array([-99.0, 99.0]), np.arange(1000.0))).all()


def test_a_tail_by_hand():
    """Moments 3.4333 and .445, weighted by 1 - (.65, 1.65, 2.65) / 3: shape .650066, scale 1.20144."""
    found = log_tail(np.array([0.0, 5.0]), np.array([0.1, 0.2, 10.0]))
    np.testing.assert_allclose(found, [0, -np.log1p(0.650066 * 5 / 1.20144) / 0.650066], rtol=1e-5)
    np.testing.assert_allclose(log_tail(np.array([7.0]), np.array([1.0, 2.0, 4.0])), [-3.0])  # light: exponential, of mean 7 / 3
    np.testing.assert_allclose(log_tail(np.array([0.0, 1e-11]), np.zeros(3)), [0, -10])  # all of one value


@pytest.mark.parametrize("count", [1, 2, 5, 400])
def test_a_single_ratio_far_off_leaves_a_finite_tail(count):
    known = np.zeros(count)
    known[-1] = 1e6
    found = log_tail(np.array([0.0, 1.0, 1e6, 1e9]), known)
    assert found[0] == 0
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
