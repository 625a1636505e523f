"""The proof, when a model is loaded, that its attention is pooled as the model itself computes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from memgrid.errors import UserError
from memgrid.lm.hooks import attention_places, own_report, taken_out
from memgrid.lm.model import LanguageModel
from memgrid.lm.pooling import POOLED, AttentionRecorder, attention_of, layer_of, pooled_attention, recording, widened

COMPARED = "memgrid_compared"
# What may lie between a pooled map and the model's own, by the type that the latter has: half a unit in its last place, the rounding of
# both to float16 (2^-12 each), and a little.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-3, torch.bfloat16: 4e-3}
AT_ONCE = 256  # tokens up to which all heads of all layers are held for the comparison
PROBE = 16  # tokens, where it only matters which modules hand attention on
SEED = 0x5EED


def prove_pooling(lm: LanguageModel, length: int = 64) -> None:
    """Pool a random sequence of `length` tokens, and compare mean and maximum over heads with the model's own attention in every layer.

    A model that passes through transformers' attention interface is read there. Any other, and any that computes attention with
    something that we do not know of, is read by hooks where it reports its attention at all; `lm.places` says so from then on.

    Raises:
        UserError: the attention cannot be pooled, or would be pooled wrong; the sentence says why.
    """
    tokens = np.random.default_rng(SEED).integers(0, lm.identity.vocabulary, (2, length))
    lm.places.clear()
    with torch.inference_mode():
        if (reason := refusal(prove_interface, lm, tokens[:1])) is None:
            return
        lm.places.clear()
        reason = refusal(prove_hooks, lm, tokens)
    if reason is not None:
        raise UserError(f"the attention of llm {lm.identity.name!r} ({type(lm.model).__name__}) cannot be pooled: {reason}")


def refusal(proof: Callable[[LanguageModel, np.ndarray], None], lm: LanguageModel, tokens: np.ndarray) -> str | None:
    """Why a proof does not hold, in part of a sentence; None if it does. Models fail in many ways when they are read in an unusual one."""
    try:
        proof(lm, tokens)
    except (UserError, FloatingPointError) as error:
        return str(error)
    except Exception as error:
        return said(error)
    return None


def said(error: Exception) -> str:
    """An error of a library as part of a sentence."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}".replace(". ", ", ").rstrip(".:, ")


def prove_interface(lm: LanguageModel, tokens: np.ndarray) -> None:
    """Raise an error unless attention through the interface is the model's eager attention.

    In float16 the model's eager pass is no reference: large scores overflow there, which ours avoids. Its eager function is computed in
    float32 instead, layer by layer on the same queries, keys and values.
    """
    shape = (len(tokens), tokens.shape[1], lm.identity.layers)
    made, expected = AttentionRecorder(*shape), OwnMaps(*shape)
    # Read with the head, which hands the layers more arguments than they get without it; extraction reads in both ways.
    token = EXPECTED.set(expected)
    try:
        with attention_of(lm.model, COMPARED if lm.model.dtype == torch.float16 else POOLED), recording(made):
            read_with_head(lm, tokens)
    finally:
        EXPECTED.reset(token)
    if len(made.layers) < lm.identity.layers:
        raise UserError(f"{len(made.layers)} of its {lm.identity.layers} layers compute attention")
    if not expected.layers:
        expected.read(lm, tokens)
    compare(made, expected, TOLERANCE[lm.model.dtype])


def prove_hooks(lm: LanguageModel, tokens: np.ndarray) -> None:
    """Find where the model hands its attention on, and raise an error unless hooks there see what the model reports, and change nothing."""
    inputs, shape = lm._tensor(tokens), (len(tokens), tokens.shape[1], lm.identity.layers)
    try:
        usual = read(lm, tokens)
    except Exception as error:
        raise UserError(f"it cannot read {tokens.shape[1]} tokens in {lm.model.dtype}, {said(error)}") from None
    made, with_head, expected = AttentionRecorder(*shape), AttentionRecorder(*shape), OwnMaps(*shape)
    own = expected.read(lm, tokens)
    lm.places.extend(attention_places(lm.model, inputs[:, :PROBE]))
    with taken_out(lm.model, lm.places), recording(made):
        state = read(lm, tokens)
        with recording(with_head):
            read_with_head(lm, tokens)
    compare(made, expected, TOLERANCE[torch.float32])
    compare(with_head, expected, TOLERANCE[torch.float32])
    # In half precision two ways to compute one thing drift apart, and mixtures of experts choose others.
    if not torch.equal(state, own) or (lm.model.dtype == torch.float32 and not (state - usual).abs().max() <= 1e-3 * usual.abs().max()):
        raise UserError("its eager attention, which alone can be seen, gives other outputs than its usual one")


def read(lm: LanguageModel, tokens: np.ndarray) -> Float[Tensor, "batch length width"]:
    """The states after the last layer."""
    inputs = lm._tensor(tokens)
    return lm.model.base_model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)[0].float()  # type: ignore[no-any-return]


def read_with_head(lm: LanguageModel, tokens: np.ndarray) -> None:
    """One pass with the language-model head."""
    inputs = lm._tensor(tokens)
    lm.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)


class OwnMaps(AttentionRecorder):
    """What the model itself reports, pooled; its rows need not sum to one (sinks), but must not look ahead."""

    def record(self, layer: int, weights: Tensor, sink: Tensor | None = None) -> None:
        """Pool one layer's weights.

        Raises:
            UserError: they have another shape, or a token looks at a later one.
        """
        self.check_shape(layer, weights)
        if weights.triu(1).any():
            raise UserError(f"its layer {layer} looks ahead, at tokens that are not yet decoded")
        self.keep(layer, weights.mean(1, dtype=torch.float32), weights)

    def read(self, lm: LanguageModel, tokens: np.ndarray) -> Float[Tensor, "batch length width"]:
        """Let the model report, all layers at once where they are small, else by hooks; returns the states after the last layer.

        Raises:
            UserError: not every layer reports.
        """
        inputs = lm._tensor(tokens)
        if self.length <= AT_ONCE:
            attentions, state = own_report(lm.model, inputs)
            for layer, weights in enumerate(attentions):
                self.record(layer, weights)
        else:
            with taken_out(lm.model, attention_places(lm.model, inputs[:, :PROBE])), recording(self):
                state = read(lm, tokens)
        if len(self.layers) < lm.identity.layers:
            raise UserError(f"{len(self.layers)} of its {lm.identity.layers} layers report attention")
        return state.float()


def compare(made: AttentionRecorder, expected: AttentionRecorder, tolerance: float) -> None:
    """Raise UserError if two recordings differ anywhere by more than the tolerance, or hold what is not a number."""
    for pool in ("mean", "max"):
        gaps = (getattr(made, pool).float() - getattr(expected, pool).float()).abs().flatten(1).amax(1)
        if not (gaps <= tolerance).all():
            layer = int((~(gaps <= tolerance)).nonzero()[0])
            raise UserError(f"the {pool} over heads in layer {layer} differs from the model's own by {gaps[layer].item():.2g}")


# For whom `compared_attention` keeps what the model's own function says.
EXPECTED: ContextVar[OwnMaps | None] = ContextVar("expected", default=None)


def compared_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **arguments: Any
) -> tuple[Tensor, None]:
    """Pooled attention; what the model's own eager function gives in float32 is kept beside it.

    Raises:
        UserError: the model has no such function.
    """
    own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if own is None:
        raise UserError(f"{type(module).__name__} has no eager attention function")
    expected = EXPECTED.get()
    assert expected is not None
    expected.record(layer_of(module), own(module, query.float(), key.float(), value.float(), widened(attention_mask), **arguments)[1])
    return pooled_attention(module, query, key, value, attention_mask, **arguments)


AttentionInterface.register(COMPARED, compared_attention)
AttentionMaskInterface.register(COMPARED, eager_mask)
