"""Lightning's trainer as every training here uses it: one device, exact resumption, and SLURM left to whoever submitted the job."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from memgrid.config.schema import TrainerConfig
from memgrid.io.files import write_bytes
from memgrid.io.progress import on_terminal
from memgrid.results.folder import CHECKPOINT

# What Lightning warns of: batches come out of memory, so that processes would only copy them; a torch older than a name in it; a training
# that goes on; and a machine with srun, where a process of its own is what we want.
NOT_FOR_US = (
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*`srun` command is available.*",
)


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints whole or absent on any file system: Lightning's own way leads through TMPDIR, and across file systems it is a copy."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Lightning calls this with all that a training needs to go on."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(buffer.getbuffer(), Path(path))


@contextmanager
def trainer_of(
    config: TrainerConfig, epochs: int, folder: Path, every: int | None = 1, logger: WandbLogger | None = None, bar: bool = True
) -> Iterator[tuple[lightning.Trainer, Path | None]]:
    """A trainer, and the checkpoint in `folder` that a training goes on from, if there is one; to be used inside the `with`.

    Args:
        every: a checkpoint after so many epochs; None: none.
        bar: show progress where somebody watches, if the settings want it.
    """
    torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    watched = bar and config.progress and on_terminal()
    callbacks: list[Callback] = [RichProgressBar()] if watched else []
    if every:
        callbacks.append(
            ModelCheckpoint(
                folder, filename="last", save_top_k=1, every_n_epochs=every, save_on_train_epoch_end=True, enable_version_counter=False
            )
        )
    resumable = folder / CHECKPOINT
    with warnings.catch_warnings():
        for message in NOT_FOR_US:
            warnings.filterwarnings("ignore", message=message)
        trainer = lightning.Trainer(
            accelerator=config.accelerator,
            devices=1,
            precision=config.precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            logger=logger or False,
            callbacks=callbacks,
            enable_checkpointing=bool(every),
            enable_progress_bar=watched,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            deterministic=True,
            default_root_dir=folder,
            plugins=[LightningEnvironment(), WholeCheckpoints()],
        )
        yield trainer, resumable if resumable.exists() else None
