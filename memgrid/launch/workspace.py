"""What the runs of one process share: made when it starts, handed down, and gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from rich.console import Console

from memgrid.io.display import PlainConsole
from memgrid.launch.tasks import SweepTarget

Part = TypeVar("Part")


@dataclass(eq=False)
class Workspace:
    """One for a process that `launch.cli.start` begins, and one for each job. Nothing of it goes from a process into its jobs.

    Attributes:
        console: where runs say what they do.
        failures: what went wrong in the runs so far, a sentence each.
        target: what is swept over; None for a command without sweeps.
        planned: every combination of the sweep, as it was typed → its settings.
        postponed: numbers, in the sweep, of runs on which other processes were working when their turn came.
        summary: what all its runs together have found out, in lines: a job's launcher tells it when the job has ended.
        stopping: whether the process was told to stop: what fails from then on is no failure of its run.
    """

    console: Console = field(default_factory=PlainConsole)
    failures: list[str] = field(default_factory=list)
    target: SweepTarget | None = None
    planned: dict[tuple[str, ...], Any] = field(default_factory=dict)
    postponed: list[int] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)
    stopping: bool = False
    _parts: dict[type, object] = field(default_factory=dict, repr=False)

    def shared(self, part: type[Part]) -> Part:
        """The one object of this class here, made when it is first asked for: packages above keep in it what their runs share."""
        if part not in self._parts:
            self._parts[part] = part()
        return cast(Part, self._parts[part])

    @contextmanager
    def entered(self) -> Iterator[Workspace]:
        """Inside, `current` is this workspace."""
        token = CURRENT.set(self)
        try:
            yield self
        finally:
            CURRENT.reset(token)

    @staticmethod
    def current() -> Workspace:
        """The workspace of this process, for what Hydra makes and calls itself (callback, launcher, task); all else is given it.

        Raises:
            LookupError: Hydra was not started by `launch.cli.start`, nor by a job.
        """
        return CURRENT.get()


CURRENT: ContextVar[Workspace] = ContextVar("workspace")
