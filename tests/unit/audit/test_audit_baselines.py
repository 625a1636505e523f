"""What pixels alone say, against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.audit.attack.baselines import BASELINES, baselines


def naive(images, labels, asked):
    points = images.reshape(len(images), -1).astype(np.float64)
    found = {name: np.full(len(labels), np.nan) for name in BASELINES}
    for at in np.flatnonzero(asked):
        others = np.arange(len(labels)) != at
        apart = np.sqrt(((points - points[at]) ** 2).sum(1))
        same = others & (labels == labels[at])
        found["pixels"][at] = np.linalg.norm(points[at] - points[same].mean(0)) if same.any() else 0
        own = apart[same].min() if same.any() else np.inf
        other = apart[labels != labels[at]].min() if (labels != labels[at]).any() else np.inf
        found["neighbour"][at] = own / other
    return found


@settings(max_examples=30)
@given(samples=st.integers(2, 30), classes=st.integers(2, 4), seed=st.integers(0, 2**31), block=st.sampled_from([1, 40, 1 << 24]))
def test_baselines_are_their_definitions(samples, classes, seed, block):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(samples, 2, 3, 3)).astype(np.float32)
    labels, asked = rng.permutation(np.arange(samples) % classes), rng.random(samples) < 0.7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memgrid.audit.attack.baselines.BLOCK", block)
        found = baselines(images, labels, asked)
    for name, expected in naive(images, labels, asked).items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(np.minimum(found[name], 1e30), np.minimum(expected, 1e30), rtol=2e-3, atol=1e-4, err_msg=name)


def test_an_equal_image_of_another_label_is_the_least_typical():
    images = np.array([[0.0], [1.0], [5.0], [5.0]], np.float32)
    found = baselines(images, np.array([0, 0, 1, 0]), np.array([True, True, False, True]))
    assert found["neighbour"][3] == found["neighbour"][[0, 1, 3]].max() > 1e10
    assert np.isnan(found["pixels"][2])


def test_what_lies_far_off_is_said_to_be_memorized():
    assert BASELINES == {"pixels": True, "neighbour": True}
