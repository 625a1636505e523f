"""The process from inside: how it ends when it is told to; in a job, what is checked before any work and where its log lies."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from memgrid.errors import UserError
from memgrid.launch.workspace import Workspace

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
# Some sites send SIGTERM just before the signal on which a job is requeued: that one must still be heard.
GRACE_SECONDS = 2.0
AGAIN_SECONDS, PATIENCE_SECONDS = 1.0, 60.0


def in_job() -> bool:
    """Whether this process is a job that a launcher started."""
    return "SUBMITIT_EXECUTOR" in os.environ


def job_number() -> str | None:
    """The number of the job that this process is; None outside a job."""
    if not in_job():
        return None
    from submitit import JobEnvironment

    return str(JobEnvironment().job_id)


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


class Ending:
    """How this process was told to end, and that it does.

    What a signal's handler raises comes up wherever the process happens to be: in a destructor or a callback of a weak reference Python
    drops it, and others' code may catch it. So it is raised every AGAIN_SECONDS until the process has ended, unless it is on its way:
    whoever cleans up meanwhile is left in peace, for at most PATIENCE_SECONDS.

    Attributes:
        end: what is raised, None as long as nobody told the process to end.
    """

    def __init__(self) -> None:
        self.end: SystemExit | KeyboardInterrupt | None = None
        self.deadline = math.inf

    def insist(self, end: SystemExit | KeyboardInterrupt) -> NoReturn:
        """Raise it, or what was raised first."""
        if self.end is None:
            self.end, self.deadline = end, time.monotonic() + PATIENCE_SECONDS
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        raise self.end

    def again(self, number: int, frame: FrameType | None) -> None:
        """Raise it once more if it was lost; end at once if that did not help for too long."""
        if self.end is None:
            return
        if time.monotonic() >= self.deadline:
            code = self.end.code if isinstance(self.end, SystemExit) else INTERRUPTED
            os._exit(code if isinstance(code, int) else 1)
        if not on_its_way():
            raise self.end

    def leave(self) -> None:
        """The work has ended: what Python does itself before the process has, such as waiting for threads, has until the deadline.

        Where Python has taken its handlers away already, the signal itself ends the process then, with a status of its own.
        """
        self.deadline = time.monotonic() + PATIENCE_SECONDS
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS + 0.1)


def on_its_way() -> bool:
    """Whether the code that runs now runs because the process ends: in an `except`, a `finally` or the exit of a `with`."""
    handled = sys.exception()
    while handled is not None and not isinstance(handled, SystemExit | KeyboardInterrupt):
        handled = handled.__context__
    return handled is not None


@contextmanager
def ending_on_sigterm(workspace: Workspace) -> Iterator[None]:
    """Inside, SIGTERM ends this process with status 143 whatever it is doing, and not as if its work were done; Ctrl-C ends it with 130.

    Finished shards, blocks of labels and epochs are on disk: the next start goes on from there. Without this, Lightning answers SIGTERM
    with an orderly end and status 0, which SLURM takes for a finished job, and Ctrl-C with status 1.
    """
    ending = workspace.shared(Ending)

    def stop(number: int, frame: FrameType | None) -> None:
        """End, after the signal to requeue had its chance."""
        if workspace.stopping:
            return  # it is told already, and cleans up
        begin_stop(workspace)
        if in_job():
            time.sleep(GRACE_SECONDS)
        ending.insist(SystemExit(TERMINATED))

    def interrupt(number: int, frame: FrameType | None) -> None:
        """End at once, also if this is typed again."""
        begin_stop(workspace)
        ending.insist(KeyboardInterrupt())

    # All from the start: Lightning puts back after a training what it found before.
    handlers = {signal.SIGTERM: stop, signal.SIGALRM: ending.again}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # what runs in the background ignores it
        handlers[signal.SIGINT] = interrupt
    usual = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    except BaseException:
        if ending.end is None:
            raise
    finally:
        if ending.end is None:
            for number, handler in usual.items():
                signal.signal(number, handler or signal.SIG_DFL)
    if ending.end is not None:  # whatever came of it: Lightning makes an exit of its own of it
        ending.leave()
        raise ending.end


def requeue_in_peace(workspace: Workspace) -> None:
    """Let nothing come between the signal of preemption or of a time limit, which submitit answers, and the end of this process.

    SLURM may send SIGTERM while the job is being requeued: that would cut the requeueing off.
    """
    from submitit import JobEnvironment
    from submitit.core.utils import UncompletedJobError

    ending = workspace.shared(Ending)
    number = JobEnvironment._usr_sig()
    theirs = signal.getsignal(number)
    assert callable(theirs)

    def requeue(number: int, frame: FrameType | None) -> None:
        """What submitit does, undisturbed."""
        begin_stop(workspace)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            theirs(number, frame)
        except UncompletedJobError as error:  # it may not be requeued any more
            print(f"memgrid: {error}", file=sys.stderr, flush=True)
            ending.insist(SystemExit(1))
        except SystemExit as end:  # it is requeued
            ending.insist(end)

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
