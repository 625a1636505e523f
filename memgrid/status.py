"""`python -m memgrid.status [root=...] [state=failed]`: which runs and audits are done, running, failed, stopped or missing.

Read from the disk alone, so it works beside everything that runs, and after all of it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.commands import HELP, Command, explained, key, parsed, start
from memgrid.results.states import STATES, audit_states, counts, states, to_tell

STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "stopped": "yellow", "missing": "magenta"}
ROWS = 60  # of runs that are not done, without state=...


def state_of(word: str) -> str:
    """A state that was typed; UserError if it is unknown."""
    if word not in STATES:
        raise UserError(f"state={word} is unknown: use {', '.join(STATES)}")
    return word


@dataclass(frozen=True)
class Words:
    """What `memgrid status` understands."""

    root: Path = key("<folder>", "where runs and audits are kept", Path(RunConfig().root), Path)
    state: str | None = key("<state>", f"list all of one state: {', '.join(STATES)}", None, state_of)


COMMAND = Command(
    "status",
    "Counts runs and audits by their state, then lists those that are not done or failed later. Read from the disk alone: it works beside "
    "everything that runs, and after all of it has ended.",
    Words,
    {"status": "all below memgrid-runs", "status root=/scratch/runs state=failed": "every run that failed, and why"},
)


def counts_table(table: pl.DataFrame, what: str) -> Table:
    """A row per state that some of `what`, runs or audits, are in."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("state")
    shown.add_column(what, justify="right")
    shown.add_column("which means")
    for state, number in counts(table).items():
        if number:
            shown.add_row(f"[{STYLES[state]}]{state}[/]", str(number), STATES[state])
    return shown


def rows_table(rows: pl.DataFrame) -> Table:
    """A row per run; errors and folders are wrapped, never cut."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("state", no_wrap=True)
    shown.add_column("run or audit", overflow="fold")
    shown.add_column("detail", overflow="fold")
    for row in rows.iter_rows(named=True):
        run = escape(f"{row['llm']}/{row['taxonomy']}/{row['name']}")
        shown.add_row(f"[{STYLES[row['state']]}]{row['state']}[/]", run, escape(row["detail"]))
    return shown


def main(arguments: list[str]) -> None:
    """Print how many runs and audits are in each state, then those that are not done or failed later, or those of the given state.

    Raises:
        UserError: an argument is unknown, or there is neither a run nor an audit.
    """
    if HELP & set(arguments):
        print(explained(COMMAND))
        return
    words = parsed(COMMAND, arguments)
    root, state = words.root, words.state
    tables = {"runs": states(root), "audits": audit_states(root)}
    table = pl.concat(tables.values())
    if not table.height:
        raise UserError(f"root={root} holds no run and no audit: start one with `python -m memgrid.run root={root}`")
    console = Console()
    for what, of_kind in tables.items():
        if of_kind.height:
            console.print(
                f"{of_kind.height} {what if of_kind.height > 1 else what.removesuffix('s')} below {escape(str(root))}", soft_wrap=True
            )
            console.print(counts_table(of_kind, what))
    rows = table.filter(to_tell() if state is None else pl.col("state") == state)
    rows = rows.sort(pl.col("state").replace_strict({name: place for place, name in enumerate(STATES)}), maintain_order=True)
    shown = rows if state else rows.head(ROWS)
    if shown.height:
        console.print(rows_table(shown))
    if shown.height < rows.height:
        console.print(f"and {rows.height - shown.height} more: state={'|'.join(STATES)} lists all of one state", style="dim")


if __name__ == "__main__":
    start(main)
