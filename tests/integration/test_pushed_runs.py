"""The offline wandb files of finished runs read back, and pushed to a server that writes down what it is sent."""

import json
import os
import re
import shutil
import signal
import socket
import struct
from pathlib import Path

import forks
import numpy as np
import polars as pl
import pytest
import wandb
from conftest import made_once, memgrid, memgrid_here
from runs_maker import composed
from stand_in_wandb import KEY, Server
from tokenizers import Tokenizer
from wandb_files import HEADER, config, epochs, files, finished_files, history, named, records, rows, started, summary

from memgrid.io.paths import TOY
from memgrid.results.folder import RunFolder
from memgrid.tracking import files as tracking_files
from memgrid.tracking import sync as tracking_sync
from memgrid.tracking.log import cell_name, log_history, tracked
from memgrid.tracking.sync import push, push_once, synced, unsynced


@pytest.fixture(scope="module")
def offline(done):
    (folder,) = {path.parents[2] for path in done.glob("runs/*/*/*seed0*/wandb/offline-run-*/run-*.wandb")}
    return folder, files(folder)


def test_one_run_with_config_group_and_summary(offline):
    folder, (path,) = offline
    run, metrics, scores = started(path), json.loads((folder / "metrics.json").read_text()), summary(path)
    assert run.run_group == cell_name(metrics["settings"]) == "toy/rasy/rho0.5-both"
    assert run.display_name == folder.name
    assert run.run_id == folder.name.rsplit("-", 1)[-1]
    assert {key: value for key, value in config(path).items() if key != "_wandb"} == metrics["settings"]
    panel = metrics["panel"]["min_f1"]
    assert scores["min_f1"] == panel["mean"]
    assert [scores[f"min_f1_{key}"] for key in ("std", "low", "high")] == [panel[key] for key in ("std", "low", "high")]
    assert [scores[f"members/{name}/min_f1"] for name in metrics["members"]] == metrics["members_min_f1"]
    assert scores["shuffled_min_f1"] == metrics["control"]["min_f1"]["mean"]
    assert scores["confidence_min_f1"] == metrics["confidence"]["min_f1"]["mean"]
    assert scores["rouge_both/min_f1"] == panel["mean"]


def test_the_confusion_matrix_as_numbers_and_as_a_table(offline):
    folder, (path,) = offline
    metrics, scores = json.loads((folder / "metrics.json").read_text()), summary(path)
    titles = metrics["classes"]
    counts = scores.get("confusion_counts") or {t: {p: scores[f"confusion_counts/{t}/{p}"] for p in titles} for t in titles}
    assert [[counts[true][predicted] for predicted in titles] for true in titles] == metrics["confusion"]
    (table,) = path.parent.glob("files/media/html/confusion*.html")
    cells = re.findall(r"<td[^>]*>(\d+)</td>", table.read_text())
    assert np.array(cells, int).reshape(len(titles), -1).tolist() == metrics["confusion"]
    assert all(title in table.read_text() for title in titles)


def test_curves_of_every_member_over_epochs(offline):
    folder, (path,) = offline
    table = pl.read_parquet(folder / "epochs.parquet")
    found = history(path)
    assert [row["epoch"] for row in found] == [row["_step"] for row in found] == [0, 1, 2]
    for row in table.iter_rows(named=True):
        logged = found[row["epoch"]]
        for key in ("train_loss", "eval_loss"):
            assert logged[f"{row['member']}/{key}"] == pytest.approx(row[key], rel=1e-6)
        assert f"{row['member']}/min_f1" in logged
    axes = {r.metric.glob_name or r.metric.name: r.metric.step_metric for r in records(path) if r.HasField("metric")}
    assert axes["*"] == "epoch"


def test_no_sequence_in_any_file(offline, mini):
    folder, _ = offline
    tokenizer = Tokenizer.from_file(str(TOY / "tokenizer.json"))
    logged = (
        b"".join(path.read_bytes() for path in sorted(folder.glob("wandb/**/*")) if path.is_file()) + b"<p>planted: \\u00e9 \\n text</p>"
    )

    def leaks(text):
        forms = (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
        return any(form.encode() in logged for form in forms)

    assert leaks("planted: é \n text")
    assert b"epoch" in logged
    for tokens in pl.read_parquet(mini / "sequences.parquet")["tokens"].to_list():
        for part in (tokens[:32], tokens[32:], tokens[8:24]):
            text = tokenizer.decode(part).strip()
            assert len(text) < 8 or not leaks(text), text
        for window in (tokens[:8], tokens[32:40]):
            assert not any(separator.join(map(str, window)).encode() in logged for separator in (", ", ",", " "))


# Killed when wandb's file has the second epoch and its checkpoint is not yet written.
KILLED = """
import os, signal, time
from pathlib import Path
from pytorch_lightning.callbacks import ModelCheckpoint
from wandb_files import epochs
from memgrid.tracking import log as tracking
from memgrid.run import main

tracking.FLUSH_SECONDS = 0.1
save = ModelCheckpoint.on_train_epoch_end

def save_or_die(self, trainer, module):
    if trainer.current_epoch == 1:
        run = Path(trainer.default_root_dir).parent
        while not any(1 in epochs(path) for path in run.rglob("run-*.wandb")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, trainer, module)

ModelCheckpoint.on_train_epoch_end = save_or_die
main()
"""


@pytest.fixture(scope="module")
def requeued(done, quick, tmp_path_factory):
    """The root of a run that was killed in its second epoch and started again, its last record cut off. To read from only."""

    def make(root):
        for name in ("attention", "labels"):
            shutil.copytree(done / name, root / name)
        given = [*quick, "wandb=offline", "control.members=0", f"root={root}"]
        environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # a process of wandb's of its own
        environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        killed = forks.run(["-c", KILLED, *given], env=environment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        (first,) = root.glob("runs/**/wandb/offline-run-*/run-*.wandb")
        with first.open("ab") as file:
            file.write(struct.pack("<IHB", 0, 500, 1) + b"half of a record")
        memgrid_here(*given)
        for path in root.glob("runs/*/*/*"):
            finished_files(path)

    return made_once("requeued", make, tmp_path_factory)


def test_a_requeued_run_goes_on_without_overwriting(requeued):
    (folder,) = {path.parents[2] for path in requeued.glob("runs/**/wandb/offline-run-*/run-*.wandb")}
    first, second = files(folder)
    assert (started(first).run_id, started(first).run_group) == (started(second).run_id, started(second).run_group)
    assert not started(first).resume
    assert started(second).resume  # wandb appends it to what the server has
    assert epochs(first) == [0, 1]
    assert epochs(second) == [2]
    table = pl.read_parquet(folder / "epochs.parquet").sort("epoch")
    losses = [row["k8-f16-mean/train_loss"] for row in history(first) + history(second)]
    assert losses == pytest.approx(table["train_loss"].to_list(), rel=1e-6)
    assert "min_f1" in summary(second)


@pytest.fixture
def server():
    with Server() as server:
        yield server
        server.shutdown()


@pytest.fixture
def nobody(tmp_path):
    """The environment of a user who never logged in."""
    return {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "WANDB_API_KEY": "", "WANDB_CONFIG_DIR": str(tmp_path)}


# The command, which waits two seconds for what it usually waits for ten or twenty.
IMPATIENT = """
from memgrid.tracking import server
server.ARRIVAL_SECONDS = server.SERVER_SECONDS = 2
from memgrid.io.commands import start
from memgrid.tracking.__main__ import main
start(main)
"""


def impatient(*words, env, cwd=None):
    return forks.run(["-c", IMPATIENT, *words], cwd, {**os.environ, "COLUMNS": "160", **env})


def test_both_parts_of_a_requeued_run_become_one(requeued, server, nobody, tmp_path):
    shutil.copytree(requeued / "runs", tmp_path / "runs")
    (killed_at_once,) = (path for path in tmp_path.glob("runs/**/run-*.wandb") if not started(path).resume)
    header_only = killed_at_once.parent.with_name("offline-run-20200101_000000-x") / killed_at_once.name
    header_only.parent.mkdir()
    header_only.write_bytes(killed_at_once.read_bytes()[:HEADER])
    pushed = memgrid("sync", f"root={tmp_path}", module="tracking", env={**nobody, **server.environment}, cwd=tmp_path)
    assert "1 of 1 runs pushed" in pushed.stdout
    ((run, lines),) = server.rows.items()
    found = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in found if "k8-f16-mean/min_f1" in row] == [0, 1, 2], (server.asked, pushed.stderr)
    assert [row["_step"] for row in found] == [0, 1, 2, 3]
    assert server.groups == {run: "toy/rasy/rho0.5-both"}
    (folder,) = tmp_path.glob("runs/*/*/*")
    assert server.summaries[run]["min_f1"] == json.loads((folder / "metrics.json").read_text())["panel"]["min_f1"]["mean"]
    assert not (tmp_path / "wandb").exists()
    assert unsynced(tmp_path) == {}
    again = memgrid("sync", f"root={tmp_path}", module="tracking", env={**nobody, **server.environment}, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "holds no offline wandb run that is not pushed yet" in again.stderr


@pytest.mark.slow
def test_rows_that_never_arrived_are_pushed_again_before_the_next_part(requeued, server, nobody, tmp_path):
    shutil.copytree(requeued / "runs", tmp_path / "runs")
    server.loses = 1
    pushed = impatient("sync", f"root={tmp_path}", env={**nobody, **server.environment}, cwd=tmp_path)
    assert "1 of 1 runs pushed" in pushed.stdout, pushed.stderr
    ((_, lines),) = server.rows.items()
    assert [json.loads(line)["_step"] for line in lines] == [0, 1, 2, 3]


def test_an_online_run_goes_on_where_the_server_stands(server, nobody, tmp_path, monkeypatch):
    wandb.teardown()  # it reads the environment once
    try:
        for key, value in {**nobody, **server.environment, "WANDB_MODE": "online"}.items():
            monkeypatch.setenv(key, value)
        for there in (rows(0, 1), rows(0, 1, 2)):
            with tracked(composed(("wandb=online",)), RunFolder(tmp_path / "x-0123456789")) as logger:
                log_history(logger, there)
    finally:
        wandb.teardown()
    found = [json.loads(line) for line in server.rows["0123456789"]]
    assert [(row["epoch"], row["_step"]) for row in found] == [(0, 0), (1, 1), (2, 2)]
    assert server.groups == {"0123456789": "toy/rasy/rho0.5-both"}


def test_what_the_server_refuses_stays_unpushed(offline, server, nobody, tmp_path, monkeypatch):
    folder = shutil.copytree(offline[0], tmp_path / "runs/toy/rasy" / offline[0].name)
    (path,) = files(folder)
    server.refuses = ("file_stream",)
    for key, value in {**nobody, **server.environment}.items():
        monkeypatch.setenv(key, value)
    assert "Fatal error" in push(path)  # and yet wandb exits with 0 and marks the run as pushed
    assert list(unsynced(tmp_path).values()) == [[path]]
    server.refuses = ()
    assert push(path) is None
    assert unsynced(tmp_path) == {}


def test_a_push_that_was_cut_off_is_done_once(offline, server, nobody, tmp_path, monkeypatch):
    """After all had arrived, before anything had, and with rows of an earlier training on the server, which are no sign of these."""
    folder = shutil.copytree(offline[0], tmp_path / "runs/toy/rasy" / offline[0].name)
    (path,) = files(folder)
    note = path.with_name(f"{path.name}.pushing")
    for key, value in {**nobody, **server.environment}.items():
        monkeypatch.setenv(key, value)
    pushed = []
    monkeypatch.setattr(tracking_sync, "push", lambda path: pushed.append(note.read_text()))
    last = max(tracking_files.logged_steps(path))
    for stood, shown, again in (
        (None, -1, ["-1"]),
        ("-1", last, []),
        ("-1", -1, ["-1"]),
        (str(last), last, [str(last)]),
        ("x", last, [str(last)]),
    ):
        pushed.clear()
        synced(path).unlink(missing_ok=True)
        note.unlink(missing_ok=True) if stood is None else note.write_text(stood)
        monkeypatch.setattr(tracking_sync, "last_step_shown", lambda *_, shown=shown: shown)
        assert push_once(path) is None
        assert pushed == again
        assert not note.exists()
        assert synced(path).exists() == (not again)


def test_a_server_that_stops_answering_is_not_waited_for(offline, nobody, tmp_path, monkeypatch):
    folder = shutil.copytree(offline[0], tmp_path / offline[0].name)
    for key, value in {**nobody, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(tracking_sync, "PUSH_SECONDS", 2)
    assert push(files(folder)[0]) == "the server does not answer"


@pytest.mark.parametrize("command", ["sync", "dashboard"])
def test_not_logged_in(command, nobody, offline):
    process = memgrid(command, module="tracking", check=False, env=nobody)
    assert process.returncode == 1
    assert re.fullmatch(r"memgrid: there is no login for wandb at .*: log in with `wandb login` first\n", process.stderr)


@pytest.mark.parametrize("way", ["closed", "silent"])
def test_an_unreachable_server(way, nobody, offline, tmp_path):
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if way == "silent":
            port.listen()  # who connects is never answered
        address = f"http://127.0.0.1:{port.getsockname()[1]}"
        environment = {**nobody, "WANDB_BASE_URL": address, "WANDB_API_KEY": KEY}
        process = impatient("sync", f"root={offline[0].parents[3]}", env=environment)
    assert process.returncode == 1
    assert re.fullmatch(rf"memgrid: wandb cannot reach {address} or is refused there: .*\n", process.stderr)
    assert unsynced(offline[0].parents[3])
    (log,) = tmp_path.glob(".cache/wandb/logs/core-debug-*.log")
    assert "retrying" in log.read_text()
    assert "cancelling" not in log.read_text()  # after which wandb's service now and then outlives its process, which waits for it


AGENT = """
import sys
from pathlib import Path
assert "wandb" not in sys.modules  # which reads its variables when it is imported
from runs_maker import composed
from memgrid.results.folder import RunFolder
from memgrid.tracking.log import tracked
for seed in (0, 1):
    with tracked(composed((f"seed={seed}",)), RunFolder(Path(sys.argv[1]) / f"seed{seed}-000000000{seed}")) as logger:
        logger.log_metrics({"epoch": 0, "x": seed})
"""


def test_under_a_sweep_agent_each_run_is_itself(tmp_path):
    """Whatever else wandb is told by its variables: each run has its own id, name, group, project and folder."""
    own = {"SWEEP_ID": "s1", "RUN_ID": "theirs", "RESUME": "must", "DIR": str(tmp_path / "theirs"), "NAME": "theirs", "RUN_GROUP": "theirs"}
    odd = {"PROJECT": "theirs", "MODE": "disabled", "CONSOLE": "bogus", "SILENT": "false", "RESUME_FROM": "x", "SWEEP_PARAM_PATH": "/no"}
    environment = {**os.environ, **{f"WANDB_{name}": value for name, value in {**own, **odd}.items()}, "WANDB_TAGS": "kept"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    done = forks.run(["-c", AGENT, tmp_path], env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for seed in (0, 1):
        folder = tmp_path / f"seed{seed}-000000000{seed}"
        (path,) = finished_files(folder)
        run = started(path)
        assert (run.run_id, run.display_name, run.project, run.sweep_id) == (f"000000000{seed}", folder.name, "memgrid", "")
        assert run.run_group == "toy/rasy/rho0.5-both"
        assert list(run.tags) == ["kept"]
        assert [row["x"] for row in map(named, (r.history.item for r in records(path) if r.HasField("history")))] == [seed]
    assert not (tmp_path / "theirs").exists()
