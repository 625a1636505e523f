"""Interventions on a model of which we know by what it reproduces its text, and everything around them: controls, intervals, restarts."""

import json
from dataclasses import replace
from unittest import mock

import numpy as np
import polars as pl
import pytest
import torch
from conftest import refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from memgrid.config.schema import CorpusConfig, InterveneConfig
from memgrid.corpus.corpus import Corpus, load_corpus
from memgrid.intervene import statistics as effect
from memgrid.intervene.experiment import Experiment, Journal, finished_table, intervene, mean_attention
from memgrid.intervene.masking import MaskedReader
from memgrid.intervene.positions import Regions, Trial, amount, candidates, first_overall, first_per_layer, matched, ranked
from memgrid.intervene.statistics import difference, share_interval, verdict
from memgrid.io.paths import TOY
from memgrid.lm.model import LanguageModel, ModelIdentity, after_bos, identity_after_bos
from memgrid.results.folder import RunFolder

LENGTH, K, WORDS, LAYERS = 16, 8, 40, 2
CLASSES = ["Non-Memo", "Copied", "Elsewhere"]
SHARE = 100 * 8 / 168  # the copying positions: 8 of 2 · 84


def copying_model(positions=LENGTH):
    """A GPT-2 made by hand: in its first layer every query attends to the key K - 1 before it and hands on its token; the second is idle.

    So it continues a text by repeating the last K tokens, by nothing but the attention of layer 1 at (query, query - K + 1).
    """
    width = WORDS + positions
    model = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_positions=positions, n_embd=width, n_layer=LAYERS, n_head=1, n_inner=4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        body, words, places = model.transformer, torch.arange(WORDS), torch.arange(positions) + WORDS
        body.wte.weight[words, words] = 1
        body.wpe.weight[places - WORDS, places] = 1
        mean, deviation = 2 / width, (2 / width - 4 / width**2) ** 0.5
        layer = body.h[0]
        layer.ln_1.weight.fill_(deviation)  # undoes the normalisation: what is read is a 1 for the token and a 1 for the place
        layer.ln_1.bias.fill_(mean)
        weight = layer.attn.c_attn.weight  # (width, queries, keys and values)
        weight[places[K - 1 :], places[: -K + 1]] = 40 * width**0.5
        weight[places, width + places] = 1
        weight[words, 2 * width + words] = 1
        layer.attn.c_proj.weight[words, words] = 5
        body.ln_f.weight.fill_(1)
    return LanguageModel(None, ModelIdentity("copying", "", "by hand", LAYERS, WORDS), model.eval(), torch.device("cpu"), 4096)


@pytest.fixture(scope="module")
def lm():
    return copying_model()


@pytest.fixture(scope="module")
def corpus():
    """Sequences 0 to 29 repeat their prefix, 30 to 59 do not."""
    random = np.random.default_rng(0)
    prefixes = np.array([random.permutation(WORDS)[:K] for _ in range(30)])
    others = np.array([random.permutation(WORDS)[:LENGTH] for _ in range(30)])
    return Corpus("copies", np.arange(60), np.concatenate([np.tile(prefixes, 2), others]).astype(np.int32), K, None)


@pytest.fixture(scope="module")
def delta():
    """Class 1 is decided where the model copies, class 2 at the token before, class 0 nowhere."""
    made = np.zeros((3, LAYERS, LENGTH, LENGTH), np.float32)
    for query in range(K - 1, LENGTH):
        made[1, 0, query, query - K + 1] = 1
        made[2, 0, query, query - 1] = 1
    return made


SAMPLES = {0: np.arange(30, 60), 1: np.arange(30)}
QUICK = {"percent": [SHARE], "seeds": 2, "samples": 20, "ordinary": 10, "layers_at": SHARE}


def files(folder):
    """Where an experiment is written, and its journal."""
    return RunFolder(folder).intervention, RunFolder(folder).intervention_journal


def done(lm, corpus, delta, folder, **changes):
    return intervene(lm, corpus, delta, CLASSES, SAMPLES, np.arange(30, 60), InterveneConfig(**{**QUICK, **changes}), *files(folder))


@pytest.fixture(scope="module")
def table(lm, corpus, delta, tmp_path_factory):
    return done(lm, corpus, delta, tmp_path_factory.mktemp("done"))


def of(table, masked):
    return table.filter(pl.col("masked") == masked).row(0, named=True)


def test_the_planted_cause_is_found_after_bos(corpus, delta, tmp_path):
    plain = copying_model(LENGTH + 1)
    table = done(after_bos(plain, identity_after_bos(plain.identity, 0), 0), corpus, delta, tmp_path)
    assert of(table, "none")["extractable"] == of(table, "least")["extractable"] == 1
    assert of(table, "target")["extractable"] == 0


def test_what_is_suppressed_decides_the_experiment(lm, corpus, delta):
    one, other = (Experiment(each, corpus, delta, CLASSES, InterveneConfig(**QUICK)) for each in (lm, replace(lm, suppressed=(3,))))
    assert one.key(SAMPLES, np.arange(30)) != other.key(SAMPLES, np.arange(30))


def test_where_a_model_looks_is_the_mean_over_its_heads(toy_lm):
    tokens = np.random.default_rng(0).integers(0, 2048, (5, 64))
    made = mean_attention(toy_lm, tokens)
    np.testing.assert_allclose(made.sum(-1), 1, atol=0.01)  # which no other pooling gives
    expected = toy_lm.pooled_maps(tokens)["mean"].astype(np.float64).mean(0)
    np.testing.assert_allclose(made[:, *np.tril_indices(64)].T, expected, atol=1e-6)


def test_the_planted_cause_is_found(table):
    assert of(table, "none")["extractable"] == 1
    assert of(table, "target") | {"positions": 8, "overlap": 1.0, "decisive": 1.0, "extractable": 0.0} == of(table, "target")
    for control in ("random", "other:Elsewhere", "other:Non-Memo", "least"):
        assert of(table, control)["extractable"] == 1
        assert of(table, control)["overlap"] == 0
        assert of(table, control)["suffix_logprob"] == pytest.approx(of(table, "none")["suffix_logprob"], abs=0.01)
    assert of(table, "target")["suffix_logprob"] < of(table, "none")["suffix_logprob"] - 1
    # Here the model looks where it copies, and nowhere else.
    assert of(table, "attended")["extractable"] == 0
    assert of(table, "target")["removed"] == pytest.approx(of(table, "attended")["removed"])
    assert of(table, "random")["removed"] < 0.01
    # Only the first layer does anything.
    shares = {masked: of(table, masked)["extractable"] for masked in ("layer:1", "random-layer:1", "layer:2", "random-layer:2")}
    assert shares == {"layer:1": 0, "random-layer:1": 1, "layer:2": 1, "random-layer:2": 1}


def test_the_verdict_on_the_planted_cause(table):
    (found,) = verdict(table)
    (dose,) = found["doses"]
    assert (found["class"], found["samples"], dose["difference"], dose["verdict"]) == ("Copied", 20, -1.0, effect.MORE)
    assert -1 <= dose["low"] <= dose["high"] < -0.7
    assert "0% stay extractable against 100%, a difference of -100 points, 95 % interval -100 to -86" in found["sentence"]
    json.dumps(found)


def test_the_table(table):
    assert table["class"].unique().to_list() == ["Copied"]  # nothing to lose in the others
    assert table.height == 1 + 7 + 4
    assert table["samples"].unique().to_list() == [20]
    assert table.filter(pl.col("masked") == "random")["seed"].to_list() == [0, 1]
    assert table.filter(~pl.col("masked").str.starts_with("random"))["seed"].is_null().all()
    assert table["damage"].is_null().sum() == 4
    assert of(table, "none")["damage"] == 0
    for row in table.iter_rows(named=True):
        assert row["extractable"] == np.mean(row["kept"])
        assert 0 <= row["extractable_low"] <= row["extractable"] <= row["extractable_high"] <= 1


def test_other_settings(lm, corpus, delta, table, tmp_path):
    without = done(lm, corpus, delta, tmp_path / "a", ordinary=0, layers_at=None)
    assert without["damage"].is_null().all()
    assert without.drop("damage").equals(table.head(8).drop("damage"))
    assert of(done(lm, corpus, delta, tmp_path / "b", heads=1, layers_at=None), "target")["extractable"] == 0
    every = candidates(LAYERS, LENGTH, K, "all").sum()
    found = done(lm, corpus, delta, tmp_path / "c", queries="all", percent=[100 * 8 / every, 100.0], layers_at=None)
    assert of(found, "target")["extractable"] == 0
    assert of(found, "random")["extractable"] == 1
    assert set(found.filter(pl.col("q") == 100)["extractable"]) == {0.0}
    assert set(found.filter(pl.col("q") == 100)["overlap"]) == {1.0}


def test_it_runs_on_the_embedded_model(toy_lm, tmp_path):
    corpus = load_corpus(CorpusConfig(name="toy", path=None))
    kinds = pl.read_parquet(TOY / "sequences.parquet", columns=["sequence_id", "kind"])
    ids = {kind: kinds.filter(pl.col("kind") == kind)["sequence_id"].to_numpy()[:30] for kind in ("chunk", "repeat", "held_out")}
    delta = np.random.default_rng(0).random((2, 6, 64, 64)).astype(np.float32)
    config = InterveneConfig([5.0, 100.0], 1, None, "suffix", 10, 10, None)
    found = intervene(
        toy_lm, corpus, delta, ["Recall", "Guess"], {0: ids["chunk"], 1: ids["repeat"]}, ids["held_out"], config, *files(tmp_path)
    )
    assert found["class"].unique(maintain_order=True).to_list() == ["Recall", "Guess"]
    at_once = found.filter(pl.col("q") == 100)
    assert set(at_once["positions"]) == {6 * sum(range(31, 63))}
    assert (at_once["suffix_logprob"] < -3).all()
    assert (at_once["damage"] > 0.5).all()


def test_a_finished_experiment_is_not_repeated(lm, corpus, delta, tmp_path):
    first = done(lm, corpus, delta, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [RunFolder(tmp_path).intervention.name]
    with mock.patch.object(MaskedReader, "read", side_effect=AssertionError):
        assert done(lm, corpus, delta, tmp_path).equals(first)
        with pytest.raises(AssertionError):
            done(lm, corpus, delta * 2, tmp_path)
        with pytest.raises(AssertionError):
            done(lm, corpus, delta, tmp_path, seeds=3)
    RunFolder(tmp_path).intervention.write_bytes(b"PAR1 torn")
    assert finished_table(RunFolder(tmp_path).intervention, "") is None
    assert done(lm, corpus, delta, tmp_path).equals(first)


def test_a_killed_experiment_goes_on(lm, corpus, delta, table, tmp_path):
    for stop in (2, 5, 9):
        with mock.patch.object(Journal, "add", autospec=True, side_effect=until(stop)), pytest.raises(KeyboardInterrupt):
            done(lm, corpus, delta, tmp_path)
        assert not RunFolder(tmp_path).intervention.exists()
        with RunFolder(tmp_path).intervention_journal.open("ab") as file:
            file.write(b'[1, 4.7, "least", nu')  # torn by the kill
    measured = []
    add = Journal.add
    with mock.patch.object(Journal, "add", autospec=True, side_effect=lambda *given_: (measured.append(given_[1]), add(*given_))):
        assert done(lm, corpus, delta, tmp_path).equals(table)
    assert len(measured) == table.height - 9


def until(stop):
    """Journal.add, killed when it holds so many lines."""
    add = Journal.add

    def added(journal, trial, record):
        if len(journal.done) == stop:
            raise KeyboardInterrupt
        add(journal, trial, record)

    return added


def test_another_experiment_does_not_go_on_from_there(lm, corpus, delta, tmp_path):
    with mock.patch.object(Journal, "add", autospec=True, side_effect=until(3)), pytest.raises(KeyboardInterrupt):
        done(lm, corpus, delta[:, :, ::1] * 2, tmp_path / "a")
    (tmp_path / "b").mkdir()
    RunFolder(tmp_path / "b").intervention_journal.write_bytes(RunFolder(tmp_path / "a").intervention_journal.read_bytes())
    assert not Journal(RunFolder(tmp_path / "b").intervention_journal, "another key").done


@pytest.mark.parametrize("q", [0, -1.0, 100.1, float("nan")])
def test_a_dose_that_is_none(lm, corpus, delta, q, tmp_path):
    assert f"intervene.percent={q:g} " in refusal(lambda: done(lm, corpus, delta, tmp_path, percent=[1.0, q]))
    assert f"intervene.layers_at={q:g} " in refusal(lambda: done(lm, corpus, delta, tmp_path, layers_at=q))


def test_what_else_is_refused(lm, corpus, delta, tmp_path):
    assert "heads=0" in refusal(lambda: done(lm, corpus, delta, tmp_path, heads=0))
    assert "seeds=0" in refusal(lambda: done(lm, corpus, delta, tmp_path, seeds=0))
    assert "queries=prefix" in refusal(lambda: done(lm, corpus, delta, tmp_path, queries="prefix"))
    empty = (lm, corpus, delta, CLASSES, {0: SAMPLES[0]}, SAMPLES[0], InterveneConfig(**QUICK), *files(tmp_path))
    assert "nothing to switch off" in refusal(intervene, *empty)
    with pytest.raises(ValueError, match="Δ maps"):
        done(lm, corpus, delta[:, :1], tmp_path)


@pytest.mark.parametrize("queries", ["suffix", "all"])
@pytest.mark.parametrize("k", [1, 5, 11])
def test_candidates_leave_every_row_a_key(queries, k):
    among = candidates(3, 12, k, queries)
    assert not among[:, np.arange(12), np.arange(12)].any()
    assert not np.triu(among).any()
    assert not among[:, -1].any()
    assert not among[-1, : k - 1].any()
    rows = np.flatnonzero(among[0].any(1))
    assert rows.tolist() == list(range(max(1, k - 1) if queries == "suffix" else 1, 11))
    assert all(among[0, row].sum() == row for row in rows)


def test_amounts():
    among = np.ones((1, 10, 10), bool)
    assert [amount(percent, among) for percent in (0.001, 1, 49.6, 100)] == [1, 1, 50, 100]


def distances(mask):
    return [np.bincount(np.subtract(*np.nonzero(layer)), minlength=mask.shape[-1]) for layer in mask]


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), percent=st.sampled_from([0.2, 3.0, 20.0, 45.0, 70.0, 100.0]), queries=st.sampled_from(["suffix", "all"]))
def test_controls_match_the_target(seed, percent, queries):
    random = np.random.default_rng(seed)
    among = candidates(3, 14, 6, queries)
    delta = (random.random((2, 3, 14, 14)) ** 6 * (random.random((2, 3, 14, 14)) < 0.4)).astype(np.float32)
    regions = Regions(delta, 1, ["a", "b"], random.random((3, 14, 14)), among)
    target = regions.mask(Trial(1, percent, "target"))
    assert target.sum() == amount(percent, among)
    assert delta[1][target].min() >= delta[1][among & ~target].max(initial=0)
    for masked in ("random", "other:a", "least", "attended"):
        made = regions.mask(Trial(1, percent, masked, 3))
        assert not (made & ~among).any()
        np.testing.assert_array_equal(made.sum((1, 2)), target.sum((1, 2)))
        np.testing.assert_array_equal(made, regions.mask(Trial(1, percent, masked, 3)))
    made = regions.mask(Trial(1, percent, "random", 3))
    for layer, (mine, theirs, all_) in enumerate(zip(distances(made), distances(target), distances(among), strict=True)):
        room = 2 * theirs <= all_  # enough others at that distance
        assert (mine[room] >= theirs[room]).all()
        if room.all():
            np.testing.assert_array_equal(mine, theirs)
        # The target's own positions come in only when the layer has no others left.
        assert (made & target)[layer].sum() == max(0, 2 * target[layer].sum() - among[layer].sum())
    for layer in (1, 2, 3):
        part = regions.mask(Trial(1, percent, f"layer:{layer}"))
        np.testing.assert_array_equal(part.any((1, 2)), (np.arange(1, 4) == layer) & target.any((1, 2)))


def test_an_exhausted_distance_takes_the_nearest():
    among = candidates(1, LENGTH, K, "suffix")
    target = np.zeros_like(among)
    target[0, np.arange(K - 1, LENGTH - 1), np.arange(LENGTH - K)] = True  # all there is at distance K - 1
    made = matched(target, among, np.random.default_rng(0))
    assert not (made & target).any()
    found = np.flatnonzero(distances(made)[0])
    assert set(found) <= {K - 2, K}


def test_seeds_and_classes_draw_differently():
    among = candidates(2, 30, 10, "suffix")
    regions = Regions(np.zeros((2, 2, 30, 30), np.float32), 0, ["a", "b"], np.zeros((2, 30, 30)), among)
    masks = [regions.mask(Trial(0, 5.0, *which)) for which in (("random", 0), ("random", 1), ("target",), ("other:b",), ("least",))]
    assert len({mask.tobytes() for mask in masks}) == 5
    assert regions.describe(Trial(0, 5.0, "target"), masks[2]) == {"positions": 37, "overlap": 1, "decisive": 0, "removed": 0}


def test_orders_are_of_all_layers_jointly_or_of_each():
    among = candidates(2, 6, 3, "suffix")
    importance = np.zeros((2, 6, 6))
    importance[0] = 1
    order = ranked(importance, among, 0)
    first = first_overall(order, 9, among.shape)
    assert first.sum((1, 2)).tolist() == [9, 0]
    like = np.zeros_like(among)
    like[:, 4, :2] = True
    assert first_per_layer(order, like).sum((1, 2)).tolist() == [2, 2]


def test_a_layer_in_the_name_of_a_class_is_none():
    assert Trial(0, 1.0, "other:player:3").layer is None
    assert Trial(0, 1.0, "random-layer:12").layer == 12


def test_intervals_of_shares():
    kept = np.arange(100) < 30
    low, high = share_interval(kept)
    assert 0.19 < low < 0.25
    assert 0.35 < high < 0.41
    assert share_interval(np.ones(100, bool)) == (pytest.approx(0.05 ** (1 / 100)), 1.0)
    assert share_interval(np.zeros(3, bool)) == (0.0, pytest.approx(1 - 0.05 ** (1 / 3)))


def test_differences_are_paired():
    random = np.random.default_rng(0)
    control = random.random((1, 200)) < 0.5
    target = control[0] & (random.random(200) < 0.9)
    gap, low, high = difference(target, control)
    assert gap == pytest.approx(target.mean() - control.mean())
    assert low < gap < high < 0  # unpaired, an interval of this width would reach 0
    shuffled = difference(random.permutation(target), control)
    assert shuffled[2] > 0
    assert shuffled[2] - shuffled[1] > 1.5 * (high - low)
    assert difference(np.zeros(2, bool), np.ones((3, 2), bool))[2] > -0.3  # two samples prove little


@pytest.mark.parametrize(("target", "word"), [(0.2, effect.MORE), (0.5, effect.NONE), (0.9, effect.LESS)])
def test_verdicts(target, word):
    def row(masked, share, seed, q=1.0):
        kept = np.random.default_rng(seed).permutation(100) < 100 * share
        shares = {"samples": 100, "extractable": share, "overlap": 0.0}
        return {"class": "Recall: $", "q": q, "masked": masked, **shares, "kept": kept.tolist()}

    rows = [row("none", 1.0, 0, 0.0), row("target", target, 1), *(row("random", 0.5, seed) for seed in (2, 3, 4))]
    (found,) = verdict(pl.DataFrame(rows))
    assert found["doses"][0]["verdict"] == word
    assert word in found["sentence"]
    assert found["doses"][0]["random_low"] == found["doses"][0]["random_high"] == 0.5
