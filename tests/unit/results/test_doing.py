"""What a process says of its work while it lasts: it is cheap, and dies with the process."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_maker import Run, begin, leave

from memgrid.io.display import progress_bar, watcher
from memgrid.io.locks import Lock
from memgrid.results.doing import notes
from memgrid.results.doing.notes import Doing, doing, telling
from memgrid.results.doing.queue import queued_jobs
from memgrid.results.states import as_queue_says, states
from memgrid.results.work import WorkFolder

HOLDS = """
import sys, time
from pathlib import Path
from memgrid.io.display import watcher
from memgrid.results.doing.notes import telling
from memgrid.results.work import WorkFolder
folder = WorkFolder(Path(sys.argv[1]))
with folder.lock(0), telling(folder):
    watcher().stage("train")
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
    return WorkFolder(tmp_path)


def test_what_is_done_is_told_while_it_lasts_and_by_one_process(folder):
    assert doing(folder) is None
    with telling(folder, "12_3"):
        assert doing(folder).text().startswith("begins, since ")
        watcher().stage("train")
        watcher().step("epoch", 2, 15, ordinal=True)
        now = doing(folder)
        assert now.how_far == "train, epoch 3 of 15"
        assert now.where == f"job 12_3 on {os.uname().nodename}"
        assert now.left is None  # nothing has been done while it watched
        with telling(folder, "99"):  # another start on the same folder says nothing
            watcher().stage("label")
        assert doing(folder).job == "12_3"
    assert doing(folder) is None
    assert not folder.doing_file.exists()


def test_whoever_looks_just_then_silences_nobody(folder):
    asking = Lock(folder.doing_lock, thread_local=False)
    asking.acquire()
    timer = threading.Timer(0.2, asking.release)
    timer.start()
    with telling(folder):
        assert doing(folder) is not None
    timer.join()


def test_who_was_killed_says_nothing_any_more(folder):
    with subprocess.Popen([sys.executable, "-c", HOLDS, folder.path], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        assert doing(folder).how_far == "train"
        assert doing(folder).pid == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert folder.doing_file.exists()
    assert doing(folder) is None
    with telling(folder):
        assert doing(folder).how_far == "begins"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'["x"]',
        b'{"began": 1, "other": 2}',
        b'{"began": "noon"}',
        b'{"began": 1e300}',
        b'{"began": NaN}',
        b'{"began": 1, "what": ["x"]}',
        b'{"began": 1, "what": "epoch", "total": "many"}',
        b'{"began": 1, "what": "epoch", "done": Infinity, "total": 1, "ordinal": true}',
        b'{"began": 1, "what": "epoch", "done": 1e-300, "total": 1e300, "at": 1}',
        b"[" * 4000,
        b'{"began": 1, "what": "' + b"x" * 2**20 + b'"}',
    ],
)
def test_a_note_that_cannot_be_read_is_none(folder, content):
    with telling(folder):
        folder.doing_file.write_bytes(content)
        assert doing(folder) is None


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to itself"])
def test_what_lies_in_place_of_a_note_keeps_nobody_waiting(folder, kind):
    with telling(folder):
        folder.doing_file.unlink()
        if kind == "pipe":
            os.mkfifo(folder.doing_file)
        elif kind == "folder":
            folder.doing_file.mkdir()
        else:
            folder.doing_file.symlink_to("/dev/zero" if kind == "device" else folder.doing_file)
        assert doing(folder) is None
        watcher().stage("train")
        assert kind == "folder" or doing(folder).how_far == "train"  # a folder is not replaced, and costs no run


def test_no_terminal_obeys_a_note(folder):
    with telling(folder):
        folder.doing_file.write_text(json.dumps({"began": 1, "stage": "\x1b[2J\u202e", "host": "a\nb", "job": "[red]"}))
        assert doing(folder).text().isprintable()


def test_a_bar_tells_whether_or_not_it_is_shown(folder, monkeypatch):
    monkeypatch.setattr(notes, "EVERY", 0.0)
    monkeypatch.setattr(notes, "SPENT", 100.0)
    with telling(folder):
        watcher().stage("label")
        with progress_bar() as bar:
            for place, _ in enumerate(bar.track(range(5), description="reading sequences")):
                assert doing(folder).how_far == f"label, reading sequences, {place} of 5"
        with progress_bar() as bar:
            task = bar.add_task("extracting attention", total=1980)
            bar.advance(task, 1500)
            assert doing(folder).how_far == "label, extracting attention, 1,500 of 1,980"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_takes_long_is_a_line_in_a_log_now_and_then(folder, monkeypatch, capsys, terminal):
    monkeypatch.setattr(notes, "EVERY", 0.0)
    monkeypatch.setattr(notes, "LINE_SECONDS", 0.3)
    monkeypatch.setattr(notes, "on_terminal", lambda: terminal)
    with telling(folder):
        watcher().stage("label")
        for block in range(2):  # a bar of its own for each, and one account of all
            with progress_bar() as bar:
                task = bar.add_task("reading sequences", total=8000, completed=4000 * block)
                for _ in range(20):
                    time.sleep(0.02)
                    bar.advance(task, 200)
        watcher().step("epoch", 1, 2, ordinal=True)
        time.sleep(0.4)
        watcher().step("epoch", 1.5, 2, ordinal=True)  # whoever trains tells of epochs
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines) == 0) if terminal else (1 <= len(lines) <= 3)
    for line in lines:
        assert re.fullmatch(r"memgrid: label, reading sequences, \d,\d00 of 8,000; this ends at about \d\d:\d\d", line)


def test_telling_takes_a_hundredth_of_the_time(folder, monkeypatch):
    def slow(path, content):
        time.sleep(0.02)

    monkeypatch.setattr(notes, "fill", slow)
    monkeypatch.setattr(notes, "EVERY", 0.0)
    with telling(folder):
        began = time.monotonic()
        while (passed := time.monotonic() - began) < 0.5:
            watcher().step("epoch", passed, 10)
        teller = watcher()
    assert teller.spent <= notes.SPENT + notes.SHARE * passed + 0.05  # at most one that began within its share


def test_what_cannot_be_written_costs_no_run(folder, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notes, "fill", full)
    with telling(folder):
        watcher().stage("train")


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.one_of(st.none(), st.floats(0, 1e6)), st.floats(0, 1e6))
def test_the_rest_is_told_only_where_something_was_done(first, done, total, passed):
    note = Doing(0.0, what="epoch", done=done, total=total, first=first, what_began=100.0, at=100.0 + passed)
    if note.left is not None:
        assert done > first
        assert note.left >= 0
    assert replace(note, done=first).left is None


def test_half_of_it_takes_as_long_as_the_other_half():
    half = Doing(0.0, what="epoch", done=6, total=10, first=2, what_began=100.0, at=140.0)
    assert half.left == 40
    assert replace(half, done=10).left is None  # it is over, and what comes then is not said


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        (None, {"1": ("queued", "as job 7_1"), "2": ("stopped", "")}),
        (
            {"7_1": "PD Priority", "7_2": "PD BeginTime"},
            {"1": ("queued", "as job 7_1 (PD Priority)"), "2": ("queued", "as job 7_2 (PD Begin")},
        ),
        ({}, {"1": ("missing", "job 7_1 has left the queue without a result"), "2": ("stopped", "")}),
    ],
)
def test_what_waits_is_what_the_queue_says(tmp_path, jobs, told):
    WorkFolder(begin(Run(tmp_path, "a", seed=1))).note_queued("7_1", tmp_path / "7_1_result")
    WorkFolder(leave(Run(tmp_path, "a", seed=2), "stopped")).note_queued("7_2", tmp_path / "7_2_result")
    table = as_queue_says(states(tmp_path), jobs)
    rows = {row["name"].split("-seed")[1].split("-")[0]: row for row in table.iter_rows(named=True)}
    assert {seed: row["state"] for seed, row in rows.items()} == {seed: state for seed, (state, _) in told.items()}
    assert all(rows[seed]["detail"].startswith(detail) for seed, (_, detail) in told.items())
    assert table.schema == states(tmp_path).schema
    assert isinstance(table, pl.DataFrame)


def test_a_queue_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queued_jobs() is None  # there is none
    script = tmp_path / "squeue"
    for body, answer in (
        ("echo '3_1|PD Priority'; echo '3_2|R None'", {"3_1": "PD Priority", "3_2": "R"}),
        ("exit 1", None),
        ("exec /bin/sleep 20", None),
    ):
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        assert queued_jobs(0.3) == answer
