"""CSV and TensorBoard: a row per epoch, begun anew by whoever goes on, with settings and final scores; and what is refused."""

from contextlib import suppress

import polars as pl
import pytest
import yaml
from conftest import refusal
from runs_maker import Run, composed, finish
from tracker_files import epochs_of, events
from wandb_files import rows

from memgrid.config import validate
from memgrid.config.names import settings
from memgrid.results.folder import RunFolder
from memgrid.tracking.log import log_history, record, summarise, tracked

LOCAL = ("csv", "tensorboard")


@pytest.mark.parametrize("tracker", LOCAL)
def test_rows_are_those_of_wandb_and_none_is_there_twice(tracker, tmp_path):
    run, folder = composed((f"tracking={tracker}",)), RunFolder(tmp_path / "x-0123456789")
    result = RunFolder(finish(Run(tmp_path / "root", taxonomy="rasy"))).result()
    with suppress(KeyboardInterrupt), tracked(run, folder) as logger:
        log_history(logger, rows(0, 1, 2))
        raise KeyboardInterrupt
    assert [epoch for epoch, _ in epochs_of(folder.path, tracker)] == [0, 1, 2]
    with tracked(run, folder) as logger:
        log_history(logger, rows(0, 1))  # as a training does that goes on from its second epoch
        logger.log_metrics({"k8-f16-mean/train_loss": 0.25, "epoch": 2.0}, step=77)
        summarise(logger, result)
    found = epochs_of(folder.path, tracker)
    assert [epoch for epoch, _ in found] == [0, 1, 2]
    assert found[2][1]["k8-f16-mean/train_loss"] == 0.25
    (first, *_) = rows(0)
    assert found[0][1]["k8-f16-mean/eval_loss"] == pytest.approx(first.eval_loss, rel=1e-6)
    assert found[0][1]["k8-f16-mean/min_f1"] == pytest.approx(100 * 16 / 19)
    noted = yaml.safe_load((folder.path / tracker / "hparams.yaml").read_text())
    assert noted == settings(run)
    assert final(folder.path, tracker)["min_f1"] == pytest.approx(result.panel.min_f1.mean, rel=1e-6)
    assert [path.name for path in folder.path.iterdir()] == [tracker]
    assert (folder.path / tracker).stat().st_mode & 0o007 == 0  # as no other file of a run is for the world


def final(folder, tracker):
    """The final scores."""
    if tracker == "csv":
        return pl.read_csv(folder / "csv/summary.csv").to_dicts()[0]
    return {name: value for name, _, value in events(folder) if name == "min_f1"}


@pytest.mark.parametrize("tracker", ["none", "wandb"])
def test_where_nothing_is_recorded_nothing_is_left(tracker, tmp_path):
    with tracked(composed((f"tracking={tracker}", "wandb=off")), RunFolder(tmp_path / "x-0123456789")) as logger:
        assert logger is None
        summarise(logger, None)
    record(tracker, composed(("wandb=off",)).wandb, tmp_path, "audit", {}, [{"loss": 1.0}], {"auc": 0.5})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tracker", LOCAL)
def test_what_is_finished_is_recorded_alike(tracker, tmp_path):
    record(tracker, composed(("wandb=off",)).wandb, tmp_path, "audit", {"seed": 1}, [{"loss": 1.0}, {"loss": 0.5}], {"min_f1": 0.5})
    assert [(epoch, row["loss"]) for epoch, row in epochs_of(tmp_path, tracker)] == [(0, 1.0), (1, 0.5)]
    assert final(tmp_path, tracker)["min_f1"] == 0.5


def test_what_no_tracker_could_do_is_refused_before_any_work(monkeypatch):
    told = "wandb=online pushes runs to wandb, and tracking=csv records none for it: leave one of the two out"
    assert refusal(composed, ("tracking=csv", "wandb=online")) == told
    monkeypatch.setenv("WANDB_MODE", "perhaps")
    assert composed(("tracking=csv", "seed=77")).tracking.name == "csv"  # which is none of wandb's business
    monkeypatch.setattr(validate, "find_spec", lambda name: None)
    told = "tracking=tensorboard needs a package that is not installed: pip install 'memgrid[tensorboard]'"
    assert refusal(composed, ("tracking=tensorboard", "seed=78")) == told
    monkeypatch.setattr(validate, "find_spec", lambda name: name == "tensorboard" or None)
    assert composed(("tracking=tensorboard", "seed=79")).tracking.name == "tensorboard"
