"""The runs of a sweep as tasks: what a launcher must know of them, which need a job or share one, how each ended, and what changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from memgrid.errors import UserError
from memgrid.results.work import WorkFolder, last_line


@dataclass(frozen=True)
class Task:
    """One run of a job: its number in the sweep, how it was typed, and its settings when it was submitted."""

    number: int
    overrides: list[str]
    run: Any


class SweepTarget(ABC):
    """What is swept over, such as `memgrid.pipeline.sweep.Runs`. Settings are a dataclass, called run here.

    Attributes:
        numbered: settings that are a number and on which the composition of no other depends.
    """

    numbered: tuple[str, ...] = ()

    @abstractmethod
    def typed(self, config: DictConfig) -> Any:
        """A composed configuration as validated settings; UserError if it is invalid."""

    @abstractmethod
    def validate(self, run: Any) -> None:
        """UserError if the settings are invalid."""

    def together(self, runs: Sequence[Any]) -> None:
        """UserError if the runs of a sweep, each valid, are not so together."""
        return

    @abstractmethod
    def plan(self, run: Any) -> None:
        """Leave on disk that the run is wanted."""

    @abstractmethod
    def folder(self, run: Any) -> Path:
        """Where a failure of the run is noted."""

    @abstractmethod
    def result(self, run: Any) -> object | None:
        """The result of a run that need not be done again, or None; UserError if what is there cannot be used."""

    @abstractmethod
    def done(self, run: Any) -> bool:
        """Whether all that the run asks for is on disk, even if it is to be done again."""

    @abstractmethod
    def busy(self, run: Any) -> bool:
        """Whether another process is working on the run."""

    @abstractmethod
    def shared(self, run: Any) -> tuple[Any, ...]:
        """Equal for runs that share their work."""

    @abstractmethod
    def name(self, run: Any) -> str:
        """What the run is called in a line of the launcher."""

    @abstractmethod
    def ending(self, run: Any) -> str:
        """How a run went that is done, such as `done, min-F1 87.8`."""

    @abstractmethod
    def needs_internet(self, run: Any) -> bool:
        """Whether the run cannot be done on a compute node."""


def wanted(run: Any, target: SweepTarget, queue: set[str], failures: list[str]) -> bool:
    """Whether a run needs a job; not if it is done, in the queue, or worked on, or if what is there cannot be read.

    Args:
        queue: ids of jobs. failures: a result that cannot be read is told, and added to them.
    """
    try:
        if target.result(run) is not None:
            return False
    except UserError as error:
        failures.append(str(error))
        print(f"memgrid: {target.name(run)}: FAILED: {error}", flush=True)
        return False
    if (job_id := WorkFolder(target.folder(run)).queued_as()) in queue:
        print(f"memgrid: {target.name(run)}: job {job_id} is in the queue for it", flush=True)
        return False
    busy = target.busy(run)
    if busy:
        print(f"memgrid: {target.name(run)}: another process is working on it", flush=True)
    return not busy


def groups(tasks: list[Task], target: SweepTarget) -> list[list[Task]]:
    """Runs that share their work, together: one job does it, and the others find it done."""
    by_work: dict[tuple[Any, ...], list[Task]] = {}
    for task in tasks:
        by_work.setdefault(target.shared(task.run), []).append(task)
    return list(by_work.values())


def collect(job: Any, tasks: list[Task], target: SweepTarget, failures: list[str]) -> None:
    """A line for each run of a job that has ended, from its result or, where there is none, from the end of its log.

    Args:
        failures: what went wrong is added to them.
    """
    from submitit.core.utils import pickle_load

    log = job.paths.stderr if job.paths.stderr.exists() else job.paths.stdout
    sentences: list[str | None] = [f"job {job.job_id} ended without a result: {last_line(log) or 'it left no log'}"] * len(tasks)
    orderly = False
    if job.paths.result_pickle.exists():
        how, result = pickle_load(job.paths.result_pickle)
        orderly = how == "success"
        sentences = result if orderly else [str(result).strip().rpartition("\n")[2]] * len(tasks)
    for task, sentence in zip(tasks, sentences, strict=True):
        if not orderly:
            if not task.run.force and target.done(task.run):  # an old result is none of a run that was to be done again
                sentence = None  # this run was done before its job ended
            else:
                WorkFolder(target.folder(task.run)).note_failure(str(sentence), log)
        if sentence is not None:
            failures.append(sentence)
        ending = target.ending(task.run) if sentence is None else f"FAILED: {sentence} (log: {log})"
        print(f"memgrid: {target.name(task.run)}: {ending}", flush=True)


def changes(submitted: Any, now: Any) -> str:
    """Which settings are others than they were, in one clause; empty if none is."""
    before, after = (flat(asdict(run)) for run in (submitted, now))
    differing = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    shown = [f"{key} changed from {before.get(key)} to {after.get(key)}" for key in differing[:3]]
    return ", ".join(shown) + (f" and {len(differing) - 3} more changed" if len(differing) > 3 else "")


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys, joined by dots."""
    joined: dict[str, Any] = {}
    for key, value in nested.items():
        joined |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return joined
