"""Disks that take no more: full, read-only, with a limit on files, with calls that fail, and folders that vanish while a command works."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.cases import CASES, WRITING, Case
from benchmarks.faults.ground import Ground, full, last, read_only
from benchmarks.faults.starting import Conditions, Ended
from benchmarks.faults.table import Job, Tried, drawn

VANISHING = {"every stage": ("", "runs", "attention", "labels"), "audit train": ("audits",), "pretrain": ("",)}
LEAST = 2048  # bytes: the log of a command is a file too
CALLS = (("fsync", errno.EIO), ("rename", errno.EROFS), ("rename", errno.EIO))


def jobs(tries: int) -> Iterator[Job]:
    """A row for each fault and command."""
    for fault, attempts in (("disk full", disk_full), ("limit on files", file_limit), ("fsync or rename fails", failing_call)):
        for name in WRITING:
            yield Job(fault, name, partial(attempts, CASES[name], tries))
    for name in WRITING:
        yield Job("read-only", name, partial(on_read_only, CASES[name]))
    for name, folders in VANISHING.items():
        yield Job("a folder vanishes", name, partial(vanishing, CASES[name], folders))


def disk_full(case: Case, tries: int, ground: Ground) -> Iterator[Callable[[], Tried]]:
    """No room at all, and room for a part of what is written."""
    size, draw = written(ground, case), random.Random(case.name)
    for room in (0, *(draw.randrange(size) for _ in range(tries - 1))):
        yield partial(drawn, partial(with_room, ground, case, room))


def with_room(ground: Ground, case: Case, room: int, factor: float) -> Tried | None:
    """Room for some bytes."""
    return attempt(ground, case, full(ground.own_disk(), int(room * factor)))


def file_limit(case: Case, tries: int, ground: Ground) -> Iterator[Callable[[], Tried]]:
    """No file may be longer than some bytes (RLIMIT_FSIZE)."""
    size, draw = max(longest(ground, case), LEAST + 1), random.Random(case.name)
    for _ in range(tries):
        yield partial(drawn, partial(with_limit, ground, case, draw.randrange(size - LEAST)))


def with_limit(ground: Ground, case: Case, more: int, factor: float) -> Tried | None:
    """Files of so many bytes more than a log has."""
    return attempt(ground, case, longest_file=LEAST + int(more * factor))


def failing_call(case: Case, tries: int, ground: Ground) -> Iterator[Callable[[], Tried]]:
    """The system refuses a call, and all of its kind after it."""
    draw = random.Random(case.name)
    for name, number in CALLS[:tries]:
        yield partial(drawn, partial(with_failure, ground, case, name, draw.randrange(4), number))


def with_failure(ground: Ground, case: Case, name: str, good: int, number: int, factor: float) -> Tried | None:
    """Calls that fail after some good ones, of which there are fewer with every draw."""
    return attempt(ground, case, failing=(name, int(good * factor), number))


def on_read_only(case: Case, ground: Ground) -> Iterator[Callable[[], Tried]]:
    """A file system that is mounted read-only."""
    yield partial(drawn, partial(without_writing, ground, case))


def without_writing(ground: Ground, case: Case, _: float) -> Tried | None:
    """Nothing can be written."""
    return attempt(ground, case, read_only(ground.own_disk()))


def vanishing(case: Case, folders: tuple[str, ...], ground: Ground) -> Iterator[Callable[[], Tried]]:
    """A folder that is removed while a command works in it."""
    draw = random.Random(case.name)
    for folder in folders:
        yield partial(drawn, partial(vanish, ground, case, folder, draw))


def attempt(ground: Ground, case: Case, trouble: AbstractContextManager[None] | None = None, **conditions: Any) -> Tried | None:
    """Run a command in trouble, and again without; None if it did not meet it."""
    ground.restore(case)
    with trouble or nullcontext():
        ended = ground.run(case, Conditions(**conditions))
    if ended.status == 0:
        return None if (wrong := ground.wrong_now(case)) is None else (wrong, "")
    return refused(ground, ended) or ground.wrong_after(case), ""


def vanish(ground: Ground, case: Case, folder: str, draw: random.Random, factor: float) -> Tried | None:
    """Remove a folder while a command works, and start it again; None if it was over, or no such folder was there yet."""
    moment = factor * draw.uniform(0.2, 0.9) * ground.outcome(case.name).seconds
    ground.restore(case)
    started = ground.begin(case)
    started.process.join(moment)
    if started.process.exitcode is not None or not (ground.root / folder).exists():
        started.process.kill()
        started.end()
        return None
    shutil.rmtree(ground.root / folder, ignore_errors=True)
    ended = started.end()
    return refused(ground, ended) or ground.wrong_after(case, folder), "refused" if ended.status == 1 else "made anew"


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


def longest(ground: Ground, case: Case) -> int:
    """The bytes of the longest file that a command adds or changes."""
    after = ground.outcome(case.name).copy
    before = after / "none" if case.after is None else ground.outcome(case.after).copy
    files = [path for path in after.rglob("*") if path.is_file()]
    new = [path for path in files if not same(path, before / path.relative_to(after))]
    return max(path.stat().st_size for path in new)


def same(path: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    return other.is_file() and path.read_bytes() == other.read_bytes()
