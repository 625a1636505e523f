"""Results on disk: `metrics.json` is written last and whole, and is the mark of a finished run; `failed.json` that of a failed one."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from memgrid.errors import UserError
from memgrid.io.files import write_json

ANSWERS = "baselines.parquet"  # predictions of all that a panel is compared with, in a run's folder
BASELINES = ("tokens", "overlap", "confidence", "likelihood", "together")  # what needs no attention; see `memgrid.train.baselines`


def finished(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run, or None."""
    path = folder / "metrics.json"
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text())
    except ValueError:
        raise UserError(f"{path} is damaged: remove it, or run again with force=true") from None
    return result


def note_failure(folder: Path, error: str, log: Path | None = None) -> None:
    """Write `failed.json`: what a run ended with (its last line counts), the log that tells more, and when."""
    lines = error.strip().splitlines() or ["no message"]
    content = {"error": lines[-1].strip(), "log": None if log is None else str(log), "time": datetime.now().astimezone().isoformat()}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(content, folder / "failed.json")


def note_job(folder: Path, log: Path | None) -> None:
    """Note which job works on a run, by its log, for whoever finds the run cut off; without a log, forget an earlier one."""
    if log is None:
        (folder / "job.json").unlink(missing_ok=True)
    else:
        write_json({"log": str(log)}, folder / "job.json")


def job_log(folder: Path) -> Path | None:
    """The log of the job that last worked on a run, or None."""
    try:
        return Path(json.loads((folder / "job.json").read_text())["log"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_queued(folder: Path, job_id: str, result: Path) -> None:
    """Note as which job a run was put into the queue, and where that leaves its result, for whoever types the same command again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json({"job": job_id, "result": str(result)}, folder / "queued.json")


def queued_as(folder: Path) -> str | None:
    """The job as which a run was last put into the queue, or None if that has ended; one that left no result is gone from the queue."""
    try:
        noted = json.loads((folder / "queued.json").read_text())
        return None if Path(noted["result"]).exists() else str(noted["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def clear_failure(folder: Path) -> None:
    """Forget a failure: the run starts again."""
    (folder / "failed.json").unlink(missing_ok=True)


def failure(folder: Path) -> dict[str, Any] | None:
    """What `note_failure` wrote, or None; a damaged file still says that the run failed."""
    path = folder / "failed.json"
    if not path.exists():
        return None
    unknown = {"error": "unknown, failed.json is damaged", "log": None, "time": None}
    try:
        return {**unknown, **json.loads(path.read_text())}
    except (ValueError, TypeError):
        return unknown


def run_folders(root: Path, below: str = "runs") -> list[Path]:
    """Every `<root>/runs/<llm>/<taxonomy>/<name>`, sorted; folders that begin with a dot are nobody's run."""
    found: list[Path] = [root / below]
    for _ in ("llm", "taxonomy", "name"):
        found = [Path(entry.path) for one in found if one.is_dir() for entry in os.scandir(one) if not entry.name.startswith(".")]
    return sorted(path for path in found if path.is_dir())


def prepare_root(name: str) -> Path:
    """Create the root and prove that it can be written to.

    Raises:
        UserError: it cannot.
    """
    root = Path(name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"root={name} cannot be written to ({error.strerror}): choose another folder with root=<path>") from None
    return root
