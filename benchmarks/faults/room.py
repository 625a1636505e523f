"""Disks that take no more: full, read-only, with a limit on files, with calls that fail, and folders that vanish while a command works."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from benchmarks.faults.cases import CASES, WRITING, Case
from benchmarks.faults.ground import Ground, full, last, read_only
from benchmarks.faults.starting import UNDISTURBED, Conditions, Ended
from benchmarks.faults.table import Job, Row, tried

VANISHING = {"every stage": ("", "runs", "attention", "labels"), "audit train": ("audits",), "pretrain": ("",)}
LEAST = 4096  # bytes: the log of a command is a file too
CALLS = (("fsync", errno.EIO), ("rename", errno.EROFS), ("rename", errno.EIO))


def jobs(tries: int) -> Iterator[Job]:
    """A row for each fault and command."""
    for work in (disk_full, file_limit, failing_call, on_read_only):
        for name in WRITING:
            yield partial(work, name, tries)
    for name, folders in VANISHING.items():
        yield partial(vanishing, name, folders, 1)


def disk_full(name: str, tries: int, ground: Ground) -> Row:
    """No room at all, and room for a part of what is written."""
    size, draw = written(ground, CASES[name]), random.Random(name)
    rooms = [0, *(draw.randrange(size) for _ in range(tries - 1))]
    return tried("disk full", name, [partial(attempt, ground, CASES[name], full(ground.disk, room)) for room in rooms])


def file_limit(name: str, tries: int, ground: Ground) -> Row:
    """No file may be longer than some bytes (RLIMIT_FSIZE)."""
    size, draw = longest(ground.outcome(name).copy), random.Random(name)
    limits = [Conditions(longest_file=draw.randrange(LEAST, max(size, LEAST + 1))) for _ in range(tries)]
    return tried("limit on files", name, [partial(attempt, ground, CASES[name], nullcontext(), limit) for limit in limits])


def failing_call(name: str, tries: int, ground: Ground) -> Row:
    """The system refuses one call."""
    draw = random.Random(name)
    failing = [Conditions(failing=(call, draw.randrange(4), number)) for call, number in CALLS[:tries]]
    return tried("fsync or rename fails", name, [partial(attempt, ground, CASES[name], nullcontext(), one) for one in failing])


def on_read_only(name: str, _: int, ground: Ground) -> Row:
    """A file system that is mounted read-only."""
    return tried("read-only", name, [partial(attempt, ground, CASES[name], read_only(ground.disk))])


def vanishing(name: str, folders: tuple[str, ...], tries: int, ground: Ground) -> Row:
    """A folder that is removed while a command works in it."""
    draw = random.Random(name)
    shares = [(folder, draw.uniform(0.2, 0.9)) for folder in folders for _ in range(tries)]
    attempts = [partial(vanish, ground, CASES[name], folder, share * ground.outcome(name).seconds) for folder, share in shares]
    return tried("a folder vanishes", name, attempts)


def attempt(
    ground: Ground, case: Case, trouble: AbstractContextManager[None], conditions: Conditions = UNDISTURBED
) -> tuple[str | None, str]:
    """Run a command in trouble, and again without."""
    ground.restore(case)
    with trouble:
        ended = ground.run(case, conditions)
    if ended.status == 0:
        return ground.wrong_now(case), "not reached"
    return refused(ground, ended) or ground.wrong_after(case), ""


def vanish(ground: Ground, case: Case, folder: str, moment: float) -> tuple[str | None, str]:
    """Remove a folder while a command works, and start it again."""
    ground.restore(case)
    started = ground.begin(case)
    started.process.join(moment)
    shutil.rmtree(ground.root / folder, ignore_errors=True)
    ended = started.end()
    return refused(ground, ended) or ground.wrong_after(case), "" if ended.status == 1 else "made anew"


def refused(ground: Ground, ended: Ended) -> str | None:
    """What is wrong with how a command ended: it may succeed, or name a path and the reason in one sentence."""
    if ended.status == 0 or (ended.sentence is not None and str(ground.disk) in ended.sentence):
        return None
    return f"it ends with {ended.status}: {last(ended.said)}"


def written(ground: Ground, case: Case) -> int:
    """How many bytes a command adds."""
    before = 0 if case.after is None else total(ground.outcome(case.after).copy)
    return max(1, total(ground.outcome(case.name).copy) - before)


def total(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def longest(folder: Path) -> int:
    """The bytes of the longest file below a folder."""
    return max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
