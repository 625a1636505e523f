"""What a launcher shows while its jobs are at work: on a terminal an area that changes, in a log a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.live import Live
from rich.text import Text

from memgrid.io.display import PlainConsole, on_terminal
from memgrid.launch.progress.tally import Tally
from memgrid.launch.tasks import SweepTarget, Task
from memgrid.results.doing.notes import doing
from memgrid.results.work import WorkFolder

LOOK_SECONDS, LOOK_SHARE = 5.0, 0.02  # between two looks at what runs say, and the share of the time that looking may take
LINE_SECONDS, QUIET_SECONDS = 30.0, 600.0  # between two lines of a log: where something has ended, and where nothing has
SHOWN = 8  # runs that are at work


@dataclass(eq=False)
class Board:
    """What a launcher shows. `say` is silent without a target."""

    target: SweepTarget | None = None
    tally: Tally = field(default_factory=Tally)
    lines: list[str] = field(default_factory=list)
    live: Live | None = None
    next_look: float = 0.0
    last_line: float = field(default_factory=time.monotonic)
    told: int = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, somebody who watches sees the area; lines that are printed appear above it."""
        if not on_terminal():
            yield
            return
        with Live(self.text(), console=PlainConsole(), refresh_per_second=2, transient=True) as self.live:
            yield

    def look(self, jobs: dict[str, tuple[Any, list[Task]]], at_once: bool = False) -> None:
        """See what the runs of active jobs say of themselves, and show it: now and then, or `at_once`, where some have ended."""
        before = time.monotonic()
        if self.target is None or (before < self.next_look and not at_once):
            return
        self.lines = []
        for _, tasks in jobs.values():
            for task in tasks:
                if task.number not in self.tally.ended and (note := doing(WorkFolder(self.target.folder(task.run)))):
                    self.tally.begin(task.number)
                    self.lines.append(f"{self.target.name(task.run)}: {note.text()}")
        now = time.monotonic()
        self.next_look = now + max(LOOK_SECONDS, (now - before) / LOOK_SHARE)
        if self.live is not None:
            self.live.update(self.text())
        elif now - self.last_line > (LINE_SECONDS if len(self.tally.ended) > self.told else QUIET_SECONDS):
            self.last_line, self.told = now, len(self.tally.ended)
            print(f"memgrid: {self.text().plain}", flush=True)

    def text(self) -> Text:
        """The counts, and what runs where."""
        more = [f"and {len(self.lines) - SHOWN} more"] if len(self.lines) > SHOWN else []
        return Text("\n  ".join([self.tally.text(), *self.lines[:SHOWN], *more]))
