"""A run on disk: every file of it, once, and what is asked of it. `metrics.json` is written last and whole: the mark of a finished run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from memgrid.config.names import run_folder, work_folder
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.files import write_json
from memgrid.results.result import RunResult, from_json, to_json

BASELINES = ("tokens", "overlap", "confidence", "likelihood", "together")  # what needs no attention; see `memgrid.train.baselines`


@dataclass(frozen=True)
class Failure:
    """What work on a folder ended with: the last line of the error, the log that tells more, and when."""

    error: str
    log: Path | None = None
    time: str | None = None

    def __str__(self) -> str:
        return self.error + (f" (log: {self.log})" if self.log else "")


@dataclass(frozen=True)
class WorkFolder:
    """A folder that one process at a time works on: its lock, its configuration, and notes of how the work went."""

    path: Path

    @property
    def lock_file(self) -> Path:
        """Held by the process that works on the folder."""
        return self.path / ".lock"

    @property
    def config(self) -> Path:
        """The settings as they were composed."""
        return self.path / "config.yaml"

    @property
    def failure_file(self) -> Path:
        """What the last work ended with; absent if it ended well."""
        return self.path / "failed.json"

    @property
    def job_file(self) -> Path:
        """The job that works or worked on it."""
        return self.path / "job.json"

    @property
    def queued_file(self) -> Path:
        """The job that waits in the queue for it."""
        return self.path / "queued.json"

    def lock(self, timeout: float) -> FileLock:
        """The folder's lock, to be held while working on it; filelock.Timeout if another process holds it for so many seconds."""
        return FileLock(self.lock_file, timeout=timeout)

    def is_locked(self) -> bool:
        """Whether a process works on the folder, now. Looking leaves no file behind."""
        if not self.lock_file.exists():
            return False
        try:
            with self.lock(0):
                return False
        except Timeout:
            return True
        except OSError:
            return False  # another user's folder, which may be read only: what the disk holds decides

    def note_failure(self, error: str, log: Path | None = None) -> None:
        """Write what work on the folder ended with (the last line of the error counts), the log that tells more, and when."""
        lines = error.strip().splitlines() or ["no message"]
        content = {"error": lines[-1].strip(), "log": None if log is None else str(log), "time": datetime.now().astimezone().isoformat()}
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(content, self.failure_file)

    def clear_failure(self) -> None:
        """Forget a failure: the work starts again."""
        self.failure_file.unlink(missing_ok=True)

    def failure(self) -> Failure | None:
        """What `note_failure` wrote, or None; a damaged file still says that the work failed."""
        if not self.failure_file.exists():
            return None
        try:
            content = json.loads(self.failure_file.read_text())
            log = content.get("log")
            return Failure(str(content["error"]), None if log is None else Path(log), content.get("time"))
        except (ValueError, TypeError, KeyError, AttributeError, OSError):
            return Failure("unknown, failed.json is damaged")

    def note_job(self, log: Path | None) -> None:
        """Note which job works on the folder, by its log, for whoever finds it cut off; without a log, forget an earlier one."""
        if log is None:
            self.job_file.unlink(missing_ok=True)
        else:
            write_json({"log": str(log)}, self.job_file)

    def job_log(self) -> Path | None:
        """The log of the job that last worked on the folder, or None."""
        try:
            return Path(json.loads(self.job_file.read_text())["log"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note_queued(self, job_id: str, result: Path) -> None:
        """Note as which job the work was put into the queue, and where that leaves its result, for whoever types the same again."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json({"job": job_id, "result": str(result)}, self.queued_file)

    def queued_as(self) -> str | None:
        """The job as which the work was last put into the queue, or None if it has ended; one without a result has left the queue."""
        try:
            content = json.loads(self.queued_file.read_text())
            return None if Path(content["result"]).exists() else str(content["job"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class RunFolder(WorkFolder):
    """The folder of one run, `<root>/runs/<llm>/<taxonomy>/<name>`."""

    @classmethod
    def of(cls, run: RunConfig) -> RunFolder:
        """The folder that the run's settings name."""
        return cls(run_folder(run))

    @property
    def metrics(self) -> Path:
        """The result, written last: its presence says that the run is finished."""
        return self.path / "metrics.json"

    @property
    def samples(self) -> Path:
        """The selected sequences with class and side."""
        return self.path / "samples.parquet"

    @property
    def epochs(self) -> Path:
        """The scores of every network after every epoch."""
        return self.path / "epochs.parquet"

    @property
    def predictions(self) -> Path:
        """Each network's probabilities for every eval sample."""
        return self.path / "predictions.parquet"

    @property
    def baselines(self) -> Path:
        """The same of all that the panel is compared with; older runs have none."""
        return self.path / "baselines.parquet"

    @property
    def checkpoints(self) -> Path:
        """Where the panel's training leaves its checkpoint."""
        return self.path / "checkpoints"

    @property
    def checkpoint(self) -> Path:
        """The panel after its last whole epoch, with what a training needs to go on."""
        return self.checkpoints / "last.ckpt"

    @property
    def control(self) -> Path:
        """The folder of the training on shuffled labels."""
        return self.path / "control"

    @property
    def figures(self) -> Path:
        """The run's own figures, each as PNG and PDF."""
        return self.path / "figures"

    @property
    def wandb(self) -> Path:
        """The offline runs of wandb."""
        return self.path / "wandb"

    @property
    def intervention(self) -> Path:
        """A row per trial of the intervention."""
        return self.path / "intervene.parquet"

    @property
    def intervention_journal(self) -> Path:
        """The trials done so far, while an intervention goes on."""
        return self.path / "intervene.partial.jsonl"

    @property
    def intervention_record(self) -> Path:
        """What the intervention was done with and what it found, written last."""
        return self.path / "intervene.json"

    def decision_maps(self, method: str) -> Path:
        """The Δ maps by one method of attribution."""
        return self.path / f"localize-{method}.h5"

    def decision_record(self, method: str) -> Path:
        """What the Δ maps were made with and what they show, written last."""
        return self.path / f"localize-{method}.json"

    def is_finished(self) -> bool:
        """Whether the training has its result."""
        return self.metrics.exists()

    def result(self) -> RunResult | None:
        """The result of a finished run, or None.

        Raises:
            UserError: it is damaged, or another version wrote what this one cannot read.
        """
        try:
            content = self.metrics.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{self.metrics} cannot be read ({error.strerror}): set that right and start again") from None
        try:
            return from_json(content)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from None

    def write_result(self, result: RunResult) -> None:
        """Finish the run."""
        write_json(to_json(result), self.metrics)


def work_folder_of(run: RunConfig) -> WorkFolder:
    """Where a run's failure is noted: its own folder, or that of a job without training."""
    return WorkFolder(work_folder(run))


def folders_below(root: Path, below: str = "runs") -> list[Path]:
    """Every `<root>/<below>/<llm>/<taxonomy>/<name>`, sorted; folders that begin with a dot are nobody's run."""
    level: list[Path] = [root / below]
    for _ in ("llm", "taxonomy", "name"):
        level = [Path(entry.path) for folder in level if folder.is_dir() for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return sorted(path for path in level if path.is_dir())


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


# TRANSITION: the functions below go as their callers move to `RunFolder`.

ANSWERS = "baselines.parquet"


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
