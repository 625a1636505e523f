import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_f1_score, multiclass_precision, multiclass_recall

from memgrid.intervene.statistics import RESAMPLES, difference, interval, share_interval
from memgrid.metrics import bootstrap, confusion_matrix, how_often, middle, panel_scores, scores, summary_values
from memgrid.report.baseline_tables import ROUNDS, paired_interval


@given(
    st.integers(2, 5).flatmap(
        lambda c: st.tuples(st.just(c), hnp.arrays(np.int64, st.tuples(st.just(2), st.integers(1, 40)), elements=st.integers(0, c - 1)))
    )
)
def test_scores_equal_torchmetrics(drawn):
    classes, (labels, predicted) = drawn
    target, answer = torch.from_numpy(labels), torch.from_numpy(predicted)
    confusion = confusion_matrix(labels, predicted, classes)
    np.testing.assert_array_equal(confusion, multiclass_confusion_matrix(answer, target, classes))
    mine = scores(confusion)
    for name, reference in (("f1", multiclass_f1_score), ("precision", multiclass_precision), ("recall", multiclass_recall)):
        expected = 100 * reference(answer, target, classes, average=None, zero_division=0).double().numpy()
        np.testing.assert_allclose(mine[name], expected, atol=1e-4)
    assert mine["min_f1"] == min(mine["f1"])


def test_a_class_that_is_never_predicted_scores_zero():
    made = scores(np.array([[5, 0], [5, 0]]))
    assert made["f1"][1] == made["precision"][1] == made["min_f1"] == 0.0
    assert made["accuracy"] == 50.0


def test_the_panel_has_mean_spread_and_interval():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    predicted = np.stack([np.where(rng.random(400) < share, labels, rng.integers(0, 3, 400)) for share in (0.6, 0.9)])
    made = panel_scores(labels, predicted, 3, seed=0, rounds=200)
    single = [scores(confusion_matrix(labels, one, 3))["min_f1"] for one in predicted]
    assert made["min_f1"]["mean"] == np.mean(single)
    assert made["min_f1"]["std"] == np.std(single)
    assert made["min_f1"]["low"] < made["min_f1"]["mean"] < made["min_f1"]["high"]
    assert len(made["f1"]) == 3
    assert panel_scores(labels, predicted[:1], 3, seed=0, rounds=10)["min_f1"]["std"] == 0


def one_by_one(labels, predicted, classes, seed, rounds):
    """`panel_scores` as it was: a confusion matrix a round."""
    values = summary_values(confusion_matrix(labels, predicted, classes))
    drawn = np.random.default_rng(seed).integers(0, len(labels), (rounds, len(labels)))
    again = [summary_values(confusion_matrix(labels[rows], predicted[:, rows], classes)) for rows in drawn]
    return {
        name: (value.mean(0), value.std(0), *np.percentile([one[name].mean(0) for one in again], [2.5, 97.5], axis=0))
        for name, value in values.items()
    }


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(1, 19), st.integers(1, 60), st.integers(0, 2**48))
def test_the_panels_intervals_are_those_of_a_loop(classes, members, samples, seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, classes, samples), rng.integers(0, classes, (members, samples))
    made = panel_scores(labels, predicted, classes, seed, rounds=20)
    for name, expected in one_by_one(labels, predicted, classes, seed, 20).items():
        entries = made[name] if isinstance(made[name], list) else [made[name]]
        got = np.array([[entry[key] for entry in entries] for key in ("mean", "std", "low", "high")])
        np.testing.assert_array_equal(got, np.array(expected).reshape(4, -1))


@settings(deadline=None)
@given(st.integers(1, 80), st.integers(1, 5), st.integers(0, 2**32))
def test_the_other_intervals_are_those_of_before(samples, seeds, seed):
    rng = np.random.default_rng(seed)
    target, control = rng.random(samples) < 0.4, rng.random((seeds, samples)) < 0.6
    drawn = np.random.default_rng(0).multinomial(samples, np.full(samples, 1 / samples), RESAMPLES)
    masks = np.random.default_rng(1).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    assert share_interval(target) == interval(drawn @ target / samples, samples, 0.0)
    values = (drawn @ target - ((masks @ control) * drawn).sum(1) / seeds) / samples
    assert difference(target, control) == (float(target.mean() - control.mean()), *interval(values, samples, -1.0))
    gap = rng.normal(size=samples)
    rows = np.random.default_rng(0).integers(0, samples, (ROUNDS, samples))
    assert paired_interval(gap) == tuple(np.percentile(gap[rows].mean(1), [2.5, 97.5]))


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 2**32))
def test_rows_and_counts_say_the_same(samples, rounds, seed):
    rows = np.random.default_rng(seed).integers(0, samples, (rounds, samples))
    np.testing.assert_array_equal(how_often(rows), [np.bincount(row, minlength=samples) for row in rows])


def test_resamples_spread_as_the_mean_does():
    """The bootstrap of a mean has the standard error of the mean, drawn in either way."""
    values = np.random.default_rng(0).normal(size=400)
    by_rows = bootstrap(lambda rows: values[rows].mean(1), 400, 4000, 0)
    by_counts = bootstrap(lambda counts: counts @ values / 400, 400, 4000, 0, counted=True)
    for means in (by_rows, by_counts):
        low, high = middle(means)
        np.testing.assert_allclose(means.std(), values.std() / 20, rtol=0.05)
        np.testing.assert_allclose((low, high), values.mean() + np.array([-1.96, 1.96]) * values.std() / 20, atol=0.01)
