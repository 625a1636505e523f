"""The networks that tell classes apart: from pooled attention maps the paper's CNN and a linear probe, from tokens a small one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from memgrid.errors import UserError
from memgrid.lm.triangle import Triangle

LOG_FLOOR = 1e-4


class Unpack(nn.Module):
    """Packed triangles (batch, positions, layers) → images (batch, layers, length, length), scaled, zero attention above the diagonal.

    `raw` leaves the weights as they are; `log` maps a weight a to ln(a + 1e-4) / 4 + 1, which spreads small weights.
    """

    index: Tensor

    def __init__(self, length: int, scale: str) -> None:
        super().__init__()
        self.length, self.scale = length, scale
        self.register_buffer("index", torch.from_numpy(Triangle(length).source), persistent=False)

    def forward(self, packed: Float[Tensor, "batch positions layers"]) -> Float[Tensor, "batch layers length length"]:
        """Place every position in its image."""
        # An extra position of zero attention stands for everything above the diagonal. The result is channels_last without a copy.
        weights = nn.functional.pad(packed.float(), (0, 0, 0, 1))
        if self.scale == "log":
            weights = torch.log(weights + LOG_FLOOR) / 4 + 1
        return weights[:, self.index].unflatten(1, (self.length, self.length)).permute(0, 3, 1, 2)


class AttentionCNN(nn.Module):
    """The paper's CNN (Section 4): two blocks of conv, ReLU, dropout, max-pool, then two linear layers; layers are channels.

    Returns logits (batch, classes).

    Raises:
        UserError: the kernel is too large for the maps.
    """

    def __init__(self, layers: int, length: int, classes: int, kernel_size: int, features: int, dropout: float) -> None:
        super().__init__()
        side = ((length - kernel_size + 1) // 2 - kernel_size + 1) // 2
        if side < 1:
            raise UserError(f"cnn.kernel_size={kernel_size} is too large for sequences of {length} tokens: use a smaller one")
        self.body = nn.Sequential(
            nn.Conv2d(layers, features, kernel_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.MaxPool2d(2),
            nn.Conv2d(features, features, kernel_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(features * side * side, 64),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(64, classes),
        )

    def forward(self, images: Float[Tensor, "batch layers length length"]) -> Float[Tensor, "batch classes"]:
        """Logits of images."""
        return self.body(images)  # type: ignore[no-any-return]


class LinearProbe(nn.Module):
    """A linear classifier on eight numbers per layer: mean and spread of four regions of its map.

    The regions: the diagonal, the column of the first token, the suffix's look at the prefix, the suffix's look at itself.
    """

    masks: Tensor

    def __init__(self, layers: int, length: int, k: int, classes: int) -> None:
        super().__init__()
        query, key = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
        causal = key <= query
        regions = [key == query, key == 0, (query >= k) & (key < k), causal & (query >= k) & (key >= k)]
        masks = torch.stack([region.float() for region in regions])
        self.register_buffer("masks", masks / masks.sum((1, 2), keepdim=True), persistent=False)
        self.norm = nn.BatchNorm1d(2 * len(regions) * layers, affine=False)
        self.linear = nn.Linear(2 * len(regions) * layers, classes)

    def forward(self, images: Float[Tensor, "batch layers length length"]) -> Float[Tensor, "batch classes"]:
        """Logits of images."""
        return self.linear(self.norm(self.statistics(images)))  # type: ignore[no-any-return]

    def statistics(self, images: Float[Tensor, "batch layers length length"]) -> Float[Tensor, "batch numbers"]:
        """Eight numbers per layer."""
        mean = torch.einsum("blqk,rqk->blr", images, self.masks)
        square = torch.einsum("blqk,rqk->blr", images.square(), self.masks)
        variance = square - mean.square()
        # The root has no gradient at 0, and NaN would spread from there over the whole layer.
        some = variance > 0
        spread = torch.where(some, torch.where(some, variance, 1).sqrt(), 0)
        return torch.cat([mean, spread], -1).flatten(1)


class TokenNetwork(nn.Sequential):
    """Two blocks of conv, ReLU and mean-pool along the tokens, dropout and a linear layer: numbers (batch, channels, tokens) → logits.

    Args:
        channels: how many numbers a token has. tokens: how many there are, at least one.
    """

    def __init__(self, channels: int, tokens: int, classes: int, features: int = 8, kernel_size: int = 5, pooled: int = 4) -> None:
        blocks: list[nn.Module] = []
        for read in (channels, features):
            blocks += [nn.Conv1d(read, features, kernel_size, padding="same"), nn.ReLU(), nn.AvgPool1d(pooled, ceil_mode=True)]
            tokens = -(-tokens // pooled)
        super().__init__(*blocks, nn.Flatten(), nn.Dropout(0.25), nn.Linear(features * tokens, classes))
