"""Images of another domain in the place of a data set's own: photographs, a user's images, and those that pixels do not give away."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memgrid.audit.data.dataset import Dataset
from memgrid.errors import UserError
from memgrid.io.files import told

ZOOMS = (4, 3, 2, 1)  # a patch of so many times the size, averaged: at full resolution many are flat
FLAT = 0.02  # the deviation of pixels below which a patch shows nothing
PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
LAYOUTS = "(n, channels, height, width), (n, height, width, channels) or, in grey, (n, height, width)"


def canary_images(kind: str, data: Dataset, places: np.ndarray, seed: int, path: str | None) -> np.ndarray:
    """The images of canaries of a kind (ood, ood_matched or blank), scaled like the data's, float32 (count, ...).

    Args:
        places: int64 (count,), the samples whose places they take. path: a user's own images, instead of photographs.

    Raises:
        UserError: the data are no images, there are fewer foreign images than canaries, or the user's are not what they should be.
    """
    if not data.are_images:
        raise UserError(
            f"dataset={data.name} has no images, so that there are none of another domain: use canary=clean or canary=label_noise"
        )
    count, channels = len(places), data.images.shape[1]
    if kind == "blank":
        colours = np.random.default_rng([seed, 4]).random((count, channels, 1, 1))
        return data.scale.apply(np.broadcast_to(colours, (count, *data.images.shape[1:])))
    pixels = patches(data, count, seed) if path is None else own_images(data, count, path)
    scaled = data.scale.apply(pixels)
    return matched(scaled, data, places) if kind == "ood_matched" else scaled


def matched(foreign: np.ndarray, data: Dataset, places: np.ndarray) -> np.ndarray:
    """Images that are as far from the mean of their class as the ones whose places they take, but in the shapes of foreign images.

    What an image adds to the mean of its class has the amplitude spectrum that it had, and so its mean and deviation, and the phases of a
    foreign image. Pixels are not cut to what a picture can have: that would give them away again.
    """
    means = np.stack([data.images[data.labels == label].mean(0) for label in np.unique(data.labels)])
    own = means[np.searchsorted(np.unique(data.labels), data.labels[places])]
    made: np.ndarray = (own + like(foreign, data.images[places] - own)).astype(np.float32)
    return made


def like(foreign: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Foreign images with the mean, the deviation and the whole amplitude spectrum of others, one for one: float32 as `own`.

    What stays of them is the phase of every frequency, in which the shapes of an image lie (Oppenheim and Lim, Proc. IEEE 1981).
    """
    foreign_spectrum, own_spectrum = (np.fft.fft2(images.astype(np.float64)) for images in (foreign, own))
    phase = np.exp(1j * np.angle(foreign_spectrum))
    phase[..., 0, 0] = np.exp(1j * np.angle(own_spectrum[..., 0, 0]))  # the mean, with its sign
    mixed: np.ndarray = np.fft.ifft2(np.abs(own_spectrum) * phase).real.astype(np.float32)
    return mixed


def patches(data: Dataset, count: int, seed: int) -> np.ndarray:
    """Patches of scikit-learn's two photographs with pixels from 0 to 1, no two of which overlap: float64 (count, channels, height, width).

    Raises:
        UserError: so many do not fit in.
    """
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng([seed, 2])
    _, channels, height, width = data.images.shape
    photographs = [photograph.astype(np.float64) / 255 for photograph in load_sample_images().images]
    for zoom in ZOOMS:
        cells = [
            cell for number, photograph in enumerate(photographs) for cell in grid(number, photograph, zoom * height, zoom * width, rng)
        ]
        if len(cells) >= count:
            break
    else:
        raise UserError(
            f"canary.count={count} is too many for dataset={data.name}: in two photographs there is room for {len(cells)} images of "
            f"{height} by {width} without overlap; use fewer, or images of your own as canary.path"
        )
    made = []
    for number, top, left in (cells[at] for at in rng.permutation(len(cells))):
        patch = photographs[number][top : top + zoom * height, left : left + zoom * width]
        small = patch.reshape(height, zoom, width, zoom, 3).mean((1, 3)).transpose(2, 0, 1)
        made.append(small if channels == 3 else np.repeat(small.mean(0, keepdims=True), channels, 0))
    made.sort(key=lambda small: bool(small.std() < FLAT))  # a piece of the sky only where nothing else is left
    return np.stack(made[:count])


def grid(number: int, photograph: np.ndarray, height: int, width: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """The cells of a grid that lies anywhere on a photograph: its number, and the top and the left of each."""
    rows, columns = photograph.shape[0] // height, photograph.shape[1] // width
    top = int(rng.integers(photograph.shape[0] - rows * height + 1))
    left = int(rng.integers(photograph.shape[1] - columns * width + 1))
    return [(number, top + row * height, left + column * width) for row in range(rows) for column in range(columns)]


def own_images(data: Dataset, count: int, path: str) -> np.ndarray:
    """The first `count` images of a user's file (.npy, .pt) or folder, with pixels from 0 to 1, as the data's: float64.

    Raises:
        UserError: there are fewer, they have another size, or nothing can be read.
    """
    place = Path(path)
    try:
        found = from_folder(place, data) if place.is_dir() else from_file(place)
    except UserError:
        raise
    except Exception as error:  # files that are something else raise whatever they like
        raise UserError(
            f"canary.path={path} cannot be read ({told(error)}): give a .npy or .pt file of images, or a folder of them"
        ) from None
    shape = data.images.shape[1:]
    if found.ndim == 3 and shape[0] == 1:
        found = found[:, None]
    elif found.ndim == 4 and found.shape[1:] != shape and found.shape[1:] == (*shape[1:], shape[0]):
        found = found.transpose(0, 3, 1, 2)
    if found.shape[1:] != shape:
        raise UserError(f"canary.path={path} has images of shape {found.shape[1:]}, and dataset={data.name} of {shape}: give {LAYOUTS}")
    if len(found) < count:
        raise UserError(f"canary.path={path} has {len(found)} images, fewer than canary.count={count}: give more, or lower that")
    pixels = found[:count].astype(np.float64) / (255 if found.dtype == np.uint8 else 1)
    if found.dtype.kind not in "uf" or not (pixels.min() >= 0 and pixels.max() <= 1):  # nor NaN
        raise UserError(f"canary.path={path} has {found.dtype} pixels outside of what is allowed: bytes, or floats from 0 to 1")
    return pixels


def from_file(path: Path) -> np.ndarray:
    """An array of a .npy file, or a tensor of a .pt file."""
    if path.suffix == ".pt":
        import torch

        loaded = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(loaded, torch.Tensor):
            raise UserError(f"canary.path={path} holds a {type(loaded).__name__}: it has to be one tensor of images, {LAYOUTS}")
        return loaded.numpy()
    array: np.ndarray = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise UserError(f"canary.path={path} holds several arrays: give a .npy file with one, {LAYOUTS}")
    return array


def from_folder(path: Path, data: Dataset) -> np.ndarray:
    """The pictures of a folder in the order of their names, brought to the data's size, uint8 (n, channels, height, width)."""
    from PIL import Image

    files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise UserError(f"canary.path={path} has no pictures ({', '.join(sorted(PICTURES))}): give another folder")
    _, channels, height, width = data.images.shape
    if channels not in (1, 3):
        raise UserError(f"canary.path={path} is a folder, and the images of dataset={data.name} have {channels} channels: give a .npy file")
    made = []
    for file in files:
        with Image.open(file) as picture:
            small = picture.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BOX)
        made.append(np.asarray(small, np.uint8).reshape(height, width, channels).transpose(2, 0, 1))
    return np.stack(made)
