"""What people see while something is done: text as it stands, and progress bars on a terminal only; a log file gets whole lines."""

from __future__ import annotations

import sys
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from memgrid.io.commands import end_without_reader


class PlainConsole(Console):
    """A console on which every text is only text, whoever wrote it: no markup, no emoji codes."""

    def __init__(self, width: int | None = None) -> None:
        super().__init__(width=width, markup=False, emoji=False)

    def on_broken_pipe(self) -> NoReturn:
        """Rich calls this when nobody reads any more."""
        end_without_reader()


def on_terminal() -> bool:
    """Whether somebody watches."""
    return sys.stdout.isatty()


def progress_bar(wanted: bool = True) -> Progress:
    """A bar, if wanted, that says what is done, how much of it, and how long it takes; gone when it is finished."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True, disable=not (wanted and on_terminal()))
