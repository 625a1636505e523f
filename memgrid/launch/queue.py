"""The queue: which runs of a sweep need a job, which jobs have ended, and how a job ended for each of its runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memgrid.errors import UserError
from memgrid.io.logs import last_line
from memgrid.launch.sweep import failures
from memgrid.launch.tasks import Kind, Work
from memgrid.results.work import WorkFolder

LONGEST_POLL = 30.0  # seconds between two looks at the queue, which grow with the age of the sweep
LOST_SECONDS = 10.0  # a job's result may become visible after it has left the queue


class Watch:
    """Sees which jobs have ended: those with a result, and those that have left the queue without one."""

    def __init__(self, queue: Callable[[], set[str] | None]) -> None:
        self.queue = queue
        self.began = self.looked = time.monotonic()
        self.gone: dict[str, float] = {}

    def ended(self, results: dict[str, Path]) -> list[str]:
        """Ids of the jobs, given with the path of their results, that have ended since they were last asked for."""
        with_result = [job_id for job_id, path in results.items() if path.exists()]
        now = time.monotonic()
        lost: list[str] = []
        if now - self.looked >= min(LONGEST_POLL, (now - self.began) / 10):
            self.looked, queue = now, self.queue()
            for job_id in results.keys() - set(with_result):
                if queue is None or job_id in queue:
                    self.gone.pop(job_id, None)
                elif now - self.gone.setdefault(job_id, now) >= LOST_SECONDS:
                    lost.append(job_id)
        return [*with_result, *lost]


def tell_end(job: Any, works: list[Work], kind: Kind) -> None:
    """A line for each run of a job that has ended, from its result or, where there is none, from the end of its log."""
    from submitit.core.utils import pickle_load

    log = job.paths.stderr if job.paths.stderr.exists() else job.paths.stdout
    told: list[str | None] = [f"job {job.job_id} ended without a result: {last_line(log) or 'it left no log'}"] * len(works)
    orderly = False
    if job.paths.result_pickle.exists():
        how, result = pickle_load(job.paths.result_pickle)
        orderly = how == "success"
        told = result if orderly else [str(result).strip().rpartition("\n")[2]] * len(works)
    for work, sentence in zip(works, told, strict=True):
        if not orderly:
            if kind.done(work.run) and not work.run.force:  # an old result is none of a run that was to be done again
                sentence = None  # this run was done before its job ended
            else:
                WorkFolder(kind.folder(work.run)).note_failure(str(sentence), log)
        if sentence is not None:
            failures.append(sentence)
        name = kind.name(work.run)
        print(
            f"memgrid: {name}: FAILED: {sentence} (log: {log})" if sentence is not None else f"memgrid: {name}: {kind.ending(work.run)}",
            flush=True,
        )


def wanted(run: Any, kind: Kind, queue: set[str]) -> bool:
    """Whether a run needs a job; not if it is done, in the queue, or worked on, or if what is there cannot be read, which is told."""
    try:
        if kind.result(run) is not None:
            return False
    except UserError as error:
        failures.append(str(error))
        print(f"memgrid: {kind.name(run)}: FAILED: {error}", flush=True)
        return False
    if (job_id := WorkFolder(kind.folder(run)).queued_as()) in queue:
        print(f"memgrid: {kind.name(run)}: job {job_id} is in the queue for it", flush=True)
        return False
    busy = kind.busy(run)
    if busy:
        print(f"memgrid: {kind.name(run)}: another process is working on it", flush=True)
    return not busy


def reason(output: str) -> str:
    """The line of sbatch's output that says what is wrong."""
    lines = [line.strip() for line in output.strip().splitlines()] or ["no reason was given"]
    return next((line for line in lines if "error" in line or "unrecognized" in line), lines[-1]).rpartition("sbatch: ")[2]
