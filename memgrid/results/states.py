"""The state of every run and audit: done, running, failed, stopped or missing. Read from the disk alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import polars as pl
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memgrid.config.names import called
from memgrid.errors import DamagedError, UserError
from memgrid.io.digests import read_yaml
from memgrid.io.files import content_of
from memgrid.results.audit_folder import AuditFolder
from memgrid.results.boundary import parse
from memgrid.results.doing.notes import doing
from memgrid.results.folder import RunFolder, folders_below
from memgrid.results.work import WorkFolder, last_line

# In the order in which they are told.
STATES = {
    "done": "has its result",
    "running": "a process works on it",
    "queued": "is in the queue of SLURM",
    "failed": "ended with an error",
    "stopped": "was cut off: goes on from its last checkpoint when started again",
    "missing": "wanted by a sweep, not started yet",
}
SCHEMA = dict.fromkeys(("llm", "taxonomy", "name", "state", "detail", "folder"), pl.String)


def states(root: Path) -> pl.DataFrame:
    """A row per run below `<root>/runs`, and per job without training below `<root>/jobs` that is not done, sorted by folder.

    The columns: llm, taxonomy, name, state (see `STATES`), detail and folder.
    The detail is the error and the log of a failed run, also of one that failed after it had its result, the time of the last checkpoint
    of a stopped one, and of a running one what its process says of itself (`memgrid.results.doing.notes`).
    """
    return rows_of([*folders_below(root), *folders_below(root, "jobs")], state_of)


def audit_states(root: Path) -> pl.DataFrame:
    """The same of each audit below `<root>/audits`: its dataset and its model stand where a run has its LLM and its taxonomy."""
    return rows_of(folders_below(root, "audits"), state_of_audit)


def rows_of(folders: list[Path], look: Callable[[Path], tuple[str, str] | None]) -> pl.DataFrame:
    """A row for each folder with a state."""
    rows = [(*folder.parts[-3:], *state, str(folder)) for folder in folders if (state := look(folder)) is not None]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def state_of(path: Path) -> tuple[str, str] | None:
    """A run's state and what there is to say about it; None for a folder that no run made."""
    folder = RunFolder(path)
    present = {entry.name for entry in os.scandir(path)}  # one look at the folder: there may be thousands, on a slow file system
    done, failed = folder.metrics.name in present, folder.failure_file.name in present
    locked = folder.lock_file.name in present
    if locked and folder.is_locked():
        return "running", progress(folder, done)
    if done and (fault := result_fault(folder)):
        return "failed", fault
    if done and folder.intervention_journal.name in present:
        return "stopped", "in intervene" + (f": {folder.failure()}" if failed else "")
    if done:
        return "done", f"but a later start failed: {folder.failure()}" if failed else ""
    if failed:
        return "failed", str(folder.failure() or "")
    last = checkpoint_time(folder)
    if last or locked:
        return "stopped", (last or ("before its first epoch ended" if trains(folder) else "before its end")) + log_end(folder)
    if job_id := folder.queued_as():
        return "queued", f"as job {job_id}"
    return ("missing", "") if folder.config.name in present else None


def state_of_audit(path: Path) -> tuple[str, str] | None:
    """An audit's state and how many shadow models it has; None for a folder that no audit made."""
    audit = AuditFolder(path)
    try:
        shadows = int(read_yaml(audit.config).shadows)
    except FileNotFoundError:
        return None
    except (OSError, DamagedError, AttributeError, TypeError, ValueError):
        return "failed", f"{audit.config} is damaged: remove it, and start the audit again"
    trained, attacks = audit.trained(), audit.attacks()
    attacked = any(attack.is_finished() for attack in attacks)
    for attack in attacks:
        if attack.is_finished() and (fault := json_fault(attack.metrics)):
            return "failed", f"{attack.path.name}: {fault}"
    progress = f"{trained} of {shadows} shadow models" + ("" if trained < shadows or attacked else ", no attack")
    if any(folder.is_locked() for folder in (*audit.pieces(), *attacks)):
        now = "; ".join(note.text() for folder in (audit, *audit.pieces()) if (note := doing(folder)))
        return "running", progress + (f"; {now}" if now else "")
    failures = [*audit.piece_failures(), *([str(failure)] if (failure := audit.failure()) else [])]
    if unfinished := [attack.path.name for attack in attacks if not attack.is_finished()]:
        progress += f", {unfinished[0]} without a result"
    elif trained == shadows and attacked:
        return "done", f"but a later start failed: {failures[0]}" if failures else ""
    return ("failed", f"{progress}; {failures[0]}") if failures else ("stopped", progress)


def result_fault(folder: RunFolder) -> str:
    """What is wrong with the result of a run; empty if it can be read."""
    try:
        folder.result()
    except UserError as error:
        return str(error).removeprefix(f"{folder.path}: ")
    return ""


def json_fault(path: Path) -> str:
    """What is wrong with an audit's result, as far as it can be told without the audit's own packages; empty if nothing is."""
    try:
        parse(content_of(path), path.name, "start the audit again with force=true")
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    except UserError as error:
        return str(error)
    return ""


def full_name(row: Mapping[str, str]) -> str:
    """What a row of `states` or `audit_states` is called, such as `pythia-2.8b@step1000/rasy/<name>`: its model with the checkpoint."""
    try:
        model = called(OmegaConf.to_container(read_yaml(RunFolder(Path(row["folder"])).config).llm))  # type: ignore[arg-type]
    except (OSError, DamagedError, OmegaConfBaseException, AttributeError, TypeError, KeyError, ValueError):
        model = row["llm"]
    return f"{model}/{row['taxonomy']}/{row['name']}"


def as_queue_says(table: pl.DataFrame, jobs: Mapping[str, str] | None) -> pl.DataFrame:
    """The rows of `states`, with what SLURM's queue says of jobs; `jobs` as `memgrid.results.doing.queue.queued_jobs`.

    A job of this user that has left the queue without a beginning is not waited for any longer; one that is queued again goes on.
    """
    if jobs is None:
        return table
    rows = []
    for row in table.iter_rows(named=True):
        if row["state"] in ("queued", "stopped"):
            folder = WorkFolder(Path(row["folder"]))
            job_id = folder.queued_as()
            if job_id is not None and job_id in jobs:
                again = f"; goes on: {row['detail']}" if row["state"] == "stopped" else ""
                row |= {"state": "queued", "detail": f"as job {job_id} ({jobs[job_id]}){again}"}
            elif job_id is not None and row["state"] == "queued" and is_own(folder.queued_file):
                row |= {"state": "missing", "detail": f"job {job_id} has left the queue without a result"}
        rows.append(row)
    return pl.DataFrame(rows, schema=table.schema)


def is_own(path: Path) -> bool:
    """Whether a file is there and this user's: a job that begins just now takes away the note that it waits."""
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def trains(folder: RunFolder) -> bool:
    """Whether the folder is one of a run, and not of a job without training."""
    return folder.path.parts[-4] == "runs"


def progress(folder: RunFolder, done: bool) -> str:
    """How far a run is that a process works on."""
    note = doing(folder)
    if not trains(folder):
        return note.text() if note else ""
    if note:
        return note.text()
    return "after its training" if done else checkpoint_time(folder) or "before its first epoch ended"


def log_end(folder: RunFolder) -> str:
    """How the log of the job ends that was cut off; nothing outside a job."""
    log = folder.job_log()
    return f"; {last_line(log) or 'nothing'} (log: {log})" if log is not None else ""


def checkpoint_time(folder: RunFolder) -> str:
    """When the last checkpoint was written, or nothing."""
    try:
        written = max(path.stat().st_mtime for path in folder.saved())
    except (OSError, ValueError):  # none
        return ""
    return f"last checkpoint {datetime.fromtimestamp(written):%Y-%m-%d %H:%M}"


def to_tell() -> pl.Expr:
    """Which rows want somebody's attention: what is not done, or failed after it was."""
    return (pl.col("state") != "done") | (pl.col("detail") != "")


def counts(table: pl.DataFrame) -> dict[str, int]:
    """How many runs are in each state, in the order of `STATES`; a state without runs counts 0."""
    return {state: table.filter(pl.col("state") == state).height for state in STATES}
