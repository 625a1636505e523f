"""Images moved and mirrored: as a training step sees them, and in the views in which the attack looks at them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from memgrid.audit.config import refuse_views


def views(images: Tensor, count: int, augment: str) -> Iterator[Tensor]:
    """The first `count` of the views in which the attack looks at each image: itself, moved by a pixel, and (`flip_shift`) mirrored.

    Raises:
        UserError: there are not so many.
    """
    moves = [(0, 0)] if augment == "none" else [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    every = [(move, flip) for flip in ((False, True) if augment == "flip_shift" else (False,)) for move in moves]
    refuse_views(count, augment)
    for (down, right), flip in every[:count]:
        yield shifted(images.flip(-1) if flip else images, down, right)


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Images moved by whole pixels; what comes in is 0."""
    if not down and not right:
        return images
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (abs(right),) * 2 + (abs(down),) * 2)
    return padded[..., abs(down) - down : abs(down) - down + height, abs(right) - right : abs(right) - right + width]


def augmented(images: Tensor, augment: str, generator: torch.Generator) -> Tensor:
    """Images as a training step sees them: moved by up to 4 pixels (a sixth of small ones), and half of them mirrored, as asked for."""
    if augment == "none":
        return images
    reach = min(4, images.shape[-1] // 6)
    moves = torch.randint(-reach, reach + 1, (len(images), 2), generator=generator)
    padded = torch.nn.functional.pad(images, (reach,) * 4)
    height, width = images.shape[-2:]
    rows = (reach - moves[:, :1] + torch.arange(height)).to(images.device)
    columns = (reach - moves[:, 1:] + torch.arange(width)).to(images.device)
    out = padded[torch.arange(len(images), device=images.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )
    if augment == "flip_shift":
        mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        out = torch.where(mirrored[:, None, None, None], out.flip(-1), out)
    return out
