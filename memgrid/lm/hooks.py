"""Attention of models that do not take it from transformers' attention interface: read by hooks from what their own modules hand on.

GPT-Neo, GPT-J, Falcon, BLOOM and others compute attention in code of their own. Their attention modules return the weights beside the
output when they are asked for, and a hook takes them out there, so that no more than one layer's heads are ever in memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from unittest import mock

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from memgrid.errors import UserError
from memgrid.lm.pooling import RECORDER, attention_of

LOGITS = 2**26  # that are made together: 256 MiB; with few sequences at a time, a head reads its weights too often


@dataclass(frozen=True)
class Place:
    """A module that hands on attention weights, and where in its output they stand."""

    module: nn.Module
    index: int

    @property
    def has_sink(self) -> bool:
        """Whether the rows of its weights may sum to less than one: the rest goes to a sink, which is not handed on."""
        return any("sink" in name for name, _ in self.module.named_parameters())


def own_report(model: Any, inputs: Int[Tensor, "batch length"]) -> tuple[list[Tensor], Float[Tensor, "batch length width"]]:
    """The weights of all heads that the model itself reports, one tensor for each layer that has some, and its states after the last.

    Raises:
        UserError: it reports none.
    """
    with attention_of(model, "eager"):
        try:
            output = model.base_model(
                input_ids=inputs, attention_mask=torch.ones_like(inputs), output_attentions=True, use_cache=False, return_dict=True
            )
        except TypeError:
            raise UserError("it reports no attention") from None
    attentions = getattr(output, "attentions", None)
    if not isinstance(attentions, tuple) or not (found := [weights for weights in attentions if isinstance(weights, Tensor)]):
        raise UserError("it reports no attention")
    return found, output[0]


def attention_places(model: Any, inputs: Int[Tensor, "batch length"]) -> list[Place]:
    """Where a layer's weights first leave a module, for each of the layers whose attention the model reports, in their order.

    Found by reading `inputs` (a few tokens will do), in which every tensor of the model's own report is looked for.

    Raises:
        UserError: the model reports no attention, or not what a module hands on.
    """
    seen: list[tuple[Place, Tensor]] = []

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, tuple | list):
            seen.extend((Place(module, index), part) for index, part in enumerate(output) if isinstance(part, Tensor) and part.ndim == 4)

    with hooks((module, look) for module in model.modules()):
        attentions, _ = own_report(model, inputs)
    # Inner modules end before outer ones, which hand the same tensor on.
    numbers = [next((number for number, (_, part) in enumerate(seen) if part is weights), -1) for weights in attentions]
    if min(numbers) < 0 or numbers != sorted(numbers):
        raise UserError("it reports attention in another form than its layers hand it on")
    return [seen[number][0] for number in numbers]


@contextmanager
def hooks(callbacks: Any) -> Iterator[None]:
    """Hooks on the outputs of modules, before all others, for a while; `callbacks` are pairs of module and function."""
    with ExitStack() as stack:
        for module, callback in callbacks:
            stack.callback(module.register_forward_hook(callback, prepend=True).remove)
        yield


@contextmanager
def taken_out(model: Any, places: list[Place]) -> Iterator[None]:
    """What the model reads inside is read with its own eager attention; the weights go to the recorder of the thread, and nowhere else."""
    place_of = {place.module: (place.index, place.has_sink) for place in places}

    def take(module: nn.Module, _: Any, output: Any) -> Any:
        """A layer's output without the weights, which are recorded."""
        index, has_sink = place_of[module]
        weights = output[index]
        if (recorder := RECORDER.get()) is not None:
            sink = (1 - weights.sum(-1, keepdim=True, dtype=torch.float32)).clamp_(0, 1) if has_sink else None
            recorder.record(len(recorder.layers), weights, sink)
        return type(output)([*output[:index], None, *output[index + 1 :]])

    with asked(model), attention_of(model, "eager"), hooks((module, take) for module in place_of):
        yield


@contextmanager
def asked(model: Any) -> Iterator[None]:
    """The model is asked for its attention whenever it reads, for a while."""

    def ask(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A model's arguments, and the wish to be told its attention."""
        return arguments, {**named, "output_attentions": True}

    with ExitStack() as stack:
        for module in {model, model.base_model}:  # some heads go past the body, to the decoder within it
            stack.callback(module.register_forward_pre_hook(ask, with_kwargs=True).remove)
        yield


# What of a layer is switched off, as bool broadcastable to (batch, heads, queries, keys) or None: from its number, its mask, and a function
# that computes the weights that it would have.
Off = Callable[[int, Tensor, Callable[[], Tensor]], Tensor | None]


@contextmanager
def switched_off(model: Any, places: list[Place], off: Off) -> Iterator[None]:
    """What the model reads inside, whole sequences without a cache, is read with positions of its own attention masks switched off.

    Raises:
        UserError: a layer takes no mask of queries and keys.
    """
    index_of = {place.module: place.index for place in places}
    layers = count()

    def switch(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A layer's arguments with what is switched off in its mask."""
        call = inspect.signature(module.forward).bind(*given, **named)
        mask = call.arguments.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.ndim != 4:
            raise UserError(f"{type(module).__name__} takes no mask of queries and keys")
        here = off(next(layers) % len(places), mask, lambda: module.forward(*call.args, **call.kwargs)[index_of[module]])
        if here is not None:
            call.arguments["attention_mask"] = with_off(mask, here.to(mask.device))
        return call.args, call.kwargs

    with asked(model), attention_of(model, "eager"), ExitStack() as stack:
        for module in index_of:
            stack.callback(module.register_forward_pre_hook(switch, with_kwargs=True).remove)
        yield


def with_off(mask: Tensor, off: Bool[Tensor, ...]) -> Tensor:
    """A layer's mask with more positions switched off: added to the scores, or bool of either sense."""
    if mask.dtype != torch.bool:
        return torch.where(off, -torch.inf, mask)
    # The first token never sees the last.
    return mask | off if mask[0, 0, 0, -1] else mask & ~off


def logits_in_parts(
    model: Any, body: Any, inputs: Int[Tensor, "batch length"], vocabulary: int
) -> Iterator[tuple[slice, Float[Tensor, "part length vocabulary"]]]:
    """The logits of a few sequences at a time, after all tokens but the last: those of all would take more memory than all else.

    The model's own head makes them, and whatever the model does before and after it; in the place of its body stands what that has made of
    all sequences. A model that does not ask its body there reads these sequences again. Parts are equal, so that a sequence's logits do not
    depend on its place.

    Args:
        body: what the model's body made of `inputs`.
    """
    most = max(1, LOGITS // (inputs.shape[1] * vocabulary))
    size = max(part for part in range(1, min(most, len(inputs)) + 1) if len(inputs) % part == 0)
    for start in range(0, len(inputs), size):
        rows = slice(start, start + size)
        if "logits" in body:  # such a model calls itself its body
            yield rows, body.logits[rows, :-1]
            continue
        states = type(body)(last_hidden_state=body[0][rows, :-1])
        with mock.patch.object(model.base_model, "forward", lambda *_, states=states, **__: states):
            logits = model(input_ids=inputs[rows], attention_mask=torch.ones_like(inputs[rows]), use_cache=False).logits
        yield rows, logits[:, : inputs.shape[1] - 1]
