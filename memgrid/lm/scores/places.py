"""What a model expects at each place, from the logits there: a few places at a time, so that no second tensor of all logits is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

AT_ONCE = 2**20  # logits that are looked at together: 4 MiB, which a processor keeps at hand ...
AT_ONCE_ON_GPU = 2**26  # ... and enough for a GPU to be busy
NEVER = -1e4  # the log-probability of what has none, and the least that is told: float16 knows it
FLAT = 1e-3  # a smaller deviation of log-probabilities is rounding


@dataclass(frozen=True)
class Sampling:
    """How a continuation is drawn: at a temperature, from the `top_k` most probable tokens (None: from all)."""

    temperature: float = 1.0
    top_k: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether tokens are drawn as the model expects them."""
        return self.temperature == 1 and self.top_k is None


PLAIN = Sampling()


@dataclass(frozen=True)
class Places:
    """What is expected where each token after the first stands; float32 tensors (batch, places), but for `right`.

    Attributes:
        given: the log-probability of the token that stands there, in nats; at least `NEVER`.
        best: the highest log-probability of a token with which the model continues.
        right: bool; whether that token, the first one of several, is the one that stands there.
        standing: by how many standard deviations `given` lies above the mean log-probability, both over what is expected there; 0 where
            all tokens are equally probable (Zhang et al. 2025, Min-K %++).
        sampled: the log-probability that the token is drawn, -inf where it cannot be.
    """

    given: Float[Tensor, "batch places"]
    best: Float[Tensor, "batch places"]
    right: Bool[Tensor, "batch places"]
    standing: Float[Tensor, "batch places"]
    sampled: Float[Tensor, "batch places"]


@torch.inference_mode()
def look_at(
    logits: Float[Tensor, "batch places vocabulary"],
    tokens: Int[Tensor, "batch places"],
    suppressed: tuple[int, ...] = (),
    sampling: Sampling = PLAIN,
) -> Places:
    """What the logits say of the tokens that stand where they expect one.

    Args:
        logits: in any precision; computed with in float32, and not to be used afterwards.
        suppressed: tokens with which the model never continues; probabilities are its own all the same.
    """
    names, empty = ("given", "best", "standing", "sampled"), torch.empty(tokens.shape, device=logits.device)
    found = Places(right=torch.empty_like(empty, dtype=torch.bool), **{name: torch.empty_like(empty) for name in names})
    room: Tensor | None = None
    for part in parts(logits):
        block = logits[part].float()
        room = torch.empty(block.shape, device=block.device) if room is None else room
        look_at_block(found, part, block, tokens[part], room[: len(block), : block.shape[1]], suppressed, sampling)
    return found


Part = tuple[slice, slice]


def parts(logits: Float[Tensor, "batch places vocabulary"]) -> Iterator[Part]:
    """Whole sequences or, of those that are too long, some places of one: the first part is the largest.

    How a sequence is divided depends on its length alone, never on those beside it.
    """
    batch, places, vocabulary = logits.shape
    most = max(1, (AT_ONCE_ON_GPU if logits.is_cuda else AT_ONCE) // vocabulary)
    rows, step = max(1, most // places), min(most, places)
    for row in range(0, batch, rows):
        for place in range(0, places, step):
            yield slice(row, row + rows), slice(place, place + step)


def look_at_block(
    found: Places,
    part: Part,
    logits: Float[Tensor, "rows places vocabulary"],
    tokens: Int[Tensor, "rows places"],
    room: Float[Tensor, "rows places vocabulary"],
    suppressed: tuple[int, ...],
    sampling: Sampling,
) -> None:
    """Fill in one part of what is found; `room` is for what is computed on the way."""
    top = first_highest(logits)
    # Seen from the highest: what the others add keeps its digits, however sure the model is.
    shifted = logits.sub_(logits.gather(-1, top[..., None]))
    chances = torch.softmax(shifted, -1, out=room)
    total = -chances.gather(-1, top[..., None])[..., 0].log()
    given = shifted.gather(-1, tokens[..., None])[..., 0]
    found.given[part] = (given - total).clamp(min=NEVER)
    found.sampled[part] = drawn(shifted, given, total, sampling)
    if suppressed:
        words = list(suppressed)
        top = first_highest(shifted.index_fill(-1, torch.tensor(words, device=logits.device), -torch.inf))
    found.best[part] = shifted.gather(-1, top[..., None])[..., 0] - total
    found.right[part] = top == tokens
    mean, square = moments(shifted, chances)
    deviation = (square - mean**2).clamp(min=0).sqrt().clamp(min=FLAT)
    found.standing[part] = ((given - total).clamp(min=NEVER) - (mean - total)) / deviation


def first_highest(logits: Float[Tensor, "rows places vocabulary"]) -> Int[Tensor, "rows places"]:
    """The first of the highest logits at each place, as greedy decoding takes it."""
    if logits.is_cuda:
        return logits.argmax(-1)
    return torch.from_numpy(logits.numpy().argmax(-1))  # the same, several times faster


def moments(shifted: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the shifted logits over what is expected, and that of their squares; `chances` are used up."""
    both = (chances.mul_(shifted).sum(-1), chances.mul_(shifted).sum(-1))
    if not both[0].isnan().any():
        return both
    shifted.clamp_(min=NEVER)  # what is never expected, nothing times infinity, has no part in it
    torch.softmax(shifted, -1, out=chances)
    return chances.mul_(shifted).sum(-1), chances.mul_(shifted).sum(-1)


def drawn(shifted: Tensor, given: Tensor, total: Tensor, sampling: Sampling) -> Tensor:
    """The log-probability that the given tokens are drawn, -inf where they cannot be.

    With `top_k`, tokens that are as probable as the last of the k take part.
    """
    if sampling.is_plain:
        return given - total
    if sampling.top_k is None or sampling.top_k >= shifted.shape[-1]:
        return given / sampling.temperature - (shifted / sampling.temperature).logsumexp(-1)
    least = shifted.topk(sampling.top_k).values[..., -1:]
    kept = torch.where(shifted >= least, shifted / sampling.temperature, -torch.inf)
    inside = torch.where(given >= least[..., 0], given / sampling.temperature, -torch.inf)
    return inside - kept.logsumexp(-1)
