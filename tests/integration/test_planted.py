"""Planted truth: only what was planted changes, and the ways to rank heads and layers are scored by what they find of it."""

import itertools
from types import SimpleNamespace

import forks
import numpy as np
import polars as pl
import pytest
import torch

from benchmarks import planted
from memgrid.results.records import HEADS, LAYERS


@pytest.mark.parametrize("unit", [HEADS, LAYERS])
def test_nothing_changes_but_the_attention_of_what_is_planted(unit, monkeypatch):
    monkeypatch.setattr(planted, "STEPS", 1)
    before = planted.plant(unit, 3)
    monkeypatch.setattr(planted, "STEPS", 3)
    after = planted.plant(unit, 3)
    assert (before.planted == after.planted).all()
    assert before.planted.sum() == (planted.PLANTED[HEADS] if unit == HEADS else planted.ABREAST)
    width = planted.WIDTH // planted.ABREAST
    for (name, old), new in zip(before.model.named_parameters(), after.model.parameters(), strict=True):
        moved = (old != new).detach().numpy()
        layer = int(name.split(".")[2]) if ".layers." in name else None
        heads = np.zeros(planted.ABREAST, bool) if layer is None else after.planted[layer]
        if "query_key_value" in name:
            by_head = moved.reshape(planted.ABREAST, -1).any(1)
        elif name.endswith("attention.dense.weight"):
            by_head = moved.reshape(planted.WIDTH, planted.ABREAST, width).any((0, 2))
        else:
            by_head, heads = moved.any(keepdims=True), np.zeros(1, bool)
        np.testing.assert_array_equal(by_head.ravel(), heads.ravel(), name)


def test_the_chance_of_random_rankings_by_counting():
    total, number, seeds = 5, 2, 2
    draws = [len({0, 1} & set(places)) for places in itertools.combinations(range(total), number)]
    for hits in range(number * seeds + 1):
        expected = np.mean([one + other >= hits for one in draws for other in draws])
        assert planted.chance(hits, total, number, seeds) == pytest.approx(expected)


def test_what_is_found_is_what_stands_first():
    truth = np.zeros((2, 2), bool)
    truth[0, 1] = truth[1, 0] = True
    rows = [
        {"unit": HEADS, "layer": 1 + layer, "head": 1 + head, "delta": 10.0 * truth[layer, head] - head}
        for layer in (1, 0)
        for head in (1, 0)
    ]
    assert planted.found(pl.DataFrame(rows), HEADS, "delta", truth) == 2
    assert planted.found(pl.DataFrame([{**row, "delta": -row["delta"]} for row in rows]), HEADS, "delta", truth) == 0


@pytest.mark.slow
def test_a_planted_layer_is_found_by_the_whole_pipeline(monkeypatch, capsys):
    """Where the learnt text lies in one layer, switching that one off costs most."""
    monkeypatch.setattr(planted, "LEARNT", 48)
    monkeypatch.setattr(planted, "UNREAD", 48)
    monkeypatch.setattr(planted, "PLANTED", {LAYERS: 1})
    monkeypatch.setattr(planted, "subprocess", SimpleNamespace(run=lambda words, **_: forks.run(words[1:])))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    planted.main(["seeds=1"])
    torch.set_num_threads(threads)
    shown = capsys.readouterr().out
    (line,) = (line for line in shown.splitlines() if "ablation" in line)
    assert "1 of 4 layers" in line
    assert "1 of 1" in line
    assert "0.25" in line
    assert "layers: 100% to 100%" in shown
