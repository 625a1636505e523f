"""Attention that models hand on themselves: taken out layer by layer, and nothing left behind."""

import weakref

import numpy as np
import pytest
import torch
from architectures import proven
from models_maker import eager_pools

from memgrid.errors import UserError
from memgrid.lm.hooks import attention_places, taken_out
from memgrid.lm.model import LanguageModel
from memgrid.lm.pooling import recording


def hooked(kind: str, dtype: str = "float32") -> LanguageModel:
    lm = proven(kind, dtype)
    assert lm.places
    return lm


@pytest.fixture(scope="module")
def neo():
    return hooked("gpt_neo")


def some_tokens(count=3, length=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, length))


def hook_count(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


class Watcher:
    """A recorder that sees how many layers' weights are alive."""

    def __init__(self):
        self.layers, self.seen, self.most = set(), [], 0

    def record(self, layer, weights, sink=None):
        self.seen.append(weakref.ref(weights))
        self.layers.add(layer)
        self.most = max(self.most, sum(reference() is not None for reference in self.seen))


@pytest.mark.parametrize("kind", ["gpt_neo", "falcon", "openai-gpt", "deepseek_v32"])
def test_no_more_than_one_layer_is_ever_in_memory(kind):
    lm, watcher = hooked(kind), Watcher()
    inputs = lm._tensor(some_tokens())
    with torch.inference_mode(), taken_out(lm.model, lm.places), recording(watcher):
        output = lm.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)
    assert watcher.layers == {0, 1, 2}
    assert watcher.most == 1
    assert not any(isinstance(part, torch.Tensor) for part in output.attentions or ())


def test_hooks_change_nothing_and_are_taken_away(neo):
    tokens = some_tokens()
    before, usual = hook_count(neo.model), neo.model.config._attn_implementation
    expected = neo.score(tokens, 32)
    scores, maps = neo.score_and_pool(tokens, 32)
    for field in ("memorized", "confidence", "prefix_logprob", "suffix_logprob", "suffix_probability"):
        np.testing.assert_allclose(getattr(scores, field), getattr(expected, field), rtol=1e-4)
    for pool, made in neo.pooled_maps(tokens).items():
        np.testing.assert_array_equal(maps[pool], made)
    with pytest.raises(RuntimeError, match="stop"), neo.pooling(neo._tensor(tokens)):
        raise RuntimeError("stop")
    assert (hook_count(neo.model), neo.model.config._attn_implementation) == (before, usual)


@pytest.mark.parametrize("length", [1, 2, 33, 64])
def test_any_length(neo, length):
    made, expected = neo.pooled_maps(some_tokens(length=length)), eager_pools(neo, some_tokens(length=length))
    for pool in ("mean", "max"):
        np.testing.assert_array_equal(made[pool], expected[pool])


def test_a_layer_that_hands_nothing_on_is_missed(neo):
    neo.places.append(dropped := neo.places.pop(0))
    try:
        del neo.places[-1]
        with pytest.raises(UserError, match="reported the attention of 2 of its 3 layers"):
            neo.pooled_maps(some_tokens())
    finally:
        neo.places.insert(0, dropped)


def test_a_report_that_no_layer_hands_on_is_refused(neo):
    """Were the report made of copies, hooks could not tell where it comes from."""
    base = neo.model.base_model

    def copied(module, given, output):
        output["attentions"] = tuple(weights.clone() for weights in output.attentions)
        return output

    handle = base.register_forward_hook(copied)
    try:
        with pytest.raises(UserError, match="in another form than its layers hand it on"):
            attention_places(neo.model, neo._tensor(some_tokens(length=8)))
    finally:
        handle.remove()
