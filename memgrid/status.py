"""`python -m memgrid.status [root=...] [state=failed]`: which runs and audits are done, running, queued, failed, stopped or missing.

Read from the disk alone, so it works beside everything that runs, and after all of it has ended; SLURM's queue is asked, once and not for
long, where there is one and something waits in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
from filelock import Timeout
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memgrid.config.overrides import command_of
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.commands import HELP, Command, explained, key, nearest, parsed, start
from memgrid.io.display import PlainConsole, visible
from memgrid.io.files import remove
from memgrid.results.audit_folder import AuditFolder
from memgrid.results.doing.queue import queued_jobs
from memgrid.results.folder import RunFolder
from memgrid.results.states import STATES, as_queue_says, audit_states, counts, full_name, json_fault, result_fault, states, to_tell
from memgrid.results.work import WorkFolder

STYLES = {"done": "green", "running": "cyan", "queued": "blue", "failed": "bold red", "stopped": "yellow", "missing": "magenta"}
ROWS = 60  # of runs that are not done, without state=...
FORGETTABLE = ("failed", "stopped", "missing", "queued")
PATIENCE = 3.0  # seconds for SLURM's queue to answer
SHORTEST = 1.0  # seconds between two looks
WHOLE = "all of it, which had no result"


def known_state(word: str) -> str:
    """A state that was typed; UserError if it is unknown."""
    if word not in STATES:
        raise UserError(f"state={word} is unknown: use {', '.join(STATES)}{nearest(word, STATES)}")
    return word


def seconds(word: str) -> float:
    """How often to look, as it was typed; UserError if it is no such number."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not SHORTEST <= number < math.inf:
        raise UserError(f"watch={word} is no number of seconds from {SHORTEST:.0f} on: write one, such as watch=5")
    return number


def forgettable_state(word: str) -> str:
    """A state that was typed and of which nothing is lost that was finished; UserError if it is none."""
    if word not in FORGETTABLE:
        raise UserError(
            f"forget={word} is not possible: use {', '.join(FORGETTABLE)}; results are never forgotten{nearest(word, FORGETTABLE)}"
        )
    return word


@dataclass(frozen=True)
class Words:
    """What `memgrid status` understands."""

    root: Path = key("<folder>", "where runs and audits are kept", Path(RunConfig().root), Path)
    state: str | None = key("<state>", f"list all of one state: {', '.join(STATES)}", None, known_state)
    forget: str | None = key(
        "<state>",
        "remove what is failed (the notes of it, and folders without a checkpoint), stopped (with its checkpoints), missing or queued (not "
        "the job); results, shared work and what runs are never touched",
        None,
        forgettable_state,
    )
    watch: float | None = key("<seconds>", "look again every so many seconds, until Ctrl-C", None, seconds)


COMMAND = Command(
    "status",
    "Counts runs and audits by their state, then lists those that are not done or failed later. Read from the disk alone: it works beside "
    "everything that runs, and after all of it has ended. Where SLURM has a queue, it says what waits in it.",
    Words,
    {
        "status": "all below memgrid-runs",
        "status root=/scratch/runs state=failed": "every run that failed, and why",
        "status watch=5": "the same again every 5 seconds: stage, epoch, and when it ends",
        "status forget=failed": "as if what failed had never been started",
    },
)


def counts_table(table: pl.DataFrame, what: str) -> Table:
    """A row per state that some of `what`, runs or audits, are in."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("state")
    shown.add_column(what, justify="right")
    shown.add_column("which means")
    for state, number in counts(table).items():
        if number:
            shown.add_row(Text(state, STYLES[state]), str(number), STATES[state])
    return shown


def rows_table(rows: pl.DataFrame) -> Table:
    """A row per run; errors and folders are wrapped, never cut."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("state", no_wrap=True)
    shown.add_column("run or audit", overflow="fold")
    shown.add_column("detail", overflow="fold")
    for row in rows.iter_rows(named=True):
        run = visible(full_name(row))
        shown.add_row(Text(row["state"], STYLES[row["state"]]), Text(run), Text(visible(row["detail"])))
    return shown


def forget(row: dict[str, str]) -> str:
    """Forget a run, a job without training or an audit that nobody works on; says what was removed.

    What is left, such as the checkpoint of a run that failed, puts it into another state. Shared work (labels, attention) stays.

    Raises:
        UserError: it may not be removed.
    """
    path, state = Path(row["folder"]), row["state"]
    audit = AuditFolder(path)
    whole = [audit, *audit.pieces(), *audit.attacks()]  # of an audit; of a run it is the folder alone
    job = next((f" (job {job} was submitted for it)" for folder in whole if (job := folder.queued_as())), "")
    try:
        with ExitStack() as held:
            for folder in whole:
                held.enter_context(folder.lock(0))
            is_audit = path.parents[2].name == "audits"
            return (forget_audit(audit, state) if is_audit else forget_run(RunFolder(path), state)) + job
    except (Timeout, FileNotFoundError):
        return "nothing: it is running now, or gone"


def forget_run(run: RunFolder, state: str) -> str:
    """Forget a run or a job whose lock this process holds."""
    if run.is_finished():
        if result_fault(run):
            return "nothing: its result is damaged, run it again with force=true"
        if state == "stopped":
            return removed([run.intervention_journal], "the intervention that was cut off")
        return "nothing: it is done now"
    if state in ("missing", "queued") and (run.saved() or run.failure_file.exists()):
        return "nothing: it has been started meanwhile"
    if state == "failed" and run.saved():
        return removed(notes_of([run]), "that it failed; its checkpoint stays")
    remove(run.path)
    return WHOLE


def forget_audit(audit: AuditFolder, state: str) -> str:
    """The same of an audit: of a failed one with trained models that it failed, of others what has no result."""
    finished = [attack for attack in audit.attacks() if attack.is_finished()]
    if any(json_fault(attack.metrics) for attack in finished):
        return "nothing: its result is damaged, start it again with force=true"
    if state == "failed" and audit.begun():
        return removed(notes_of([audit, *audit.pieces(), *audit.attacks()]), "that it failed; its shadow models stay")
    if finished:
        return removed([attack.path for attack in audit.attacks() if attack not in finished], "attacks without a result")
    remove(audit.path)
    return WHOLE


def notes_of(folders: Iterable[WorkFolder]) -> list[Path]:
    """The files that tell how work on folders went."""
    return [path for folder in folders for path in (folder.failure_file, folder.job_file, folder.queued_file)]


def removed(paths: Iterable[Path], what: str) -> str:
    """Remove files and folders, where they are; `what` says which."""
    for path in paths:
        remove(path)
    return what


def forget_all(root: Path, state: str, console: Console) -> None:
    """Forget whatever is in a state, and say so."""
    rows = pl.concat(all_states(root).values()).filter(pl.col("state") == state)
    if not rows.height:
        console.print(f"nothing below {root} is {state}", soft_wrap=True)
    for row in rows.iter_rows(named=True):
        console.print(visible(f"{row['folder']}: forgot {forget(row)}"), soft_wrap=True, highlight=False)


def all_states(root: Path) -> dict[str, pl.DataFrame]:
    """The states of runs and of audits, with what SLURM's queue says of jobs that wait."""
    runs = states(root)
    waits = runs.filter(pl.col("state").is_in(["queued", "stopped"])).height
    return {"runs": as_queue_says(runs, queued_jobs(PATIENCE) if waits else None), "audits": audit_states(root)}


def watch(root: Path, state: str | None, every: float, console: Console) -> None:
    """Show the same again and again, on a terminal in the same place, until Ctrl-C."""
    try:
        while True:
            console.clear()
            console.print(f"{datetime.now():%Y-%m-%d %H:%M:%S}, every {every:g} s until Ctrl-C", style="dim", highlight=False)
            try:
                show(root, state, console)
            except UserError as error:
                console.print(visible(str(error)), soft_wrap=True, highlight=False)
            if not console.is_terminal:
                console.print()
            console.file.flush()
            time.sleep(every)
    except KeyboardInterrupt:
        console.print()


def show(root: Path, state: str | None, console: Console) -> None:
    """Print how many runs and audits are in each state, then those of the given one, or that are not done or failed later.

    Raises:
        UserError: there is neither a run nor an audit.
    """
    tables = all_states(root)
    table = pl.concat(tables.values())
    if not table.height:
        raise UserError(f"root={root} holds no run and no audit: start one with `{command_of('run', root)}`")
    for what, of_kind in tables.items():
        if of_kind.height:
            console.print(f"{of_kind.height} {what if of_kind.height > 1 else what.removesuffix('s')} below {root}", soft_wrap=True)
            console.print(counts_table(of_kind, what))
    rows = table.filter(to_tell() if state is None else pl.col("state") == state)
    rows = rows.sort(pl.col("state").replace_strict({name: place for place, name in enumerate(STATES)}), maintain_order=True)
    shown = rows if state else rows.head(ROWS)
    if shown.height:
        console.print(rows_table(shown))
    if shown.height < rows.height:
        more = f"and {rows.height - shown.height} more; all of one state: {command_of('status', root, 'state=failed')}"
        console.print(more, style="dim", soft_wrap=True, highlight=False)


def main(arguments: list[str]) -> None:
    """Show the states, or forget one.

    Raises:
        UserError: an argument is unknown, there is neither a run nor an audit, or something may not be removed.
    """
    if HELP & set(arguments):
        print(explained(COMMAND))
        return
    words = parsed(COMMAND, arguments)
    if words.forget and words.watch:
        raise UserError(f"watch={words.watch:g} looks and forget={words.forget} removes: give one of the two")
    if words.forget and words.state:
        raise UserError(f"state={words.state} lists and forget={words.forget} removes: give one of the two")
    if words.forget:
        forget_all(words.root, words.forget, PlainConsole())
    elif words.watch:
        watch(words.root, words.state, words.watch, PlainConsole())
    else:
        show(words.root, words.state, PlainConsole())


if __name__ == "__main__":
    start(main)
