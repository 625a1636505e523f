"""What a launcher tells of runs: which of them need a job, and how a job ended for each of its runs."""

from __future__ import annotations

from typing import Any

from memgrid.job import last_line
from memgrid.results import note_failure, queued_as
from memgrid.schema import UserError
from memgrid.sweep import failures
from memgrid.works import Kind, Work


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
                note_failure(kind.folder(work.run), str(sentence), log)
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
    if (job_id := queued_as(kind.folder(run))) in queue:
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
