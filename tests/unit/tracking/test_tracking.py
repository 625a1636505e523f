"""The offline wandb files read back, runs that are killed and started again, and pushing to a server that writes down what it is sent."""

import json
import os
import re
import shutil
import signal
import struct
import sys
import time
from pathlib import Path

import forks
import numpy as np
import polars as pl
import pytest
import wandb
from conftest import made_once, memgrid, memgrid_here
from filelock import FileLock
from runs_maker import composed
from stand_in_wandb import KEY, Server
from tokenizers import Tokenizer
from wandb.proto import wandb_internal_pb2

from memgrid.errors import UserError
from memgrid.io.paths import TOY
from memgrid.results.folder import RunFolder
from memgrid.results.result import MemberEpoch
from memgrid.tracking import files as tracking_files
from memgrid.tracking import sync as tracking_sync
from memgrid.tracking.__main__ import main
from memgrid.tracking.log import cell_name, log_history, tracked
from memgrid.tracking.sync import push, push_once, sync, sync_command, synced, unsynced

HEADER, BLOCK = 7, 32768  # the file is a LevelDB log: blocks of pieces, each behind a checksum, its length and its type


def records(path):
    """A reader of its own, on purpose: the one in `memgrid.tracking.files` is what is tested, and wandb offers none."""
    data, at, parts = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        if at + HEADER + length > len(data):  # cut off
            return
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def named(items):
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def history(path):
    """The rows of curves."""
    rows = [named(record.history.item) for record in records(path) if record.HasField("history")]
    return [row for row in rows if any(key.endswith("/min_f1") for key in row)]


def summary(path):
    return {key: value for record in records(path) if record.HasField("summary") for key, value in named(record.summary.update).items()}


def config(path):
    return {key: value for record in records(path) if record.HasField("run") for key, value in named(record.run.config.update).items()}


def started(path):
    return next(record.run for record in records(path) if record.HasField("run"))


def files(folder):
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def finished_files(folder):
    """The same when wandb's own process has written the last one's end, which it does a moment after `wandb.finish`."""
    deadline = time.monotonic() + 20
    while not any(record.HasField("exit") for record in records(files(folder)[-1])) and time.monotonic() < deadline:
        time.sleep(0.01)
    return files(folder)


def epochs(path):
    return [row["epoch"] for row in history(path)]


def rows(*epochs, members=("k8-f16-mean",)):
    """A history."""
    return [MemberEpoch(e, m, 1 / (e + 1), 1.0, [[9, 1], [2, 8]]) for e in epochs for m in members]


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
    assert [started(path).run_id for path in paths] == [folder.name[-10:] for folder in folders]
    assert [started(path).run_group for path in paths] == ["toy/rasy/rho0.5-both", "toy/recite/delta50", "toy/recite/delta50"]
    assert [config(path)["seed"] for path in paths] == [0, 1, 2]
    codes = [record.exit.exit_code for path in paths for record in records(path) if record.HasField("exit")]
    assert codes == [0, 1, 0]


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
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
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


# Killed when wandb's file has the second epoch and its checkpoint is not yet written.
KILLED = """
import os, signal, time
from pathlib import Path
from pytorch_lightning.callbacks import ModelCheckpoint
from test_tracking import epochs
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
        here = Path(__file__).parent
        environment["PYTHONPATH"] = os.pathsep.join(map(str, (here, here.parents[1])))
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
from memgrid.tracking import files, log
files.ARRIVAL_SECONDS = log.SERVER_SECONDS = 2
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


@pytest.mark.parametrize("command", ["sync", "dashboard"])
def test_not_logged_in(command, nobody, offline):
    process = memgrid(command, module="tracking", check=False, env=nobody)
    assert process.returncode == 1
    assert re.fullmatch(r"memgrid: there is no login for wandb at .*: log in with `wandb login` first\n", process.stderr)


def test_an_unreachable_server(nobody, offline):
    environment = {**nobody, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}
    process = impatient("sync", f"root={offline[0].parents[3]}", env=environment)
    assert process.returncode == 1
    assert re.fullmatch(r"memgrid: wandb cannot reach http://127.0.0.1:9 or is refused there: .*\n", process.stderr)
    assert unsynced(offline[0].parents[3])


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


def test_wrong_words_end_with_one_line():
    process = memgrid("push", module="tracking", check=False)
    assert (process.returncode, process.stderr.count("\n")) == (1, 1)
