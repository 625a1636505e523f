"""Sequences that are read again and again, each time under another mask, and what the model still says of them."""

from __future__ import annotations

import copy
import inspect
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from memgrid.intervene.attention.masking import PositionMask, masking
from memgrid.lm.model import LanguageModel

PIECE = 8  # tokens of a suffix that are read before the sequences that differ are dropped
PREFIX_BYTES = 1 << 30  # keys and values of prefixes that a reader keeps; beyond, they are computed again


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
        self.cache_name = "cache" if "cache" in names else "past_key_values"  # since transformers 5.24, and before
        self._prefixes: dict[int, Any] = {}
        self._bytes = 0
        self._answers: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        self._kept: dict[bytes, np.ndarray] = {}

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
        if mask.digest in self._kept:
            return self._kept[mask.digest]
        if not self.split or self.lm.device.type != "cpu" or mask.digest in self._answers:
            return self.read(mask)[0]
        self._kept[mask.digest] = self._read_on(mask)
        return self._kept[mask.digest]

    def _read_on(self, mask: PositionMask) -> Bool[np.ndarray, " n"]:
        """Whether the model still decodes each suffix; a sequence is read only until it differs."""
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
            logits = self._read_behind(cache, batch[right, start:end], read)
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
        return self._read_behind(prefix, inputs[:, self.k - 1 :], ones)

    def _read_behind(self, cache: Any, inputs: Tensor, attention_mask: Tensor) -> Float[Tensor, "batch tokens vocabulary"]:
        """The logits of tokens behind those whose keys and values are in a cache, to which theirs are added."""
        logits: Tensor = self.lm.model(input_ids=inputs, attention_mask=attention_mask, use_cache=True, **{self.cache_name: cache}).logits
        return logits

    def _prefix(self, number: int, inputs: Tensor) -> Any:
        """A copy of a batch's keys and values of the first k - 1 tokens; None if the model forgets some (sliding windows)."""
        cache = self._prefixes.get(number)
        if cache is None:
            read = self.lm.model.base_model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=True)
            cache = getattr(read, self.cache_name)
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
    logprob = suffix_logprob(logits, suffix)
    if suppressed:
        logits[..., list(suppressed)] = -torch.inf
    # max is several times faster here than argmax
    return (logits.max(-1).indices == suffix).all(1), logprob


def suffix_logprob(logits: Float[Tensor, "batch suffix vocabulary"], suffix: Int[Tensor, "batch suffix"]) -> Float[Tensor, " batch"]:
    """Each suffix's mean log-probability, nats per token."""
    return (logits.gather(-1, suffix[..., None])[..., 0] - logits.logsumexp(-1)).mean(1)
