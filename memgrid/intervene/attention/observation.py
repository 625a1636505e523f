"""What every head does while a model reads sequences: where it looks, how much it writes, and what its output is worth to the suffix.

Heads can be told apart only in models that take their attention from transformers' attention interface: there their outputs are seen before
the layer mixes them. Where keys and values are shared by several heads (grouped-query attention), a head is one of the queries'.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from memgrid.errors import UserError
from memgrid.intervene.attention.masking import PositionMask
from memgrid.intervene.attention.reader import suffix_logprob
from memgrid.lm.model import LanguageModel
from memgrid.lm.pooling import attention_of, layer_of, offered, weights_of
from memgrid.lm.triangle import Triangle

OBSERVED = "memgrid_observed"
SMALLER = 8  # with gradients so many times fewer tokens are read at once: what every layer made stays in memory


@dataclass(frozen=True)
class HeadSummary:
    """What the heads of a model do while it reads some sequences, means over these; float64.

    Attributes:
        attention: (layers, heads, tokens, tokens), the weights; with BOS where the model reads it.
        norm: (layers, heads), the length of the head's output, mean over the queries that predict the suffix.
        attribution: (layers, heads), by how much the suffix's log-probability (nats per token) would fall if the head were switched off,
            as far as its gradient tells: (output - output when it is off) · gradient, summed over queries. Attribution patching.
    """

    attention: Float[np.ndarray, "layers heads tokens tokens"]
    norm: Float[np.ndarray, "layers heads"]
    attribution: Float[np.ndarray, "layers heads"]


@dataclass
class Observer:
    """Collects what the heads of every layer do while a batch is read.

    Attributes:
        mask: how each head is switched off, to see what would become of its output; None where no gradient is asked for.
    """

    mask: PositionMask | None
    attention: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    gone: dict[int, Tensor] = field(default_factory=dict)
    added: dict[int, Tensor] = field(default_factory=dict)

    def see(self, layer: int, weights: Tensor, output: Tensor) -> Tensor:
        """Keep what a layer's heads did; returns their outputs (batch, heads, queries, width), which know of their gradients if asked."""
        self.attention[layer] = weights.detach().sum(0)
        if self.mask is None:
            return output
        self.outputs[layer] = output.detach()
        self.added[layer] = torch.zeros_like(output, requires_grad=True)
        return output + self.added[layer]


# As `memgrid.lm.pooling.RECORDER`: what transformers calls by its name finds the observer here.
OBSERVER: ContextVar[Observer | None] = ContextVar("observer", default=None)


@offered(OBSERVED)
def observed_attention(module: nn.Module, scores: Tensor, value: Tensor, s_aux: Tensor | None) -> Tensor:
    """As `memgrid.lm.pooling.attend`, with gradients, while the current observer sees every head."""
    observer, layer = OBSERVER.get(), layer_of(module)
    if observer is None:
        raise RuntimeError("nobody observes")
    if observer.mask is not None:
        with torch.no_grad():
            off, _ = observer.mask.weights(layer, scores.detach().clone(), s_aux)
            observer.gone[layer] = torch.matmul(off.to(value.dtype), value)
    weights, _ = weights_of(scores, s_aux)
    output = observer.see(layer, weights, torch.matmul(weights.to(value.dtype), value))
    return output.transpose(1, 2).contiguous()


@contextmanager
def observing(model: Any, mask: PositionMask | None) -> Iterator[Observer]:
    """What the model reads inside, in this thread, is observed; afterwards as before."""
    observer = Observer(mask)
    token = OBSERVER.set(observer)
    try:
        with attention_of(model, OBSERVED):
            yield observer
    finally:
        OBSERVER.reset(token)


def refuse_unreachable(lm: LanguageModel) -> None:
    """Raise UserError for a model whose heads cannot be told apart.

    That is one with attention of its own, with layers that have none, or with other numbers of heads in some layers.
    """
    refused = f"the heads of llm {lm.identity.name!r} ({type(lm.model).__name__}) cannot be reached"
    if lm.places:
        raise UserError(f"{refused}, since it computes attention in code of its own: use intervene.unit=positions")
    attention = usual_attention(lm, np.arange(1, 9)[None] % lm.identity.vocabulary)
    if len({len(layer) for layer in attention}) > 1:
        raise UserError(f"{refused}, since its layers have different numbers of them: use intervene.unit=positions")


@torch.no_grad()
def usual_attention(lm: LanguageModel, tokens: Int[np.ndarray, "n length"]) -> list[Float[np.ndarray, "heads tokens tokens"]]:
    """Where every head of every layer looks, mean over sequences, float32; with BOS where the model reads it."""
    sums: dict[int, Tensor] = {}
    for batch in batches(lm, tokens, 1):
        with observing(lm.model, None) as observer:
            lm.model.base_model(input_ids=batch, attention_mask=torch.ones_like(batch), use_cache=False)
        for layer, weights in observer.attention.items():
            sums[layer] = weights if layer not in sums else sums[layer] + weights
    return [(sums[layer] / len(tokens)).cpu().numpy() for layer in sorted(sums)]


def mean_attention(lm: LanguageModel, tokens: np.ndarray) -> Float[np.ndarray, "layers length length"]:
    """The attention while the model reads sequences, mean over heads and sequences, float64."""
    length, size = tokens.shape[1], lm.batch_size(tokens.shape[1])
    parts = [lm.pooled_maps(tokens[start : start + size])["mean"].sum(0, dtype=np.float64) for start in range(0, len(tokens), size)]
    return Triangle(length).unpack((np.sum(parts, axis=0) / len(tokens)).T)


def observe_heads(lm: LanguageModel, tokens: Int[np.ndarray, "n length"], k: int, mask: PositionMask) -> HeadSummary:
    """What every head does while the model reads sequences.

    Args:
        mask: switches every head off, each as it would be alone: its gradient is taken while none is.
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    with frozen(lm.model):
        for batch in batches(lm, tokens, SMALLER):
            first = batch.shape[1] - tokens.shape[1]
            with observing(lm.model, mask.behind(first)) as observer:
                inputs = batch[:, :-1]
                logits = lm.model(input_ids=batch, attention_mask=torch.ones_like(batch), use_cache=False).logits
                predicted = logits[:, first + k - 1 : inputs.shape[1]].float()
                suffix_logprob(predicted, batch[:, first + k :]).sum().backward()
            parts.append(summed(observer, first + k - 1))
    attention, norm, attribution = (np.sum(part, axis=0) / len(tokens) for part in zip(*parts, strict=True))
    return HeadSummary(attention, norm, attribution)


def summed(observer: Observer, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What an observer has seen, sums over a batch: attention, norms of outputs from the query `start` on, and attributions."""
    layers = sorted(observer.attention)
    attention = torch.stack([observer.attention[layer] for layer in layers])
    norms, attributions = [], []
    for layer in layers:
        output = observer.outputs[layer]
        gradient = observer.added[layer].grad
        worth = torch.zeros_like(output) if gradient is None else (output - observer.gone[layer]) * gradient
        attributions.append(worth.sum((0, 2, 3), dtype=torch.float64))
        norms.append(output[:, :, start:-1].float().norm(dim=-1).mean(-1).sum(0, dtype=torch.float64))
    return tuple(part.double().cpu().numpy() for part in (attention, torch.stack(norms), torch.stack(attributions)))  # type: ignore[return-value]


def batches(lm: LanguageModel, tokens: Int[np.ndarray, "n length"], smaller: int) -> tuple[Int[Tensor, "batch tokens"], ...]:
    """What the model reads of sequences, so many times fewer at once as usual."""
    size = max(1, lm.batch_size(tokens.shape[1]) // smaller)
    whole = np.ascontiguousarray(lm.prefixed(tokens), np.int64)
    return torch.from_numpy(whole).to(lm.device).split(size)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No weight of the model asks for a gradient, for a while."""
    asking = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in asking:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in asking:
            weight.requires_grad_(True)
