"""What runs share through their workspace, and through nothing else."""

import shutil

import polars as pl
import pytest
from conftest import refusal
from rich.console import Console
from settings_maker import composed

from memgrid.config.validate import register
from memgrid.label.labels import Labels, read_label_file
from memgrid.launch.workspace import Workspace
from memgrid.pipeline import stages
from memgrid.pipeline.context import RunContext
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


def test_labelling_sweeps_what_a_killed_process_left(contexts, done, tmp_path):
    shutil.copytree(done / "labels", tmp_path / "labels")
    context = contexts(quiet(), f"root={tmp_path}", "stages=[label]")
    left = context.labels.blocks("memorized")
    left.mkdir()
    stages.label_stage(context)
    assert not left.exists()


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


def test_bad_documents_are_told_before_the_model_reads(contexts, mini, tmp_path, monkeypatch):
    shutil.copy(mini / "sequences.parquet", tmp_path)
    pl.DataFrame({"tokens": [[1, 2], [3, None]], "copies": [1, 1]}).write_parquet(tmp_path / "documents.parquet")
    monkeypatch.setattr(RunContext, "lm", property(lambda _: pytest.fail("the model was asked first")))
    context = contexts(quiet(), "taxonomy=recite", f"corpus.path={tmp_path}", f"root={tmp_path / 'root'}")
    assert "has a null within a list" in refusal(stages.label_stage, context)
