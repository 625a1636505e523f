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
from benchmarks.faults.ground import Ground, NotTriedError, last
from benchmarks.faults.starting import Conditions
from benchmarks.faults.table import Job, Tried

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
            yield Job(fault, name, partial(attempts, CASES[name], pattern, list(harms.values())))
    for name in ("train", "audit train"):
        yield Job("locks of a dead host", name, partial(alone, partial(locks, CASES[name])))
    for name, umask in (("a finished run again", 0o022), ("train", 0o022), ("train", 0o002)):
        yield Job("two users", f"{name}, umask {umask:03o}", partial(alone, partial(two_users, CASES[name], umask)))


def alone(attempt: Callable[[Ground], Tried], ground: Ground) -> list[Callable[[], Tried]]:
    """What is tried once."""
    return [partial(attempt, ground)]


def attempts(case: Case, pattern: str, harms: list[Callable[[Path, Path], object]], ground: Ground) -> Iterator[Callable[[], Tried]]:
    """A kind of harm after another."""
    for harm in harms:
        yield partial(attempt, ground, case, pattern, harm)


def attempt(ground: Ground, case: Case, pattern: str, harm: Callable[[Path, Path], object]) -> Tried:
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


def locks(case: Case, ground: Ground) -> Tried:
    """Start where a host died that held every lock, two hours ago."""
    ground.restore(case)
    started = ground.begin(case)
    started.send(signal.SIGKILL, ground.outcome(case.name).seconds / 2)
    started.end()
    for path in ground.root.rglob("*.lock"):
        os.utime(path, (time.time() - 7200,) * 2)
    return ground.wrong_after(case), ""


def two_users(case: Case, umask: int, ground: Ground) -> Tried:
    """Start a command of this user's as another one."""
    if os.getuid() != 0:
        raise NotTriedError("only root can be another user")
    ground.restore(case)
    ended = ground.run(case, Conditions(user=NOBODY, umask=umask))
    shutil.rmtree(ground.root)
    if ended.status == 0 or ended.sentence is not None:
        return None, "done" if ended.status == 0 else "refused"
    return f"it ends with {ended.status}: {last(ended.said)}", ""
