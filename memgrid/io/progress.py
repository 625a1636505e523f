"""Progress bars that appear on a terminal only: a log file gets whole lines."""

from __future__ import annotations

import sys

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def on_terminal() -> bool:
    """Whether somebody watches."""
    return sys.stdout.isatty()


def progress_bar(wanted: bool = True) -> Progress:
    """A bar, if wanted, that says what is done, how much of it, and how long it takes; gone when it is finished."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True, disable=not (wanted and on_terminal()))
