"""The runs of a sweep as tasks: what a launcher must know of them, which need a job or share one, how each ended, and what changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig

from memgrid.errors import UserError
from memgrid.io.display import visible
from memgrid.launch.handover import answer_file, read_answer
from memgrid.results.work import WorkFolder, last_line


@dataclass(frozen=True)
class Task:
    """One run of a job: its number in the sweep, how it was typed, and its settings when it was submitted."""

    number: int
    overrides: list[str]
    run: Any

    def is_elsewhere(self, target: SweepTarget, queue: set[str]) -> bool:
        """Whether one of the jobs in a queue is for it, or another process works on it."""
        return WorkFolder(target.folder(self.run)).queued_as() in queue or target.busy(self.run)


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

    def same(self, run: Any) -> tuple[Any, ...] | None:
        """Equal for runs of which each does all that the others would do; None if the run has work of its own."""
        return None

    def late(self, run: Any) -> bool:
        """Whether the run reads what others of the sweep find, so that it begins when they have ended."""
        return False

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

    def score(self, run: Any) -> str:
        """The score of a run that is done, for a table; empty where it has none."""
        return ""

    def keeps_result(self, run: Any) -> bool:
        """Whether `done` can tell of the run: others leave what all share, and nothing of their own."""
        return True

    def ways_on(self, runs: Iterable[Any]) -> list[str]:
        """What to type when runs have ended, in lines."""
        return []

    @abstractmethod
    def needs_internet(self, run: Any) -> bool:
        """Whether the run cannot be done on a compute node."""


class Counts(Protocol):
    """Who counts the runs of a sweep by their numbers, such as `memgrid.launch.progress.tally.Tally`."""

    def end(self, number: int, failed: bool, seconds: float | None = None) -> None:
        """A run has ended, after so many seconds if that is known."""

    def leave(self, number: int, to_others: bool = True) -> None:
        """A run is not at work here: others are working on it, or it waits."""


def left(
    tasks: list[Task], target: SweepTarget, queue: set[str], failures: list[str], tally: Counts, joined: bool = False
) -> tuple[list[Task], list[Task]]:
    """Which runs are still to be done, and which of these others do; not those that are done, nor those whose result cannot be read.

    Args:
        queue: ids of jobs.
        failures: a result that cannot be read is told, and added to them.
        tally: is told which have ended and which others do.
        joined: whether the sweep has begun: then it is told how those ended that are done.
    """
    missing: list[Task] = []
    elsewhere: list[Task] = []
    for task in tasks:
        name = target.name(task.run)
        try:
            if target.result(task.run) is not None:
                if joined:
                    print(f"memgrid: {name}: {target.ending(task.run)}", flush=True)
                tally.end(task.number, failed=False)
                continue
        except UserError as error:
            failures.append(str(error))
            print(f"memgrid: {name}: FAILED: {error}", flush=True)
            tally.end(task.number, failed=True)
            continue
        others = task.is_elsewhere(target, queue)
        (elsewhere if others else missing).append(task)
        tally.leave(task.number, to_others=others)
        if others and not joined:
            job_id = WorkFolder(target.folder(task.run)).queued_as()
            print(
                f"memgrid: {name}: " + (f"job {job_id} is in the queue for it" if job_id in queue else "another process is working on it")
            )
    return missing, elsewhere


def without_repeats(planned: dict[tuple[str, ...], Any], target: SweepTarget) -> dict[tuple[str, ...], Any]:
    """The runs of a sweep but for those that would only do again what one before them does."""
    seen: set[tuple[Any, ...]] = set()
    kept = {}
    for words, run in planned.items():
        if (work := target.same(run)) is None or work not in seen:
            kept[words] = run
            seen |= {work} if work is not None else set()
    return kept


def groups(tasks: list[Task], target: SweepTarget) -> list[list[Task]]:
    """Runs that share their work, together: one job does it, and the others find it done."""
    by_work: dict[tuple[Any, ...], list[Task]] = {}
    for task in tasks:
        by_work.setdefault(target.shared(task.run), []).append(task)
    return list(by_work.values())


def collect(job: Any, tasks: list[Task], target: SweepTarget, failures: list[str], tally: Counts) -> list[Task]:
    """A line for each run of a job that has ended, from its answer or, where there is none, from the end of its log; and its summary.

    Args:
        failures: what went wrong is added to them.
        tally: is told how each run ended, and how many seconds it took.

    Returns: the runs that the job has left to others, which are working on them.
    """
    log = job.paths.stderr if job.paths.stderr.exists() else job.paths.stdout
    answer, why = None, last_line(log) or "it left no log"
    try:
        if answer_file(job.paths).exists():
            answer = read_answer(answer_file(job.paths))
    except UserError as error:
        why = str(error)
    sentences = answer["failures"] if answer else [f"job {job.job_id} ended without a result: {why}"] * len(tasks)
    busy = [task for task in tasks if answer and task.number in answer["busy"]]
    seconds = answer["seconds"] if answer else []
    for task, sentence, took in zip(tasks, sentences, [*seconds, *[None] * (len(tasks) - len(seconds))], strict=True):
        if task in busy:
            tally.leave(task.number)
            continue
        if answer is None:
            if not task.run.force and target.done(task.run):  # an old result is none of a run that was to be done again
                sentence = None  # this run was done before its job ended
            else:
                WorkFolder(target.folder(task.run)).note_failure(str(sentence), log)
        tally.end(task.number, sentence is not None, took)
        if sentence is not None:
            failures.append(sentence)
        ending = target.ending(task.run) if sentence is None else f"FAILED: {sentence} (log: {log})"
        print(f"memgrid: {target.name(task.run)}: {ending}", flush=True)
    for line in answer["summary"] if answer else []:
        print(visible(str(line)), flush=True)
    return busy


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
