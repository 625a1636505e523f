"""The language model: load it, ask it for continuations, and read its attention while it decodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig

from memgrid.errors import UserError
from memgrid.lm.hooks import Place, taken_out
from memgrid.lm.pooling import POOLED, AttentionRecorder, attention_of, recording


@dataclass(frozen=True)
class Scores:
    """What teacher forcing tells of sequences; all arrays have one entry per sequence.

    Attributes:
        memorized: bool; the arg max at every position from k - 1 on is the next token.
        confidence: float32; mean probability of the most probable token at the positions that predict the suffix.
        prefix_logprob: float32; mean log-probability (nats) of the prefix tokens after the first.
        suffix_logprob: float32; mean log-probability (nats) of the suffix tokens.
        suffix_probability: float32; mean probability of the suffix tokens.
    """

    memorized: np.ndarray
    confidence: np.ndarray
    prefix_logprob: np.ndarray
    suffix_logprob: np.ndarray
    suffix_probability: np.ndarray

    def first(self, count: int) -> Scores:
        """Those of the first sequences."""
        return Scores(**{part.name: getattr(self, part.name)[:count] for part in fields(self)})


def scores_of(
    logits: Float[Tensor, "batch length vocabulary"], inputs: Int[Tensor, "batch length"], k: int, suppressed: tuple[int, ...] = ()
) -> Scores:
    """What the logits of one pass, which are not needed afterwards, say of the tokens that were read.

    Args:
        suppressed: tokens that are never the most probable; probabilities are the model's own all the same.
    """
    logits = logits[:, :-1].float()
    # Log-probabilities only where they are asked for: a second tensor of all of them costs more time than the model's last layers.
    total = logits.logsumexp(-1)
    given = logits.gather(-1, inputs[:, 1:, None])[..., 0] - total
    if suppressed:
        logits[..., list(suppressed)] = -torch.inf
    highest, predicted = logits.max(-1)
    best = highest - total
    return Scores(
        memorized=(predicted[:, k - 1 :] == inputs[:, k:]).all(-1).cpu().numpy(),
        confidence=best[:, k - 1 :].exp().mean(-1).cpu().numpy(),
        prefix_logprob=given[:, : k - 1].mean(-1).cpu().numpy() if k > 1 else np.zeros(len(inputs), np.float32),
        suffix_logprob=given[:, k - 1 :].mean(-1).cpu().numpy(),
        suffix_probability=given[:, k - 1 :].exp().mean(-1).cpu().numpy(),
    )


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
    """

    identity: ModelIdentity
    model: Any
    device: torch.device
    batch_tokens: int
    places: list[Place] = field(default_factory=list)
    suppressed: tuple[int, ...] = ()

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
        logits = self.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
        return scores_of(logits, inputs, k, self.suppressed)

    @torch.inference_mode()
    def score_and_pool(self, tokens: Int[np.ndarray, "batch length"], k: int) -> tuple[Scores, dict[str, np.ndarray]]:
        """`score` and `pooled_maps` in one pass, for corpora of which most sequences' attention will be wanted."""
        inputs = self._tensor(tokens)
        with self.pooling(inputs) as recorder:
            logits = self.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
        return scores_of(logits, inputs, k, self.suppressed), recorder.maps()

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
            self.model.base_model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)
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
        return super().score(self.prefixed(tokens), k + 1)

    def score_and_pool(self, tokens: Int[np.ndarray, "batch length"], k: int) -> tuple[Scores, dict[str, np.ndarray]]:
        """As ever, after BOS."""
        scores, maps = super().score_and_pool(self.prefixed(tokens), k + 1)
        return scores, without_first(maps, tokens.shape[1])

    def continue_greedily(self, prefix: Int[np.ndarray, "batch k"], steps: int) -> Int[np.ndarray, "batch steps"]:
        """As ever, after BOS."""
        return super().continue_greedily(self.prefixed(prefix), steps)

    def pooled_maps(self, decoded: Int[np.ndarray, "batch length"]) -> dict[str, np.ndarray]:
        """As ever, after BOS, whose row and column are left out."""
        return without_first(super().pooled_maps(self.prefixed(decoded)), decoded.shape[1])

    def prefixed(self, tokens: Int[np.ndarray, "batch length"]) -> Int[np.ndarray, "batch length+1"]:
        """The tokens after BOS, int64."""
        return np.insert(tokens.astype(np.int64), 0, self.bos, axis=1)


def without_first(maps: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """Packed maps of `length` + 1 tokens without the first one's row and column."""
    query, key = np.tril_indices(length)
    kept = (query + 1) * (query + 2) // 2 + key + 1
    return {name: pool[:, kept] for name, pool in maps.items()}


def after_bos(lm: LanguageModel, identity: ModelIdentity, bos: int) -> AfterBos:
    """The same model, which reads after the token `bos`; `identity` as `identity_after_bos` makes it."""
    given = {field.name: getattr(lm, field.name) for field in fields(lm)}
    return AfterBos(**{**given, "identity": identity, "bos": bos})


def identity_after_bos(identity: ModelIdentity, bos: int) -> ModelIdentity:
    """Another identity than the model's own: labels and attention of both are never taken for each other."""
    fingerprint = hashlib.sha256(f"{identity.fingerprint} after {bos}".encode()).hexdigest()
    return replace(identity, fingerprint=fingerprint[: len(identity.fingerprint)])
