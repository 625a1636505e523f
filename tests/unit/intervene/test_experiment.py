"""Interventions on a model of which we know by what it reproduces its text, and everything around them: controls, intervals, restarts."""

import json
from dataclasses import asdict, replace
from unittest import mock

import numpy as np
import polars as pl
import pytest
import torch
from architectures import proven
from conftest import refusal
from transformers import GPT2Config, GPT2LMHeadModel

from memgrid.config.schema import CorpusConfig, InterveneConfig
from memgrid.corpus.corpus import Corpus, load_corpus
from memgrid.intervene.attention.observation import mean_attention
from memgrid.intervene.attention.reader import MaskedReader
from memgrid.intervene.experiment import Experiment, Files, Texts, intervene
from memgrid.intervene.positions import candidates
from memgrid.intervene.statistics import LOOKS, MORE, NONE, UNMATCHED, verdict
from memgrid.intervene.trials import MEASURED, Journal, Trial, finished_table
from memgrid.io.paths import TOY
from memgrid.lm.model import LanguageModel, ModelIdentity, after_bos, identity_after_bos
from memgrid.results.folder import RunFolder

LENGTH, K, WORDS, LAYERS = 16, 8, 40, 2
CLASSES = ["Non-Memo", "Copied", "Elsewhere"]
SHARE = 100 * 8 / 168  # the copying positions: 8 of 2 · 84


def copying_model(positions=LENGTH):
    """A GPT-2 made by hand: in its first layer one head attends to the key K - 1 before each query and hands on its token.

    So it continues a text by repeating the last K tokens, by nothing but the attention of layer 1 at (query, query - K + 1). A second head
    attends as much to the next key, for nothing; the second layer is idle.
    """
    head = WORDS + positions
    width = 2 * head
    model = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_positions=positions, n_embd=width, n_layer=LAYERS, n_head=2, n_inner=4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        body, words, steps = model.transformer, torch.arange(WORDS), torch.arange(positions)
        places = steps + WORDS
        body.wte.weight[words, words] = 1
        body.wpe.weight[steps, places] = 1
        mean, deviation = 2 / width, (2 / width - 4 / width**2) ** 0.5
        layer = body.h[0]
        layer.ln_1.weight.fill_(deviation)  # undoes the normalisation: what is read is a 1 for the token and a 1 for the place
        layer.ln_1.bias.fill_(mean)
        weight = layer.attn.c_attn.weight  # (width, queries, keys and values)
        for number, back in enumerate((K - 1, K - 2)):
            weight[places[back:], number * head + steps[: positions - back]] = 40 * head**0.5
            weight[places, width + number * head + steps] = 1
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
    """Class 1 is decided where the model copies, class 2 where it looks for nothing, class 0 nowhere."""
    made = np.zeros((3, LAYERS, LENGTH, LENGTH), np.float32)
    for query in range(K - 1, LENGTH):
        made[1, 0, query, query - K + 1] = 1
        made[2, 0, query, query - K + 2] = 1
    return made


SAMPLES = {0: np.arange(30, 60), 1: np.arange(30)}
TEXTS = Texts(SAMPLES, {}, np.arange(30, 60))
QUICK = {"percent": [SHARE], "seeds": 4, "samples": 20, "ordinary": 10, "layers_at": SHARE}


def files(folder):
    """Where an experiment is written, and its journal."""
    run = RunFolder(folder)
    return Files(run.intervention, run.intervention_units, run.intervention_journal)


def done(lm, corpus, delta, folder, **changes):
    return intervene(lm, corpus, delta, CLASSES, TEXTS, InterveneConfig(**{**QUICK, **changes}), files(folder))


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
    assert one.key(TEXTS) != other.key(TEXTS)


def test_where_a_model_looks_is_the_mean_over_its_heads(toy_lm):
    tokens = np.random.default_rng(0).integers(0, 2048, (5, 64))
    made = mean_attention(toy_lm, tokens)
    np.testing.assert_allclose(made.sum(-1), 1, atol=0.01)  # which no other pooling gives
    expected = toy_lm.pooled_maps(tokens)["mean"].astype(np.float64).mean(0)
    np.testing.assert_allclose(made[:, *np.tril_indices(64)].T, expected, atol=1e-6)


def test_the_planted_cause_is_found(table):
    assert of(table, "none")["extractable"] == 1
    assert of(table, "target") | {"units": 8, "overlap": 1.0, "decisive": 1.0, "extractable": 0.0} == of(table, "target")
    for control in ("other:Elsewhere", "other:Non-Memo", "least"):
        assert of(table, control)["extractable"] == 1
        assert of(table, control)["overlap"] == 0
        assert of(table, control)["suffix_logprob"] == pytest.approx(of(table, "none")["suffix_logprob"], abs=0.01)
    assert of(table, "target")["suffix_logprob"] < of(table, "none")["suffix_logprob"] - 1
    # The model looks as much at what it does not need.
    for control in ("attended", "other:Elsewhere", "least", "random"):
        assert of(table, control)["removed"] == pytest.approx(of(table, "target")["removed"], rel=0.01)
    assert of(table, "other:Non-Memo")["units"] == 0  # nothing decides it
    # A draw has some of the target's positions and some of the others, which are alike.
    assert of(table, "random")["units"] == 8
    assert 0 < of(table, "random")["overlap"] < 1
    # Only the first layer does anything.
    shares = {masked: of(table, masked)["extractable"] for masked in ("layer:1", "layer:2", "random-layer:2")}
    assert shares == {"layer:1": 0, "layer:2": 1, "random-layer:2": 1}
    assert of(table, "random-layer:1")["extractable"] == of(table, "random")["extractable"]


def test_the_verdict_on_the_planted_cause(table):
    (found,) = verdict(table)
    (dose,) = found.doses
    assert (found.title, found.samples, dose.q, dose.target) == ("Copied", 20, pytest.approx(SHARE), 0)
    by_control = {one.control: one for one in dose.comparisons}
    assert list(by_control) == ["other:Non-Memo", "other:Elsewhere", "least", "attended", "random"]
    for control in ("least", "other:Elsewhere"):
        one = by_control[control]
        assert (one.difference, one.verdict, one.draws) == (-1, MORE, 1)
        assert -1 <= one.low <= one.high < -0.7
        assert one.chance == 2 * 0.5**20
    assert by_control["other:Elsewhere"].adjusted == 2 * by_control["other:Elsewhere"].chance  # there are two other classes
    assert by_control["other:Non-Memo"].verdict == UNMATCHED
    assert (by_control["attended"].verdict, by_control["random"].verdict, by_control["random"].draws) == (NONE, NONE, 4)
    assert found.sentences[:2] == [
        "Copied (20 samples), its most decisive attention against the most decisive of Non-Memo: there is no control of as much attention "
        "at q = 4.7619 % (0% stay extractable against 100%, p < 0.001)",
        "Copied (20 samples), its most decisive attention against the most decisive of Elsewhere: matters more at q = 4.7619 % "
        "(0% stay extractable against 100%, p < 0.001)",
    ]
    json.dumps([asdict(one) for one in dose.comparisons])


def test_the_table(table):
    assert table["class"].unique().to_list() == ["Copied"]  # nothing to lose in the others
    assert table.height == 1 + 5 + 4 + 1 + 4
    assert set(table["unit"]) == {"positions"}
    assert table["samples"].unique().to_list() == [20]
    assert table.filter(pl.col("masked") == "random")["seed"].to_list() == [0, 1, 2, 3]
    assert table.filter(~pl.col("masked").str.starts_with("random"))["seed"].is_null().all()
    assert table["damage"].is_null().sum() == 4 + 4 - MEASURED
    assert table["suffix_logprob"].is_null().sum() == 4 - MEASURED
    assert of(table, "none")["damage"] == 0
    for row in table.iter_rows(named=True):
        assert row["extractable"] == np.mean(row["kept"])
        assert 0 <= row["extractable_low"] <= row["extractable"] <= row["extractable_high"] <= 1


def test_other_settings(lm, corpus, delta, table, tmp_path):
    without = done(lm, corpus, delta, tmp_path / "a", ordinary=0, layers_at=None)
    assert without["damage"].is_null().all()
    layers = pl.col("masked").str.contains("layer:")
    damage = ("damage", "damages")
    assert without.drop(damage).equals(table.filter(~layers).drop(damage))
    assert of(done(lm, corpus, delta, tmp_path / "b", heads=1, layers_at=None), "target")["extractable"] == 0
    every = candidates(LAYERS, LENGTH, K, "all").sum()
    found = done(lm, corpus, delta, tmp_path / "c", queries="all", percent=[100 * 8 / every, 100.0], layers_at=None)
    assert of(found, "target")["extractable"] == 0
    assert of(found, "least")["extractable"] == 1
    at_once = found.filter((pl.col("q") == 100) & pl.col("masked").is_in(["target", "random", "attended"]))
    assert at_once.height == 2 + MEASURED  # of everything there is one draw, which tells nothing
    assert set(at_once["extractable"]) == {0.0}
    assert set(at_once["overlap"]) == {1.0}
    assert found.filter((pl.col("q") == 100) & (pl.col("masked") == "least"))["units"].to_list() == [0]


def test_it_runs_on_the_embedded_model(toy_lm, tmp_path):
    corpus = load_corpus(CorpusConfig(name="toy", path=None))
    kinds = pl.read_parquet(TOY / "sequences.parquet", columns=["sequence_id", "kind"])
    ids = {kind: kinds.filter(pl.col("kind") == kind)["sequence_id"].to_numpy()[:30] for kind in ("chunk", "repeat", "held_out")}
    delta = np.random.default_rng(0).random((2, 6, 64, 64)).astype(np.float32)
    config = InterveneConfig([5.0, 100.0], seeds=1, samples=6, ordinary=6, layers_at=None)
    found = intervene(
        toy_lm,
        corpus,
        delta,
        ["Recall", "Guess"],
        Texts({0: ids["chunk"], 1: ids["repeat"]}, {}, ids["held_out"]),
        config,
        files(tmp_path),
    )
    assert found["class"].unique(maintain_order=True).to_list() == ["Recall", "Guess"]
    at_once = found.filter((pl.col("q") == 100) & (pl.col("masked") != "least"))
    assert set(at_once["units"]) == {6 * sum(range(31, 63))}
    assert (at_once["suffix_logprob"] < -3).all()
    assert (at_once["damage"] > 0.5).all()


def test_a_finished_experiment_is_not_repeated(lm, corpus, delta, tmp_path):
    first = done(lm, corpus, delta, tmp_path)
    run = RunFolder(tmp_path)
    assert set(tmp_path.iterdir()) == {run.intervention, run.intervention_units}
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
    for stop in (2, 5, 11):
        with mock.patch.object(Journal, "add", autospec=True, side_effect=until(stop)), pytest.raises(KeyboardInterrupt):
            done(lm, corpus, delta, tmp_path)
        assert not RunFolder(tmp_path).intervention.exists()
        with RunFolder(tmp_path).intervention_journal.open("ab") as file:
            file.write(b'[1, 4.7, "least", nu')  # torn by the kill
    measured = []
    add = Journal.add
    with mock.patch.object(Journal, "add", autospec=True, side_effect=lambda *given_: (measured.append(given_[1]), add(*given_))):
        assert done(lm, corpus, delta, tmp_path).equals(table)
    assert len(measured) == table.height - 11
    journal = RunFolder(tmp_path).intervention_journal
    assert not journal.exists()
    journal.touch()  # left by who was killed between the tables and its removal
    assert done(lm, corpus, delta, tmp_path).equals(table)
    assert not journal.exists()


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
    empty = (lm, corpus, delta, CLASSES, Texts({0: SAMPLES[0]}, {}, SAMPLES[0]), InterveneConfig(**QUICK), files(tmp_path))
    assert "nothing to switch off" in refusal(intervene, *empty)
    with pytest.raises(ValueError, match="Δ maps"):
        done(lm, corpus, delta[:, :1], tmp_path)


def test_draws_end_where_a_class_is_far_from_any_claim(lm, corpus, tmp_path):
    """Δ of no meaning: the target is one of the crowd at the first look, so that no further draw is made."""
    delta = np.random.default_rng(1).random((3, LAYERS, LENGTH, LENGTH)).astype(np.float32)
    few = done(lm, corpus, delta, tmp_path / "few", seeds=40, layers_at=None, ordinary=0)
    assert few.filter(pl.col("masked") == "random").height in LOOKS
    assert few.filter(pl.col("masked") == "random").height < 40


def test_without_a_number_as_many_draws_are_made_as_a_class_needs(lm, corpus, delta, tmp_path):
    with mock.patch("memgrid.intervene.experiment.enough", return_value=False):
        made = done(lm, corpus, delta, tmp_path, seeds=None, layers_at=None, ordinary=0)
    assert made.filter(pl.col("masked") == "random")["seed"].to_list() == list(range(19))


def test_draws_go_on_until_a_look_settles_it(lm, corpus, delta, tmp_path):
    with mock.patch("memgrid.intervene.experiment.enough", side_effect=[False, False, True]):
        made = done(lm, corpus, delta, tmp_path, seeds=59, layers_at=None, ordinary=0)
    assert made.filter(pl.col("masked") == "random")["seed"].to_list() == list(range(39))


def test_a_layer_in_the_name_of_a_class_is_none():
    assert Trial(0, 1.0, "other:player:3").layer is None
    assert Trial(0, 1.0, "random-layer:12").layer == 12


UNITS = {"unit": ["heads", "layers"], "numbers": [1, 2], "layers_at": None}


@pytest.fixture(scope="module")
def of_units(lm, corpus, delta, tmp_path_factory):
    """The same experiment on heads and layers, ranked on ten of the samples; and what was found of every one."""
    folder = tmp_path_factory.mktemp("units")
    texts = Texts({0: SAMPLES[0], 1: np.arange(20)}, {1: np.arange(20, 30)}, np.arange(30, 60))
    table = intervene(lm, corpus, delta, CLASSES, texts, InterveneConfig(**{**QUICK, **UNITS}), files(folder))
    return table, pl.read_parquet(files(folder).units)


def test_the_planted_head_and_layer_are_found(of_units):
    """Layer 1 copies with its first head; its second looks elsewhere for nothing, and layer 2 is idle."""
    table, found = of_units
    heads = {(row["layer"], row["head"]): row for row in found.filter(pl.col("unit") == "heads").iter_rows(named=True)}
    assert len(heads) == LAYERS * 2
    for way in ("attribution", "ablation", "delta"):
        first = max(heads, key=lambda place: heads[place][way])
        assert first == (1, 1)
    assert heads[1, 1]["ablation"] > 1
    assert all(abs(heads[place]["ablation"]) < 0.01 for place in heads if place != (1, 1))
    layers = found.filter(pl.col("unit") == "layers")
    assert layers["layer"].to_list() == [1, 2]
    assert layers["head"].is_null().all()
    assert layers["ablation"][0] > 1 > 0.01 > abs(layers["ablation"][1])
    assert layers["attribution"][0] == pytest.approx(sum(heads[1, head]["attribution"] for head in (1, 2)))
    for unit, total in (("heads", 4), ("layers", 2)):
        mine = table.filter((pl.col("unit") == unit) & (pl.col("q") == 100 / total))
        assert set(mine.filter(pl.col("masked").is_in(["attribution", "ablation", "delta"]))["extractable"]) == {0.0}
        assert set(mine["units"]) == {1}


def test_everything_switched_off_is_the_same_for_all_units(of_units, table):
    both, _ = of_units
    ends = [rows.filter(pl.col("masked") == "all") for rows in (both, table)]
    assert ends[0]["unit"].to_list() == ["heads", "layers"]
    assert len(set(ends[0]["damage"])) == len(set(ends[0]["suffix_logprob"])) == 1
    assert ends[0]["damage"][0] == ends[1]["damage"][0]
    assert of(both, "none")["extractable"] == 1


def test_one_class_that_is_memorized_has_no_others(of_units):
    assert of_units[0]["others"].is_null().all()


def test_other_classes_are_read_under_the_same_masks(lm, corpus, delta, tmp_path):
    """Class 2 repeats as class 1 does: what costs the one costs the other."""
    texts = Texts({1: np.arange(10), 2: np.arange(10, 30)}, {}, np.arange(30, 60))
    made = intervene(lm, corpus, delta, CLASSES, texts, InterveneConfig(**{**QUICK, **UNITS, "seeds": 1}), files(tmp_path))
    first, second = (made.filter(pl.col("class") == name) for name in CLASSES[1:])
    assert {len(kept) for kept in first["others_kept"]} == {20}
    assert {len(kept) for kept in second["others_kept"]} == {10}
    heads = of(first.filter((pl.col("unit") == "heads") & (pl.col("q") == 25)), "attribution")
    assert (heads["extractable"], heads["others"]) == (0, 0)
    assert of(first, "none")["others"] == 1


def test_heads_replaced_by_nothing_or_by_what_is_usual(lm, corpus, delta, tmp_path):
    """The planted head looks at the same distance in any text: put in its own place, it still copies."""
    for way, left in (("zero", 0), ("mean", 1)):
        made = done(lm, corpus, delta, tmp_path / way, **UNITS, replace=way, seeds=1)
        assert of(made.filter(pl.col("q") == 25), "ablation" if way == "zero" else "delta")["extractable"] == left
        assert of(made, "none")["extractable"] == 1
    assert "replace=mean needs ordinary text" in refusal(lambda: done(lm, corpus, delta, tmp_path / "x", replace="mean", ordinary=0))


def test_a_killed_experiment_on_heads_goes_on(lm, corpus, delta, tmp_path):
    whole = done(lm, corpus, delta, tmp_path / "whole", **UNITS)
    for stop in (1, 3, 6, 9):
        with mock.patch.object(Journal, "add", autospec=True, side_effect=until(stop)), pytest.raises(KeyboardInterrupt):
            done(lm, corpus, delta, tmp_path / "again", **UNITS)
    assert done(lm, corpus, delta, tmp_path / "again", **UNITS).equals(whole)
    assert pl.read_parquet(files(tmp_path / "again").units).equals(pl.read_parquet(files(tmp_path / "whole").units))
    files(tmp_path / "whole").units.unlink()  # what is missing is made again
    assert done(lm, corpus, delta, tmp_path / "whole", **UNITS).equals(whole)
    assert files(tmp_path / "whole").units.exists()


def test_a_model_of_its_own_attention_has_layers_but_no_heads(tmp_path):
    lm = proven("falcon")
    tokens = np.random.default_rng(0).integers(0, 256, (24, LENGTH)).astype(np.int32)
    tokens[:12, K:] = lm.continue_greedily(tokens[:12, :K], LENGTH - K)
    corpus = Corpus("c", np.arange(24), tokens, K, None)
    maps = np.tril(np.random.default_rng(1).random((2, 3, LENGTH, LENGTH)).astype(np.float32))
    texts = Texts({1: np.arange(12)}, {}, np.arange(12, 24))
    config = InterveneConfig(**{**QUICK, **UNITS, "unit": "layers", "seeds": 1})
    made = intervene(lm, corpus, maps, ["a", "b"], texts, config, files(tmp_path))
    assert set(made["masked"]) == {"none", "all", "ablation", "delta", "random"}
    assert pl.read_parquet(files(tmp_path).units)["attribution"].is_null().all()
    told = refusal(lambda: intervene(lm, corpus, maps, ["a", "b"], texts, replace(config, unit="heads"), files(tmp_path)))
    assert "cannot be reached" in told
