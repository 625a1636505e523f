"""The finished runs below a root, and those that cannot be read, each with the reason."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from memgrid.errors import UserError
from memgrid.results.folder import RunFolder, folders_below
from memgrid.results.result import RunResult, from_json

T = TypeVar("T")
WARNED = 5  # results left out that are named one by one


@dataclass(frozen=True)
class FinishedRun:
    """A run with its result, and the folder in which both lie."""

    folder: RunFolder
    result: RunResult

    @property
    def settings(self) -> dict[str, Any]:
        """What decided the result, as `config.names.settings` gives it."""
        return self.result.settings


def read_runs(root: Path) -> tuple[list[FinishedRun], dict[str, str]]:
    """All finished runs below a root, sorted by folder, and the folders of those that cannot be read, each with the reason."""
    runs, left_out = [], {}
    for path in folders_below(root):
        folder = RunFolder(path)
        try:
            runs.append(FinishedRun(folder, from_json(folder.metrics.read_bytes())))
        except FileNotFoundError:
            continue  # not finished yet
        except OSError as error:
            left_out[str(path)] = f"its metrics.json cannot be read ({error.strerror})"
        except UserError as error:
            left_out[str(path)] = str(error)
    return runs, left_out


def finished_runs(root: Path) -> list[FinishedRun]:
    """Every finished run below `<root>/runs`, sorted by folder; a warning names those that cannot be read.

    Raises:
        UserError: there is none.
    """
    runs, left_out = read_runs(root)
    warn_left_out(left_out)
    return some_runs(runs, left_out, root)


def some_runs(runs: list[FinishedRun], left_out: dict[str, str], root: Path) -> list[FinishedRun]:
    """The runs; UserError where there is none."""
    if not runs:
        others = f" that this version can read ({len(left_out)} that it cannot)" if left_out else ""
        raise UserError(f"root={root} holds no finished run{others}: start one with `python -m memgrid.run root={root}`")
    return runs


def warn_left_out(left_out: dict[str, str]) -> None:
    """A line on stderr for each of the first runs that were left out, and one for the rest."""
    for folder, reason in list(left_out.items())[:WARNED]:
        print(f"memgrid: {folder} is left out: {reason}", file=sys.stderr)
    if len(left_out) > WARNED:
        print(f"memgrid: {len(left_out) - WARNED} more are left out for such reasons", file=sys.stderr)


def tell_left_out(error: UserError) -> None:
    """A line on stderr that a file of a run is of no use, so that the report is written without what it holds."""
    print(f"memgrid: left out of the report: {error}", file=sys.stderr)


def read_or_told(read: Callable[[], T]) -> T | None:
    """What is read of a run, or None where it cannot be, which is told."""
    try:
        return read()
    except UserError as error:
        tell_left_out(error)
        return None
