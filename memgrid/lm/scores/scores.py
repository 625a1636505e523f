"""Scores: what teacher forcing tells of sequences, by every definition of memorization that one pass can tell."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from memgrid.lm.scores.places import PLAIN, Sampling, look_at

LEAST_SHARE = 0.2  # of the tokens, in Min-K % and Min-K %++


@dataclass(frozen=True)
class Scores:
    """What teacher forcing tells of sequences; all arrays have one entry per sequence.

    Attributes:
        memorized: bool; the arg max at every position from k - 1 on is the next token.
        confidence: float32; mean probability of the most probable token at the positions that predict the suffix.
        prefix_logprob: float32; mean log-probability (nats) of the prefix tokens after the first.
        suffix_logprob: float32; mean log-probability (nats) of the suffix tokens.
        suffix_probability: float32; mean probability of the suffix tokens.
        total_logprob: float32; the log-probability (nats) of all tokens after the first.
        p_extract: float64; the probability that one sampled continuation is the suffix (Hayes et al. 2024).
        shortest_prefix: int16; the least j from 1 on such that greedy decoding of the first j tokens gives the rest; the length where
            none does.
        min_k, min_k_plus: float32; the mean of the least fifth of the log-probabilities (Min-K %, Shi et al. 2024) and of the standings
            (Min-K %++, Zhang et al. 2025), see `Places`.
        logprob: float16 (n, length); of every token (nats), NaN of a first one before which nothing was read; None if not asked for.
    """

    memorized: np.ndarray
    confidence: np.ndarray
    prefix_logprob: np.ndarray
    suffix_logprob: np.ndarray
    suffix_probability: np.ndarray
    total_logprob: np.ndarray
    p_extract: np.ndarray
    shortest_prefix: np.ndarray
    min_k: np.ndarray
    min_k_plus: np.ndarray
    logprob: np.ndarray | None = None

    def of(self, rows: slice | np.ndarray) -> Scores:
        """Those of some sequences."""
        known = {part.name: getattr(self, part.name) for part in fields(self)}
        chosen: dict[str, Any] = {name: array if array is None else array[rows] for name, array in known.items()}
        return Scores(**chosen)


def scores_of(
    logits: Float[Tensor, "batch length vocabulary"] | Float[Tensor, "batch length-1 vocabulary"],
    inputs: Int[Tensor, "batch length"],
    k: int,
    suppressed: tuple[int, ...] = (),
    by_token: bool = False,
    sampling: Sampling = PLAIN,
) -> Scores:
    """What the logits of one pass say of the tokens that were read.

    Args:
        logits: what is expected after the last token is not looked at.
        suppressed: tokens that are never the most probable; probabilities are the model's own all the same.
        by_token: whether `logprob` is asked for.
        sampling: how the continuation of `p_extract` is drawn.
    """
    places = look_at(logits[:, : inputs.shape[1] - 1], inputs[:, 1:], suppressed, sampling)
    given, suffix = places.given, slice(k - 1, None)
    numbers = {
        "confidence": places.best[:, suffix].exp().mean(-1),
        "prefix_logprob": given[:, : k - 1].mean(-1) if k > 1 else torch.zeros(len(inputs)),
        "suffix_logprob": given[:, suffix].mean(-1),
        "suffix_probability": given[:, suffix].exp().mean(-1),
        "total_logprob": given.sum(-1),
        "p_extract": places.sampled[:, suffix].double().sum(-1).exp(),
        "min_k": least(given),
        "min_k_plus": least(places.standing),
    }
    return Scores(
        memorized=places.right[:, suffix].all(-1).cpu().numpy(),
        shortest_prefix=shortest(places.right).cpu().numpy().astype(np.int16),
        logprob=after_first(given) if by_token else None,
        **{name: tensor.cpu().numpy() for name, tensor in numbers.items()},
    )


def joined(parts: list[Scores]) -> Scores:
    """The scores of several parts of a batch, of each of which the same is known."""
    given = {part.name: [getattr(scores, part.name) for scores in parts] for part in fields(Scores)}
    whole: dict[str, Any] = {name: None if arrays[0] is None else np.concatenate(arrays) for name, arrays in given.items()}
    return Scores(**whole)


def shortest(right: Bool[Tensor, "batch length-1"]) -> Int[Tensor, " batch"]:
    """The least number of tokens after which every token is the right one, from 1 on; all of them where the last one is wrong."""
    wrong = (~right).flip(-1).int()
    to_the_end = torch.where(wrong.any(-1), wrong.argmax(-1), right.shape[1])
    return right.shape[1] + 1 - to_the_end


def least(numbers: Float[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
    """The mean of the least of a sequence's numbers: of a fifth of them, or of one."""
    count = max(1, int(LEAST_SHARE * numbers.shape[1]))
    return numbers.topk(count, largest=False).values.mean(-1)


def after_first(values: Float[Tensor, "batch length-1"]) -> Float[np.ndarray, "batch length"]:
    """Log-probabilities of all tokens but the first, of which nothing is known: NaN."""
    return np.pad(values.half().cpu().numpy(), ((0, 0), (1, 0)), constant_values=np.nan)


def zlib_bytes(texts: list[str]) -> np.ndarray:
    """The length of each text in bytes when zlib has compressed its UTF-8, float32 (n,) (Carlini et al. 2021, section 5.2)."""
    return np.array([len(zlib.compress(text.encode(errors="surrogatepass"))) for text in texts], np.float32)
