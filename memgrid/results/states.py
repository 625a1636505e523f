"""The state of every run and audit: done, running, failed, stopped or missing. Read from the disk alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
from omegaconf import OmegaConf
from yaml import YAMLError

from memgrid.io.locks import locked
from memgrid.io.logs import last_line
from memgrid.results.audit_folder import AuditFolder
from memgrid.results.folder import failure, job_log, queued_as, run_folders

# In the order in which they are told.
STATES = {
    "done": "has its result",
    "running": "a process works on it",
    "failed": "ended with an error",
    "stopped": "was cut off: goes on from its last checkpoint when started again",
    "missing": "wanted by a sweep, not started yet",
}
SCHEMA = dict.fromkeys(("llm", "taxonomy", "name", "state", "detail", "folder"), pl.String)


def states(root: Path) -> pl.DataFrame:
    """A row per run below `<root>/runs`, and per job without training below `<root>/jobs` that is not done, sorted by folder.

    The columns: llm, taxonomy, name, state (see `STATES`), detail and folder.
    The detail is the error and the log of a failed run, also of one that failed after it had its result, and the time of the last
    checkpoint of a stopped or running one.
    """
    return rows_of([*run_folders(root), *run_folders(root, "jobs")], state_of)


def audit_states(root: Path) -> pl.DataFrame:
    """The same of each audit below `<root>/audits`: its dataset and its model stand where a run has its LLM and its taxonomy."""
    return rows_of(run_folders(root, "audits"), state_of_audit)


def rows_of(folders: list[Path], look: Callable[[Path], tuple[str, str] | None]) -> pl.DataFrame:
    """A row for each folder with a state."""
    rows = [(*folder.parts[-3:], *found, str(folder)) for folder in folders if (found := look(folder)) is not None]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def state_of(folder: Path) -> tuple[str, str] | None:
    """A run's state and what there is to say about it; None for a folder that no run made."""
    present = {entry.name for entry in os.scandir(folder)}
    done = "metrics.json" in present
    # A lock that nobody made is nobody's: looking must not leave files behind.
    if ".lock" in present and locked(folder):
        return "running", running(folder, done)
    if done and "intervene.partial.jsonl" in present:
        return "stopped", "in intervene" + (f": {failed(folder)}" if "failed.json" in present else "")
    if done:
        return "done", f"but a later start failed: {failed(folder)}" if "failed.json" in present else ""
    if "failed.json" in present:
        return "failed", failed(folder)
    last, trains = checkpoint(folder), folder.parts[-4] == "runs"
    if last or ".lock" in present:
        return "stopped", (last or ("before its first epoch ended" if trains else "before its end")) + ending(folder)
    if job_id := queued_as(folder):
        return "missing", f"submitted as job {job_id}"
    return ("missing", "") if "config.yaml" in present else None


def state_of_audit(path: Path) -> tuple[str, str] | None:
    """An audit's state and how many shadow models it has; None for a folder that no audit made."""
    audit = AuditFolder(path)
    try:
        shadows = int(OmegaConf.load(audit.config).shadows)
    except FileNotFoundError:
        return None
    except (OSError, YAMLError, AttributeError, TypeError, ValueError):
        return "failed", f"{audit.config} is damaged: remove it, and start the audit again"
    trained, attacks = audit.trained(), audit.attacks()
    attacked = any(attack.is_finished() for attack in attacks)
    progress = f"{trained} of {shadows} shadow models" + ("" if trained < shadows or attacked else ", no attack")
    if any(folder.is_locked() for folder in (*audit.pieces(), *attacks)):
        return "running", progress
    failures = [*audit.piece_failures(), *([str(failure)] if (failure := audit.failure()) else [])]
    if unfinished := [attack.path.name for attack in attacks if not attack.is_finished()]:
        progress += f", {unfinished[0]} without a result"
    elif trained == shadows and attacked:
        return "done", f"but a later start failed: {failures[0]}" if failures else ""
    return ("failed", f"{progress}; {failures[0]}") if failures else ("stopped", progress)


def running(folder: Path, done: bool) -> str:
    """How far a run is that a process works on."""
    if folder.parts[-4] != "runs":
        return ""
    return "after its training" if done else checkpoint(folder) or "before its first epoch ended"


def ending(folder: Path) -> str:
    """How the log of the job ends that was cut off; nothing outside a job."""
    log = job_log(folder)
    return f"; {last_line(log) or 'nothing'} (log: {log})" if log is not None else ""


def failed(folder: Path) -> str:
    """The error with which what belongs into a folder failed, and the log that tells more."""
    told = failure(folder) or {}
    return str(told.get("error", "")) + (f" (log: {told['log']})" if told.get("log") else "")


def checkpoint(folder: Path) -> str:
    """When the last checkpoint was written, or nothing."""
    try:
        written = (folder / "checkpoints" / "last.ckpt").stat().st_mtime
    except OSError:
        return ""
    return f"last checkpoint {datetime.fromtimestamp(written):%Y-%m-%d %H:%M}"


def to_tell() -> pl.Expr:
    """Which rows want somebody's attention: what is not done, or failed after it was."""
    return (pl.col("state") != "done") | (pl.col("detail") != "")


def counts(table: pl.DataFrame) -> dict[str, int]:
    """How many runs are in each state, in the order of `STATES`; a state without runs counts 0."""
    return {state: table.filter(pl.col("state") == state).height for state in STATES}
