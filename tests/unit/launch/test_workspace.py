"""What the runs of a process share, and that a start leaves the process as it found it."""

import os
import signal
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from memgrid.errors import StoreWarning, UserError
from memgrid.launch import base
from memgrid.launch.base import JobLauncher
from memgrid.launch.cli import attempt, noted, start
from memgrid.launch.workspace import Workspace
from memgrid.pipeline.sweep import Runs


class Seen:
    """Something that runs share."""

    def __init__(self):
        self.rows = []


def test_a_part_is_made_once_in_a_workspace_and_anew_in_another():
    first, second = Workspace(), Workspace()
    first.shared(Seen).rows.append(1)
    assert first.shared(Seen).rows == [1]
    assert second.shared(Seen).rows == []


def test_the_current_workspace_is_the_innermost_and_gone_with_it():
    with pytest.raises(LookupError):
        Workspace.current()
    with Workspace().entered() as outer:
        with Workspace().entered() as inner:
            assert Workspace.current() is inner
        with pytest.raises(RuntimeError, match="stop"), Workspace().entered():
            raise RuntimeError("stop")
        assert Workspace.current() is outer
    with pytest.raises(LookupError):
        Workspace.current()


def of_the_process():
    return sys.argv, list(sys.argv), warnings.showwarning, os.environ.get("HYDRA_FULL_ERROR"), signal.getsignal(signal.SIGTERM)


@pytest.mark.parametrize("given", [None, "0"])
@pytest.mark.parametrize("error", [None, UserError("no"), KeyboardInterrupt(), RuntimeError("ours")])
def test_a_start_leaves_the_process_as_it_was(error, given, monkeypatch, capsys):
    """What Hydra and signals need is there while it lasts, however it ends."""
    monkeypatch.setattr(sys, "argv", ["memgrid", "rho=0.5", "-m", "taxonomy=rasy"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    if given is not None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", given)
    before, seen = of_the_process(), []

    def task():
        seen.append((sys.argv, os.environ["HYDRA_FULL_ERROR"], signal.getsignal(signal.SIGTERM), Workspace.current()))
        warnings.warn("a shard", StoreWarning, stacklevel=1)
        if error is not None:
            raise error

    try:
        start(task)
        status = 0
    except SystemExit as end:
        status = end.code
    except RuntimeError:
        status = "raised"
    assert status == {type(None): 0, UserError: "memgrid: no", KeyboardInterrupt: 130, RuntimeError: "raised"}[type(error)]
    ((words, full, handler, _),) = seen
    assert words == ["memgrid", "-m", "rho=0.5", "taxonomy=rasy"]
    assert full == (given or "1")
    assert handler is not before[-1]
    assert capsys.readouterr().err == "memgrid: a shard\n"
    assert of_the_process() == before


def test_each_start_has_a_workspace_of_its_own(monkeypatch):
    """A run that failed in this process is not the next start's."""
    monkeypatch.setattr(sys, "argv", ["memgrid"])
    seen = []
    with pytest.raises(SystemExit) as ended:
        start(lambda: seen.append(Workspace.current()) or Workspace.current().failures.append("no"))
    assert ended.value.code == 1
    start(lambda: seen.append(Workspace.current()))
    assert seen[0] is not seen[1]


def test_a_process_that_was_told_to_stop_fails_at_nothing(tmp_path):
    workspace = Workspace()
    with pytest.raises(RuntimeError, match="first"), noted(tmp_path, workspace):
        raise RuntimeError("first")
    assert "first" in (tmp_path / "failed.json").read_text()
    workspace.stopping = True
    with pytest.raises(SystemExit) as ended, noted(tmp_path, workspace):
        raise RuntimeError("second")
    assert ended.value.code == 143
    assert not (tmp_path / "failed.json").exists()


def test_without_a_start_hydras_task_says_what_it_lacks():
    with pytest.raises(LookupError):
        attempt(lambda _: None)


class Waiting(JobLauncher):
    """A launcher for which there is nothing to do."""

    def __init__(self):
        self.params, self.folder = {"tasks_per_node": 1, "nodes": 1}, Path("jobs")
        self.hydra_context, self.config, self.submitted = SimpleNamespace(config_loader=None), None, []

    def room(self, active):
        return 1

    def queue(self):
        return set()

    def farewell(self, jobs):
        return ""

    def work_off(self, waiting, failures, board):
        self.submitted += waiting
        self.target.finished |= {task.run for group in waiting for task in group}
        return []


class Everything(Runs):
    """Runs that are numbers: the even ones are done; on those in `others` somebody works."""

    def __init__(self, *others):
        self.finished, self.others = {2, 4}, set(others)

    def result(self, run):
        return {} if run in self.finished else None

    def name(self, run):
        return f"run {run}"

    def ending(self, run):
        return "done"

    def folder(self, run):
        return Path("nowhere")

    def busy(self, run):
        return run in self.others

    def shared(self, run):
        return (run,)


def test_a_launcher_takes_what_the_sweep_found_and_keeps_it_out_of_its_jobs(capsys):
    launcher, workspace = Waiting(), Workspace(target=Everything(), planned={("n=1",): 1, ("n=2",): 2, ("n=3",): 3})
    with workspace.entered():
        ended = launcher.launch([["n=1"], ["n=2"], ["n=3"]], 0)
    assert len(ended) == 3
    assert [[task.run for task in group] for group in launcher.submitted] == [[1], [3]]
    assert "1 of 3 runs are done" in capsys.readouterr().out
    assert launcher.target is workspace.target
    assert not any(isinstance(value, Workspace) for value in vars(launcher).values())


@pytest.mark.parametrize("ends", ["done", "gone"])
def test_a_launcher_waits_for_what_others_do_and_does_it_if_they_are_gone(ends, capsys, monkeypatch):
    target = Everything(1, 5)
    launcher, workspace = Waiting(), Workspace(target=target, planned={(f"n={n}",): n for n in range(1, 6)})

    def time_passes(_):
        done = target.others.pop()
        target.finished |= {done} if ends == "done" else set()

    monkeypatch.setattr(base.time, "sleep", time_passes)
    with workspace.entered():
        launcher.launch([[f"n={n}"] for n in range(1, 6)], 0)
    done_here = [task.run for group in launcher.submitted for task in group]
    assert done_here == ([3] if ends == "done" else [3, *sorted({1, 5}, key=done_here.index)])
    assert len(done_here) == (1 if ends == "done" else 3)
    out = capsys.readouterr().out
    assert out.count("another process is working on it") == 2
    assert out.count(": done") == (2 if ends == "done" else 0)
    assert workspace.failures == []
