"""A job on a cluster, seen from inside: what is checked before any work, where its log lies, and how it stops."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from memgrid.schema import RunConfig, UserError

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


def last_line(log: Path | None) -> str:
    """The last line of a log that says anything; empty if there is none."""
    try:
        assert log is not None
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except (OSError, AssertionError):
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def stop_on_sigterm() -> None:
    """From now on SIGTERM ends this process with status 143, and not as if its work were done.

    Finished shards, blocks of labels and epochs are on disk: the next start goes on from there. Without this, Lightning answers SIGTERM
    with an orderly end and status 0, which SLURM takes for a finished job.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if in_job():
            time.sleep(GRACE_SECONDS)
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, stop)


def check_tasks() -> None:
    """Refuse a job of several tasks, which would all do the same.

    Raises:
        UserError: there are several.
    """
    tasks = int(os.environ.get("SLURM_NTASKS", "1")) if in_job() else 1
    if tasks > 1:
        raise UserError(f"this job has {tasks} tasks, and a run is one: set hydra.launcher.tasks_per_node=1 and hydra.launcher.nodes=1")


def check_gpu(run: RunConfig) -> None:
    """Refuse, before anything is loaded, a run that asks for a GPU where none is visible.

    Raises:
        UserError: it does.
    """
    askers = [f"llm.device={run.llm.device}"] if run.llm.device.startswith("cuda") else []
    if "train" in run.stages and run.trainer.accelerator == "gpu":
        askers.append("trainer.accelerator=gpu")
    if askers and not visible_gpus():
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        seen = "CUDA_VISIBLE_DEVICES is not set" if given is None else f"CUDA_VISIBLE_DEVICES={given}"
        raise UserError(f"{askers[0]} asks for a GPU, but none is visible ({seen}): ask for one with hydra.launcher.gres, or use the CPU")


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
