"""The offline wandb files read back, runs that are killed and started again, and pushing to a server that writes down what it is sent."""

import os
import re
import shutil
import sys

import pytest
import wandb
from conftest import memgrid
from filelock import FileLock
from runs_maker import composed
from wandb_files import HEADER, config, epochs, finished_files, history, named, records, rows, started

from memgrid.errors import UserError
from memgrid.results.folder import RunFolder
from memgrid.tracking import files as tracking_files
from memgrid.tracking import server as tracking_server
from memgrid.tracking import sync as tracking_sync
from memgrid.tracking.__main__ import main
from memgrid.tracking.log import cell_name, log_history, tracked
from memgrid.tracking.sync import sync, sync_command


@pytest.mark.parametrize(
    ("delta", "rho", "rouge", "name"),
    [
        (None, 0.5, "both", "toy/rasy/rho0.5-both"),
        (50, None, None, "toy/rasy/delta50"),
        (5, 0.25, "l", "toy/rasy/delta5-rho0.25-l"),
        (None, None, None, "toy/rasy"),
        (0, 1.0, "3", "toy/rasy/delta0-rho1-3"),
    ],
)
def test_the_name_of_a_cell(delta, rho, rouge, name):
    assert cell_name({"llm": {"name": "toy"}, "taxonomy": {"name": "rasy"}, "delta": delta, "rho": rho, "rouge": rouge}) == name


def test_runs_of_one_process_never_merge(tmp_path):
    folders = [tmp_path / f"seed{seed}-000000000{seed}" for seed in (0, 1, 2)]
    for seed, folder in enumerate(folders):
        try:
            with tracked(composed((f"seed={seed}", "taxonomy=recite" if seed else "taxonomy=rasy")), RunFolder(folder)) as logger:
                log_history(logger, rows(seed, 10))
                if seed == 1:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert wandb.run is None
    paths = [path for folder in folders for path in finished_files(folder)]
    assert [epochs(path) for path in paths] == [[0, 10], [1, 10], [2, 10]]
    assert not any((folder / "wandb").stat().st_mode & 0o007 for folder in folders)  # as no other file of a run is for the world
    assert [started(path).run_id for path in paths] == [folder.name[-10:] for folder in folders]
    assert [started(path).run_group for path in paths] == ["toy/rasy/rho0.5-both", "toy/recite/delta50", "toy/recite/delta50"]
    assert [config(path)["seed"] for path in paths] == [0, 1, 2]
    codes = [record.exit.exit_code for path in paths for record in records(path) if record.HasField("exit")]
    assert codes == [0, 1, 0]


def test_disabled_leaves_nothing(tmp_path):
    with tracked(composed(("wandb=off",)), RunFolder(tmp_path / "off-0123456789")) as logger:
        assert logger is None
    assert list(tmp_path.iterdir()) == []


def test_online_without_a_login_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "init", lambda **_: (_ for _ in ()).throw(wandb.errors.UsageError("No API key configured. Use it.")))
    with (
        pytest.raises(UserError, match=r"^wandb=online could not start a run \(No API key configured\): [^.]*$"),
        tracked(composed(("wandb=online",)), RunFolder(tmp_path / "x-0123456789")),
    ):
        pass


@pytest.mark.parametrize("kept", ["nothing", "one epoch", "everything"])
def test_epochs_that_wandb_lost_are_written_again_from_the_checkpoint(kept, tmp_path):
    run, folder = composed(()), tmp_path / "x-0123456789"
    with tracked(run, RunFolder(folder)) as logger:
        log_history(logger, rows(0, 1))
    (first,) = finished_files(folder)
    cuts = {"nothing": HEADER, "one epoch": end_of_epoch(first, 0) + 9, "everything": first.stat().st_size}
    os.truncate(first, cuts[kept])
    with tracked(run, RunFolder(folder)) as logger:
        log_history(logger, rows(0, 1))  # as a training does that goes on
        log_history(logger, rows(2))
    first.rename(first.with_suffix(".first"))
    (second,) = finished_files(folder)
    there = {"nothing": [], "one epoch": [0], "everything": [0, 1]}[kept]
    assert epochs(second) == [epoch for epoch in (0, 1, 2) if epoch not in there]
    assert [row["_step"] for row in history(second)] == epochs(second)
    assert started(second).resume == bool(there)
    assert history(second)[-1]["k8-f16-mean/min_f1"] == pytest.approx(100 * 16 / 19)


def end_of_epoch(path, epoch):
    """Where the record of an epoch ends."""
    return next(end for r, end in tracking_files.records(path) if r.HasField("history") and named(r.history.item)["epoch"] == epoch)


def test_sync_pushes_in_order_of_time_and_leaves_runs_that_go_on(tmp_path, monkeypatch, capsys):
    names = {"a": ["20260102_000000-a"], "b": ["20260101_000000-b", "20260103_000000-b"], "c": ["20260101_120000-c"]}
    for run, times in names.items():
        with tracked(composed(()), RunFolder(tmp_path / run)) as logger:
            log_history(logger, rows(0))
        (made,) = finished_files(tmp_path / run)
        for when in times:
            part = tmp_path / "runs/toy/rasy" / run / "wandb" / f"offline-run-{when}" / f"run-{run}.wandb"
            part.parent.mkdir(parents=True)
            shutil.copy(made, part)
    pushed = []
    monkeypatch.setattr(tracking_sync, "log_in", lambda verify: None)
    monkeypatch.setattr(tracking_sync, "push", lambda path: pushed.append(path.parent.name[12:]))
    with FileLock(tmp_path / "runs/toy/rasy/c/.lock"):
        sync(tmp_path)
    assert pushed == ["20260101_000000-b", "20260103_000000-b", "20260102_000000-a"]
    told = capsys.readouterr().out
    assert "2 of 3 runs pushed" in told
    assert "rasy/c is still running" in told
    monkeypatch.setattr(tracking_sync, "push", lambda path: "permission denied")
    with pytest.raises(
        UserError, match=r"offline-run-20260101_000000-b \(permission denied\), 0 runs were pushed before: start sync again$"
    ):
        sync(tmp_path)
    with pytest.raises(
        UserError, match=r"^root=.*nowhere holds no offline wandb run that is not pushed yet: train one with wandb=offline$"
    ):
        sync(tmp_path / "nowhere")


def test_the_command(tmp_path):
    part = tmp_path / "wandb/offline-run-20260101_000000-x"
    assert sync_command(part / "run-x.wandb") == [sys.executable, "-m", "wandb", "sync", str(part)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "'' is no command: use sync, dashboard"),
        (["push"], "'push' is no command: use sync, dashboard"),
        (["root=x"], "'root=x' is no command: use sync, dashboard"),
        (["sync", "here"], "tracking sync knows only root=<folder>, not here"),
        (["sync", "entity=me"], "tracking sync knows only root=<folder>, not entity=me"),
        (["dashboard", "root=x"], "tracking dashboard knows only entity=<name> and project=<name>, not root=x"),
    ],
)
def test_wrong_words(arguments, told):
    with pytest.raises(UserError, match=re.escape(told)):
        main(arguments)


@pytest.mark.parametrize("ends", [True, False])
def test_only_who_asks_the_server_is_impatient(ends, monkeypatch):
    """wandb's service has two tries of so many seconds, and our process waits longer; a run that begins later has wandb's own patience."""
    settings, seen = wandb.setup().settings, []
    before = settings.model_dump()

    def asked(timeout):
        seen.append((timeout, settings.x_graphql_timeout_seconds, settings.x_graphql_retry_max))
        if not ends:
            raise wandb.Error("out of reach")

    monkeypatch.setattr(wandb, "Api", asked)
    try:
        tracking_server.server()
    except wandb.Error:
        assert not ends
    ((patience, seconds, again),) = seen
    assert (seconds, again) == (tracking_server.SERVER_SECONDS, 1)
    assert patience > seconds * (again + 1)
    assert settings.model_dump() == before


def test_wrong_words_end_with_one_line():
    process = memgrid("push", module="tracking", check=False)
    assert (process.returncode, process.stderr.count("\n")) == (1, 1)
