"""A job on a cluster, seen from inside: what is checked before any work, where its log lies, and how it stops."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from memgrid.schema import RunConfig, TrainerConfig, UserError

TERMINATED = 128 + signal.SIGTERM
# Some sites send SIGTERM just before the signal on which a job is requeued: that one must still be heard.
GRACE_SECONDS = 2.0
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


def last_line(log: Path | None) -> str:
    """The last line of a log that says why it ended, without what submitit and srun add; empty if there is none."""
    try:
        assert log is not None
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except (OSError, AssertionError):
        return ""
    telling = [line for line in lines if line and not line.startswith(NOISE)]
    return next((line for line in reversed(telling) if "slurmstepd" in line), telling[-1] if telling else "")


class _Stopping:
    """Whether this process was told to stop: what fails from then on is no failure of its run."""

    begun = False


def stopping() -> bool:
    """Whether this process was told to stop."""
    return _Stopping.begun


def begin_stop() -> None:
    """From now on errors are those of a process that ends; processes that read for it end with it, and are not missed."""
    _Stopping.begun = True
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def stop_on_sigterm() -> None:
    """From now on SIGTERM ends this process with status 143, and not as if its work were done.

    Finished shards, blocks of labels and epochs are on disk: the next start goes on from there. Without this, Lightning answers SIGTERM
    with an orderly end and status 0, which SLURM takes for a finished job.
    """
    _Stopping.begun = False

    def stop(number: int, frame: FrameType | None) -> None:
        """End, after the signal to requeue had its chance."""
        begin_stop()
        if in_job():
            time.sleep(GRACE_SECONDS)
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, stop)


def requeue_in_peace() -> None:
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
        begin_stop()
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


def check_gpu(run: RunConfig) -> None:
    """Refuse, before anything is loaded, a run that asks for a GPU, or was given one, where torch sees none.

    Raises:
        UserError: it does.
    """
    asked = run.llm.device.startswith("cuda")
    if asked:
        need_gpu(f"llm.device={run.llm.device}")
    elif run.llm.device == "auto" and {"label", "plan", "extract", "intervene"} & set(run.stages):
        need_given_gpu("llm.device=auto")
    if {"train", "localize"} & set(run.stages):
        check_trainer(run.trainer)


def check_trainer(config: TrainerConfig) -> None:
    """Refuse a training on a GPU that was asked for, or given to this job, where torch sees none; UserError."""
    if config.accelerator == "gpu":
        need_gpu("trainer.accelerator=gpu")
    elif config.accelerator == "auto":
        need_given_gpu("trainer.accelerator=auto")


def need_given_gpu(setting: str) -> None:
    """Raise UserError if this job was given a GPU that torch does not see: `auto` would compute on the CPU for hours, and say nothing."""
    if in_job() and os.environ.get("CUDA_VISIBLE_DEVICES"):
        need_gpu(f"this job was given a GPU and {setting}")


def need_gpu(asker: str) -> None:
    """Raise UserError if torch sees no GPU, with the setting that asks for one."""
    if not visible_gpus():
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        seen = "CUDA_VISIBLE_DEVICES is not set" if given is None else f"CUDA_VISIBLE_DEVICES={given}"
        raise UserError(f"{asker}, but torch sees no GPU ({seen}): ask for one with hydra.launcher.gres, or set the device to cpu")


def training_device(config: TrainerConfig) -> str:
    """Where networks are trained: `cuda` if a GPU may be used and torch sees one, else `cpu`."""
    return "cuda" if config.accelerator != "cpu" and visible_gpus() else "cpu"


def visible_gpus() -> int:
    """How many GPUs torch can use."""
    import torch

    return torch.cuda.device_count()


def check_room(root: Path, needed: int, what: str) -> None:
    """Refuse work that the disk cannot hold.

    Args:
        needed: bytes.
        what: what needs them, for the sentence.

    Raises:
        UserError: less is free.
    """
    free = shutil.disk_usage(root).free
    if needed > free:
        raise UserError(f"root={root} has {free / 1e9:.2f} GB free, but {what} needs {needed / 1e9:.2f} GB: make room, or use another root")
