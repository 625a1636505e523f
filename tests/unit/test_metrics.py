import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_f1_score, multiclass_precision, multiclass_recall

from memgrid.metrics import confusion_matrix, panel_scores, scores


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
