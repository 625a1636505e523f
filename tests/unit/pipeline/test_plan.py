from dataclasses import replace

import numpy as np
import pytest
import torch
from settings_maker import composed

from memgrid.io.display import duration
from memgrid.lm.model import LanguageModel
from memgrid.pipeline import plan as plan_module
from memgrid.pipeline.plan import Pace, plan, sample_bytes
from memgrid.store.shard import Identity, Maps
from memgrid.store.store import Store


def test_runs_add_up_without_counting_twice(tmp_path):
    store = Store(tmp_path, Identity("l", "", "f", "c", 32, 64, 6))
    bills, pace, memorized, run = {}, Pace(0.01, 0.1, 0.001), np.arange(40) % 2 == 0, composed("cnn=single", "control.members=0")
    plan(bills, run, store, np.arange(0, 40), 30, memorized, pace)
    lines = plan(bills, composed("cnn=single", "control.members=0", "seed=1"), store, np.arange(20, 60), 30, memorized, pace)
    assert "2 runs of toy (2 trainings) want 60 distinct samples (80 if each run kept its own)" in lines[0]
    assert "60 are missing: 60 passes and 30 continuations, about 4 s" in lines[1]
    assert "training: about 1 s" in lines[1]  # 60 samples, 10 epochs, 1 network, 1 ms
    # rasy is the paper's 3A with Guess: an equal partition costs no training.
    lines = plan(bills, composed("cnn=single", "control.members=0", "taxonomy=guess"), store, np.arange(0, 40), 30, memorized, pace)
    assert "3 runs of toy (2 trainings) want 60" in lines[0]
    assert "training: about 1 s" in lines[1]


@pytest.mark.parametrize(("precision", "kind"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_the_pace_of_training_is_that_of_its_precision(precision, kind, toy_lm, monkeypatch):
    seen, loss = [], torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda logits, labels: seen.append(logits.dtype) or loss(logits, labels))
    highest, read = [], LanguageModel.score_and_pool
    monkeypatch.setattr(LanguageModel, "score_and_pool", lambda lm, tokens, k: highest.append(tokens.max()) or read(lm, tokens, k))
    run = composed("cnn=single", "cnn.batch_size=8", f"trainer.precision={precision}")
    # What a model with several parts can read stands in its identity, not at the top of its configuration.
    pace = plan_module.measure(run, replace(toy_lm, batch_tokens=256, identity=replace(toy_lm.identity, vocabulary=50)), 3)
    assert set(seen) == {kind}
    assert max(highest) < 50
    assert min(pace.read, pace.continue_, pace.train) > 0


def test_bytes_are_those_of_a_real_shard(tmp_path):
    rng = np.random.default_rng(0)
    maps = {pool: rng.random((256, 2080, 6)).astype(np.float16) for pool in ("mean", "max")}
    tokens = rng.integers(0, 9, (256, 64), dtype=np.int32)
    store = Store(tmp_path, Identity("l", "", "f", "c", 32, 64, 6))
    size = store.write(Maps(np.arange(256), tokens, np.ones(256, np.float32), maps)).stat().st_size
    assert abs(size / 256 / sample_bytes(64, 6) - 1) < 0.02


@pytest.mark.parametrize(("seconds", "text"), [(3, "about 3 s"), (119, "about 119 s"), (150, "about 2 min"), (36000, "about 10 h")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
