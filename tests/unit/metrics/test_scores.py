import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_f1_score, multiclass_precision, multiclass_recall

from memgrid.metrics.scores import confusion_matrix, scores


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
