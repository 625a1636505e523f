"""Images of another domain: photographs that do not overlap, a user's own, those that pixels do not give away, and what is refused."""

import numpy as np
import pytest
import torch
from conftest import refusal
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

from memgrid.audit.attack.baselines import baselines
from memgrid.audit.config import CanaryConfig, DatasetConfig
from memgrid.audit.data.canaries import ZOOMS, canary_images, grid, like, matched, patches
from memgrid.audit.data.dataset import Dataset, Scale
from memgrid.audit.data.population import draw_population
from memgrid.audit.data.sources import load_dataset


def some_data(shape=(1, 8, 8), samples=60, classes=5):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(samples) % classes)
    images = (rng.normal(size=(samples, *shape)) + rng.normal(size=(classes, *shape))[labels]).astype(np.float32)
    scale = Scale(np.full(shape[0], 0.4, np.float32), np.full(shape[0], 0.2, np.float32))
    return Dataset("some", images, labels, images[:1], labels[:1], classes, scale=scale)


@pytest.mark.parametrize(("shape", "count"), [((1, 8, 8), 50), ((1, 8, 8), 520), ((1, 28, 28), 100), ((3, 32, 32), 500), ((5, 8, 8), 9)])
def test_photographs_are_scaled_like_the_data_and_none_is_another(shape, count):
    data = some_data(shape)
    pixels = patches(data, count, 3)
    assert pixels.shape == (count, *shape)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert len({image.tobytes() for image in pixels}) == count
    flat = pixels.reshape(count, -1).std(1) < 0.02
    assert not flat.any() or (count > 300 and flat.mean() < 0.4)
    made = canary_images("ood", data, np.arange(count), 3, None)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, (pixels - np.float32(0.4)) / np.float32(0.2), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(patches(data, count, 3), pixels)
    assert (patches(data, count, 4) != pixels).any()


@pytest.mark.parametrize("zoom", ZOOMS)
def test_no_two_cells_of_a_photograph_overlap(zoom):
    side = 8 * zoom
    photograph = np.zeros((427, 640, 3))
    for seed in range(20):
        seen = np.zeros(photograph.shape[:2], int)
        cells = grid(1, photograph, side, side, np.random.default_rng(seed))
        for number, top, left in cells:
            assert number == 1
            seen[top : top + side, left : left + side] += 1
        assert seen.sum() == len(cells) * side**2  # none lies outside
        assert seen.max() == 1
        assert len(cells) == (427 // side) * (640 // side)


def test_more_photographs_than_there_is_room_for_are_refused():
    assert patches(some_data((3, 32, 32)), 520, 0).shape[0] == 520
    sentence = refusal(patches, some_data((3, 32, 32)), 521, 0)
    assert "canary.count=521" in sentence
    assert "room for 520 images of 32 by 32" in sentence
    assert "canary.path" in sentence


def test_matched_images_have_the_spectrum_of_others_and_the_phases_of_their_own():
    rng = np.random.default_rng(0)
    foreign, own = rng.normal(size=(2, 7, 3, 8, 9))
    made = like(foreign, own)
    np.testing.assert_allclose(made.mean((2, 3)), own.mean((2, 3)), atol=1e-6)
    np.testing.assert_allclose(made.std((2, 3)), own.std((2, 3)), rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.fft.fft2(made)), np.abs(np.fft.fft2(own)), rtol=1e-3, atol=1e-4)
    inner = np.abs(np.angle(np.fft.fft2(made) / np.fft.fft2(foreign)))
    inner[..., 0, 0] = 0
    assert inner.max() < 1e-3


def test_matched_canaries_are_no_further_from_their_class_than_what_they_replace():
    """On digits the distance to the class mean tells photographs with AUC .97, matched ones with .50 (three seeds: .48 to .52)."""
    data = load_dataset(DatasetConfig(name="digits", kind="digits"))
    areas = {}
    for name in ("ood", "ood_matched"):
        drawn = draw_population(data, CanaryConfig(name=name, count=300), "canaries", 4, 0)
        asked = np.ones(len(drawn.labels), bool)
        areas[name] = roc_auc_score(drawn.kind > 0, baselines(drawn.images, drawn.labels, asked)["pixels"])
    assert areas["ood"] > 0.9
    assert areas["ood_matched"] == pytest.approx(0.5, abs=0.05)


def test_blank_images_have_one_colour_each():
    data = some_data((3, 6, 5))
    made = canary_images("blank", data, np.arange(40), 0, None)
    np.testing.assert_array_equal(made, np.broadcast_to(made[..., :1, :1], made.shape))
    pixels = data.scale.undo(made)[..., 0, 0]
    assert 0 <= pixels.min() < 0.1
    assert 0.9 < pixels.max() <= 1
    assert len(np.unique(pixels)) == 120


# A user's own


def bytes_of(count, *shape):
    return np.random.default_rng(1).integers(0, 256, (count, *shape)).astype(np.uint8)


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("kind", ["npy", "pt", "floats"])
def test_a_file_of_ones_own(tmp_path, kind, layout):
    data, images = some_data((3, 8, 6)), bytes_of(12, 3, 8, 6)
    given = images if layout == "channels first" else images.transpose(0, 2, 3, 1)
    path = tmp_path / ("own.pt" if kind == "pt" else "own.npy")
    if kind == "pt":
        torch.save(torch.from_numpy(given.copy()), path)
    else:
        np.save(path, given / 255 if kind == "floats" else given)
    made = canary_images("ood", data, np.arange(10), 0, str(path))
    np.testing.assert_allclose(data.scale.undo(made), images[:10] / 255, atol=1e-6)


def test_grey_images_need_no_channels(tmp_path):
    data, images = some_data((1, 8, 6)), bytes_of(4, 8, 6)
    np.save(tmp_path / "own.npy", images)
    np.testing.assert_allclose(
        data.scale.undo(canary_images("ood", data, np.arange(4), 0, f"{tmp_path}/own.npy"))[:, 0], images / 255, atol=1e-6
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_pictures_in_the_order_of_their_names(tmp_path, channels):
    data, images = some_data((channels, 8, 6)), bytes_of(5, 8, 6, 3)
    for number, image in enumerate(images):
        Image.fromarray(image).resize((12, 16), Image.Resampling.NEAREST).save(tmp_path / f"{number}.{'PNG' if number else 'png'}")
    (tmp_path / "notes.txt").write_text("no picture")
    pixels = data.scale.undo(canary_images("ood", data, np.arange(5), 0, str(tmp_path))) * 255
    expected = images if channels == 3 else np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])[..., None]
    np.testing.assert_allclose(pixels, expected.transpose(0, 3, 1, 2), atol=1.01)


def of_file(path, array):
    np.save(path, array, allow_pickle=array.dtype == object)


BAD = {
    "too few": (lambda path: of_file(path, bytes_of(3, 3, 8, 8)), "has 3 images, fewer than canary.count=4"),
    "another size": (lambda path: of_file(path, bytes_of(4, 3, 8, 9)), "images of shape (3, 8, 9), and dataset=some of (3, 8, 8)"),
    "grey": (lambda path: of_file(path, bytes_of(4, 8, 8)), "images of shape (8, 8)"),
    "out of range": (lambda path: of_file(path, 2.0 * np.ones((4, 3, 8, 8))), "floats from 0 to 1"),
    "not finite": (lambda path: of_file(path, np.full((4, 3, 8, 8), np.nan)), "floats from 0 to 1"),
    "wide numbers": (lambda path: of_file(path, np.ones((4, 3, 8, 8), np.int64)), "int64 pixels"),
    "objects": (lambda path: of_file(path, np.array([None] * 4)), "cannot be read"),
    "no file": (lambda path: None, "cannot be read"),
    "text": (lambda path: path.write_text("no array"), "cannot be read"),
    "an empty folder": (lambda path: path.mkdir(), "has no pictures"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_file_of_images_is_refused_in_a_sentence(tmp_path, name):
    make, words = BAD[name]
    path = tmp_path / "own.npy"
    make(path)
    sentence = refusal(canary_images, "ood", some_data((3, 8, 8)), np.arange(4), 0, str(path))
    assert sentence.startswith(f"canary.path={path} ")
    assert words in sentence


def test_a_file_that_calls_something_is_refused_and_nothing_is_called(tmp_path):
    class Calls:
        def __reduce__(self):
            return open, (str(tmp_path / "called"), "w")

    torch.save(Calls(), tmp_path / "own.pt")
    np.save(tmp_path / "own.npy", np.array([Calls()], object), allow_pickle=True)
    for name in ("own.pt", "own.npy"):
        assert "cannot be read" in refusal(canary_images, "ood", some_data(), np.arange(1), 0, str(tmp_path / name))
    assert not (tmp_path / "called").exists()


def test_a_tensor_is_wanted_and_not_a_collection(tmp_path):
    torch.save({"images": torch.zeros(2)}, tmp_path / "own.pt")
    assert "holds a dict" in refusal(canary_images, "ood", some_data(), np.arange(1), 0, str(tmp_path / "own.pt"))
    np.savez(tmp_path / "own.npz", np.zeros(3))
    assert "several arrays" in refusal(canary_images, "ood", some_data(), np.arange(1), 0, str(tmp_path / "own.npz"))


def test_a_folder_gives_grey_or_colour(tmp_path):
    Image.fromarray(bytes_of(1, 8, 8, 3)[0]).save(tmp_path / "one.png")
    assert "5 channels" in refusal(canary_images, "ood", some_data((5, 8, 8)), np.arange(1), 0, str(tmp_path))


def test_rows_of_features_have_no_foreign_images():
    assert "has no images" in refusal(canary_images, "ood", some_data((1, 1, 20)), np.arange(4), 0, None)


def test_a_matched_image_is_the_mean_of_its_class_and_what_the_foreign_one_adds_to_it():
    data = some_data((2, 8, 6))
    foreign = np.random.default_rng(1).normal(size=(3, 2, 8, 6)).astype(np.float32)
    places = np.array([4, 0, 31])
    made = matched(foreign, data, places)
    means = np.stack([data.images[data.labels == label].mean(0) for label in data.labels[places]])
    np.testing.assert_allclose(made, means + like(foreign, data.images[places] - means), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm((made - means).reshape(3, -1), axis=1),
        np.linalg.norm((data.images[places] - means).reshape(3, -1), axis=1),
        rtol=1e-4,
    )


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_patch_is_a_piece_of_a_photograph_made_smaller(channels):
    """Each is found again: the means of squares of a photograph, in colour, or grey in every channel."""
    pixels = patches(some_data((channels, 106, 160)), 2, 5)  # four places in either photograph
    photographs = [photograph / 255 for photograph in load_sample_images().images]
    smaller = [photograph[top : top + 424].reshape(106, 4, 160, 4, 3).mean((1, 3)) for photograph in photographs for top in range(4)]
    for patch in pixels:
        assert channels == 3 or (patch == patch[:1]).all()
        shown = patch.transpose(1, 2, 0) if channels == 3 else patch[0][..., None]
        seen = [np.abs((piece if channels == 3 else piece.mean(2, keepdims=True)) - shown).max() for piece in smaller]
        assert sum(distance < 1e-12 for distance in seen) == 1


def test_flat_patches_come_last():
    pixels = patches(some_data((1, 8, 8)), 520, 0)
    flat = pixels.std((1, 2, 3)) < 0.02
    assert 0.1 < flat.mean() < 0.4
    assert flat.tolist() == sorted(flat.tolist())


@pytest.mark.parametrize(("pixel", "sound"), [(0.0, True), (1.0, True), (-0.1, False), (1.1, False), (np.nan, False), (np.inf, False)])
def test_every_pixel_has_to_be_within_what_is_allowed(tmp_path, pixel, sound):
    images = np.full((4, 1, 8, 8), 0.5)
    images[2, 0, 3, 4] = pixel
    np.save(tmp_path / "own.npy", images)
    given = ("ood", some_data(), np.arange(4), 0, f"{tmp_path}/own.npy")
    if sound:
        assert canary_images(*given).shape == images.shape
    else:
        assert "floats from 0 to 1" in refusal(canary_images, *given)


def test_channels_are_first_where_both_would_do(tmp_path):
    """Images of 3 × 3 in three channels."""
    data, images = some_data((3, 3, 3)), bytes_of(2, 3, 3, 3)
    np.save(tmp_path / "own.npy", images)
    np.testing.assert_allclose(data.scale.undo(canary_images("ood", data, np.arange(2), 0, f"{tmp_path}/own.npy")), images / 255, atol=1e-6)
