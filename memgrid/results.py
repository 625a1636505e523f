"""Results on disk: `metrics.json` is written last and whole, and is the mark of a finished run; `failed.json` that of a failed one."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from memgrid.schema import UserError
from memgrid.taxonomy import RULES

# What the report reads: a result without one of these was written by another version.
NEEDED = (
    *("classes", "confidence", "confusion", "control", "eval_loss", "members", "members_min_f1", "panel", "paper_protocol.confusion"),
    *("paper_protocol.mean_eval_loss", "partition", "same_as", "samples", "settings.compat", "settings.taxonomy.classes"),
)
ANSWERS = "baselines.parquet"  # predictions of all that a panel is compared with, in a run's folder
BASELINES = ("tokens", "overlap", "confidence", "likelihood", "together")  # what needs no attention; see `memgrid.baselines`
WARNED = 5  # results left out that are named one by one


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_config(config: DictConfig, folder: Path) -> None:
    """Write a run's `config.yaml` whole or not at all."""
    temporary = folder / f".config.{os.getpid()}.tmp"
    OmegaConf.save(config, temporary)
    os.replace(temporary, folder / "config.yaml")


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


def read_runs(root: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All finished runs below a root, sorted by folder, and the folders of those that cannot be read, each with the reason."""
    found, left_out = [], {}
    for folder in run_folders(root):
        path = folder / "metrics.json"
        if not path.exists():
            continue
        try:
            result = json.loads(path.read_bytes())
        except (ValueError, OSError):
            result = None
        if reason := unreadable(result):
            left_out[str(folder)] = reason
        else:
            found.append({"folder": str(folder), **result})
    return found, left_out


def unreadable(result: Any) -> str | None:
    """Why the report cannot read a result: it was written by another version of memgrid."""
    if not isinstance(result, dict):
        return "its metrics.json is damaged"
    for path in NEEDED:
        found = result
        for key in path.split("."):
            if not isinstance(found, dict) or key not in found:
                return f"another version of memgrid wrote it (its metrics.json has no {path}): run it again with force=true"
            found = found[key]
    rules = [
        rule for given in result["settings"]["taxonomy"]["classes"].values() for rule in ([given] if isinstance(given, str) else given)
    ]
    unknown = [rule for rule in rules if rule not in RULES]
    return f"another version of memgrid wrote it (its taxonomy has the rule {unknown[0]})" if unknown else None


def finished_runs(root: Path) -> list[dict[str, Any]]:
    """The metrics of every finished run below `<root>/runs`, sorted by folder; a warning names those that cannot be read.

    Raises:
        UserError: there is none.
    """
    found, left_out = read_runs(root)
    warn_left_out(left_out)
    return some_runs(found, left_out, root)


def some_runs(found: list[dict[str, Any]], left_out: dict[str, str], root: Path) -> list[dict[str, Any]]:
    """What was found; UserError where that is nothing."""
    if not found:
        others = f" that this version can read ({len(left_out)} that it cannot)" if left_out else ""
        raise UserError(f"root={root} holds no finished run{others}: start one with `python -m memgrid.run root={root}`")
    return found


def warn_left_out(left_out: dict[str, str]) -> None:
    """A line on stderr for each of the first runs that were left out, and one for the rest."""
    for folder, reason in list(left_out.items())[:WARNED]:
        print(f"memgrid: {folder} is left out: {reason}", file=sys.stderr)
    if len(left_out) > WARNED:
        print(f"memgrid: {len(left_out) - WARNED} more are left out for such reasons", file=sys.stderr)
