"""Attention as eager functions compute it, on random input; and who is told: the innermost recorder, and afterwards the one before it."""

import asyncio
import importlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_maker import random_model

from memgrid.errors import UserError
from memgrid.lm.pooling import POOLED, RECORDER, SILENT, AttentionRecorder, attention_of, pooled_attention, recording

LAYERS, LENGTH = 3, 8


class Names:
    """A recorder that keeps which layers reported."""

    def __init__(self):
        self.layers = []

    def record(self, layer, weights, sink=None):
        self.layers.append(layer)


@pytest.fixture(scope="module")
def model():
    return random_model("llama").model


def read(model, seed=0):
    tokens = torch.from_numpy(np.random.default_rng(seed).integers(0, 2048, (1, LENGTH)))
    with torch.inference_mode(), attention_of(model, POOLED):
        model.base_model(input_ids=tokens, use_cache=False)


def test_a_recorder_within_a_recorder_gives_way_to_the_first_again(model):
    outer, inner = Names(), Names()
    with recording(outer):
        with recording(inner):
            read(model)
        assert (inner.layers, outer.layers) == ([0, 1, 2], [])
        read(model)
    assert (inner.layers, outer.layers) == ([0, 1, 2], [0, 1, 2])
    read(model)  # nobody is told
    assert len(outer.layers) == len(inner.layers) == LAYERS


def test_a_reading_that_fails_gives_way_to_the_recorder_before_it():
    outer = AttentionRecorder(1, LENGTH, LAYERS)
    with recording(outer):
        with pytest.raises(FloatingPointError, match="do not sum to 1"), recording(AttentionRecorder(1, LENGTH, LAYERS)) as inner:
            inner.record(0, torch.zeros(1, 2, LENGTH, LENGTH))
        assert RECORDER.get() is outer
    assert RECORDER.get() is None


def test_threads_do_not_hear_of_each_other(model):
    """The recorder is the thread's: what another one reads is not this one's."""
    here, there, another = Names(), Names(), random_model("llama").model

    def elsewhere():
        read(another)  # told to nobody
        with recording(there):
            read(another)

    with recording(here), ThreadPoolExecutor(1) as pool:
        pool.submit(elsewhere).result()
    assert (here.layers, there.layers) == ([], [0, 1, 2])


def test_tasks_of_an_event_loop_do_not_hear_of_each_other():
    seen = {}

    async def task(name):
        with recording(name):
            await asyncio.sleep(0)
            seen[name] = RECORDER.get()

    async def both():
        await asyncio.gather(task("a"), task("b"))

    asyncio.run(both())
    assert seen == {"a": "a", "b": "b"}


class Layer(torch.nn.Module):
    """What the eager functions of transformers ask a module of attention."""

    def __init__(self, groups, sinks, width):
        super().__init__()
        self.layer_idx, self.num_key_value_groups, self.sinks, self.head_dim = 0, groups, sinks, width
        self.eval()


class Kept:
    """A recorder that keeps weights and sink."""

    def record(self, layer, weights, sink=None):
        self.weights, self.sink = weights, sink


OWN = {"plain": "llama", "softcap": "gemma2", "sinks": "gpt_oss"}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(sorted(OWN)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    groups=st.sampled_from([1, 2, 4]),
    length=st.integers(1, 12),
    window=st.sampled_from([1, 3, 100]),
    size=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_attention_equals_that_of_the_eager_functions(seed, kind, dtype, groups, length, window, size):
    torch.manual_seed(seed)
    query = (torch.randn(2, 4, length, 8) * size).to(dtype)
    key, value = (torch.randn(2, 4 // groups, length, 8).to(dtype) for _ in range(2))
    seen = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
    mask = torch.zeros(1, 1, length, length, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
    layer = Layer(groups, torch.randn(4).mul_(3).to(dtype) if kind == "sinks" else None, 8)
    extra = {"softcap": {"softcap": 2.5}, "sinks": {"s_aux": layer.sinks}}.get(kind, {})
    own = importlib.import_module(f"transformers.models.{OWN[kind]}.modeling_{OWN[kind]}").eager_attention_forward
    wide = [part.float() for part in (query, key, value)] if dtype == torch.float16 else [query, key, value]
    endless = torch.zeros(length, length).masked_fill(~seen, -torch.inf) if dtype == torch.float16 else mask
    output, weights = own(layer, *wide, endless, scaling=0.4, dropout=0.0, **extra)

    with recording(Kept()) as kept:
        made, _ = pooled_attention(
            layer, query, key, value, mask, scaling=0.4, dropout=0.0, sliding_window=window, position_ids=None, **extra
        )
    assert kept.weights.dtype == torch.float32
    assert (kept.weights[:, :, ~seen] == 0).all()
    rounded = kind == "sinks" and dtype == torch.bfloat16  # gpt-oss takes the softmax in bfloat16, whose exp may round otherwise
    torch.testing.assert_close(kept.weights.to(weights.dtype), weights, rtol=2**-7 if rounded else 0, atol=0)
    torch.testing.assert_close(made, output.to(dtype), rtol=0, atol=2e-2 if dtype == torch.float16 or rounded else 0)
    assert (kept.sink is None) == (kind != "sinks")
    sums = kept.weights.sum(-1) + (0 if kept.sink is None else kept.sink[..., 0])
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-5)


def test_rows_and_their_sink_sum_to_one():
    weights = torch.softmax(torch.randn(1, 2, 4, 4).masked_fill(~torch.ones(4, 4, dtype=torch.bool).tril(), -torch.inf), -1)
    recorder = AttentionRecorder(1, 4, 1)
    recorder.record(0, weights * 0.75, torch.full((1, 2, 4, 1), 0.25))
    with pytest.raises(FloatingPointError, match="do not sum to 1"):
        recorder.record(0, weights * 0.75, torch.full((1, 2, 4, 1), 0.2))
    with pytest.raises(FloatingPointError, match="do not sum to 1"):
        recorder.record(0, weights * 0.75)


@pytest.mark.parametrize("shape", [(1, 2, 4, 5), (1, 2, 3, 3), (2, 2, 4, 4), (2, 4, 4)])
def test_weights_that_are_not_of_queries_and_keys_are_refused(shape):
    with pytest.raises(UserError, match=r"layer 0 has the shape \("):
        AttentionRecorder(1, 4, 1).record(0, torch.full(shape, 1 / shape[-1]))


def test_a_layer_more_than_there_are_is_refused():
    with pytest.raises(UserError, match="more than 1 layers"):
        AttentionRecorder(1, 4, 1).record(1, torch.ones(1, 2, 4, 4).tril())


@pytest.mark.parametrize("name", ["position_bias", "sinks", "indices", "dropout", "anything_new"])
def test_an_argument_that_may_change_the_attention_is_refused_by_name(name):
    query = torch.randn(1, 2, 3, 4)
    with pytest.raises(UserError, match=f"Layer computes attention with {name}, which memgrid does not know"):
        pooled_attention(Layer(1, None, 4), query, query, query, None, **{name: 0.1})
    pooled_attention(Layer(1, None, 4), query, query, query, None, **dict.fromkeys([*SILENT, "dropout"], 0), **{"other": None})


def test_a_module_that_does_not_say_of_which_layer_it_is():
    layer, query = Layer(1, None, 4), torch.randn(1, 2, 3, 4)
    del layer.layer_idx
    with recording(Kept()), pytest.raises(UserError, match="Layer does not say of which layer it is"):
        pooled_attention(layer, query, query, query, None)
