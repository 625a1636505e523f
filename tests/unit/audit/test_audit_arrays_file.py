"""A data set of a user's own: what is read, and what is refused in a sentence."""

import numpy as np
import pytest
from conftest import refusal

from memgrid.audit.config import DatasetConfig
from memgrid.audit.data.sources import load_dataset


def arrays(shape=(3, 8, 6), samples=20, classes=4, dtype=np.uint8):
    rng = np.random.default_rng(0)
    x, x_test = (rng.integers(0, 256, (count, *shape)).astype(dtype) for count in (samples, 7))
    y, y_test = np.arange(samples) % classes, np.arange(7) % classes
    return {"x": x, "y": y, "x_test": x_test, "y_test": y_test}


def load(path, given, **settings):
    np.savez(path, **given)
    return load_dataset(DatasetConfig(name="own", kind="arrays", path=str(path), **settings))


@pytest.mark.parametrize(("shape", "expected"), [((3, 8, 6), (3, 8, 6)), ((8, 6), (1, 8, 6)), ((9,), (1, 1, 9))])
def test_images_and_features(tmp_path, shape, expected):
    given = arrays(shape)
    data = load(tmp_path / "own.npz", given)
    assert data.images.shape == (20, *expected)
    assert data.held_out_images.shape == (7, *expected)
    assert data.images.dtype == np.float32
    np.testing.assert_allclose(data.scale.undo(data.images), given["x"].reshape(20, *expected) / 255, atol=1e-6)
    assert np.abs(data.images.mean((0, 2, 3))).max() < 1e-5
    np.testing.assert_allclose(data.images.std((0, 2, 3)), 1, rtol=1e-5)
    np.testing.assert_array_equal(data.labels, given["y"])
    np.testing.assert_array_equal(data.held_out_labels, given["y_test"])
    assert (data.classes, data.are_images) == (4, len(shape) > 1)


def test_floats_stay_as_they_are(tmp_path):
    given = arrays(dtype=np.float64)
    data = load(tmp_path / "own.npz", given, mean=[0.0], deviation=[1.0])
    np.testing.assert_array_equal(data.images, given["x"].astype(np.float32))


def test_only_so_many(tmp_path):
    whole, some = (load(tmp_path / "own.npz", arrays(), samples=samples) for samples in (None, 13))
    np.testing.assert_array_equal(some.images, whole.images[:13])
    assert len(some.labels) == 13


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": None}, "has no array 'x'"),
        ({"y_test": None}, "has no array 'y_test'"),
        ({"x": np.zeros((20, 2, 3, 4, 5))}, "x is float64 of shape (20, 2, 3, 4, 5)"),
        ({"x": np.zeros((20, 8), np.int32)}, "x is int32"),
        ({"x": np.full((20, 3, 8, 6), np.inf)}, "x has numbers that are not finite"),
        ({"x_test": np.zeros((7, 3, 8, 7))}, "samples of x have the shape (3, 8, 6), of x_test (3, 8, 7)"),
        ({"y": np.arange(19)}, "y is int64 of shape (19,)"),
        ({"y": np.arange(20) - 1}, "the least -1"),
        ({"y": np.arange(20.0)}, "y is float64"),
        ({"y": np.zeros(20, int)}, "all of y are 0"),
        ({"y_test": np.full(7, 4)}, "y_test has the label 4, and y none above 3"),
        ({"x": np.array([None] * 20)}, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, words):
    given = {name: array for name, array in (arrays() | change).items() if array is not None}
    sentence = refusal(load, tmp_path / "own.npz", given)
    assert sentence.startswith(f"dataset.path={tmp_path}/own.npz")
    assert words in sentence


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_file_of_numpys_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "own.npz").write_bytes(content)
    config = DatasetConfig(name="own", kind="arrays", path=f"{tmp_path}/own.npz")
    assert "cannot be read" in refusal(load_dataset, config)


def test_a_single_array_is_no_data_set(tmp_path):
    np.save(tmp_path / "own.npy", np.zeros(3))
    assert "cannot be read" in refusal(load_dataset, DatasetConfig(name="own", kind="arrays", path=f"{tmp_path}/own.npy"))


def test_pixels_that_are_all_equal_are_refused(tmp_path):
    assert "all pixels" in refusal(load, tmp_path / "own.npz", arrays() | {"x": np.ones((20, 3, 8, 6))})
