"""How well memorization is predicted: areas, rates and tables, against cases counted by hand."""

import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from memgrid.audit.attack.evaluation import (
    DIRECTIONS,
    ETAS,
    GRID,
    Evidence,
    all_scores,
    areas,
    asked_of,
    attack_scores,
    balanced_accuracy,
    below_zero,
    curves_of,
    has_both,
    mean_roc,
    predictions,
    question,
    questions,
    scores_of,
    true_positive_rates,
)
from memgrid.audit.attack.intervals import area
from memgrid.audit.data.population import KINDS
from memgrid.audit.result import OperatingPoint, flat, table
from memgrid.audit.shadow.predictors import PREDICTORS

MODELS, SAMPLES = 6, 80


def some_evidence(seed=0, kinds=("clean", "label_noise", "ood"), predict=None):
    """Half of the samples are canaries, members of about half of the models; `predict` makes a predictor out of Λ."""
    rng = np.random.default_rng(seed)
    kind = np.zeros(SAMPLES, np.uint8)
    kind[: SAMPLES // 2] = [KINDS.index(kinds[at % len(kinds)]) for at in range(SAMPLES // 2)]
    members = rng.random((MODELS, SAMPLES)) < 0.5
    members[:, kind == 0] = True
    ratio = np.where(kind > 0, 6 * rng.normal(size=(MODELS, SAMPLES)) + 3, np.nan)
    values = {}
    for moment in ("start", "trigger", "end"):
        for name in DIRECTIONS:
            drawn = rng.normal(size=ratio.shape) if predict is None else predict(name, ratio)
            values[moment, name] = np.where(members, drawn, np.nan).astype(np.float32)
    likelihood, scores = (np.where(kind > 0, rng.normal(size=ratio.shape), np.nan) for _ in range(2))
    return Evidence(members, kind, ratio, values, likelihood, scores)


def with_values(seen, **changes):
    return Evidence(**{**vars(seen), **changes})


@pytest.mark.parametrize("levels", [2, 3, 20, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_area_is_bit_for_bit_that_of_scikit_learn(levels, dtype):
    """Of values with many, few and no ties, also of two samples, and of values that hardly differ."""
    rng = np.random.default_rng(levels)
    for size in (2, 3, 4, 9, 60, 700):
        for scale in (1e-30, 1, 1e30):
            answers = rng.permutation(np.arange(size) < rng.integers(1, size))
            values = (scale * (rng.normal(size=size) if levels is None else rng.integers(0, levels, size))).astype(dtype)
            assert area(answers, values) == pytest.approx(roc_auc_score(answers, values))


def test_areas_are_those_of_every_model_for_itself():
    seen = some_evidence()
    for name, high in PREDICTORS.items():
        expected = []
        for model in range(MODELS):
            asked = seen.members[model] & ~np.isnan(seen.ratio[model])
            turned = seen.predictors["trigger", name][model][asked] * (1 if high else -1)
            expected.append(roc_auc_score(seen.ratio[model][asked] >= 4, turned))
        np.testing.assert_allclose(areas(seen, 4.0, "trigger", name), expected, rtol=1e-12)


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_perfect_predictor_has_an_area_of_one(name):
    high = {"psmi": False, "loss": True, "gap": False, "mahalanobis": True, "pixels": True, "neighbour": True}
    seen = some_evidence(predict=lambda given, ratio: np.nan_to_num(ratio) * (1 if high[given] else -1))
    np.testing.assert_array_equal(areas(seen, 4.0, "end", name), np.ones(MODELS))
    np.testing.assert_array_equal(mean_roc(seen, 4.0, "end", name), np.ones(len(GRID)))
    row = table(predictions(seen, [4.0], [0.001])).row(
        by_predicate=(pl.col("predictor") == name) & (pl.col("moment") == "end") & pl.col("eta").is_not_null(), named=True
    )
    assert (row["auc"], row["auc_std"], row["tpr_at_0.001"], row["models"]) == (1, 0, 1, MODELS)


def test_the_members_that_are_audited_are_asked_whether_they_are_memorized():
    seen = some_evidence()
    every = list(questions(seen, 4.0))
    assert [number for number, _, _ in every] == list(range(MODELS))
    for number, asked, answers in every:
        np.testing.assert_array_equal(asked, seen.members[number] & (seen.kind > 0))
        np.testing.assert_array_equal(answers[asked], seen.ratio[number][asked] >= 4)


def test_mislabelled_canaries_are_not_asked_whether_they_are_out_of_domain():
    seen = some_evidence()
    for number, asked, answers in questions(seen, "ood"):
        np.testing.assert_array_equal(asked, seen.members[number] & (seen.kind != KINDS.index("label_noise")))
        np.testing.assert_array_equal(answers, seen.kind == KINDS.index("ood"))
    changed = {}
    for key, values in seen.predictors.items():
        changed[key] = values.copy()
        changed[key][:, seen.kind == KINDS.index("label_noise")] += 1000
    other = with_values(seen, predictors=changed)
    for name in PREDICTORS:
        np.testing.assert_array_equal(areas(other, "ood", "end", name), areas(seen, "ood", "end", name))


def test_a_threshold_belongs_to_what_is_memorized():
    seen = some_evidence()
    ratio = seen.ratio.copy()
    ratio[:, 0] = 4.0
    _, _, answers = next(questions(with_values(seen, ratio=ratio, members=np.ones_like(seen.members)), 4.0))
    assert answers[0]


def test_models_in_which_one_answer_occurs_are_left_out():
    seen = some_evidence()
    ratio = seen.ratio.copy()
    ratio[1, seen.kind > 0], ratio[4, seen.kind > 0] = 100, -100
    some = with_values(seen, ratio=ratio)
    assert [number for number, asked, answers in questions(some, 4.0) if has_both(answers[asked])] == [0, 2, 3, 5]
    kept = areas(seen, 4.0, "end", "psmi")[[0, 2, 3, 5]]
    np.testing.assert_array_equal(areas(some, 4.0, "end", "psmi"), kept)
    row = table(predictions(some, [4.0], [0.1])).row(0, named=True)
    assert (row["models"], row["auc"], row["auc_std"]) == (
        4,
        areas(some, 4.0, "start", "psmi").mean(),
        areas(some, 4.0, "start", "psmi").std(),
    )
    assert row["positives"] == np.mean([(seen.ratio[k] >= 4)[seen.members[k]].sum() for k in (0, 2, 3, 5)])


def test_a_question_that_no_model_can_be_asked_has_no_answer():
    seen = some_evidence(kinds=("clean",))
    never = table(predictions(seen, [4.0, 1e9], [0.1])).filter(pl.col("eta") == 1e9)
    assert len(never) == 18
    assert never["auc"].null_count() == never["tpr_at_0.1"].null_count() == 18
    assert set(never["models"]) == {0}
    assert set(never["positives"]) == {0}
    assert mean_roc(seen, 1e9, "end", "psmi") is None
    assert below_zero(seen, [1e9], "end") == [OperatingPoint(question(1e9), None, None, 0)]


@pytest.mark.parametrize("silent", [range(MODELS), [2]])
def test_models_whose_trigger_did_not_fire_are_left_out(silent):
    seen = some_evidence()
    predictors = {key: values.copy() for key, values in seen.predictors.items()}
    for name in DIRECTIONS:
        predictors["trigger", name][list(silent)] = np.nan
    some = with_values(seen, predictors=predictors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows, zero = table(predictions(some, [4.0], [0.1])), table(below_zero(some, [4.0], "trigger"))
    left = MODELS - len(silent)
    fired = rows.filter(pl.col("moment") == "trigger")
    assert set(fired["models"]) == set(zero["models"]) == {left}
    assert fired["auc"].null_count() == (0 if left else len(fired))
    assert zero["tpr"].null_count() == (0 if left else len(zero))
    others = pl.col("moment") != "trigger"
    assert rows.filter(others).equals(table(predictions(seen, [4.0], [0.1])).filter(others))


def test_a_row_for_every_question_moment_and_predictor():
    rows = table(predictions(some_evidence(), [4.0, 6.0], [0.01, 0.1]))
    assert rows.select("question", "moment", "predictor").unique().height == rows.height == 3 * 3 * 6
    assert rows["question"].unique(maintain_order=True).to_list() == ["Λ ≥ 4", "Λ ≥ 6", "is an OOD canary"]
    assert asked_of(some_evidence(kinds=("clean", "label_noise")), [4.0]) == [4.0]


def test_below_zero_counts_samples_of_negative_psmi():
    seen = some_evidence()
    row = table(below_zero(seen, [4.0], "trigger")).row(0, named=True)
    rates = []
    for model in range(MODELS):
        asked = seen.members[model] & (seen.kind > 0)
        negative, memorized = seen.predictors["trigger", "psmi"][model][asked] < 0, seen.ratio[model][asked] >= 4
        rates.append((negative[memorized].mean(), negative[~memorized].mean()))
    assert (row["tpr"], row["fpr"]) == pytest.approx(np.mean(rates, 0).tolist(), rel=1e-12)
    assert (row["question"], row["models"]) == ("Λ ≥ 4", MODELS)


def test_zero_itself_is_not_below_zero():
    seen = some_evidence(predict=lambda name, ratio: np.zeros(ratio.shape))
    point, *_ = below_zero(seen, [4.0], "trigger")
    assert (point.tpr, point.fpr) == (0, 0)


@settings(max_examples=150)
@given(
    pairs=st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40),
    rate=st.sampled_from([0.001, 0.05, 0.1, 0.2, 0.25, 0.5, 0.9]),
)
def test_what_is_found_at_a_rate_is_counted_threshold_by_threshold(pairs, rate):
    pairs = [(True, 0), (False, 0), *pairs]
    answers, values = np.array([answer for answer, _ in pairs]), np.array([float(value) for _, value in pairs])
    best = 0.0
    for threshold in (*np.unique(values), np.inf):
        if (values[~answers] >= threshold).mean() <= rate:
            best = max(best, (values[answers] >= threshold).mean())
    assert true_positive_rates(answers, values, [rate]).tolist() == [best]


def test_the_rate_itself_is_allowed():
    answers = np.array([False] * 20 + [True] * 2)
    values = np.array([5.0] + [0.0] * 19 + [9.0, 4.0])
    assert true_positive_rates(answers, values, [0.049, 0.05]).tolist() == [0.5, 1]


def test_the_mean_curve_is_the_mean_over_models():
    seen = some_evidence()
    curves = []
    for model in range(MODELS):
        asked = seen.members[model] & (seen.kind > 0)
        curves.append(np.interp(GRID, *roc_curve(seen.ratio[model][asked] >= 4, seen.predictors["end", "loss"][model][asked])[:2]))
    np.testing.assert_allclose(mean_roc(seen, 4.0, "end", "loss"), np.mean(curves, 0))


def test_the_attack_told_by_hand():
    kind = np.array([0, 1, 1, 3], np.uint8)
    members = np.array([[1, 1, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 1, 1]], bool)
    nan = np.nan
    ratio = np.array([[nan, 5, -2, 9], [nan, 1, 4, -3], [nan, 3, 2, -5], [nan, -1, 0, 8.0]])
    scores = np.array([[nan, 3, 3, 1], [nan, 2, 1, 2], [nan, 1, 0, 3], [nan, 0, 2, 4.0]])
    likelihood = ratio + np.where(kind == 3, -20, 0)
    whole, clean, ood = map(flat, attack_scores(Evidence(members, kind, ratio, {}, likelihood, scores), [0.01, 0.25]))
    assert (clean["samples"], clean["number"]) == ("clean", 2)
    # Members have 5, 4, 3, 0, others 2, 1, -1, -2: of 16 pairs 14 are in order.
    assert (clean["auc"], clean["tpr_at_0.01"], clean["tpr_at_0.25"]) == (14 / 16, 0.75, 0.75)
    assert (clean["median_ratio"], clean["memorized_at_4"]) == (3.5, 0.5)
    assert (ood["samples"], ood["number"], ood["auc"], ood["median_ratio"], ood["memorized_at_4"]) == ("ood", 1, 1, 8.5, 1)
    # Of members' ratios -11 and -12 lie below -1 and -2, 2 and 1.
    assert (whole["samples"], whole["number"], whole["auc"]) == ("all audited", 3, pytest.approx((14 + 2 * 2 + 2 * 4) / 36))
    assert (whole["median_ratio"], whole["memorized_at_4"], whole["others_at_4"]) == (4.5, 4 / 6, 0)
    assert (whole["published_memorized_at_4"], whole["published_others_at_4"]) == (2 / 6, 0)
    # Above the median, which is the lower one of two: clean 5, 4, 3, 2; three of four are members, and one of four below.
    assert clean["accuracy"] == 6 / 8
    # One threshold on scores: clean members 3, 1, 1, 2, others 3, 2, 0, 0.
    assert clean["global_auc"] == (3.5 + 2 + 2 + 2.5) / 16
    assert clean["global_accuracy"] == 4 / 8  # above 1 are a member's 3 and 2, and others' 3 and 2


def test_whatever_lies_above_the_median_is_called_a_member():
    members = np.array([True, True, False, False])
    assert balanced_accuracy(members, np.array([4.0, 3.0, 2.0, 1.0])) == 1
    assert balanced_accuracy(members, np.array([1.0, 2.0, 3.0, 4.0])) == 0
    assert balanced_accuracy(members, np.array([4.0, 1.0, 3.0, 1.0])) == 0.5
    assert balanced_accuracy(members, np.zeros(4)) == 0.5  # nothing lies above


def test_one_curve_over_all_models_counts_models_with_one_answer_too():
    seen = some_evidence()
    ratio = seen.ratio.copy()
    ratio[1, seen.kind > 0], ratio[4, seen.kind > 0] = 100, -100
    some = with_values(seen, ratio=ratio, average="pooled")
    every = list(all_scores(some, 4.0, "end", "psmi"))
    assert len(every) == MODELS
    answers, values = (np.concatenate(part) for part in zip(*every, strict=True))
    expected = roc_auc_score(answers, values)
    row = table(predictions(some, [4.0], [0.1])).filter(pl.col("moment") == "end").row(0, named=True)
    assert row["auc_pooled"] == expected
    assert row["positives_in_all"] == answers.sum()
    assert row["tpr_at_0.1"] == true_positive_rates(answers, values, [0.1])[0]
    np.testing.assert_array_equal(areas(some, 4.0, "end", "psmi"), [expected])
    assert row["auc"] == areas(with_values(some, average="models"), 4.0, "end", "psmi").mean()
    np.testing.assert_array_equal(mean_roc(some, 4.0, "end", "psmi"), np.interp(GRID, *roc_curve(answers, values)[:2]))
    (point,) = below_zero(some, [4.0], "end")[:1]
    assert (point.tpr, point.fpr) == ((values[answers] > 0).mean(), (values[~answers] > 0).mean())


def test_where_only_one_answer_occurs_in_all_there_is_no_curve():
    seen = with_values(some_evidence(kinds=("clean",)), average="pooled")
    assert curves_of(seen, 1e9, "end", "psmi") == []
    row = table(predictions(seen, [1e9], [0.1])).row(0, named=True)
    assert (row["auc_pooled"], row["positives_in_all"]) == (None, 0)


def test_matched_and_blank_canaries_are_out_of_domain_too():
    seen = some_evidence(kinds=("clean", "ood_matched", "blank", "label_noise"))
    assert asked_of(seen, [4.0]) == [4.0, "ood"]
    _, asked, answers = next(questions(seen, "ood"))
    np.testing.assert_array_equal(answers, (seen.kind == KINDS.index("ood_matched")) | (seen.kind == KINDS.index("blank")))
    assert not asked[seen.kind == KINDS.index("label_noise")].any()


def test_figures_are_drawn_from_no_false_alarms_to_all_and_from_one_to_ten():
    assert (GRID[0], GRID[-1], len(GRID)) == (0, 1, 201)
    assert (ETAS[0], ETAS[-1], ETAS[1] - ETAS[0]) == (1, 10, 0.5)


def test_what_is_found_is_the_mean_over_models():
    seen = some_evidence()
    row = table(predictions(seen, [4.0], [0.05, 0.3])).filter(pl.col("moment") == "end", pl.col("predictor") == "loss").row(0, named=True)
    shares = [true_positive_rates(*pair, [0.05, 0.3]) for pair in scores_of(seen, 4.0, "end", "loss")]
    assert len(shares) == MODELS
    assert (row["tpr_at_0.05"], row["tpr_at_0.3"]) == pytest.approx(np.mean(shares, 0).tolist())


def test_the_predictor_is_turned_and_kept_as_it_is():
    seen = some_evidence()
    for name, high in DIRECTIONS.items():
        for number, (answers, values) in enumerate(all_scores(seen, 4.0, "end", name)):
            asked = seen.members[number] & (seen.kind > 0)
            np.testing.assert_array_equal(values, seen.predictors["end", name][number][asked] * np.float32(1 if high else -1))
            np.testing.assert_array_equal(answers, seen.ratio[number][asked] >= 4)


def test_a_sample_that_some_models_say_nothing_of_is_counted_with_what_the_others_say():
    seen = some_evidence(kinds=("clean",))
    ratio = seen.ratio.copy()
    ratio[0, 0] = np.nan
    everything = attack_scores(with_values(seen, ratio=ratio), [0.1])[0]
    assert everything.number == (seen.kind > 0).sum()
    asked = np.isfinite(ratio)
    assert everything.auc == roc_auc_score(seen.members[asked], seen.likelihood[asked])
    assert everything.others_at_4 == (ratio[asked & ~seen.members] >= 4).mean()


def test_four_itself_is_memorized():
    seen = some_evidence(kinds=("clean",))
    fours = np.where(np.isfinite(seen.ratio), 4.0, np.nan)
    four = with_values(seen, ratio=fours, likelihood=fours)
    everything = attack_scores(four, [0.1])[0]
    assert (everything.memorized_at_4, everything.others_at_4) == (1, 1)
    assert (everything.published_memorized_at_4, everything.published_others_at_4) == (1, 1)


def test_a_model_with_one_unknown_value_is_left_out():
    seen = some_evidence(kinds=("clean",))
    values = seen.predictors["end", "loss"].copy()
    values[2, np.flatnonzero(seen.members[2] & (seen.kind > 0))[0]] = np.nan
    some = with_values(seen, predictors={**seen.predictors, ("end", "loss"): values})
    assert len(list(all_scores(some, 4.0, "end", "loss"))) == MODELS - 1
    np.testing.assert_array_equal(areas(some, 4.0, "end", "loss"), np.delete(areas(seen, 4.0, "end", "loss"), 2))
