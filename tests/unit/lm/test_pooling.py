"""Who is told of attention: the innermost recorder of the thread, and afterwards the one before it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from models_maker import random_model

from memgrid.lm.pooling import POOLED, RECORDER, AttentionRecorder, attention_of, recording

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
