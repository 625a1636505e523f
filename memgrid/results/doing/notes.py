"""What a process says of its work on a folder while it lasts: stage, epoch k of n, since when, where, and until when.

The note dies with its process: it is believed as long as a lock is held that the system takes from a process that ends. It costs at most
a hundredth of the time (and the first SPENT seconds), whatever the file system does; a run never fails because it cannot be written.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from filelock import Timeout

from memgrid.errors import UserError
from memgrid.io.digests import read_json
from memgrid.io.display import Watcher, on_terminal, visible, watched
from memgrid.io.files import fill, whole
from memgrid.io.locks import is_held, lock
from memgrid.results.boundary import adapter
from memgrid.results.work import WorkFolder

EVERY = 2.0  # seconds between two notes of the same
LINE_SECONDS = 60.0  # between two lines of a log
SPENT, SHARE = 0.05, 0.01  # seconds, and the share of the time so far, that writing may take
LOOK_SECONDS = 1.0  # whoever asks whether the lock is held, such as `status`, holds it for a moment
DAY = 24 * 3600
MOST = 4096  # bytes of a note


@dataclass(frozen=True)
class Doing:
    """What a process is doing. Times are seconds since 1970.

    Attributes:
        began: when the work began. stage, stage_began: at work since then; empty before the first.
        what, done, total: how much of something is done, `total` None where that is not known; `ordinal`: see `io.display.Watcher.step`.
        first, what_began, at: so much was done when it was first told, when that was, and when this note was written.
        host, pid, job: where; the job's number, None outside a job.
    """

    began: float
    stage: str = ""
    stage_began: float = 0.0
    what: str = ""
    done: float = 0.0
    total: float | None = None
    ordinal: bool = False
    first: float = 0.0
    what_began: float = 0.0
    at: float = 0.0
    host: str = ""
    pid: int = 0
    job: str | None = None

    @property
    def left(self) -> float | None:
        """Seconds that what is being done will still take, from when the note was written; None where nobody can tell."""
        since, passed = self.done - self.first, self.at - self.what_began
        if not self.total or since <= 0 or passed <= 0 or self.done >= self.total:
            return None
        return (self.total - self.done) * passed / since

    @property
    def how_far(self) -> str:
        """Such as `train, epoch 3 of 15`."""
        if not self.what:
            return visible(self.stage or "begins")
        if not self.total:
            how = self.what
        elif self.ordinal:
            how = f"{self.what} {min(int(self.done) + 1, int(self.total))} of {self.total:.0f}"
        else:
            how = f"{self.what}, {self.done:,.0f} of {self.total:,.0f}"
        return visible(f"{self.stage}, {how}" if self.stage else how)

    @property
    def where(self) -> str:
        """Such as `job 12_3 on node7`."""
        return visible((f"job {self.job}" if self.job else f"process {self.pid}") + f" on {self.host}")

    @property
    def ends(self) -> str:
        """Such as `; this ends at about 14:08`; empty where nobody can tell."""
        return "" if self.left is None else f"; this ends at about {clock(self.at + self.left)}"

    def text(self) -> str:
        """All of it, such as `train, epoch 3 of 15, since 14:01, job 12_3 on node7; this ends at about 14:08`."""
        return f"{self.how_far}, since {clock(self.began)}, {self.where}{self.ends}"


def clock(moment: float) -> str:
    """A time of day; with its date where that is another day."""
    when = datetime.fromtimestamp(moment)
    return f"{when:%H:%M}" if abs(time.time() - moment) < DAY / 2 else f"{when:%Y-%m-%d %H:%M}"


def doing(folder: WorkFolder) -> Doing | None:
    """What the process that works on a folder says of it; None if there is none, or it says nothing that can be told."""
    try:
        note: Doing = adapter(Doing).validate_python(asdict(Doing(**read_json(folder.doing_file, MOST))))
        note.text()  # others of the group can write here: what was no time, or no number, is no note
        return note if is_held(folder.doing_lock) else None  # where nobody holds it, whoever wrote this is gone
    except (OSError, UserError, TypeError, ValueError, OverflowError):
        return None


class Teller(Watcher):
    """Writes what a process says of its work on a folder; what takes long is a line in a log now and then, as it is a bar on a terminal."""

    def __init__(self, folder: WorkFolder, job: str | None) -> None:
        self.path, self.spent, self.written = folder.doing_file, 0.0, 0.0
        self.started = self.line = time.monotonic()
        self.note = Doing(began=time.time(), host=socket.gethostname(), pid=os.getpid(), job=job)
        self.write()

    def stage(self, name: str) -> None:
        """A stage begins."""
        self.note = replace(self.note, stage=name, stage_began=time.time(), what="", done=0.0, total=None)
        self.write()

    def step(self, what: str, done: float, total: float | None, ordinal: bool = False) -> None:
        """So much of something is done."""
        now = time.monotonic()
        new = what != self.note.what or done < self.note.done
        if not new and now - self.written < EVERY:
            return
        if new:
            self.note = replace(self.note, what=what, first=done, what_began=time.time())
        self.note = replace(self.note, done=done, total=total, ordinal=ordinal)
        if self.spent <= SPENT + SHARE * (now - self.started):
            self.write()
        if not ordinal and now - self.line > LINE_SECONDS and not on_terminal():  # epochs have lines of their own
            self.line, self.note = now, replace(self.note, at=time.time())
            print(f"memgrid: {self.note.how_far}{self.note.ends}", flush=True)

    def write(self) -> None:
        """Write the note, and remember how long that took."""
        before = time.monotonic()
        self.note = replace(self.note, at=time.time())
        with suppress(UserError, OSError), whole(self.path, sweep=False, durable=False) as partial:
            fill(partial, json.dumps(asdict(self.note)).encode())
        self.written = time.monotonic()
        self.spent += self.written - before


@contextmanager
def telling(folder: WorkFolder, job: str | None = None) -> Iterator[None]:
    """Inside, what is done is told in a folder, unless another process tells the same, or nothing can be written there."""
    held = lock(folder.doing_lock, LOOK_SECONDS)
    try:
        held.acquire()
    except (Timeout, UserError, OSError):
        yield
        return
    with held, watched(Teller(folder, job)):
        try:
            yield
        finally:
            with suppress(OSError):
                folder.doing_file.unlink(missing_ok=True)
