"""None"""

import os
import subprocess
import sys
import time

import polars as pl
import pytest
from conftest import memgrid, memgrid_here
from filelock import FileLock
from runs_maker import Run, begin, finish, leave

from memgrid.results.states import audit_states, is_own, states
from memgrid.results.work import WorkFolder

HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def root(tmp_path):
    """A run of every state but running."""
    finish(Run(tmp_path, "a", seed=0))
    for seed, state in enumerate(("failed", "stopped", "missing"), 1):
        leave(Run(tmp_path, "a", seed=seed), state)
    return tmp_path


@pytest.fixture
def held(root):
    """A run whose lock another process holds."""
    folder = begin(Run(root, "b", seed=9))
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder / ".lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield folder
    process.kill()
    process.wait()


def state(table, seed):
    return table.filter(pl.col("name").str.contains(f"-seed{seed}-"))["state"].item()


def test_every_state(root, held):
    table = states(root)
    assert [state(table, seed) for seed in (0, 1, 2, 3, 9)] == ["done", "failed", "stopped", "missing", "running"]
    assert table.columns == ["llm", "taxonomy", "name", "state", "detail", "folder"]
    row = table.row(by_predicate=pl.col("state") == "failed", named=True)
    assert row["detail"].startswith("class 'Recite' has 12 samples")
    assert row["detail"].endswith("job.log)")
    assert (row["llm"], row["taxonomy"]) == ("a", "rasy")
    assert os.path.isdir(row["folder"])
    assert "last checkpoint 20" in table.row(by_predicate=pl.col("state") == "stopped", named=True)["detail"]


def test_a_running_run_with_an_old_failure_is_running(root, held):
    WorkFolder(held).note_failure("boom")
    assert state(states(root), 9) == "running"


def test_the_lock_is_released_at_once(root):
    folder = leave(Run(root, "a", seed=5), "stopped")
    assert state(states(root), 5) == "stopped"
    with FileLock(folder / ".lock", timeout=0):
        assert state(states(root), 5) == "running"
    assert state(states(root), 5) == "stopped"


def test_looking_leaves_no_files(root):
    before = sorted(root.rglob("*"))
    states(root)
    assert sorted(root.rglob("*")) == before


def test_started_but_cut_off_before_the_first_checkpoint(root):
    (begin(Run(root, "a", seed=6)) / ".lock").touch()
    row = states(root).row(by_predicate=pl.col("name").str.contains("seed6"), named=True)
    assert (row["state"], row["detail"]) == ("stopped", "before its first epoch ended")


def test_a_job_that_was_cut_off_shows_the_end_of_its_log(root, tmp_path):
    folder = begin(Run(root, "a", seed=16))
    (folder / ".lock").touch()
    WorkFolder(folder).note_job(tmp_path / "4_0_log.out")
    found = pl.col("name").str.contains("seed16")
    assert states(root).row(by_predicate=found, named=True)["detail"].endswith(f"; nothing (log: {tmp_path / '4_0_log.out'})")
    (tmp_path / "4_0_log.out").write_text("train\nslurmstepd: error: Detected 1 oom-kill event(s)\n")
    row = states(root).row(by_predicate=found, named=True)
    assert row["state"] == "stopped"
    assert f"; slurmstepd: error: Detected 1 oom-kill event(s) (log: {tmp_path / '4_0_log.out'})" in row["detail"]
    WorkFolder(folder).note_job(None)  # started again by hand
    assert states(root).row(by_predicate=found, named=True)["detail"] == "before its first epoch ended"


def test_a_finished_run_is_done_unless_a_later_stage_is_under_way(root):
    folder = finish(Run(root, "a", seed=7))
    WorkFolder(folder).note_failure("such as intervene")
    assert state(states(root), 7) == "done"
    with FileLock(folder / ".lock"):
        assert state(states(root), 7) == "running"  # at a stage after training
    (folder / "intervene.partial.jsonl").touch()
    assert state(states(root), 7) == "stopped"
    (folder / "intervene.partial.jsonl").unlink()
    shown = " ".join(memgrid_here(f"root={root}", module="status").stdout.split())
    assert "but a later start failed: such as intervene" in shown


def test_a_folder_that_no_run_made_is_nothing(root):
    (root / "runs" / "a" / "rasy" / "notes").mkdir()
    (root / "runs" / "a" / "rasy" / ".cache").mkdir()
    assert states(root).height == 4


def test_an_audit_in_every_state(tmp_path):
    """Made by hand; tests/test_audit.py looks at real ones."""
    folder = tmp_path / "audits" / "digits" / "mlp" / "clean"
    attack, shadows = folder / "attack-hinge-0", folder / "shadows"
    (shadows / "shadow-0001").mkdir(parents=True)
    found = lambda: audit_states(tmp_path).select("llm", "taxonomy", "name", "state", "detail").rows()  # noqa: E731
    assert found() == []
    (folder / "config.yaml").write_text("shadows: 2\n")
    (shadows / "shadow-0000.h5").touch()
    assert found() == [("digits", "mlp", "clean", "stopped", "1 of 2 shadow models")]
    WorkFolder(shadows / "shadow-0001").note_failure("no fan")
    assert found()[0][3:] == ("failed", "1 of 2 shadow models; shadow-0001: no fan")
    with FileLock(shadows / "shadow-0001" / ".lock"):
        assert found()[0][3:] == ("running", "1 of 2 shadow models")
    (shadows / "shadow-0001.h5").touch()
    (shadows / "shadow-0001" / "failed.json").unlink()
    assert found()[0][3:] == ("stopped", "2 of 2 shadow models, no attack")
    attack.mkdir()
    (attack / "metrics.json").write_text("{}")
    assert found()[0][3:] == ("done", "")
    (folder / "attack-logit-0").mkdir()
    assert found()[0][3:] == ("stopped", "2 of 2 shadow models, attack-logit-0 without a result")
    (folder / "attack-logit-0").rmdir()
    WorkFolder(folder).note_failure("no room for the page")
    assert found()[0][3:] == ("done", "but a later start failed: no room for the page")
    (folder / "config.yaml").write_text("{")
    assert found()[0][3:] == ("failed", f"{folder / 'config.yaml'} is damaged: remove it, and start the audit again")


def test_a_job_without_training_is_told_while_it_lasts(tmp_path):
    folder = tmp_path / "jobs" / "toy" / "rasy" / "extract-part1of3-0123456789"
    WorkFolder(folder).note_queued("7_1", tmp_path / "7_1_result.pkl")
    found = lambda: states(tmp_path).select("name", "state", "detail").rows()  # noqa: E731
    assert found() == [(folder.name, "queued", "as job 7_1")]
    WorkFolder(folder).note_job(tmp_path / "7_1.out")
    (tmp_path / "7_1.out").write_text("slurmstepd: error: CANCELLED\n")
    with FileLock(folder / ".lock"):
        assert found() == [(folder.name, "running", "")]
    assert found() == [(folder.name, "stopped", f"before its end; slurmstepd: error: CANCELLED (log: {tmp_path / '7_1.out'})")]
    (tmp_path / "7_1_result.pkl").touch()
    (folder / ".lock").unlink()
    assert found() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_another_users_folder_can_be_looked_at(root):
    folder = leave(Run(root, "a", seed=8), "stopped")
    (folder / ".lock").chmod(0o444)
    assert state(states(root), 8) == "stopped"


def test_the_command_line(root, held):
    shown = memgrid(f"root={root}", module="status").stdout
    assert "5 runs below" in shown
    counted = [line.split()[0] for line in shown.splitlines() if line.split()[1:2] == ["1"]]
    assert counted == ["done", "running", "failed", "stopped", "missing"]
    assert "class 'Recite' has 12 samples" in " ".join(shown.split())
    assert "seed0" not in shown  # what is done is only counted
    only = memgrid(f"root={root}", "state=done", module="status").stdout
    assert "seed0" in only
    assert "seed1" not in only


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rot=x",), "rot=x"),
        (("state=lost",), "state=lost is unknown: use done, running, queued, failed, stopped, missing"),
        ((), "holds no run and no audit"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, arguments, told):
    process = memgrid(*arguments, module="status", check=False, cwd=tmp_path)
    assert process.returncode == 1
    assert told in process.stderr
    assert process.stderr.count("\n") == 1


def test_text_in_square_brackets_is_shown_as_it_is(root):
    WorkFolder(begin(Run(root, "a", seed=4))).note_failure("class 'Recite[5]' [bold]has[/bold] too few")
    shown = memgrid(f"root={root}", "state=failed", module="status").stdout
    assert "Recite[5]" in shown
    assert "[bold]has[/bold]" in shown


def test_thousands_are_told_in_seconds(tmp_path):
    for index in range(1000):
        folder = tmp_path / "runs" / "a" / "rasy" / f"run{index}"
        folder.mkdir(parents=True)
        (folder / ("metrics.json" if index % 2 else "config.yaml")).touch()
        (folder / ".lock").touch()
    start = time.process_time()
    assert states(tmp_path)["state"].value_counts(sort=True).height == 2
    assert time.process_time() - start < 5


def test_a_note_that_is_gone_is_nobodys(tmp_path):
    (tmp_path / "queued.json").write_text("{}")
    assert is_own(tmp_path / "queued.json")
    assert not is_own(tmp_path / "begun.json")
