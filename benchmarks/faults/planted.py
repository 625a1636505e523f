"""What is left in a shared folder: pickles that would run code, damaged checkpoints, locks of dead hosts, files of other users."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.faults.cases import CASES, Case
from benchmarks.faults.ground import Ground, last
from benchmarks.faults.starting import Conditions
from benchmarks.faults.table import Job, Row, tried

NOBODY = 65534


class Evil:
    """What touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


# How a checkpoint is damaged, or what is put in its place; the second argument is what an evil one touches.
DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "cut off": lambda path, _: os.truncate(path, random.Random(0).randrange(1, path.stat().st_size)),
    "emptied": lambda path, _: os.truncate(path, 0),
    "zeroed": lambda path, _: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path, _: path.write_text("no checkpoint"),
}
PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "a pickle": lambda path, mark: path.write_bytes(pickle.dumps(Evil(mark))),
    "a torch file": lambda path, mark: torch.save({"state_dict": Evil(mark), "audit": Evil(mark), "history": Evil(mark)}, path),
}
# Checkpoints of commands that are cut off → in which file, and of commands that start with a finished one.
CUT_OFF = {"train": "runs/**/checkpoints/last.ckpt", "audit train": "audits/**/*.ckpt", "pretrain": "checkpoint.pt"}
FINISHED = {"localize": "runs/**/checkpoints/last.ckpt"}


def jobs(_: int) -> Iterator[Job]:
    """A row for each kind of harm and command."""
    for fault, harms in (("a checkpoint is damaged", DAMAGES), ("a planted pickle", PLANTS)):
        for name, pattern in (CUT_OFF | FINISHED).items():
            yield partial(harmed, fault, name, pattern, list(harms.values()))
    for name in ("train", "audit train"):
        yield partial(dead_host, name)
    for name, umask in (("a finished run again", 0o022), ("train", 0o022), ("train", 0o002)):
        yield partial(another_user, name, umask)


def harmed(fault: str, name: str, pattern: str, harms: list[Callable[[Path, Path], object]], ground: Ground) -> Row:
    """The row of one kind of harm and command."""
    return tried(fault, name, [partial(attempt, ground, CASES[name], pattern, harm) for harm in harms])


def dead_host(name: str, ground: Ground) -> Row:
    """The row of a command on a root that a dead host has left."""
    return tried("locks of a dead host", name, [partial(locks, ground, CASES[name])])


def another_user(name: str, umask: int, ground: Ground) -> Row:
    """The row of a command on another user's root."""
    return tried("two users", f"{name}, umask {umask:03o}", [partial(two_users, ground, CASES[name], umask)])


def attempt(ground: Ground, case: Case, pattern: str, harm: Callable[[Path, Path], object]) -> tuple[str | None, str]:
    """Cut a command off after its first checkpoint, harm that, and start it again."""
    ground.restore(case)
    if not list(ground.root.glob(pattern)):
        cut_off(ground, case, pattern)
    mark = ground.folder / "touched"
    for path in ground.root.glob(pattern):
        harm(path, mark)
    if case.name in FINISHED:
        ended = ground.run(case)
        wrong = None if ended.sentence is not None else f"it ends with {ended.status}: {last(ended.said)}"
    else:
        wrong = ground.wrong_after(case)
    if mark.exists():
        mark.rmdir()
        return "its code was run", ""
    return wrong, ""


def cut_off(ground: Ground, case: Case, pattern: str) -> None:
    """Kill a command as soon as it has left a checkpoint; RuntimeError if it leaves none."""
    for _ in range(5):
        ground.restore(case)
        started = ground.begin(case)
        while started.process.is_alive() and not list(ground.root.glob(pattern)):
            time.sleep(0.002)
        if started.send(signal.SIGKILL, 0):
            started.end()
            return
    raise RuntimeError(f"{case.name} cannot be cut off after its first checkpoint")


def locks(ground: Ground, case: Case) -> tuple[str | None, str]:
    """Start where a host died that held every lock, two hours ago."""
    ground.restore(case)
    started = ground.begin(case)
    started.send(signal.SIGKILL, ground.outcome(case.name).seconds / 2)
    started.end()
    for path in ground.root.rglob("*.lock"):
        os.utime(path, (time.time() - 7200,) * 2)
    return ground.wrong_after(case), ""


def two_users(ground: Ground, case: Case, umask: int) -> tuple[str | None, str]:
    """Start a command of this user's as another one."""
    ground.restore(case)
    ended = ground.run(case, Conditions(user=NOBODY, umask=umask))
    shutil.rmtree(ground.root)
    if ended.status == 0 or ended.sentence is not None:
        return None, "done" if ended.status == 0 else "refused"
    return f"it ends with {ended.status}: {last(ended.said)}", ""
