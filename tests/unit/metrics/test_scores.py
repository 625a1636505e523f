import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_f1_score, multiclass_precision, multiclass_recall

from memgrid.metrics.scores import confusion_matrix, scores, summary_values


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


def test_all_scores_of_a_matrix_by_hand():
    made = scores(np.array([[6, 2], [4, 8]]))
    assert made["f1"] == [200 * 6 / 18, 200 * 8 / 22]
    assert made["mean_f1"] == (200 * 6 / 18 + 200 * 8 / 22) / 2
    assert made["accuracy"] == 70
    empty = scores(np.zeros((2, 2), int))
    assert empty["accuracy"] == empty["mean_f1"] == 0
    # A single answer: no class of one sample is divided by more.
    assert scores(np.array([[1, 0], [0, 0]])) == {
        "precision": [100, 0],
        "recall": [100, 0],
        "f1": [100, 0],
        "min_f1": 0,
        "mean_f1": 50,
        "accuracy": 100,
    }


def test_scores_of_many_matrices_at_once_are_those_of_each():
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 3, 30), random.integers(0, 3, (2, 4, 30))
    confusion = confusion_matrix(labels, predicted, 3)
    assert confusion.shape == (2, 4, 3, 3)
    made = summary_values(confusion)
    for place in np.ndindex(2, 4):
        own = scores(confusion_matrix(labels, predicted[place], 3))
        for name, value in own.items():
            np.testing.assert_allclose(made[name][place], value)
