"""Attention with positions switched off: a function that transformers calls in every layer, and what a model still says under it."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from memgrid.errors import UserError
from memgrid.lm.hooks import Place, switched_off
from memgrid.lm.model import LanguageModel
from memgrid.lm.pooling import attend, attention_of, attention_scores, layer_of, refuse_unknown, weights_of
from memgrid.lm.triangle import Triangle

MASKED = "memgrid_masked"
PIECE = 8  # tokens of a suffix that are read before the sequences that differ are dropped
PREFIX_BYTES = 1 << 30  # keys and values of prefixes that a reader keeps; beyond, they are computed again


class PositionMask:
    """Positions whose attention is switched off, on all heads or, at each position, on the most attentive ones.

    A mask knows of layers, queries and keys, never of tokens. So what the model computes at a position still depends on no later token,
    and one pass under teacher forcing tells what greedy decoding under the mask does: as long as decoding has reproduced the suffix it
    has read the same tokens, its next choice is the pass's arg max there, and the first that differs ends both alike. (With `heads`, the
    choice of heads at a position depends on tokens up to the query, hence on nothing later either.)

    Args:
        positions: bool (layers, length, length); what lies above the diagonal is never attended and means nothing.
        heads: at each position only so many heads are switched off, for each sequence those with the largest weight there (given the
            masks of earlier layers, before this layer's own).

    Raises:
        ValueError: a row would keep no key.
    """

    def __init__(self, positions: Bool[np.ndarray, "layers length length"], heads: int | None = None) -> None:
        _, _, length = positions.shape
        if (positions | ~Triangle(length).mask).all(-1).any():
            raise ValueError("a row of the mask switches all its keys off: nothing would be left to sum to 1")
        self.heads = heads
        self.layers = [torch.from_numpy(layer) if layer.any() else None for layer in np.ascontiguousarray(positions)]
        self.first_query = int(np.flatnonzero(positions.any((0, 2))).min(initial=length))
        self.digest = hashlib.sha256(np.packbits(positions).tobytes() + repr((positions.shape, heads)).encode()).digest()

    def behind(self, first: int) -> PositionMask:
        """The same mask for sequences before which so many tokens stand: these see and are seen as ever."""
        if not first:
            return self
        moved = copy.copy(self)
        moved.layers = [layer if layer is None else nn.functional.pad(layer, (first, 0) * 2) for layer in self.layers]
        moved.first_query += first
        return moved

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
    ) -> Bool[Tensor, "queries keys"] | Bool[Tensor, "batch heads queries keys"] | None:
        """What is switched off in a layer; None where nothing is.

        Args:
            size: how many queries and keys there are; the queries are the last ones of the keys.
            weights: computes what the weights are without this layer's mask.
        """
        off = self.layers[layer]
        if off is None:
            return None
        queries, keys = size
        off = off[keys - queries : keys, :keys]
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


def masked_attention(
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
    """Attention as in `memgrid.lm.pooling.pooled_attention`, with the positions of the current mask switched off.

    It also works on the last tokens only, while a cache of keys and values holds all tokens before them.
    """
    refuse_unknown(module, others)
    scores, value = attention_scores(query, key, value, attention_mask, scaling, softcap)
    if (mask := MASK.get()) is not None:
        mask.switch_off(layer_of(module), scores, s_aux)
    return attend(module, scores, value, s_aux), None


AttentionInterface.register(MASKED, masked_attention)
AttentionMaskInterface.register(MASKED, eager_mask)


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


class MaskedReader:
    """Sequences that are read again and again, each time under another mask; only what a mask can change is computed.

    Only outputs that predict the suffix go through the language-model head. With `suffix_only`, no mask touches a query before k - 1:
    the prefix is read once and its keys and values are kept. Where the model reads after BOS, no mask touches BOS.

    Args:
        tokens: (n, length), any integers.
    """

    def __init__(self, lm: LanguageModel, tokens: Int[np.ndarray, "n length"], k: int, suffix_only: bool) -> None:
        whole = lm.prefixed(tokens)
        self.first = whole.shape[1] - tokens.shape[1]  # tokens before the sequence
        self.lm, self.k = lm, self.first + k
        self.split = suffix_only and self.k > 1 and not lm.places
        self.suffix = tokens.shape[1] - k
        size = lm.batch_size(self.suffix if self.split else tokens.shape[1])
        self.batches = torch.from_numpy(np.ascontiguousarray(whole, np.int64)).to(lm.device).split(size)
        names = inspect.signature(lm.model.forward).parameters
        self.few = {"logits_to_keep": self.suffix} if "logits_to_keep" in names else {}
        self._prefixes: dict[int, Any] = {}
        self._bytes = 0
        self._answers: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    @torch.inference_mode()
    def read(self, mask: PositionMask) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Whether the model still decodes each suffix under the mask, and the suffix's mean log-probability (nats per token), float32."""
        if mask.digest not in self._answers:
            with self._under(mask):
                parts = [
                    suffix_scores(self._logits(number, batch), batch[:, self.k :], self.lm.suppressed)
                    for number, batch in enumerate(self.batches)
                ]
            extractable, logprob = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
            self._answers[mask.digest] = (extractable, logprob)
        return self._answers[mask.digest]

    @torch.inference_mode()
    def extractable(self, mask: PositionMask) -> Bool[np.ndarray, " n"]:
        """Whether the model still decodes each suffix, and no more: a sequence is read only until it differs.

        On a GPU, which is done with all of them sooner than with one part after the other, it is what `read` gives.
        """
        if not self.split or self.lm.device.type != "cpu" or mask.digest in self._answers:
            return self.read(mask)[0]
        parts = []
        with self._under(mask):
            for number, batch in enumerate(self.batches):
                prefix = self._prefix(number, batch[:, : self.k - 1])
                if prefix is None:
                    break
                parts.append(self._as_far_as_right(batch, prefix))
        return np.concatenate(parts) if len(parts) == len(self.batches) else self.read(mask)[0]

    def _under(self, mask: PositionMask) -> AbstractContextManager[None]:
        """What is read inside is read under a mask."""
        moved = mask.behind(self.first)
        if self.split and moved.first_query < self.k - 1:
            raise ValueError("this reader keeps its prefixes: the mask may only have queries from k - 1 on")
        return masking(self.lm.model, moved, self.lm.places)

    def _as_far_as_right(self, batch: Tensor, cache: Any) -> Bool[np.ndarray, " batch"]:
        """Whether each suffix of a batch is decoded; `cache` holds the first k - 1 tokens, and is used up."""
        right, last = torch.arange(len(batch), device=batch.device), batch.shape[1] - 1
        for start in range(self.k - 1, last, PIECE):
            end = min(start + PIECE, last)
            read = torch.ones_like(batch[right, :end])
            logits = self.lm.model(input_ids=batch[right, start:end], attention_mask=read, past_key_values=cache, use_cache=True).logits
            same = suffix_scores(logits, batch[right, start + 1 : end + 1], self.lm.suppressed)[0]
            right = right[same]
            if not len(right) or end == last:
                break
            if not same.all():
                cache.batch_select_indices(same.nonzero()[:, 0])
        return np.isin(np.arange(len(batch)), right.cpu().numpy())

    def _logits(self, number: int, batch: Tensor) -> Float[Tensor, "batch suffix vocabulary"]:
        """The logits at the positions from k - 1 on that predict the suffix; the last token is not read, since it predicts nothing."""
        inputs = batch[:, :-1]
        ones = torch.ones_like(inputs)
        prefix = self._prefix(number, inputs[:, : self.k - 1]) if self.split else None
        if prefix is None:
            return self.lm.model(input_ids=inputs, attention_mask=ones, use_cache=False, **self.few).logits[:, -self.suffix :]
        return self.lm.model(input_ids=inputs[:, self.k - 1 :], attention_mask=ones, past_key_values=prefix, use_cache=True).logits

    def _prefix(self, number: int, inputs: Tensor) -> Any:
        """A copy of a batch's keys and values of the first k - 1 tokens; None if the model forgets some (sliding windows)."""
        cache = self._prefixes.get(number)
        if cache is None:
            cache = self.lm.model.base_model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=True).past_key_values
            kept: list[Any] = [getattr(layer, "keys", None) for layer in cache.layers]
            if any(keys is None or keys.shape[2] != inputs.shape[1] for keys in kept):
                self.split = False
                return None
            size = 2 * sum(keys.nbytes for keys in kept)
            if self._bytes + size > PREFIX_BYTES:
                return cache
            self._prefixes[number] = cache
            self._bytes += size
        return copy.deepcopy(cache)


def suffix_scores(
    logits: Float[Tensor, "batch suffix vocabulary"], suffix: Int[Tensor, "batch suffix"], suppressed: tuple[int, ...] = ()
) -> tuple[Bool[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Whether the arg max is the suffix at every position, and the suffix's mean log-probability (nats); `suppressed` as in `scores_of`."""
    logits = logits.float()
    given = logits.gather(-1, suffix[..., None])[..., 0] - logits.logsumexp(-1)
    if suppressed:
        logits[..., list(suppressed)] = -torch.inf
    # max is several times faster here than argmax
    return (logits.max(-1).indices == suffix).all(1), given.mean(1)
