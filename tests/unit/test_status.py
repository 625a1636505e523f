"""`memgrid status`: what it forgets, and what it does not."""

import os
from pathlib import Path

import pytest
from conftest import memgrid_here, refusal
from runs_maker import Run, begin, finish, leave

from memgrid.io.commands import parsed
from memgrid.results.audit_folder import AuditFolder
from memgrid.results.folder import RunFolder
from memgrid.results.states import audit_states, states
from memgrid.results.work import WorkFolder
from memgrid.status import COMMAND, forget


def status(root, *words):
    return " ".join(memgrid_here(f"root={root}", *words, module="status").stdout.split())


def found(root):
    return {row["name"].split("-seed")[1].split("-")[0]: row["state"] for row in states(root).iter_rows(named=True)}


@pytest.fixture
def root(tmp_path):
    """A run of every state; seed 4 failed after its first epoch, seed 5 has a result and an intervention that was cut off."""
    finish(Run(tmp_path, "a", seed=0))
    for seed, state in enumerate(("failed", "stopped", "missing"), 1):
        leave(Run(tmp_path, "a", seed=seed), state)
    WorkFolder(leave(Run(tmp_path, "a", seed=4), "stopped")).note_failure("no fan")
    RunFolder(finish(Run(tmp_path, "a", seed=5))).intervention_journal.touch()
    return tmp_path


def test_what_failed_is_forgotten_but_a_checkpoint_stays(root):
    told = status(root, "forget=failed")
    assert found(root) == {"0": "done", "2": "stopped", "3": "missing", "4": "stopped", "5": "stopped"}
    assert "forgot all of it, which had no result" in told
    assert "forgot that it failed; its checkpoint stays" in told
    assert f"nothing below {root} is failed" in status(root, "forget=failed")


def test_what_was_stopped_is_forgotten_with_its_checkpoint_but_no_result_is(root):
    result = RunFolder(Run(root, "a", seed=5).folder).metrics.read_bytes()
    told = status(root, "forget=stopped")
    assert found(root) == {"0": "done", "1": "failed", "3": "missing", "4": "failed", "5": "done"}
    assert "forgot the intervention that was cut off" in told
    assert RunFolder(Run(root, "a", seed=5).folder).metrics.read_bytes() == result


def test_what_is_missing_is_forgotten_and_its_job_named(root):
    WorkFolder(begin(Run(root, "b", seed=6))).note_queued("7_1", root / "7_1_result")
    assert found(root)["6"] == "queued"
    assert "nothing" not in status(root, "forget=missing")
    told = status(root, "forget=queued")
    assert set(found(root).values()) == {"done", "failed", "stopped"}
    assert "which had no result (job 7_1 was submitted for it)" in told


def test_the_checkpoint_before_the_last_counts_too(root):
    folder = RunFolder(Run(root, "a", seed=4).folder)
    folder.checkpoint.rename(folder.checkpoint.with_suffix(f".previous{folder.checkpoint.suffix}"))
    assert "forgot that it failed; its checkpoint stays" in status(root, "forget=failed")
    assert found(root)["4"] == "stopped"


def test_what_was_started_meanwhile_is_not_missing(root):
    rows = states(root).filter(states(root)["state"] == "missing").to_dicts()
    folder = RunFolder(Path(rows[0]["folder"]))
    folder.checkpoints.mkdir()
    folder.checkpoint.touch()
    assert forget(rows[0]).startswith("nothing")
    assert folder.checkpoint.exists()


def test_what_runs_is_never_touched(root):
    folder = RunFolder(Run(root, "a", seed=1).folder)
    rows = states(root).filter(states(root)["state"] == "failed")
    with folder.lock(0):
        assert forget(next(row for row in rows.iter_rows(named=True) if row["folder"] == str(folder.path))).startswith("nothing")
    assert folder.failure() is not None


def test_a_damaged_result_is_no_result_and_is_kept(root):
    folder = RunFolder(Run(root, "a", seed=0).folder)
    whole = folder.metrics.read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        folder.metrics.write_bytes(whole[:cut])
        assert found(root)["0"] == "failed"
    assert "its metrics.json is damaged" in status(root, "state=failed")
    assert "nothing: its result is damaged, run it again with force=true" in status(root, "forget=failed")
    assert folder.metrics.read_bytes() == whole[:-1]


def test_jobs_without_training_are_forgotten(tmp_path):
    folder = WorkFolder(tmp_path / "jobs" / "toy" / "rasy" / "extract-0123456789")
    folder.note_failure("no room")
    assert "which had no result" in status(tmp_path, "forget=failed")
    assert not folder.path.exists()


@pytest.fixture
def audit(tmp_path):
    """An audit of two models, of which one is trained and one failed."""
    audit = AuditFolder(tmp_path / "audits" / "digits" / "mlp" / "clean")
    audit.shadow(1).path.mkdir(parents=True)
    audit.config.write_text("shadows: 2\n")
    audit.shadow(0).arrays.write_bytes(b"model")
    audit.shadow(1).note_failure("no fan")
    return audit


def test_a_failed_audit_keeps_its_models_and_a_stopped_one_does_not(audit, tmp_path):
    assert "that it failed; its shadow models stay" in status(tmp_path, "forget=failed")
    assert audit_states(tmp_path)["state"].to_list() == ["stopped"]
    assert audit.shadow(0).arrays.read_bytes() == b"model"
    assert "all of it, which had no result" in status(tmp_path, "forget=stopped")
    assert not audit.path.exists()


def test_an_audit_with_a_result_loses_only_attacks_without(audit, tmp_path):
    audit.shadow(1).arrays.touch()
    audit.shadow(1).failure_file.unlink()
    for name, content in (("hinge-0", "{}"), ("logit-0", None)):
        audit.attack(name).path.mkdir()
        if content:
            audit.attack(name).metrics.write_text(content)
    assert "attacks without a result" in status(tmp_path, "forget=stopped")
    assert [attack.path.name for attack in audit.attacks()] == ["attack-hinge-0"]
    assert audit_states(tmp_path)["state"].to_list() == ["done"]
    audit.attack("hinge-0").metrics.write_text("{")
    assert audit_states(tmp_path)["detail"].item().startswith("attack-hinge-0: its metrics.json is damaged")
    assert "nothing: its result is damaged" in status(tmp_path, "forget=failed")


def test_what_is_done_or_running_cannot_be_forgotten(root):
    assert (
        refusal(parsed, COMMAND, ["forget=done"])
        == "forget=done is not possible: use failed, stopped, missing, queued; results are never forgotten"
    )
    process = memgrid_here(f"root={root}", "forget=failed", "state=failed", module="status", check=False)
    assert "state=failed lists and forget=failed removes: give one of the two" in process.stderr


def test_what_others_wrote_does_not_reach_the_terminal_raw(root):
    WorkFolder(Run(root, "a", seed=1).folder).note_failure("\x1b[2J\x1b]0;owned\x07 [red]x[/red] :smile:")
    shown = memgrid_here(f"root={root}", module="status").stdout
    assert "\x1b" not in shown
    assert "[red]x[/red] :smile:" in shown


def test_two_thousand_runs_are_looked_at_in_seconds(tmp_path):
    made = finish(Run(tmp_path / "one", "a"))
    for number in range(2000):
        folder = tmp_path / "runs" / "a" / "rasy" / f"run{number:04}"
        folder.mkdir(parents=True)
        os.link(RunFolder(made).metrics, RunFolder(folder).metrics)
    table = states(tmp_path)
    assert table.filter(table["state"] == "done").height == 2000


@pytest.mark.parametrize("word", ["0", "-1", "0.5", "often", "nan", "inf", "1e400", "٣x"])
def test_how_often_is_a_number_of_seconds(word):
    assert refusal(parsed, COMMAND, [f"watch={word}"]) == f"watch={word} is no number of seconds from 1 on: write one, such as watch=5"


def test_states_that_are_mistyped_are_told_with_the_nearest():
    assert refusal(parsed, COMMAND, ["state=faild"]).endswith("(did you mean failed?)")
    assert refusal(parsed, COMMAND, ["forget=stoped"]).endswith("(did you mean stopped?)")
    assert "watch=5 looks and forget=failed removes" in memgrid_here("watch=5", "forget=failed", module="status", check=False).stderr


def test_it_looks_again_until_it_is_interrupted(root, tmp_path, monkeypatch):
    naps = []

    def sleep(seconds):
        if seconds < 1:
            return  # of somebody else: a lock that is waited for
        naps.append(seconds)
        leave(Run(root, "c", seed=7), "failed")
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("memgrid.status.time.sleep", sleep)
    process = memgrid_here(f"root={root}", "watch=5", module="status")
    assert naps == [5, 5]
    assert process.returncode == 0
    assert not process.stderr
    blocks = process.stdout.split("every 5 s until Ctrl-C\n")
    assert [f"{number} runs below" in block for number, block in zip((6, 7), blocks[1:], strict=True)] == [True, True]
    assert "\x1b" not in process.stdout
    naps.clear()
    assert "holds no run and no audit" in memgrid_here(f"root={tmp_path / 'none'}", "watch=5", module="status").stdout
