"""The language model: load it, ask it for continuations, and read its attention while it decodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import GenerationConfig

from memgrid.errors import UserError
from memgrid.lm.hooks import Place, logits_in_parts, taken_out
from memgrid.lm.pooling import POOLED, AttentionRecorder, attention_of, recording
from memgrid.lm.scores.places import PLAIN, Sampling
from memgrid.lm.scores.scores import Scores, joined, scores_of
from memgrid.lm.triangle import without_first


@dataclass(frozen=True)
class ModelIdentity:
    """What a model is, known without loading its weights.

    Attributes:
        fingerprint: tells its weights and dtype from all others. checkpoint: under which name of its own; see `config.names.checkpoint_of`.
    """

    name: str
    revision: str
    fingerprint: str
    layers: int
    vocabulary: int
    checkpoint: str = ""


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer without its model."""

    tokenizer: Any

    def detokenize(self, tokens: Int[np.ndarray, "batch length"]) -> list[str]:
        """The text of each sequence, nothing cleaned up."""
        return self.tokenizer.batch_decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class LanguageModel(Tokenizer):
    """A causal language model with its tokenizer.

    Attributes:
        places: where the model hands on its attention, layer by layer, if it does not take it from transformers' attention interface;
            filled by `memgrid.lm.proof.prove_pooling`.
        suppressed: tokens with which it never continues.
        sampling: how the continuation is drawn whose probability `score` tells.
    """

    identity: ModelIdentity
    model: Any
    device: torch.device
    batch_tokens: int
    places: list[Place] = field(default_factory=list)
    suppressed: tuple[int, ...] = ()
    sampling: Sampling = PLAIN

    def without_end(self) -> LanguageModel:
        """The same model, which never continues with its end-of-text token, if it has one."""
        end = self.tokenizer.eos_token_id
        return self if end is None else replace(self, suppressed=(end,))

    def batch_size(self, length: int) -> int:
        """How many sequences of `length` tokens are computed at once."""
        return max(1, self.batch_tokens // length)

    def prefixed(self, tokens: Int[np.ndarray, "batch length"]) -> np.ndarray:
        """What the model reads of sequences: the tokens themselves."""
        return tokens

    @torch.inference_mode()
    def score(self, tokens: Int[np.ndarray, "batch length"], k: int) -> Scores:
        """Read sequences once under teacher forcing (how-it-works 4: one pass equals greedy decoding, up to exact ties)."""
        inputs = self._tensor(tokens)
        return self._scores(self._body(inputs), inputs, k)

    @torch.inference_mode()
    def score_and_pool(self, tokens: Int[np.ndarray, "batch length"], k: int) -> tuple[Scores, dict[str, np.ndarray]]:
        """`score` and `pooled_maps` in one pass, and how probable every token was."""
        inputs = self._tensor(tokens)
        with self.pooling(inputs) as recorder:
            body = self._body(inputs)
        return self._scores(body, inputs, k, by_token=True), recorder.maps()

    @torch.inference_mode()
    def continue_greedily(self, prefix: Int[np.ndarray, "batch k"], steps: int) -> Int[np.ndarray, "batch steps"]:
        """The greedy continuation, int32.

        How probable it is, says the pass that reads it (`score`): where several threads share the work of single tokens, the last bit of
        a logit depends on the sequence's place in the batch. The end-of-text token is a token like any other here, unless it is suppressed:
        a training sequence may contain it.
        """
        inputs = self._tensor(prefix)
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=steps,
            eos_token_id=None,
            pad_token_id=0,
            suppress_tokens=list(self.suppressed) or None,
            use_cache=True,
        )
        self.model.generation_config.eos_token_id = None
        # The mask is all ones, explicitly: transformers would otherwise guess padding from token 0.
        generated = self.model.generate(inputs, attention_mask=torch.ones_like(inputs), generation_config=greedy)
        return generated[:, prefix.shape[1] :].cpu().numpy().astype(np.int32)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def pooled_maps(self, decoded: Int[np.ndarray, "batch length"]) -> dict[str, np.ndarray]:
        """The attention while the model reads `decoded`, as `mean` and `max` over heads: float16 (batch, positions, layers).

        The language-model head is not computed. Positions are the lower triangle, row by row.
        """
        inputs = self._tensor(decoded)
        with self.pooling(inputs) as recorder:
            self._body(inputs)
        return recorder.maps()

    @contextmanager
    def pooling(self, inputs: Tensor) -> Iterator[AttentionRecorder]:
        """What the model reads inside is pooled.

        Raises:
            UserError: not every layer reported.
        """
        layers = self.identity.layers
        recorder = AttentionRecorder(len(inputs), inputs.shape[1], layers)
        way = taken_out(self.model, self.places) if self.places else attention_of(self.model, POOLED)
        with way, recording(recorder):
            yield recorder
        if len(recorder.layers) != layers:
            raise UserError(f"llm {self.identity.name!r} reported the attention of {len(recorder.layers)} of its {layers} layers")

    def _body(self, inputs: Int[Tensor, "batch length"]) -> Any:
        """What the model makes of what it reads, before its head."""
        return self.model.base_model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)

    def _scores(self, body: Any, inputs: Int[Tensor, "batch length"], k: int, by_token: bool = False) -> Scores:
        """What the head says of that, a few sequences at a time."""
        parts = logits_in_parts(self.model, body, inputs, self.identity.vocabulary)
        return joined([scores_of(logits, inputs[rows], k, self.suppressed, by_token, self.sampling) for rows, logits in parts])

    def _tensor(self, tokens: np.ndarray) -> Int[Tensor, "batch length"]:
        return torch.from_numpy(np.ascontiguousarray(tokens, dtype=np.int64)).to(self.device)


@dataclass(frozen=True)
class AfterBos(LanguageModel):
    """A language model that reads every sequence after its BOS token, as some were trained to (Gemma, Llama).

    The maps are those of the sequence alone, and nothing is renormalised: what a row of the mean lacks to one is what it gives to BOS. The
    first token has a probability here, and counts in `prefix_logprob`.
    """

    bos: int = 0

    def batch_size(self, length: int) -> int:
        """How many sequences of `length` tokens and BOS are computed at once."""
        return super().batch_size(length + 1)

    def score(self, tokens: Int[np.ndarray, "batch length"], k: int) -> Scores:
        """As ever, after BOS."""
        return without_bos(super().score(self.prefixed(tokens), k + 1))

    def score_and_pool(self, tokens: Int[np.ndarray, "batch length"], k: int) -> tuple[Scores, dict[str, np.ndarray]]:
        """As ever, after BOS."""
        scores, maps = super().score_and_pool(self.prefixed(tokens), k + 1)
        return without_bos(scores), without_first(maps, tokens.shape[1])

    def continue_greedily(self, prefix: Int[np.ndarray, "batch k"], steps: int) -> Int[np.ndarray, "batch steps"]:
        """As ever, after BOS."""
        return super().continue_greedily(self.prefixed(prefix), steps)

    def pooled_maps(self, decoded: Int[np.ndarray, "batch length"]) -> dict[str, np.ndarray]:
        """As ever, after BOS, whose row and column are left out."""
        return without_first(super().pooled_maps(self.prefixed(decoded)), decoded.shape[1])

    def prefixed(self, tokens: Int[np.ndarray, "batch length"]) -> Int[np.ndarray, "batch length+1"]:
        """The tokens after BOS, int64."""
        return np.insert(tokens.astype(np.int64), 0, self.bos, axis=1)


def without_bos(scores: Scores) -> Scores:
    """The scores of sequences that were read after BOS, which counts as no token of theirs; a prefix has one at least."""
    logprob = None if scores.logprob is None else scores.logprob[:, 1:]
    return replace(scores, logprob=logprob, shortest_prefix=np.maximum(scores.shortest_prefix - 1, 1))


def after_bos(lm: LanguageModel, identity: ModelIdentity, bos: int) -> AfterBos:
    """The same model, which reads after the token `bos`; `identity` as `identity_after_bos` makes it."""
    given = {field.name: getattr(lm, field.name) for field in fields(lm)}
    return AfterBos(**{**given, "identity": identity, "bos": bos})


def identity_after_bos(identity: ModelIdentity, bos: int) -> ModelIdentity:
    """Another identity than the model's own: labels and attention of both are never taken for each other."""
    fingerprint = hashlib.sha256(f"{identity.fingerprint} after {bos}".encode()).hexdigest()
    return replace(identity, fingerprint=fingerprint[: len(identity.fingerprint)])
