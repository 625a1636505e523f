"""A folder that one process at a time works on, and the notes that tell others how the work went."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from memgrid.errors import DamagedError
from memgrid.io.digests import read_json, write_json
from memgrid.io.locks import Lock, is_held, lock
from memgrid.io.paths import CONFIG

# Lines of a log that say nothing of the run.
NOISE = (
    "submitit ",
    "srun:",
    "Bypassing signal",
    "Caught signal",
    "Calling checkpoint",
    "Requeued job",
    "Exiting ",
    "Job completed",
    "Job has ",
)


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
        return self.path / CONFIG

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

    @property
    def doing_file(self) -> Path:
        """What the process that works on it is doing, see `results.doing.notes`; believed while that holds `doing_lock`."""
        return self.path / "doing.json"

    @property
    def doing_lock(self) -> Path:
        """Held by the process that says what it is doing."""
        return self.path / ".doing.lock"

    def lock(self, timeout: float) -> Lock:
        """The folder's lock, to be held while working on it; filelock.Timeout if another process holds it for so many seconds."""
        return lock(self.lock_file, timeout)

    def is_locked(self) -> bool:
        """Whether a process works on the folder, now, also another user's. Where that cannot be seen, what the disk holds decides."""
        return is_held(self.lock_file)

    def is_empty(self) -> bool:
        """Whether nothing is in it but what says that work was begun."""
        notes = (self.lock_file, self.config, self.failure_file, self.job_file, self.queued_file, self.doing_file, self.doing_lock)
        return {entry.name for entry in os.scandir(self.path)} <= {path.name for path in notes}

    def remove(self) -> None:
        """Remove it, and the folders above that name its kind, if nothing else is in them."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            for above in self.path.parents[:3]:
                above.rmdir()

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
            content = read_json(self.failure_file)
            log = content.get("log")
            return Failure(str(content["error"]), None if log is None else Path(log), content.get("time"))
        except (DamagedError, TypeError, KeyError, OSError):
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
            return Path(read_json(self.job_file)["log"])
        except (OSError, DamagedError, KeyError, TypeError):
            return None

    def note_queued(self, job_id: str, result: Path) -> None:
        """Note as which job the work was put into the queue, and where that leaves its result, for whoever types the same again."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json({"job": job_id, "result": str(result)}, self.queued_file)

    def queued_as(self) -> str | None:
        """The job as which the work was last put into the queue, or None if it has ended; one without a result has left the queue."""
        try:
            content = read_json(self.queued_file)
            return None if Path(content["result"]).exists() else str(content["job"])
        except (OSError, DamagedError, KeyError, TypeError):
            return None


def last_line(log: Path | None) -> str:
    """The last line of a log that says why it ended, without what submitit and srun add; empty if there is none."""
    try:
        assert log is not None
        assert log.is_file()  # whoever named it may have meant a pipe, whose end never comes
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except (OSError, AssertionError):
        return ""
    telling = [line for line in lines if line and not line.startswith(NOISE)]
    return next((line for line in reversed(telling) if "slurmstepd" in line), telling[-1] if telling else "")
