"""Where faults are tried: a folder on a small disk of its own, and the outcomes of commands that nothing disturbed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.cases import CASES, Case
from benchmarks.faults.contents import contents, differences, leftovers
from benchmarks.faults.starting import UNDISTURBED, Conditions, Ended, Start, Started, Starter, timed


class NotTriedError(Exception):
    """What cannot be tried here, such as a full disk by somebody who may not mount one."""


FOLDER = re.compile(r"/\S*memgrid-faults-\w+/(side-\d+/)?(disk/)?")
MOUNT_SECONDS = 20
BLOCK = 4096  # bytes, in which a disk is filled


@dataclass(frozen=True)
class Outcome:
    """What a command leaves that nothing disturbs: its root in a copy, that root's contents, its words, and how long it takes."""

    copy: Path
    contents: dict[str, str]
    said: str
    seconds: float


@dataclass
class Ground:
    """A folder `root` in which commands are disturbed, on a disk of its own where this process may mount one.

    Attributes:
        folder: holds the disk, the copies of outcomes and the logs. given: what commands only read.
    """

    folder: Path
    given: Path
    start: Start
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # that other commands take which nothing disturbs

    @property
    def disk(self) -> Path:
        """Where the disk of its own is mounted."""
        return self.folder / "disk"

    @property
    def root(self) -> Path:
        """In which commands write."""
        return self.disk / "root"

    def own_disk(self) -> Path:
        """The same, to be filled or mounted anew.

        Raises:
            NotTriedError: it is a part of another.
        """
        if not os.path.ismount(self.disk):
            raise NotTriedError("no disk of its own could be mounted")
        return self.disk

    def words(self, case: Case) -> list[str]:
        """What is typed."""
        return case.typed(self.root, self.given)

    def restore(self, case: Case) -> None:
        """The root is as before the command."""
        before = None if case.after is None else self.outcome(case.after).copy  # made in this root, if it is not there yet
        clear(self.root)
        if before is not None:
            shutil.copytree(before, self.root, symlinks=True, dirs_exist_ok=True)
        if case.prepared is not None:
            case.prepared(self.root)

    def outcome(self, name: str) -> Outcome:
        """What a case leaves; it is done once.

        Raises:
            RuntimeError: it fails although nothing disturbs it.
        """
        if name not in self.outcomes:
            case, copy = CASES[name], self.folder / "outcomes" / name
            self.restore(case)
            ended, seconds = timed(self.start, case.module, self.words(case))
            if ended.status != 0:
                raise RuntimeError(f"{name} fails undisturbed: {ended.said}")
            shutil.copytree(self.root, copy, symlinks=True)
            self.outcomes[name] = Outcome(copy, contents(self.root), ended.said, seconds)
        return self.outcomes[name]

    def run(self, case: Case, conditions: Conditions = UNDISTURBED) -> Ended:
        """Start a command and wait for its end."""
        return self.start(case.module, self.words(case), conditions)

    def begin(self, case: Case, conditions: Conditions = UNDISTURBED) -> Started:
        """Start a command and go on, where commands have processes of their own."""
        assert isinstance(self.start, Starter)
        return self.start.begin(case.module, self.words(case), conditions)

    def wrong_after(self, case: Case, removed: str | None = None) -> str | None:
        """Start it again, undisturbed; returns what is then not as if nothing had been, or None.

        Args:
            removed: a folder that somebody took away. What a finished result needs no more may be missing from it, and nothing else.
        """
        again = self.run(case)
        if again.status != 0:
            return f"the next start ends with {again.status}: {last(again.said)}"
        return self.wrong_now(case, removed)

    def wrong_now(self, case: Case, removed: str | None = None) -> str | None:
        """What is not as if nothing had been, or None; `removed` as `wrong_after`."""
        found, expected = contents(self.root), self.outcome(case.name).contents
        if removed is not None:
            expected = {name: said for name, said in expected.items() if name in found or not name.startswith(f"{removed}/")}
        if other := differences(found, expected):
            return f"{', '.join(other[:3])} differs from an undisturbed start"
        if left := leftovers(self.root):
            return f"{', '.join(left[:3])} is left"
        return None


def last(said: str) -> str:
    """The last line that says something, without the temporary folder in its paths."""
    return FOLDER.sub("", next((line for line in reversed(said.splitlines()) if line.strip()), "nothing was said"))


def clear(folder: Path) -> None:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[bool]:
    """Inside, the folder is a disk of its own of that size; yields whether it is: few users may mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(folder)]
    if not done(words):
        yield False
        return
    try:
        yield True
    finally:
        done(["umount", "-l", str(folder)])


@contextmanager
def full(disk: Path, room: int) -> Iterator[None]:
    """Inside, the disk has no more than so many bytes left."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(BLOCK, free - max(room, 0) // BLOCK * BLOCK))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Inside, nothing can be written to the disk; processes of an earlier try that still write have some time to end."""
    latest = time.monotonic() + MOUNT_SECONDS
    while not done(["mount", "-o", "remount,ro", str(disk)]):
        if time.monotonic() > latest:
            raise NotTriedError("the disk cannot be mounted anew")
        time.sleep(0.2)
    try:
        yield
    finally:
        done(["mount", "-o", "remount,rw", str(disk)])


def done(words: list[str]) -> bool:
    """Whether a command of the system could be done."""
    with suppress(OSError):
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    return False
