"""Attention with parts switched off: a function that transformers calls in every layer."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from memgrid.errors import UserError
from memgrid.lm.hooks import Place, switched_off
from memgrid.lm.model import LanguageModel
from memgrid.lm.pooling import attention_of, hand_on, layer_of, offered, weights_of
from memgrid.lm.triangle import Triangle

MASKED = "memgrid_masked"
RENORMALISE = "renormalise"


class PositionMask:
    """Positions whose attention is switched off: on all heads, on those that it names, or, at each position, on the most attentive ones.

    A mask knows of layers, heads, queries and keys, never of tokens. So what the model computes at a position still depends on no later
    token, and one pass under teacher forcing tells what greedy decoding under the mask does: as long as decoding has reproduced the suffix
    it has read the same tokens, its next choice is the pass's arg max there, and the first that differs ends both alike. (With `heads`, the
    choice of heads at a position depends on tokens up to the query, hence on nothing later either.)

    Args:
        positions: bool (layers, length, length), or (layers, heads, length, length) where heads differ; what lies above the diagonal is
            never attended and means nothing.
        heads: at each position only so many heads are switched off, for each sequence those with the largest weight there (given the
            masks of earlier layers, before this layer's own).
        replace: what comes in the place of the weights there. `renormalise`: nothing, and what is left of a row is made to sum to one.
            `zero`: nothing at all. `mean`: those of `usual`, and the rest of the row is made to sum with them to one.
        usual: for `mean`, float32 (layers, heads, tokens, tokens) of all tokens that the model reads, see `usual_attention`.

    Raises:
        ValueError: a row would keep no key to be renormalised on.
    """

    def __init__(
        self,
        positions: Bool[np.ndarray, "layers length length"] | Bool[np.ndarray, "layers heads length length"],
        heads: int | None = None,
        replace: str = RENORMALISE,
        usual: Float[np.ndarray, "layers heads tokens tokens"] | None = None,
    ) -> None:
        length = positions.shape[-1]
        if replace == RENORMALISE and (positions | ~Triangle(length).mask).all(-1).any():
            raise ValueError("a row of the mask switches all its keys off: nothing would be left to sum to 1")
        self.heads, self.replace, self.usual = heads, replace, None if usual is None else torch.from_numpy(usual)
        self.layers = [torch.from_numpy(layer) if layer.any() else None for layer in np.ascontiguousarray(positions)]
        by_query = positions.any(-1).reshape(-1, length).any(0)
        self.first_query = int(np.flatnonzero(by_query).min(initial=length))
        settings = repr((positions.shape, heads, *([] if replace == RENORMALISE else [replace])))
        # A reader knows answers by it; what is usual is the same for all masks of one experiment.
        self.digest = hashlib.sha256(np.packbits(positions).tobytes() + settings.encode()).digest()

    def behind(self, first: int) -> PositionMask:
        """The same mask for sequences before which so many tokens stand: these see and are seen as ever."""
        if not first:
            return self
        moved = copy.copy(self)
        moved.layers = [layer if layer is None else nn.functional.pad(layer, (first, 0) * 2) for layer in self.layers]
        moved.first_query += first
        return moved

    def weights(
        self, layer: int, scores: Float[Tensor, "batch heads queries keys"], s_aux: Tensor | None = None
    ) -> tuple[Float[Tensor, "batch heads queries keys"], Float[Tensor, "batch heads queries 1"] | None]:
        """The weights of a layer under the mask, and what goes to its sink, as `weights_of`; the scores are used up."""
        if self.replace == RENORMALISE:
            self.switch_off(layer, scores, s_aux)
            return weights_of(scores, s_aux)
        weights, sink = weights_of(scores, s_aux)
        off = self.off(layer, weights.shape[2:], lambda: weights)
        if off is not None:
            self.put_instead(layer, weights, sink, off.to(weights.device))
        return weights, sink

    def put_instead(self, layer: int, weights: Float[Tensor, "batch heads queries keys"], sink: Tensor | None, off: Tensor) -> None:
        """Replace the weights that are switched off, in place."""
        weights.masked_fill_(off, 0)
        if self.usual is None:
            return
        queries, keys = weights.shape[2:]
        usual = self.usual[layer, :, keys - queries : keys, :keys].to(weights.device) * off
        left = weights.sum(-1, keepdim=True) if sink is None else weights.sum(-1, keepdim=True) + sink
        share = torch.where(left > 0, (1 - usual.sum(-1, keepdim=True)) / left, 0)
        weights.mul_(torch.where(off.any(-1, keepdim=True), share, 1)).add_(usual)

    def switch_off(self, layer: int, scores: Float[Tensor, "batch heads queries keys"], s_aux: Tensor | None = None) -> None:
        """Set masked scores to minus infinity, in place: their weights become exactly 0, and the softmax renormalises the rest.

        That equals dividing by what is left of a row, but holds however little that is. The queries are the last ones of the keys.

        Raises:
            UserError: a row keeps no key that its layer lets it see.
        """
        off = self.off(layer, scores.shape[2:], lambda: weights_of(scores.clone(), s_aux)[0])
        if off is None:
            return
        scores.masked_fill_(off.to(scores.device), -torch.inf)
        if (scores[0].amax(-1) < torch.finfo(scores.dtype).min / 2).any():
            raise UserError(
                f"a mask switches off all that a token can see in layer {layer}, whose attention reaches back a few tokens only"
            )

    def off(
        self, layer: int, size: Sequence[int], weights: Callable[[], Float[Tensor, "batch heads queries keys"]]
    ) -> Bool[Tensor, "... queries keys"] | None:
        """What is switched off in a layer; None where nothing is.

        Args:
            size: how many queries and keys there are; the queries are the last ones of the keys.
            weights: computes what the weights are without this layer's mask.
        """
        off = self.layers[layer]
        if off is None:
            return None
        queries, keys = size
        off = off[..., keys - queries : keys, :keys]
        if self.heads is None:
            return off
        usual = weights()
        query, key = off.to(usual.device).nonzero(as_tuple=True)
        chosen = usual[:, :, query, key].topk(min(self.heads, usual.shape[1]), dim=1).indices
        return torch.zeros_like(usual, dtype=torch.bool).index_put(
            (torch.arange(len(usual), device=usual.device)[:, None, None], chosen, query, key),
            torch.ones((), dtype=torch.bool, device=usual.device),
        )


# As `memgrid.lm.pooling.RECORDER`: what transformers calls by its name finds the mask here. See `masking`.
MASK: ContextVar[PositionMask | None] = ContextVar("mask", default=None)


@offered(MASKED)
def masked_attention(module: nn.Module, scores: Tensor, value: Tensor, s_aux: Tensor | None) -> Tensor:
    """As `memgrid.lm.pooling.attend`, with what the current mask names switched off.

    It also works on the last tokens only, while a cache of keys and values holds all tokens before them.
    """
    mask = MASK.get()
    weights, sink = weights_of(scores, s_aux) if mask is None else mask.weights(layer_of(module), scores, s_aux)
    return hand_on(module, weights, sink, value)


@contextmanager
def masking(model: Any, mask: PositionMask | None, places: list[Place] | None = None) -> Iterator[None]:
    """What the model reads or generates inside, in this thread, is read under the mask; without one, as it is. Afterwards as before.

    Args:
        places: where a model hands on attention of its own (`LanguageModel.places`): it can only read whole sequences, without a cache.
    """
    token = MASK.set(mask)
    try:
        with switched_off(model, places, off_here) if places else attention_of(model, MASKED):
            yield
    finally:
        MASK.reset(token)


def off_here(layer: int, mask: Tensor, weights: Callable[[], Tensor]) -> Tensor | None:
    """What the current mask switches off in a layer with attention of its own, as `memgrid.lm.hooks.switched_off` asks for it."""
    current = MASK.get()
    *_, length = mask.shape
    return None if current is None else current.off(layer, (length, length), weights)


@torch.inference_mode()
def prove_masking(lm: LanguageModel) -> None:
    """Check a known output: where every token can look at itself only, the last output does not depend on the tokens before it.

    A layer that does not take its attention from our function would give itself away.

    Raises:
        UserError: the model still looks back.
    """
    tokens = np.stack([np.arange(1, 9), np.arange(9, 17)]) % lm.identity.vocabulary
    tokens[:, -1] = 1
    alone = PositionMask(np.repeat(np.tri(tokens.shape[1], k=-1, dtype=bool)[None], lm.identity.layers, 0))
    refused = f"the attention of llm {lm.identity.name!r} ({type(lm.model).__name__}) cannot be switched off"
    inputs = torch.from_numpy(tokens).to(lm.device)
    ones, gaps = torch.ones_like(inputs), []
    for mask in (alone, None):
        try:
            with masking(lm.model, mask, lm.places):
                state = lm.model.base_model(input_ids=inputs, attention_mask=ones, use_cache=False)[0]
        except UserError as error:
            raise UserError(f"{refused}: {error}, so leave intervene out of stages") from None
        gaps.append((state[0, -1] - state[1, -1]).abs().max().item())
    if not gaps[0] < 0.01 * gaps[1]:
        raise UserError(f"{refused}: a token still depends on tokens that it cannot look at, so leave intervene out of stages")
