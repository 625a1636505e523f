"""What is observed of heads is what the model does: where they look, what they write, and what the suffix owes them, by its definition."""

from unittest import mock

import numpy as np
import pytest
import torch
from architectures import proven
from conftest import refusal
from models_maker import random_model

from memgrid.config.schema import InterveneConfig
from memgrid.intervene.attention.masking import PositionMask, masking
from memgrid.intervene.attention.observation import (
    OBSERVER,
    frozen,
    mean_attention,
    observe_heads,
    observed_attention,
    refuse_unreachable,
    usual_attention,
)
from memgrid.intervene.positions import candidates
from memgrid.intervene.ranking import refuse_unreachable_units
from memgrid.intervene.units import switchable
from memgrid.lm.model import after_bos, identity_after_bos
from memgrid.lm.pooling import attention_of

LENGTH, K, HEADS, LAYERS = 12, 5, 4, 3
TOKENS = np.random.default_rng(3).integers(0, 2048, (3, LENGTH))
OUTPUTS = {"gpt_neox": "attention.dense", "llama": "self_attn.o_proj", "qwen2": "self_attn.o_proj", "olmo": "self_attn.o_proj"}


def whole(queries="suffix", replace="renormalise"):
    """All that can be switched off."""
    return switchable(candidates(LAYERS, LENGTH, K, queries), replace)


def mixers(lm, kind):
    """The modules that mix the outputs of a layer's heads, layer by layer."""
    found = [module for name, module in lm.model.named_modules() if name.endswith(OUTPUTS[kind])]
    assert len(found) == LAYERS
    return found


def scored(lm, tokens, mask=None, change=None, module=None):
    """The mean log-probability of each suffix, while the input of a module is changed; and that input of every mixer."""
    hook = module.register_forward_pre_hook(lambda _, given: (change(given[0]),)) if module else None
    inputs = torch.from_numpy(tokens)
    with torch.inference_mode(), masking(lm.model, mask):
        logits = lm.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
    if hook:
        hook.remove()
    logprob = logits.double().log_softmax(-1)[:, K - 1 : -1].gather(-1, inputs[:, K:, None])[..., 0]
    return logprob.mean(1)


def outputs_of(lm, kind, layer, mask=None):
    """What a layer's heads hand to their mixer, (batch, queries, heads, width)."""
    seen = []
    hook = mixers(lm, kind)[layer].register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    scored(lm, TOKENS, mask)
    hook.remove()
    return seen[0].reshape(*seen[0].shape[:2], HEADS, -1)


@pytest.mark.parametrize("replace", ["renormalise", "zero"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_attribution_is_how_fast_the_suffix_falls_on_the_way_to_a_head_that_is_off(kind, replace):
    """The slope where a head's output is moved a little towards what it is when the head is off, by differences."""
    lm, mask = random_model(kind), PositionMask(whole(replace=replace), None, replace)
    found = observe_heads(lm, TOKENS, K, mask)
    layer, head, step = 1, 2, 0.02
    alone = np.zeros((LAYERS, HEADS, LENGTH, LENGTH), bool)
    alone[layer, head] = whole(replace=replace)[layer]
    gone = outputs_of(lm, kind, layer, PositionMask(alone, None, replace)) - outputs_of(lm, kind, layer)
    assert gone[:, : K - 1].abs().max() == 0

    def moved(share):
        def change(given):
            return given + share * gone.reshape(given.shape)

        return scored(lm, TOKENS, None, change, mixers(lm, kind)[layer])

    slope = (moved(-step) - moved(step)).mean().item() / (2 * step)
    assert abs(slope) > 1e-5
    assert found.attribution[layer, head] == pytest.approx(slope, rel=0.02, abs=1e-6)
    lengths = outputs_of(lm, kind, layer)[:, K - 1 : -1].norm(dim=-1).mean((0, 1))
    np.testing.assert_allclose(found.norm[layer], lengths, rtol=1e-5)
    assert all(parameter.requires_grad for parameter in lm.model.parameters())


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "gpt2", "opt", "gemma2", "gpt_oss", "mistral"])
def test_where_heads_look_is_what_the_model_reports(kind):
    lm = proven(kind) if kind in ("gemma2", "gpt_oss", "mistral") else random_model(kind)
    tokens = TOKENS % lm.identity.vocabulary
    made = usual_attention(lm, tokens)
    with torch.inference_mode(), attention_of(lm.model, "eager"):
        reported = lm.model(input_ids=torch.from_numpy(tokens), output_attentions=True, use_cache=False).attentions
    for layer, weights in enumerate(reported):
        np.testing.assert_allclose(made[layer], weights.float().mean(0)[:, :, :LENGTH], atol=1e-6)
    found = observe_heads(lm, tokens, K, PositionMask(whole()))
    np.testing.assert_allclose(found.attention, np.stack(made), atol=1e-6)
    np.testing.assert_allclose(mean_attention(lm, tokens), np.stack(made).mean(1), atol=1e-3)
    assert np.isfinite(found.attribution).all()


def test_after_bos_heads_are_observed_with_it_and_it_is_never_switched_off():
    lm = random_model("llama")
    read = after_bos(lm, identity_after_bos(lm.identity, 7), 7)
    found = observe_heads(read, TOKENS, K, PositionMask(whole()))
    assert found.attention.shape == (LAYERS, HEADS, LENGTH + 1, LENGTH + 1)
    np.testing.assert_allclose(found.attention.sum(-1), 1, atol=1e-5)
    behind = np.zeros((LAYERS, LENGTH + 1, LENGTH + 1), bool)
    behind[:, 1:, 1:] = whole()
    bos = np.insert(TOKENS, 0, 7, axis=1)
    np.testing.assert_allclose(found.attribution, observe_heads(lm, bos, K + 1, PositionMask(behind)).attribution, rtol=1e-5)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_layer_without_attention_hands_on_its_own_values(kind):
    """A ← I: every query of a layer that is switched off gets the value of its own token."""
    lm, layer = random_model(kind), 1
    every = np.zeros((LAYERS, LENGTH, LENGTH), bool)
    every[layer] = np.tri(LENGTH, k=-1, dtype=bool)
    states = []
    name = {"gpt_neox": "attention.query_key_value"}.get(kind, "self_attn.v_proj")
    module = [module for other, module in lm.model.named_modules() if other.endswith(name)][layer]
    hook = module.register_forward_hook(lambda _, __, output: states.append(output))
    made = outputs_of(lm, kind, layer, PositionMask(every))
    hook.remove()
    width = made.shape[-1]
    if kind == "gpt_neox":
        value = states[0].reshape(*made.shape[:3], 3 * width)[..., 2 * width :]
    else:
        value = states[0].reshape(*made.shape[:2], -1, width).repeat_interleave(HEADS // (states[0].shape[-1] // width), 2)
    torch.testing.assert_close(made, value, atol=1e-6, rtol=1e-5)
    heads = np.repeat(every[:, None], HEADS, 1)
    assert torch.equal(scored(lm, TOKENS, PositionMask(every)), scored(lm, TOKENS, PositionMask(heads)))


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_comes_in_the_place_of_a_head_is_nothing_or_what_is_usual(kind):
    lm, layer, head = random_model(kind), 1, 3
    plain = outputs_of(lm, kind, layer)
    usual = np.stack(usual_attention(lm, np.random.default_rng(9).integers(0, 2048, (20, LENGTH))))
    for replace, queries in (("zero", "all"), ("zero", "suffix"), ("mean", "suffix")):
        off = np.zeros((LAYERS, HEADS, LENGTH, LENGTH), bool)
        off[layer, head] = whole(queries, replace)[layer]
        rows = off[layer, head].any(-1)
        assert rows[:-1].sum() == (LENGTH - 1 if queries == "all" else LENGTH - K)
        made = outputs_of(lm, kind, layer, PositionMask(off, None, replace, usual if replace == "mean" else None))
        others = [number for number in range(HEADS) if number != head]
        assert torch.equal(made[:, :, others], plain[:, :, others])
        torch.testing.assert_close(made[:, ~rows], plain[:, ~rows], atol=1e-6, rtol=1e-5)
        if replace == "zero":
            assert not made[:, rows, head].any()
        else:
            alone = np.zeros((LAYERS, LENGTH, LENGTH), bool)
            alone[layer] = np.tri(LENGTH, k=-1, dtype=bool)
            value = outputs_of(lm, kind, layer, PositionMask(alone))[:, :, head]  # A ← I shows the values
            expected = torch.einsum("qk,bkw->bqw", torch.from_numpy(usual[layer, head]), value)
            torch.testing.assert_close(made[:, rows, head], expected[:, rows], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("replace", ["zero", "mean"])
def test_positions_that_are_replaced_leave_rows_that_are_known(replace):
    lm, random = random_model("llama"), np.random.default_rng(0)
    off = (random.random((LAYERS, LENGTH, LENGTH)) < 0.4) & np.tri(LENGTH, k=-1, dtype=bool)
    usual = np.stack(usual_attention(lm, TOKENS)) if replace == "mean" else None
    mask = PositionMask(off, None, replace, usual)
    scores = torch.randn(2, HEADS, LENGTH, LENGTH).masked_fill(~torch.ones(LENGTH, LENGTH).tril().bool(), -torch.inf)
    before = scores.softmax(-1)
    weights, _ = mask.weights(1, scores.clone())
    gone = torch.from_numpy(off[1])
    if replace == "zero":
        assert torch.equal(weights, before.masked_fill(gone, 0))
    else:
        put = torch.from_numpy(usual[1]) * gone
        torch.testing.assert_close(weights[:, :, gone], put[:, gone].expand(2, -1, -1))
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, LENGTH))
        rest, left = before.masked_fill(gone, 0), 1 - put.sum(-1, keepdim=True)
        torch.testing.assert_close(weights - put, left * rest / rest.sum(-1, keepdim=True), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("replace", ["renormalise", "zero", "mean"])
def test_where_nothing_is_switched_off_no_bit_changes(replace):
    lm = random_model("gpt_neox")
    usual = np.stack(usual_attention(lm, TOKENS)) if replace == "mean" else None
    nothing = PositionMask(np.zeros((LAYERS, HEADS, LENGTH, LENGTH), bool), None, replace, usual)
    one = np.zeros((LAYERS, HEADS, LENGTH, LENGTH), bool)
    one[2, 1, LENGTH - 1, 0] = True  # which predicts nothing
    for mask in (nothing, PositionMask(one, None, replace, usual)):
        assert torch.equal(scored(lm, TOKENS, mask), scored(lm, TOKENS))


def test_nobody_observes_by_chance_and_weights_ask_for_gradients_as_before():
    lm = random_model("llama")
    with pytest.raises(RuntimeError, match="nobody observes"), attention_of(lm.model, "memgrid_observed"):
        lm.model(input_ids=torch.from_numpy(TOKENS))
    some = list(lm.model.parameters())[3].requires_grad_(False)
    with frozen(lm.model):
        assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    assert [parameter for parameter in lm.model.parameters() if not parameter.requires_grad] == [some]
    assert OBSERVER.get() is None
    assert callable(observed_attention)


def test_models_whose_heads_cannot_be_reached_are_refused_by_name():
    lm = proven("falcon")
    for config in (InterveneConfig(unit="heads"), InterveneConfig(replace="zero"), InterveneConfig(unit=["layers", "heads"])):
        told = refusal(refuse_unreachable_units, lm, config)
        assert told.startswith("the heads of llm 'falcon' (FalconForCausalLM) cannot be reached, since it computes attention in code")
    refuse_unreachable_units(lm, InterveneConfig(unit="layers"))
    several = random_model("llama")
    refuse_unreachable(several)
    with mock.patch("memgrid.intervene.attention.observation.usual_attention", return_value=[np.zeros((2, 8, 8)), np.zeros((4, 8, 8))]):
        assert "different numbers" in refusal(refuse_unreachable, several)


@pytest.mark.parametrize(("unit", "has"), [("heads", "12 heads"), ("layers", "3 layers"), (["layers", "heads"], "12 heads and 3 layers")])
def test_more_units_than_a_model_has_are_refused(unit, has):
    lm = random_model("llama")
    refuse_unreachable_units(lm, InterveneConfig(unit=unit, numbers=[1, 3]))
    told = refusal(refuse_unreachable_units, lm, InterveneConfig(unit=unit, numbers=[1, 13]))
    assert told == f"intervene.numbers=13 cannot be switched off: llm 'llama' has {has}, so give no more"
