"""Attention, pooled over heads inside the function that transformers calls in every layer.

The (layers, heads, length, length) tensor never exists: a layer's weights are reduced to two packed triangles as soon as they are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from memgrid.lm.triangle import Triangle

POOLED = "memgrid_pooled"
ROW_SUM_TOLERANCE = 1e-3


class AttentionRecorder:
    """Takes each layer's attention weights and keeps the packed mean and maximum over heads, float16.

    Layers come first while they are recorded, so that each is written in one run; `maps` turns them around once.
    """

    def __init__(self, batch: int, length: int, layers: int) -> None:
        triangle = Triangle(length)
        self.mean = torch.empty(layers, batch, len(triangle), dtype=torch.float16)
        self.max = torch.empty(layers, batch, len(triangle), dtype=torch.float16)
        self.layers: set[int] = set()
        self.positions = torch.from_numpy(triangle.flat)

    def record(self, layer: int, weights: Float[Tensor, "batch heads length length"]) -> None:
        """Pool one layer's weights.

        Raises:
            FloatingPointError: a row does not sum to one up to its own position, or a weight is not a number.
        """
        self.positions = self.positions.to(weights.device)
        pooled = weights.mean(1).tril_()  # what lies above the diagonal would be missing from the sum
        least, most = pooled.sum(-1).aminmax()  # both are NaN if any weight is
        error = max(1 - least.item(), most.item() - 1)
        if not error < ROW_SUM_TOLERANCE:
            raise FloatingPointError(f"attention rows of layer {layer} do not sum to 1 (off by {error}): try llm.dtype=float32")
        # Selected in float32 and rounded while it is copied: three times faster than indexing with a tensor.
        self.mean[layer] = pooled.flatten(1).index_select(1, self.positions)
        self.max[layer] = torch.amax(weights, 1, out=pooled).flatten(1).index_select(1, self.positions)
        self.layers.add(layer)

    def maps(self) -> dict[str, np.ndarray]:
        """`mean` and `max`, float16 (batch, positions, layers); positions are the lower triangle, row by row."""
        return {name: pool.permute(1, 2, 0).contiguous().numpy() for name, pool in (("mean", self.mean), ("max", self.max))}


# transformers calls a function by its name and hands it nothing of ours: it looks here for who wants to know. See `recording`.
RECORDER: ContextVar[AttentionRecorder | None] = ContextVar("recorder", default=None)


def pooled_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Attention as in transformers' eager functions, handing the float32 weights to the recorder instead of returning them.

    Runs without autograd only, since it works in place; the arguments are those of `attention_scores`.
    """
    scores, value = attention_scores(query, key, value, attention_mask, scaling)
    return attend(module, scores, value), None


def attention_scores(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None
) -> tuple[Float[Tensor, "batch heads queries keys"], Float[Tensor, "batch heads keys width"]]:
    """What the softmax is taken of, and the values, one head for each of the queries' heads.

    Args:
        query: (batch, heads, queries, width); key and value may have fewer heads (grouped-query attention).
        attention_mask: additive, with the lowest number of its type where a query must not look.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if query.dtype == torch.float16:
        # Scores of large models reach -110,000: beyond float16, and below the number that its masks are made of.
        query, key = query.float(), key.float()
        if attention_mask is not None:
            attention_mask = attention_mask.float().masked_fill(attention_mask == torch.finfo(torch.float16).min, -torch.inf)
    scores = torch.matmul(query, key.transpose(2, 3)).mul_(query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores.add_(attention_mask)
    return scores, value


def attend(module: nn.Module, scores: Tensor, value: Tensor) -> Tensor:
    """The layer's output (batch, queries, heads, width); the recorder, if any, sees the weights. The scores are used up."""
    # In place where the types allow it: a second tensor of all heads costs memory and page faults.
    weights = torch.softmax(scores, -1, dtype=torch.float32, out=scores if scores.dtype == torch.float32 else None)
    if (recorder := RECORDER.get()) is not None:
        layer = module.layer_idx
        assert isinstance(layer, int)
        recorder.record(layer, weights)
    return torch.matmul(weights.to(value.dtype), value).transpose(1, 2).contiguous()


AttentionInterface.register(POOLED, pooled_attention)
AttentionMaskInterface.register(POOLED, eager_mask)


@contextmanager
def recording(recorder: AttentionRecorder) -> Iterator[AttentionRecorder]:
    """Every attention layer that runs inside, in this thread, reports to `recorder`; afterwards to whom it reported before."""
    token = RECORDER.set(recorder)
    try:
        yield recorder
    finally:
        RECORDER.reset(token)


@contextmanager
def attention_of(model: Any, implementation: str) -> Iterator[None]:
    """The model with another attention function, for a while."""
    usual = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
