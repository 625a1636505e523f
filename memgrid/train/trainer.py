"""Lightning's trainer as every training here uses it: one device, exact resumption, and SLURM left to whoever submitted the job."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from memgrid.config.schema import TrainerConfig
from memgrid.io.checkpoints import State, load, newest, save
from memgrid.io.display import on_terminal
from memgrid.results.folder import CHECKPOINT

# What Lightning warns of: batches come out of memory, so that processes would only copy them; a torch older than a name in it; a training
# that goes on; a machine with srun, where a process of its own is what we want; and a GPU that the settings leave alone.
NOT_FOR_US = (
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*`srun` command is available.*",
    ".*GPU available but not used.*",
)


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints as `io.checkpoints` writes and reads them: Lightning's own way leads through TMPDIR, which may be another file system.

    Args:
        state: what the training goes on from, read and found sound, or None.
    """

    def __init__(self, state: State | None) -> None:
        super().__init__()
        self.state = state

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Lightning calls this with all that a training needs to go on."""
        save(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> State:
        """Lightning calls this when it goes on."""
        state, self.state = self.state, None
        return load(Path(path)) if state is None else state


@contextmanager
def trainer_of(
    config: TrainerConfig,
    epochs: int,
    folder: Path,
    state: State | None,
    every: int | None = 1,
    logger: Logger | None = None,
    bar: bool = True,
) -> Iterator[tuple[lightning.Trainer, Path | None]]:
    """A trainer, and the path with which its training goes on, None where it begins; to be used inside the `with`.

    Args:
        folder: where checkpoints are left. state: what the training goes on from (see `resumable`), or None.
        every: a checkpoint after so many epochs; None: none.
        bar: show progress where somebody watches, if the settings want it.
    """
    torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    watched = bar and config.progress and on_terminal()
    with warnings.catch_warnings():
        for message in NOT_FOR_US:
            warnings.filterwarnings("ignore", message=message)
        trainer = lightning.Trainer(
            accelerator=config.accelerator,
            devices=1,
            precision=config.precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            logger=logger or False,
            callbacks=callbacks(folder, every, watched),
            enable_checkpointing=bool(every),
            enable_progress_bar=watched,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            deterministic=True,
            default_root_dir=folder,
            plugins=[LightningEnvironment(), WholeCheckpoints(state)],
        )
        yield trainer, None if state is None else folder / CHECKPOINT


def callbacks(folder: Path, every: int | None, watched: bool) -> list[Callback]:
    """What writes checkpoints into a folder, and a bar where somebody watches."""
    bars: list[Callback] = [RichProgressBar()] if watched else []
    if not every:
        return bars
    options: dict[str, Any] = {"save_top_k": 1, "save_on_train_epoch_end": True, "enable_version_counter": False}
    return [*bars, ModelCheckpoint(folder, filename=Path(CHECKPOINT).stem, every_n_epochs=every, **options)]


def resumable(folder: Path, module: lightning.LightningModule, fits: Callable[[State], bool]) -> State | None:
    """What the training of a module goes on from: the newest checkpoint in a folder that is sound and holds the module's weights, or None.

    Args:
        fits: whether a state has what else the module needs.
    """
    shapes = {name: weights.shape for name, weights in module.state_dict().items()}

    def is_mine(state: State) -> bool:
        """Whether a state is one of such a training."""
        weights = state.get("state_dict", {})
        whole = {"optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"} <= state.keys()
        tensors = whole and isinstance(weights, dict) and all(isinstance(tensor, torch.Tensor) for tensor in weights.values())
        return tensors and {name: tensor.shape for name, tensor in weights.items()} == shapes and fits(state)

    return newest(folder / CHECKPOINT, is_mine)
