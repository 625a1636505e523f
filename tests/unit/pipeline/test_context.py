"""What runs share through their workspace, and through nothing else; what their stages ask of it, and in which order."""

import shutil

import numpy as np
import polars as pl
import pytest
import torch
from conftest import refusal
from rich.console import Console
from safetensors.torch import save_file
from settings_maker import composed

from memgrid.config.names import LABELS, claim_home, owner_of_labels
from memgrid.config.schema import CorpusConfig, LLMConfig, RunConfig
from memgrid.config.validate import register
from memgrid.corpus.corpus import Corpus
from memgrid.label.labels import Labels, read_label_file
from memgrid.launch.workspace import Workspace
from memgrid.lm.model import ModelIdentity
from memgrid.pipeline import stages
from memgrid.pipeline.context import RunContext, is_of_another_step, kin_of, open_corpus, without_memorized
from memgrid.pipeline.plan import Pace


@pytest.fixture
def contexts(done, quick):
    """A maker of contexts of the run of `done`, or of one that differs from it."""
    register()

    def make(workspace, *overrides):
        return RunContext(composed(*quick, f"root={done}", *overrides), workspace)

    return make


def quiet():
    return Workspace(Console(quiet=True))


def test_runs_of_one_workspace_share_corpus_draw_and_labels(contexts):
    workspace = quiet()
    first, second, elsewhere = contexts(workspace), contexts(workspace, "taxonomy=recite", "delta=7"), contexts(quiet())
    assert first.corpus is second.corpus
    assert first.drawn is second.drawn
    files = [context.inputs.label_file for context in (first, second)]
    assert len(set(files)) == 1
    for context in (first, second):
        context.labels.read(("memorized",))
    assert (files[0].cache_info().hits, files[0].cache_info().misses) == (1, 1)
    assert elsewhere.corpus is not first.corpus
    assert elsewhere.drawn is not first.drawn
    assert contexts(workspace, "seed=1").drawn is not first.drawn


def test_a_coin_is_tossed_for_each_seed_and_kept_nowhere(contexts):
    first, again, other = (contexts(quiet(), "taxonomy=null_coin", f"seed={seed}") for seed in (0, 0, 1))
    assert first.groups == ("memorized",)
    assert first.features["heads"].equals(again.features["heads"])
    assert abs((first.features["heads"] == other.features["heads"]).mean() - 0.5) < 0.1
    assert not list(first.labels.folder.glob("*coin*"))


def test_a_label_file_that_is_written_again_is_read_again(contexts, tmp_path):
    context = contexts(quiet())
    ids = context.corpus.sequence_id
    table = pl.DataFrame({"sequence_id": ids, "memorized": ids % 2 == 0})
    labels = Labels(tmp_path, context.identity, context.corpus, read_file=context.inputs.label_file)
    labels.path("memorized").parent.mkdir(parents=True, exist_ok=True)
    path = labels.path("memorized")
    table.write_parquet(path)
    assert labels.read(("memorized",))["memorized"].to_list() == (ids % 2 == 0).tolist()
    stamp = path.stat().st_mtime_ns
    table.with_columns(memorized=pl.lit(False)).write_parquet(path)
    assert path.stat().st_mtime_ns > stamp
    assert not labels.read(("memorized",))["memorized"].any()
    assert read_label_file(str(path), 0)[0].height == len(ids)


def test_costs_add_up_in_a_workspace_and_begin_anew_in_another(contexts, monkeypatch):
    """The pace is measured once for all runs of one model and panel."""
    measured = []
    monkeypatch.setattr(stages, "measure", lambda *_: measured.append(1) or Pace(0.01, 0.1, 0.001))
    monkeypatch.setattr(RunContext, "lm", None)
    first, second, lines = quiet(), quiet(), []
    for workspace, given in ((first, ()), (first, ("seed=1",)), (second, ())):
        context = contexts(workspace, *given)
        context.say = lines.append
        stages.plan_stage(context)
    runs = [line.split()[1] for line in lines if "runs of toy" in line]
    assert runs == ["1", "2", "1"]
    assert len(measured) == 2


@pytest.mark.parametrize(
    ("llm", "splits", "kind", "believed"),
    [
        ({}, ["memories_duped_70m"], "semantic_filters", True),
        ({"revision": "main"}, [], "semantic_filters", True),
        ({"revision": "step1000"}, ["memories_duped_70m"], "semantic_filters", False),
        ({"path": "/ckpts/step1000"}, [], "semantic_filters", False),
        ({"revision": "step1000"}, ["memories_duped_70m_1000"], "semantic_filters", True),
        ({"revision": "step1000"}, ["memories_duped_70m.step1000"], "semantic_filters", True),
        ({"revision": "step1000"}, ["memories_duped_70m_11000"], "semantic_filters", False),
        ({"revision": "step1000"}, ["memories_duped_70m.1000", "pile_duped_70m"], "semantic_filters", False),
        ({"revision": "step1000"}, ["deduped.70m.1000", "deduped.1b"], "memorized_evals", True),
        ({"revision": "step1000"}, ["deduped.70m", "deduped.1b.1000"], "memorized_evals", False),
    ],
)
def test_a_corpus_is_not_believed_about_what_a_step_memorizes(llm, splits, kind, believed):
    given = {"memorized": np.ones(1, bool), "duplicates": np.ones(1, np.int64)}
    corpus = Corpus("c", np.zeros(1, np.int64), np.zeros((1, 64), np.int32), 32, None, given)
    run = RunConfig(llm=LLMConfig(name="m", **{"path": None, **llm}), corpus=CorpusConfig(name="c", path=None, splits=splits, kind=kind))
    assert is_of_another_step(run) is not believed
    assert set(without_memorized(corpus).given) == {"duplicates"}
    opened = open_corpus(run, lambda: None, lambda _: corpus)
    assert ("memorized" in opened.given) is believed


@pytest.mark.parametrize("size", ["70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"])
def test_the_size_of_a_model_is_no_step(size):
    for step in (0, 1, 2, 4, 8, 12, 16, 70, 160, 410):
        splits = [f"{kind}_deduped_{size}" for kind in ("memories", "pile")]
        run = RunConfig(llm=LLMConfig(name="m", path="p", revision=f"step{step}"), corpus=CorpusConfig(name="c", path=None, splits=splits))
        assert is_of_another_step(run)


def test_bad_documents_are_told_before_the_model_reads(contexts, mini, tmp_path, monkeypatch):
    shutil.copy(mini / "sequences.parquet", tmp_path)
    pl.DataFrame({"tokens": [[1, 2], [3, None]], "copies": [1, 1]}).write_parquet(tmp_path / "documents.parquet")
    monkeypatch.setattr(RunContext, "lm", property(lambda _: pytest.fail("the model was asked first")))
    context = contexts(quiet(), "taxonomy=recite", f"corpus.path={tmp_path}", f"root={tmp_path / 'root'}")
    assert "has a null within a list" in refusal(stages.label_stage, context)


def test_paths_that_end_alike_are_compared_and_named_in_full(tmp_path):
    told, weights = {}, {"w": torch.randn(40, 40), "v": torch.randn(40)}
    for number, place in enumerate(("a/final", "b/final", "b/last")):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        save_file(weights, folder / "model.safetensors")
        identity = ModelIdentity("m", "", f"print {number}", 1, 9, str(folder))
        claim_home(tmp_path, LABELS, "c", identity, owner_of_labels)
        told[place] = kin_of(LLMConfig(name="m", path=str(folder)), identity, tmp_path, "c")
    assert told["a/final"] == []
    assert told["b/final"] == [f"{tmp_path / 'b/final'} and {tmp_path / 'a/final'} have the same weights: they are one model under 2 names"]
    assert [sentence.partition(" have")[0] for sentence in told["b/last"]] == ["last and final"] * 2
