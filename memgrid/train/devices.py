"""Where a run trains: GPUs asked for and given."""

from __future__ import annotations

import os

from memgrid.config.schema import RunConfig, TrainerConfig
from memgrid.errors import UserError
from memgrid.launch.job import in_job


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
