"""What a launcher and its jobs hand to each other: nothing that another user could have written is unpickled, or believed."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import refusal

from memgrid.errors import UserError
from memgrid.io.digests import write_json
from memgrid.launch import handover
from memgrid.launch.handover import answer_file, close, read_answer, read_own, submitted
from memgrid.launch.progress.tally import Tally
from memgrid.launch.tasks import Task, collect
from memgrid.results.work import WorkFolder, last_line


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "unpickled"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "jobs").mkdir(mode=0o700)
    return tmp_path / "jobs"


def planted(path: Path, mark: Path) -> Path:
    path.write_bytes(pickle.dumps(Bomb(mark)))
    return path


def paths(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(stderr=folder / "none", stdout=folder / "7_0_log.out", result_pickle=folder / "7_0_result.pkl")


def test_the_bomb_goes_off(mark):
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()


def another_users(path, monkeypatch):
    """As it looks to whoever does not own it."""
    owner = os.stat(path).st_uid
    monkeypatch.setattr(handover.os, "geteuid", lambda: owner + 1)


def writable_by_the_group(path, monkeypatch):
    path.parent.chmod(0o750)
    path.chmod(0o664)


def in_a_folder_that_others_may_change(path, monkeypatch):
    path.parent.chmod(0o777)


def a_pipe(path, monkeypatch):
    path.unlink()
    os.mkfifo(path, 0o600)


PLANTS = {
    another_users: "is not read, for it may hold anything: submit again",
    writable_by_the_group: "others can write to",
    in_a_folder_that_others_may_change: "others can write to",
    a_pipe: "is no file",
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_another_user_could_have_submitted_is_not_unpickled(plant, folder, mark, monkeypatch):
    plant(planted(folder / "7_submitted.pkl", mark), monkeypatch)
    assert PLANTS[plant] in refusal(submitted, folder / "7_submitted.pkl")
    assert not mark.exists()


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_ones_own_submission_is_read_where_nobody_else_can_look(mode, folder):
    path = folder / "7_submitted.pkl"
    path.write_bytes(pickle.dumps("to do"))
    path.chmod(mode)
    assert submitted(path) == "to do"
    folder.chmod(0o755)
    if mode == 0o600:
        assert submitted(path) == "to do"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_job_says_why_it_stops_and_unpickles_nothing(folder, mark):
    os.chown(planted(folder / "7_submitted.pkl", mark), 65534, -1)
    env = {**os.environ, "SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}
    words = [sys.executable, "-c", handover.ENTRY, "-u", "-m", "submitit.core._submit", str(folder)]
    process = subprocess.run(words, capture_output=True, text=True, env=env, timeout=300)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(f"memgrid: {folder}/7_submitted.pkl belongs to ")
    assert not mark.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["7_submitted.pkl"]


def collected(folder, tmp_path):
    """What is told of a job of two runs that has ended."""
    target = SimpleNamespace(done=lambda _: False, folder=lambda run: tmp_path / run.name, name=lambda _: "it", ending=lambda _: "done")
    tasks = [Task(number, [], SimpleNamespace(force=False, name=f"run{number}")) for number in (0, 1)]
    failures: list[str] = []
    return collect(SimpleNamespace(job_id="7", paths=paths(folder)), tasks, target, failures, Tally()), failures


def test_nothing_that_a_launcher_reads_is_unpickled(folder, tmp_path, mark):
    """Pickles under every name that is looked at after a job: submitit's result, the answer, the log, and the notes in a run's folder."""
    for name in ("7_0_result.pkl", "7_0_result.json", "7_0_log.out", "7_submitted.pkl"):
        planted(folder / name, mark)
    work = WorkFolder(tmp_path / "run0")
    work.path.mkdir()
    for path in (work.failure_file, work.job_file, work.queued_file, work.config):
        planted(path, mark)
    assert (work.queued_as(), work.job_log()) == (None, None)
    assert "damaged" in str(work.failure())
    others, failures = collected(folder, tmp_path)
    assert others == []
    assert ["7_0_result.json is damaged" in failure for failure in failures] == [True, True]
    assert not mark.exists()


def test_the_result_of_submitit_alone_is_no_result(folder, tmp_path, mark):
    planted(folder / "7_0_result.pkl", mark)
    assert collected(folder, tmp_path)[1] == ["job 7 ended without a result: it left no log"] * 2
    assert not mark.exists()


def test_another_users_answer_is_not_believed(folder, tmp_path, monkeypatch):
    write_json({"failures": [None, None], "busy": []}, answer_file(paths(folder)))
    assert collected(folder, tmp_path) == ([], [])
    another_users(folder, monkeypatch)
    assert all("is not read" in failure for failure in collected(folder, tmp_path)[1])


def test_an_answer_tells_what_went_wrong_and_what_was_left_to_others(folder, tmp_path, capsys):
    write_json({"failures": ["no", "busy"], "busy": [1], "summary": ["in all", "much \x1b[2J"]}, answer_file(paths(folder)))
    others, failures = collected(folder, tmp_path)
    assert ([task.number for task in others], failures) == ([1], ["no"])
    assert capsys.readouterr().out.splitlines()[1:] == ["in all", "much \\x1b[2J"]


@pytest.mark.parametrize("text", ["", "[]", '{"failures": 3}', '{"failures": [], "busy": [[]]}', "\x80"])
def test_a_damaged_answer_is_named(text, folder):
    (folder / "answer.json").write_text(text)
    assert refusal(read_answer, folder / "answer.json") == f"{folder / 'answer.json'} is damaged"
    assert "cannot be read" in refusal(read_answer, folder / "none.json")


def test_a_file_that_is_swapped_after_it_was_looked_at_is_not_what_is_read(folder, mark, monkeypatch):
    """Judged is what was opened, and not what stands under the name by then."""
    path, usual = folder / "7_submitted.pkl", os.fstat
    path.write_bytes(pickle.dumps("to do"))

    def swapped(descriptor):
        planted(folder / "other", mark).replace(path)
        return usual(descriptor)

    monkeypatch.setattr(handover.os, "fstat", swapped)
    assert pickle.loads(read_own(path)) == "to do"
    assert not mark.exists()


def test_the_folder_of_the_jobs_is_closed_to_others(tmp_path):
    usual = os.umask(0o002)
    try:
        for name in ("sweep", "mine"):
            (tmp_path / name).mkdir()
        (tmp_path / "sweep" / "multirun.yaml").touch()
        (tmp_path / "mine" / "notes.txt").touch()
        for name in ("sweep", "new/one"):
            close(tmp_path / name)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(usual)
    assert "close it to others (chmod 700), or choose another one with hydra.launcher" in refusal(close, tmp_path / "mine")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o775  # it holds something: its rights are the user's own choice
    (tmp_path / "mine").chmod(0o700)
    close(tmp_path / "mine")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made for your jobs alone"):
        close(tmp_path / "file" / "jobs")


def test_a_log_that_is_a_pipe_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "log")
    assert last_line(tmp_path / "log") == last_line(Path("/dev/zero")) == ""
