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
from memgrid.lm.hooks import Place, logits_in_parts, taken_out
from memgrid.lm.pooling import POOLED, AttentionRecorder, attention_of, recording
from memgrid.lm.triangle import without_first

AT_ONCE = 2**19  # logits that are looked at together: 2 MiB, which a processor keeps at hand
NEVER = -1e4  # the log-probability of what has none, and the least that is told: float16 knows it
LEAST_SHARE = 0.2  # of the tokens, in Min-K %++
FLAT = 1e-3  # a smaller deviation of log-probabilities is rounding


@dataclass(frozen=True)
class Scores:
    """What teacher forcing tells of sequences; all arrays have one entry per sequence.

    Attributes:
        memorized: bool; the arg max at every position from k - 1 on is the next token.
        confidence: float32; mean probability of the most probable token at the positions that predict the suffix.
        prefix_logprob: float32; mean log-probability (nats) of the prefix tokens after the first.
        suffix_logprob: float32; mean log-probability (nats) of the suffix tokens.
        suffix_probability: float32; mean probability of the suffix tokens.
        logprob: float16 (n, length); of every token (nats), NaN of a first one before which nothing was read; None if not asked for.
        min_k: float32; Min-K %++ (Zhang et al. 2024), the mean of the least fifth of `standings`; None if not asked for.
    """

    memorized: np.ndarray
    confidence: np.ndarray
    prefix_logprob: np.ndarray
    suffix_logprob: np.ndarray
    suffix_probability: np.ndarray
    logprob: np.ndarray | None = None
    min_k: np.ndarray | None = None

    def of(self, rows: slice | np.ndarray) -> Scores:
        """Those of some sequences."""
        known = {part.name: getattr(self, part.name) for part in fields(self)}
        chosen: dict[str, Any] = {name: array if array is None else array[rows] for name, array in known.items()}
        return Scores(**chosen)


def scores_of(
    logits: Float[Tensor, "batch length vocabulary"],
    inputs: Int[Tensor, "batch length"],
    k: int,
    suppressed: tuple[int, ...] = (),
    by_token: bool = False,
) -> Scores:
    """What the logits of one pass, which are not needed afterwards, say of the tokens that were read.

    Args:
        suppressed: tokens that are never the most probable; probabilities are the model's own all the same.
        by_token: whether `logprob` and `min_k` are asked for.
    """
    logits = logits[:, :-1].float()
    # Log-probabilities only where they are asked for: a second tensor of all of them costs more time than the model's last layers.
    total = logits.logsumexp(-1)
    given = logits.gather(-1, inputs[:, 1:, None])[..., 0] - total
    standing = standings(logits, total, given) if by_token else None
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
        logprob=after_first(given) if by_token else None,
        min_k=None if standing is None else least(standing).cpu().numpy(),
    )


def joined(parts: list[Scores]) -> Scores:
    """The scores of several parts of a batch, of each of which the same is known."""
    return Scores(**{part.name: np.concatenate([getattr(scores, part.name) for scores in parts]) for part in fields(Scores)})


def standings(
    logits: Float[Tensor, "batch length vocabulary"], total: Float[Tensor, "batch length"], given: Float[Tensor, "batch length"]
) -> Float[Tensor, "batch length"]:
    """How many standard deviations each token's log-probability lies above the mean one at its place.

    Mean and deviation are over what the model expects there. Where it takes all tokens for equally probable: 0. A few places at a time, so
    that no second tensor of all logits is made.

    Args:
        logits: float32. total: their logsumexp. given: the log-probabilities of the tokens.
    """
    found, step = torch.empty_like(given), max(1, AT_ONCE // logits.shape[-1])
    for row in range(len(given)):
        for places in torch.arange(given.shape[1]).split(step):
            part = row, slice(int(places[0]), int(places[-1]) + 1)
            every = (logits[part] - total[part][:, None]).clamp_(min=NEVER)
            chances = every.exp()
            mean = (chances * every).sum(-1)
            deviation = (every.sub_(mean[:, None]).square_() * chances).sum(-1).sqrt()
            found[part] = (given[part].clamp(min=NEVER) - mean) / deviation.clamp(min=FLAT)
    return found


def least(standing: Float[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
    """The mean of the least of a sequence's numbers: of a fifth of them, or of one."""
    count = max(1, int(LEAST_SHARE * standing.shape[1]))
    return standing.topk(count, largest=False).values.mean(-1)


def after_first(values: Float[Tensor, "batch length-1"]) -> Float[np.ndarray, "batch length"]:
    """Log-probabilities of all tokens but the first, of which nothing is known: NaN."""
    return np.pad(values.clamp(min=NEVER).half().cpu().numpy(), ((0, 0), (1, 0)), constant_values=np.nan)


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
        """`score` and `pooled_maps` in one pass, and how probable every token was."""
        inputs = self._tensor(tokens)
        with self.pooling(inputs) as recorder:
            body = self.model.base_model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)
        parts = logits_in_parts(self.model, body, inputs, self.identity.vocabulary)
        return joined([scores_of(logits, inputs[rows], k, self.suppressed, by_token=True) for rows, logits in parts]), recorder.maps()

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
        assert scores.logprob is not None
        return replace(scores, logprob=scores.logprob[:, 1:]), without_first(maps, tokens.shape[1])

    def continue_greedily(self, prefix: Int[np.ndarray, "batch k"], steps: int) -> Int[np.ndarray, "batch steps"]:
        """As ever, after BOS."""
        return super().continue_greedily(self.prefixed(prefix), steps)

    def pooled_maps(self, decoded: Int[np.ndarray, "batch length"]) -> dict[str, np.ndarray]:
        """As ever, after BOS, whose row and column are left out."""
        return without_first(super().pooled_maps(self.prefixed(decoded)), decoded.shape[1])

    def prefixed(self, tokens: Int[np.ndarray, "batch length"]) -> Int[np.ndarray, "batch length+1"]:
        """The tokens after BOS, int64."""
        return np.insert(tokens.astype(np.int64), 0, self.bos, axis=1)


def after_bos(lm: LanguageModel, identity: ModelIdentity, bos: int) -> AfterBos:
    """The same model, which reads after the token `bos`; `identity` as `identity_after_bos` makes it."""
    given = {field.name: getattr(lm, field.name) for field in fields(lm)}
    return AfterBos(**{**given, "identity": identity, "bos": bos})


def identity_after_bos(identity: ModelIdentity, bos: int) -> ModelIdentity:
    """Another identity than the model's own: labels and attention of both are never taken for each other."""
    fingerprint = hashlib.sha256(f"{identity.fingerprint} after {bos}".encode()).hexdigest()
    return replace(identity, fingerprint=fingerprint[: len(identity.fingerprint)])
