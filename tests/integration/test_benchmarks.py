"""The benchmarks run, write all their rows, and compare memgrid with a reference that computes the same maps."""

import importlib
import io
import json
import math
import multiprocessing
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import forks
import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import decisions, measure, reference, storage
from benchmarks.shapes import model_shaped_like_70m, random_tokens
from memgrid.lm.pooling import attention_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lm():
    return model_shaped_like_70m(quick=True)


def test_reference_maps_equal_memgrid_bit_for_bit(lm):
    tokens = random_tokens(5)
    made = lm.pooled_maps(tokens)
    expected = reference.pooled(reference.all_heads(lm.model, torch.from_numpy(tokens)))
    for pool in ("mean", "max"):
        np.testing.assert_array_equal(made[pool], expected[pool])


def test_reference_files_hold_every_head(lm, tmp_path):
    tokens = random_tokens(5)
    reference.extract(lm.model, tokens, np.arange(10, 15), tmp_path, batch=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10.h5", "12.h5", "14.h5"]
    with torch.inference_mode(), attention_of(lm.model, "eager"):
        last = lm.model(input_ids=torch.from_numpy(tokens[2:4]), output_attentions=True).attentions[-1]
    found = reference.read(tmp_path / "12.h5", 13)
    assert found.shape == (2, 8, 64, 64)
    assert torch.equal(found[-1], last[1].half())
    assert torch.equal(reference.batch_of(tmp_path / "12.h5", np.array([13]))[0], found.float().mean(1))


def test_decisions_are_those_of_labels_and_of_decoding(toy_lm, embedded, judged):
    """In any batch; where two tokens are as probable there is a tie, of which the first one is taken."""
    corpus = replace(embedded, tokens=embedded.tokens[::10], sequence_id=embedded.sequence_id[::10])
    found = decisions.decisions(toy_lm, corpus, 4)
    np.testing.assert_array_equal(found.memorized, judged[0][::10])
    np.testing.assert_array_equal(found.decoded, judged[0][::10])
    assert (found.chosen.shape, found.ties) == ((len(corpus.tokens), 63), 0)
    assert 0 < found.memorized.sum() < len(corpus.tokens)

    class Undecided:
        """Expects the tokens 3 and 5, whatever it reads."""

        def model(self, input_ids, **_):
            logits = torch.zeros(*input_ids.shape, 9)
            logits[..., [3, 5]] = 1
            return SimpleNamespace(logits=logits)

        def continue_greedily(self, prefix, steps):
            return np.full((len(prefix), steps), 3)

    tied = decisions.decisions(Undecided(), corpus, 100)
    assert tied.ties == 63 * len(corpus.tokens)
    assert set(tied.chosen.ravel().tolist()) == {3}


def test_works_take_turns():
    order = []
    times = measure.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert "".join(order) == "abbaabba"
    assert [len(found) for found in times.values()] == [3, 3]


@pytest.mark.parametrize(
    ("goal", "met"),
    [(("ratio", "<=", 0.5), True), (("ratio", "<=", 0.49), False), (("value", ">=", 1), True), (("value", ">=", 2), False), (None, None)],
)
def test_a_row_knows_whether_its_target_is_met(goal, met):
    assert measure.Row("x", 1.0, 2.0, 0.5, "s", goal, "").plain()["met"] is met


def test_the_grid_has_a_hundred_settings():
    assert len({(name, t.delta, t.rho) for name, t in storage.grid()}) == 100


def test_unknown_words_are_refused():
    done = forks.run(["-m", "benchmarks", "only=everything"], ROOT)
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0
    assert "only=everything is not understood" in done.stderr


def said_by(module, words, answer):
    """What the module's main prints, sent through a pipe."""
    with redirect_stdout(io.StringIO()) as out:
        importlib.import_module(module).main(words)
    answer.send(out.getvalue())


def forked_child(module, **arguments):
    """As `measure.child`, but the new process comes from one that has torch imported and nothing done with it: seconds less for each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    here, there = context.Pipe()
    process = context.Process(target=said_by, args=(module, [f"{key}={value}" for key, value in arguments.items()], there))
    process.start()
    there.close()
    said = here.recv()
    process.join()
    return json.loads(said.strip().splitlines()[-1])


@pytest.mark.slow
def test_a_quick_run_writes_every_row(tmp_path, monkeypatch):
    child = measure.child
    monkeypatch.setattr(measure, "child", lambda module, **a: (child if a.get("task") == "reference" else forked_child)(module, **a))
    threads = torch.get_num_threads()
    command.main(["quick=true", f"out={tmp_path}"])
    torch.set_num_threads(threads)
    rows = json.loads((tmp_path / "results.json").read_text())
    assert len(rows) == 46
    for row in rows:
        assert all(math.isfinite(row[key]) for key in ("value", "baseline", "ratio")), row
        assert (row["target"] is None) == (row["met"] is None)
        assert row["name"] in (tmp_path / "results.md").read_text()
    assert sum(row["target"] is not None for row in rows) >= 23
