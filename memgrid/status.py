"""`python -m memgrid.status [root=...] [state=failed]`: which runs are done, running, failed, stopped or missing, from the disk alone."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import polars as pl
from filelock import FileLock, Timeout
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memgrid.job import last_line
from memgrid.results import failure, job_log, run_folders
from memgrid.schema import RunConfig, UserError

# In the order in which they are told.
STATES = {
    "done": "has its result",
    "running": "a process works on it",
    "failed": "ended with an error",
    "stopped": "was cut off: goes on from its last checkpoint when started again",
    "missing": "wanted by a sweep, not started yet",
}
STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "stopped": "yellow", "missing": "magenta"}
ROWS = 60  # of runs that are not done, without state=...
SCHEMA = dict.fromkeys(("llm", "taxonomy", "name", "state", "detail", "folder"), pl.String)


def states(root: Path) -> pl.DataFrame:
    """A row per run below `<root>/runs`, and per failed job without training below `<root>/jobs`, sorted by folder.

    The columns: llm, taxonomy, name, state (see `STATES`), detail and folder.
    The detail is the error and the log of a failed run, and the time of the last checkpoint of a stopped or running one.
    """
    rows = []
    for folder in (*run_folders(root), *run_folders(root, "jobs")):
        found = state_of(folder)
        if found is not None:
            llm, taxonomy, name = folder.parts[-3:]
            rows.append((llm, taxonomy, name, *found, str(folder)))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def state_of(folder: Path) -> tuple[str, str] | None:
    """A run's state and what there is to say about it; None for a folder that no run made."""
    present = {entry.name for entry in os.scandir(folder)}
    if "metrics.json" in present:
        return "done", ""
    # A lock that nobody made is nobody's: looking must not leave files behind.
    if ".lock" in present and locked(folder):
        return "running", checkpoint(folder) or "before its first epoch ended"
    if "failed.json" in present:
        told = failure(folder) or {}
        return "failed", str(told.get("error", "")) + (f" (log: {told['log']})" if told.get("log") else "")
    last = checkpoint(folder)
    if last or ".lock" in present:
        log = job_log(folder)
        end = f"; {last_line(log) or 'nothing'} (log: {log})" if log is not None else ""
        return "stopped", (last or "before its first epoch ended") + end
    return ("missing", "") if "config.yaml" in present else None


def locked(folder: Path) -> bool:
    """Whether a process holds the run's lock, now."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # another user's folder, which may be read only: what the disk holds decides


def checkpoint(folder: Path) -> str:
    """When the last checkpoint was written, or nothing."""
    try:
        written = (folder / "checkpoints" / "last.ckpt").stat().st_mtime
    except OSError:
        return ""
    return f"last checkpoint {datetime.fromtimestamp(written):%Y-%m-%d %H:%M}"


def counts(table: pl.DataFrame) -> dict[str, int]:
    """How many runs are in each state, in the order of `STATES`; a state without runs counts 0."""
    return {state: table.filter(pl.col("state") == state).height for state in STATES}


def counts_table(table: pl.DataFrame, root: Path) -> Table:
    """A row per state that some run is in."""
    shown = Table(title=f"{table.height} runs below {escape(str(root))}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("state")
    shown.add_column("runs", justify="right")
    shown.add_column("which means")
    for state, number in counts(table).items():
        if number:
            shown.add_row(f"[{STYLES[state]}]{state}[/]", str(number), STATES[state])
    return shown


def rows_table(rows: pl.DataFrame) -> Table:
    """A row per run; errors and folders are wrapped, never cut."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("state", no_wrap=True)
    shown.add_column("run", overflow="fold")
    shown.add_column("detail", overflow="fold")
    for row in rows.iter_rows(named=True):
        run = escape(f"{row['llm']}/{row['taxonomy']}/{row['name']}")
        shown.add_row(f"[{STYLES[row['state']]}]{row['state']}[/]", run, escape(row["detail"]))
    return shown


def parse(arguments: list[str]) -> tuple[Path, str | None]:
    """The root, and the state to be listed.

    Raises:
        UserError: an argument or a state is unknown.
    """
    if unknown := [argument for argument in arguments if not argument.startswith(("root=", "state="))]:
        raise UserError(f"status knows only root=<folder> and state=<state>, not {' '.join(unknown)}")
    given = dict(argument.split("=", 1) for argument in arguments)
    state = given.get("state")
    if state is not None and state not in STATES:
        raise UserError(f"state={state} is unknown: use {', '.join(STATES)}")
    return Path(given.get("root", RunConfig().root)), state


def main(arguments: list[str]) -> None:
    """Print how many runs are in each state, then those that are not done, or those of the given state.

    Raises:
        UserError: an argument is unknown, or there is no run.
    """
    root, state = parse(arguments)
    table = states(root)
    if not table.height:
        raise UserError(f"root={root} holds no run: start one with `python -m memgrid.run root={root}`")
    console = Console()
    console.print(counts_table(table, root))
    rows = table.filter(pl.col("state") != "done" if state is None else pl.col("state") == state)
    rows = rows.sort(pl.col("state").replace_strict({name: place for place, name in enumerate(STATES)}), maintain_order=True)
    shown = rows if state else rows.head(ROWS)
    if shown.height:
        console.print(rows_table(shown))
    if shown.height < rows.height:
        console.print(f"and {rows.height - shown.height} more: state={'|'.join(STATES)} lists all of one state", style="dim")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"memgrid: {error}")
