"""The process from inside: how it ends on SIGTERM, and, in a job on a cluster, what is checked before any work and where its log lies."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from memgrid.errors import UserError
from memgrid.launch.workspace import Workspace

TERMINATED = 128 + signal.SIGTERM
# Some sites send SIGTERM just before the signal on which a job is requeued: that one must still be heard.
GRACE_SECONDS = 2.0


def in_job() -> bool:
    """Whether this process is a job that a launcher started."""
    return "SUBMITIT_EXECUTOR" in os.environ


def log_file() -> Path | None:
    """The log of the job that this process is; None outside a job."""
    if not in_job():
        return None
    from submitit import JobEnvironment

    paths = JobEnvironment().paths
    return paths.stderr if paths.stderr.exists() else paths.stdout


def begin_stop(workspace: Workspace) -> None:
    """From now on errors are those of a process that ends; processes that read for it end with it, and are not missed."""
    workspace.stopping = True
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def ending_on_sigterm(workspace: Workspace) -> Iterator[None]:
    """Inside, SIGTERM ends this process with status 143, and not as if its work were done.

    Finished shards, blocks of labels and epochs are on disk: the next start goes on from there. Without this, Lightning answers SIGTERM
    with an orderly end and status 0, which SLURM takes for a finished job.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        """End, after the signal to requeue had its chance."""
        begin_stop(workspace)
        if in_job():
            time.sleep(GRACE_SECONDS)
        sys.exit(TERMINATED)

    usual = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual or signal.SIG_DFL)


def requeue_in_peace(workspace: Workspace) -> None:
    """Let nothing come between the signal of preemption or of a time limit, which submitit answers, and the end of this process.

    SLURM may send SIGTERM while the job is being requeued: that would cut the requeueing off.
    """
    from submitit import JobEnvironment
    from submitit.core.utils import UncompletedJobError

    number = JobEnvironment._usr_sig()
    theirs = signal.getsignal(number)
    assert callable(theirs)

    def requeue(number: int, frame: FrameType | None) -> None:
        """What submitit does, undisturbed."""
        begin_stop(workspace)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            theirs(number, frame)
        except UncompletedJobError as error:  # it may not be requeued any more
            print(f"memgrid: {error}", file=sys.stderr, flush=True)
            sys.exit(1)

    signal.signal(number, requeue)
    signal.signal(signal.SIGCONT, signal.SIG_IGN)


def leave_signals_to_the_parent(_: int = 0) -> None:
    """For processes that read batches: SLURM signals every process of a job, and only the main one may answer."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def check_tasks() -> None:
    """Refuse a job of several tasks, which would all do the same.

    Raises:
        UserError: there are several.
    """
    if not in_job():
        return
    from submitit import JobEnvironment

    if (tasks := JobEnvironment().num_tasks) > 1:
        raise UserError(f"this job has {tasks} tasks, and a run is one: set hydra.launcher.tasks_per_node=1 and hydra.launcher.nodes=1")
