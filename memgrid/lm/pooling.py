"""Attention, pooled over heads inside the function that transformers calls in every layer.

The (layers, heads, length, length) tensor never exists: a layer's weights are reduced to two packed triangles as soon as they are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from memgrid.errors import UserError
from memgrid.lm.triangle import Triangle

POOLED = "memgrid_pooled"
ROW_SUM_TOLERANCE = 1e-3
# What transformers hands to every attention function and no eager one reads: kernels are told by it what the mask says already. Any other
# argument may be one that changes the scores.
SILENT = {
    *("cache_position", "cu_seq_lens_k", "cu_seq_lens_q", "deterministic", "is_causal", "max_length_k", "max_length_q"),
    *("output_attentions", "output_hidden_states", "output_router_logits", "position_ids", "sliding_window", "use_cache"),
}


class AttentionRecorder:
    """Takes each layer's attention weights and keeps the packed mean and maximum over heads, float16.

    Layers come first while they are recorded, so that each is written in one run; `maps` turns them around once.
    """

    def __init__(self, batch: int, length: int, layers: int) -> None:
        triangle = Triangle(length)
        self.mean = torch.empty(layers, batch, len(triangle), dtype=torch.float16)
        self.max = torch.empty(layers, batch, len(triangle), dtype=torch.float16)
        self.layers: set[int] = set()
        self.length = length
        self.positions = torch.from_numpy(triangle.flat)

    def record(
        self,
        layer: int,
        weights: Float[Tensor, "batch heads length length"],
        sink: Float[Tensor, "batch heads length 1"] | None = None,
    ) -> None:
        """Pool one layer's weights.

        Args:
            sink: the weight that a row gives to no key (see `weights_of`): it counts in the row's sum, and is no part of the map.

        Raises:
            UserError: the weights are not those of one query and one key for each token, or there are more layers than expected.
            FloatingPointError: a row does not sum to one up to its own position, or a weight is not a number.
        """
        self.check_shape(layer, weights)
        pooled = weights.mean(1, dtype=torch.float32).tril_()  # what lies above the diagonal would be missing from the sum
        sums = pooled.sum(-1) if sink is None else pooled.sum(-1).add_(sink[..., 0].mean(1))
        least, most = sums.aminmax()  # both are NaN if any weight is
        error = max(1 - least.item(), most.item() - 1)
        # Weights that a model has rounded to its type are each off by half of eps of their size.
        if not error < ROW_SUM_TOLERANCE + torch.finfo(weights.dtype).eps / 2:
            raise FloatingPointError(f"attention rows of layer {layer} do not sum to 1 (off by {error}): try llm.dtype=float32")
        self.keep(layer, pooled, weights)

    def check_shape(self, layer: int, weights: Tensor) -> None:
        """Raise UserError for weights that the maps have no place for."""
        if layer >= len(self.mean):
            raise UserError(f"more than {len(self.mean)} layers report attention")
        batch = self.mean.shape[1]
        if weights.ndim != 4 or weights.shape[0] != batch or weights.shape[2:] != (self.length, self.length):
            wanted = f"({batch}, heads, {self.length}, {self.length})"
            raise UserError(f"the attention of layer {layer} has the shape {tuple(weights.shape)} instead of {wanted}")

    def keep(self, layer: int, mean: Float[Tensor, "batch length length"], weights: Float[Tensor, "batch heads length length"]) -> None:
        """Pack the mean over heads, float32, and the maximum; the memory of the mean is used again."""
        self.positions = self.positions.to(weights.device)
        # Selected in float32 and rounded while it is copied: three times faster than indexing with a tensor.
        self.mean[layer] = mean.flatten(1).index_select(1, self.positions)
        most = torch.amax(weights, 1, out=mean if weights.dtype == mean.dtype else None)
        self.max[layer] = most.flatten(1).index_select(1, self.positions)
        self.layers.add(layer)

    def maps(self) -> dict[str, np.ndarray]:
        """`mean` and `max`, float16 (batch, positions, layers); positions are the lower triangle, row by row."""
        return {name: pool.permute(1, 2, 0).contiguous().numpy() for name, pool in (("mean", self.mean), ("max", self.max))}


# transformers calls a function by its name and hands it nothing of ours: it looks here for who wants to know. See `recording`.
RECORDER: ContextVar[AttentionRecorder | None] = ContextVar("recorder", default=None)


# From a layer's module, its scores (batch, heads, queries, keys), which are used up, its values and the scores of its sink: its output.
Attend = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]


def offered(name: str) -> Callable[[Attend], Callable[..., tuple[Tensor, None]]]:
    """Offer an attention function to transformers under a name: eager attention up to the softmax, and then what is decorated.

    It runs in every layer of a model that is set to the name (`attention_of`). Where it meets an argument of which it does not know
    whether it changes the attention, it raises UserError.
    """

    def decorate(attend: Attend) -> Callable[..., tuple[Tensor, None]]:
        """Register what is decorated, and return what transformers calls."""

        def attention(
            module: nn.Module,
            query: Tensor,
            key: Tensor,
            value: Tensor,
            attention_mask: Tensor | None,
            scaling: float | None = None,
            softcap: float | None = None,
            s_aux: Tensor | None = None,
            **others: Any,
        ) -> tuple[Tensor, None]:
            """What transformers calls in every layer, with its own names; the weights are not handed back."""
            refuse_unknown(module, others)
            scores, value = attention_scores(query, key, value, attention_mask, scaling, softcap)
            return attend(module, scores, value, s_aux), None

        AttentionInterface.register(name, attention)
        AttentionMaskInterface.register(name, eager_mask)
        return attention

    return decorate


def refuse_unknown(module: nn.Module, others: Mapping[str, Any]) -> None:
    """Raise UserError for an argument of an attention function that we do not know of, unless it says nothing.

    Dropout is none in a model that is read.
    """
    for name, value in others.items():
        if value is not None and name not in SILENT and not (name == "dropout" and value == 0):
            raise UserError(f"{type(module).__name__} computes attention with {name}, which memgrid does not know")


def attention_scores(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None, softcap: float | None = None
) -> tuple[Float[Tensor, "batch heads queries keys"], Float[Tensor, "batch heads keys width"]]:
    """What the softmax is taken of, and the values, one head for each of the queries' heads.

    Args:
        query: (batch, heads, queries, width); key and value may have fewer heads (grouped-query attention).
        attention_mask: additive, with the lowest number of its type where a query must not look.
        softcap: scores are squeezed between -softcap and softcap before they are masked (Gemma 2).
    """
    if query.dtype == torch.float16:
        # Scores of large models reach -110,000: beyond float16, and below the number that its masks are made of.
        query, key, attention_mask = query.float(), key.float(), widened(attention_mask)
    if key.shape[1] < query.shape[1]:
        key, value = for_each_query(key, query.shape[1]), for_each_query(value, query.shape[1])
    scores = torch.matmul(query, key.transpose(2, 3)).mul_(query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        # A gradient needs what the hyperbolic tangent gave.
        scores = scores.div(softcap).tanh().mul(softcap) if scores.requires_grad else scores.div_(softcap).tanh_().mul_(softcap)
    if attention_mask is not None:
        scores.add_(attention_mask)
    return scores, value


def for_each_query(heads: Float[Tensor, "batch fewer keys width"], queries: int) -> Float[Tensor, "batch heads keys width"]:
    """Keys or values repeated for the heads of the queries that share them; laid out as in eager attention, which decides the last bits."""
    batch, fewer, keys, width = heads.shape
    return heads[:, :, None].expand(batch, fewer, queries // fewer, keys, width).reshape(batch, queries, keys, width)


def widened(attention_mask: Tensor | None) -> Tensor | None:
    """An additive mask of float16 in float32, with minus infinity where a query must not look."""
    if attention_mask is None:
        return None
    return attention_mask.float().masked_fill(attention_mask == torch.finfo(torch.float16).min, -torch.inf)


def weights_of(
    scores: Float[Tensor, "batch heads queries keys"], s_aux: Tensor | None = None
) -> tuple[Float[Tensor, "batch heads queries keys"], Float[Tensor, "batch heads queries 1"] | None]:
    """The softmax of scores, float32, and what of each row goes to the sink; the scores may be used up.

    Args:
        s_aux: one score for each head that stands beside every row's and belongs to no key (gpt-oss): the weights of a row and its sink
            together sum to one.
    """
    if s_aux is None:
        # In place where types and gradients allow it: a second tensor of all heads costs memory and page faults.
        in_place = scores.dtype == torch.float32 and not scores.requires_grad
        return torch.softmax(scores, -1, dtype=torch.float32, out=scores if in_place else None), None
    sinks = s_aux.reshape(1, -1, 1, 1).to(scores.dtype).expand(len(scores), -1, scores.shape[2], 1)
    both = torch.cat([scores, sinks], -1)
    both = both - both.amax(-1, keepdim=True)  # as eager attention does, which rounds here
    both = torch.softmax(both, -1, dtype=torch.float32)
    return both[..., :-1], both[..., -1:]


def attend(module: nn.Module, scores: Tensor, value: Tensor, s_aux: Tensor | None = None) -> Tensor:
    """The layer's output (batch, queries, heads, width); the recorder, if any, sees the weights. The scores are used up."""
    return hand_on(module, *weights_of(scores, s_aux), value)


def hand_on(module: nn.Module, weights: Tensor, sink: Tensor | None, value: Tensor) -> Float[Tensor, "batch queries heads width"]:
    """A layer's output from its weights, which the recorder sees, if there is one."""
    if (recorder := RECORDER.get()) is not None:
        recorder.record(layer_of(module), weights, sink)
    return torch.matmul(weights.to(value.dtype), value).transpose(1, 2).contiguous()


def layer_of(module: nn.Module) -> int:
    """The number of an attention module's layer.

    Raises:
        UserError: the module does not say.
    """
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise UserError(f"{type(module).__name__} does not say of which layer it is")
    return layer


@offered(POOLED)
def pooled_attention(module: nn.Module, scores: Tensor, value: Tensor, s_aux: Tensor | None) -> Tensor:
    """Eager attention that hands the float32 weights to the recorder; without autograd only, since it works in place."""
    return attend(module, scores, value, s_aux)


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
    """The model with another attention function, for a while.

    Raises:
        UserError: the model does not take its attention function from transformers' attention interface.
    """
    if not model._can_set_attn_implementation():
        if implementation != "eager":
            raise UserError(f"{type(model).__name__} does not use transformers' attention interface")
        with eager_by_config(model.config):
            yield
        return
    usual = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


@contextmanager
def eager_by_config(config: Any) -> Iterator[None]:
    """A configuration that asks for eager attention, for a while: models older than the attention interface look there."""
    usual = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = usual
