"""What a sweep says while it lasts, and when it has ended."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgrid.errors import UserError
from memgrid.io.display import PlainConsole, watcher
from memgrid.launch.progress import board as boards
from memgrid.launch.progress import tally as tallies
from memgrid.launch.progress.board import Board
from memgrid.launch.progress.ending import settings_of, tell_end
from memgrid.launch.progress.tally import Tally
from memgrid.launch.tasks import Task, left
from memgrid.results.doing.notes import telling
from memgrid.results.work import WorkFolder


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = SimpleNamespace(time=0.0)
    monkeypatch.setattr(tallies.time, "monotonic", lambda: now.time)
    return now


def test_nothing_is_estimated_before_one_has_ended_and_then_from_those(clock):
    tally = Tally(9)
    tally.begin(0)
    tally.begin(1)
    assert tally.text() == "0 of 9 runs done, 2 running, 7 queued, no estimate before one has ended"
    clock.time = 100.0
    tally.end(0, failed=False)
    tally.end(1, failed=True)
    tally.begin(2)
    clock.time = 140.0
    # 60 s are left of the one at work, and 6 more take 100 s each, one after another.
    assert tally.left() == 660
    assert tally.text() == "1 of 9 runs done, 1 failed, 1 running, 6 queued, about 11 min left"
    tally.begin(3)
    assert tally.left() == (60 + 100 + 5 * 100) / 2


def test_what_was_done_before_or_ended_at_once_says_nothing_of_the_others(clock):
    tally = Tally(4)
    tally.end(0, failed=False)
    tally.end(1, failed=False, seconds=0.2)
    assert tally.text() == "2 of 4 runs done, 2 queued, no estimate before one has ended"
    tally.end(2, failed=False, seconds=50)
    assert tally.text() == "3 of 4 runs done, 1 queued, about 50 s left"
    tally.end(3, failed=False, seconds=50)
    assert tally.text() == "4 of 4 runs done"


@given(st.lists(st.tuples(st.sampled_from(["begin", "end", "fail", "leave", "wait"]), st.integers(0, 7))))
def test_all_runs_are_counted_once(steps):
    tally = Tally(8)
    for what, number in steps:
        if number in tally.ended:
            continue
        if what == "begin":
            tally.begin(number)
        elif what in ("leave", "wait"):
            tally.leave(number, to_others=what == "leave")
        else:
            tally.end(number, failed=what == "fail")
        assert len(tally.ended) + len(tally.began) + len(tally.elsewhere) + tally.queued == 8
        assert tally.left() is None or tally.left() >= 0


def test_what_others_do_is_neither_done_nor_queued_and_may_come_back():
    tally, failures = Tally(4), []
    runs = [SimpleNamespace(name=name, folder=Path(name), state=name) for name in ("done", "damaged", "busy", "missing")]
    tasks = [Task(number, [], run) for number, run in enumerate(runs)]
    missing, elsewhere = left(tasks, Target(), set(), failures, tally)
    assert ([task.run.name for task in missing], [task.run.name for task in elsewhere]) == (["missing"], ["busy"])
    assert tally.text().startswith("1 of 4 runs done, 1 failed, 1 running elsewhere, 1 queued")
    runs[2].state = "missing"  # whoever did it has gone
    assert left(elsewhere, Target(), set(), failures, tally, joined=True) == (elsewhere, [])
    assert tally.text().startswith("1 of 4 runs done, 1 failed, 2 queued")
    for number in (2, 3):
        tally.end(number, failed=False)
    assert tally.text() == "3 of 4 runs done, 1 failed"
    assert failures == ["its metrics.json is damaged"]


class Target:
    """Runs that are their own state and folder."""

    def name(self, run):
        return f"toy/{run.name}"

    def folder(self, run):
        return run.folder

    def done(self, run):
        if run.state == "damaged":
            raise UserError("its metrics.json is damaged")
        return run.state == "done"

    def result(self, run):
        return self.done(run) or None

    def busy(self, run):
        return run.state == "busy"

    def keeps_result(self, run):
        return True

    def score(self, run):
        return "81.2"

    def ways_on(self, runs):
        return ["The report on all runs there: python -m memgrid.report root=/r"]


@pytest.fixture
def planned(tmp_path):
    """A sweep of four runs: one done, one failed, one damaged, one being done elsewhere."""
    runs = {}
    for state in ("done", "failed", "damaged", "busy"):
        run = SimpleNamespace(name=state, folder=tmp_path / state, state=state, root="/r")
        run.folder.mkdir()
        runs["llm=toy", f"taxonomy={state}", "root=/r"] = run
    WorkFolder(tmp_path / "failed").note_failure("class 'Recall' has too few samples", tmp_path / "7_0_log.out")
    return runs


def test_the_end_is_a_table_the_report_and_what_to_do_about_failures(planned, tmp_path, monkeypatch, capsys):
    words = [
        "memgrid",
        "-m",
        "taxonomy=done,failed,damaged,busy",
        "corpus.path=/data/my text",
        "root=/r",
        "force=true",
        "--config-dir",
        "mine",
    ]
    monkeypatch.setattr(sys, "argv", words)
    tell_end(planned, Target(), "run", PlainConsole(200))
    told = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    rows = [line.split() for line in told]
    assert ["taxonomy=done", "81.2", "done"] in rows
    assert ["taxonomy=failed", "failed"] in rows
    assert ["taxonomy=damaged", "failed"] in rows
    assert ["taxonomy=busy", "running"] in rows
    at = told.index("2 runs of 4 failed:")
    assert told[at - 1] == "The report on all runs there: python -m memgrid.report root=/r"
    assert told[at + 1 :] == [
        "  taxonomy=failed: class 'Recall' has too few samples",
        f"    log: {tmp_path / '7_0_log.out'}",
        "  taxonomy=damaged: its metrics.json is damaged",
        "All of them, at any time: python -m memgrid.status state=failed root=/r",
        "To go on, the same again, which leaves alone what is done: python -m memgrid.run -m taxonomy=done,failed,damaged,busy "
        "'corpus.path=/data/my text' root=/r --config-dir mine",
    ]


def test_one_run_has_told_of_itself(planned, capsys):
    first = dict(list(planned.items())[:1])
    tell_end(first, Target(), "run", PlainConsole())
    assert not capsys.readouterr().out


def test_runs_are_called_by_what_tells_them_apart():
    assert settings_of([("a=1", "b=2"), ("a=1", "b=3")]) == ["b=2", "b=3"]
    assert settings_of([("a=1", "b=2")]) == ["a=1 b=2"]
    assert settings_of([("a=1",), ("a=1", "b=3")]) == ["a=1", "b=3"]


def test_a_log_gets_a_line_now_and_then_with_what_runs_where(planned, tmp_path, monkeypatch, capsys):
    busy = next(run for run in planned.values() if run.name == "busy")
    jobs = {"12_3": (None, [Task(3, [], busy)])}
    board = Board(Target(), Tally(4))
    board.tally.end(0, failed=False)
    board.look(jobs)
    assert not capsys.readouterr().out
    with telling(WorkFolder(busy.folder), "12_3"):
        watcher().stage("train")
        watcher().step("epoch", 4, 15, ordinal=True)
        for wanted in (boards.QUIET_SECONDS + 1, 0):
            board.next_look, board.last_line = 0.0, board.last_line - wanted
            board.look(jobs)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "memgrid: 1 of 4 runs done, 1 running, 2 queued, no estimate before one has ended"
    assert second.startswith("  toy/busy: train, epoch 5 of 15, since ")
    assert "job 12_3 on " in second
    board.tally.end(3, failed=False, seconds=30)
    board.last_line -= boards.LINE_SECONDS + 1
    board.look({}, at_once=True)
    assert capsys.readouterr().out == "memgrid: 2 of 4 runs done, 2 queued, about 60 s left\n"
