"""Images moved and mirrored: as a training step sees them, and in the views in which the attack looks at them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from memgrid.audit.config import VIEWS

REACH = 4  # pixels, of images of 24 and more


def reach_of(images: Tensor) -> int:
    """By how many pixels images are moved at most: 4, of small ones a sixth of their width."""
    return min(REACH, images.shape[-1] // 6)


def views(images: Tensor, kind: str, fill: Tensor) -> Iterator[Tensor]:
    """All views of a kind (a key of VIEWS) in which the attack may look at each image, itself first.

    `shift`: moved by 0 or so many pixels as `reach_of` says, in either direction; `flip_shift`: the same, mirrored, after them.

    Args:
        fill: what comes in, (channels,).
    """
    if kind == "none":
        yield images
        return
    far = reach_of(images)
    straight = [(0, 0), (0, far), (0, -far), (far, 0), (-far, 0)]
    moves = [*straight, (far, far), (far, -far), (-far, far), (-far, -far)]
    for number in range(VIEWS[kind]):
        down, right = moves[number % len(moves)]
        moved = shifted(images, down, right, fill)
        yield moved.flip(-1) if number >= len(moves) else moved


def padded(images: Tensor, up: int, left: int, fill: Tensor) -> Tensor:
    """Images with so many rows above and below, and columns left and right, of colour `fill` (channels,)."""
    count, channels, height, width = images.shape
    wide = images.new_empty(count, channels, height + 2 * up, width + 2 * left)
    wide[:] = fill.to(images)[:, None, None]
    wide[..., up : up + height, left : left + width] = images
    return wide


def shifted(images: Tensor, down: int, right: int, fill: Tensor) -> Tensor:
    """Images moved by whole pixels; what comes in is `fill`, (channels,)."""
    if not down and not right:
        return images
    *_, height, width = images.shape
    wide = padded(images, abs(down), abs(right), fill)
    return wide[..., abs(down) - down : abs(down) - down + height, abs(right) - right : abs(right) - right + width]


def augmented(images: Tensor, augment: str, generator: torch.Generator, fill: Tensor) -> Tensor:
    """Images as a training step sees them: moved by up to 4 pixels (a sixth of small ones), and half of them mirrored, as asked for."""
    if augment == "none":
        return images
    reach = reach_of(images)
    moves = torch.randint(-reach, reach + 1, (len(images), 2), generator=generator)
    wide = padded(images, reach, reach, fill)
    *_, height, width = images.shape
    rows = (reach - moves[:, :1] + torch.arange(height)).to(images.device)
    columns = (reach - moves[:, 1:] + torch.arange(width)).to(images.device)
    out = wide[torch.arange(len(images), device=images.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if augment == "flip_shift":
        mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        out = torch.where(mirrored[:, None, None, None], out.flip(-1), out)
    return out
