"""The end of a sweep: a table of its runs, the command of the report for their root, and what to do about those that failed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memgrid.errors import UserError
from memgrid.io.display import plural, visible
from memgrid.launch.tasks import SweepTarget
from memgrid.results.work import Failure, WorkFolder

ROWS, FAILURES = 60, 10  # that are shown


def tell_end(planned: Mapping[tuple[str, ...], Any], target: SweepTarget, command: str, console: Console) -> None:
    """Print what came of every run, and what to type next.

    Args:
        planned: how each run was typed → its settings. command: the name of the command that swept.
    """
    if len(planned) < 2:
        return  # it has told of itself
    names = settings_of(list(planned))
    found = {name: outcome(target, run) for name, run in zip(names, planned.values(), strict=True)}
    console.print(table_of(found))
    if len(found) > ROWS:
        console.print(f"and {len(found) - ROWS} more", style="dim")
    roots = sorted({str(run.root) for run in planned.values()})
    failed = {name: failure for name, (state, _, failure) in found.items() if state == "failed" and failure is not None}
    for line in [*target.ways_on(planned.values()), *advice(failed, len(found), roots, command)]:
        console.print(visible(line), soft_wrap=True, highlight=False)


def settings_of(typed: list[tuple[str, ...]]) -> list[str]:
    """What tells each run from the others: the words that not all have."""
    common = set.intersection(*map(set, typed))
    return [" ".join(word for word in words if word not in common) or " ".join(words) for words in typed]


def outcome(target: SweepTarget, run: Any) -> tuple[str, str, Failure | None]:
    """The state of a run, its score, and why it failed."""
    folder = WorkFolder(target.folder(run))
    try:
        if (failure := folder.failure()) is not None:
            return "failed", "", failure
        if target.keeps_result(run) and not target.done(run):
            return ("running" if target.busy(run) else "not done"), "", None
        return "done", target.score(run), None
    except UserError as error:
        return "failed", "", Failure(str(error))


def table_of(found: Mapping[str, tuple[str, str, Failure | None]]) -> Table:
    """A row per run; without scores where there are none."""
    scored = any(score for _, score, _ in found.values())
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("setting", overflow="fold")
    if scored:
        shown.add_column("min-F1", justify="right")
    shown.add_column("state")
    for name, (state, score, _) in list(found.items())[:ROWS]:
        shown.add_row(Text(visible(name)), *([score] if scored else []), Text(state, "bold red" if state == "failed" else ""))
    return shown


def advice(failed: Mapping[str, Failure], total: int, roots: Iterable[str], command: str) -> list[str]:
    """Which runs failed, why, where the log lies, and what to type to go on."""
    from memgrid.config.overrides import command_of  # imports polars, and other programs with Hydra import this module

    if not failed:
        return []
    lines = [f"{plural(len(failed), 'run')} of {total} failed:"]
    for name, failure in list(failed.items())[:FAILURES]:
        lines += [f"  {name}: {failure.error}", *([f"    log: {failure.log}"] if failure.log else [])]
    if len(failed) > FAILURES:
        lines.append(f"  and {len(failed) - FAILURES} more")
    lines += [f"All of them, at any time: {command_of('status', root, 'state=failed')}" for root in roots]
    return [*lines, f"To go on, the same again, which leaves alone what is done: {typed_again(command)}"]


def typed_again(command: str) -> str:
    """What was typed, as it can be typed again: without `force`, which would do again what is done."""
    return f"python -m memgrid.{command} {shlex.join(word for word in sys.argv[1:] if not re.match(r'[+]*force=', word))}"
