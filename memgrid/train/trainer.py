"""Lightning's trainer as every training here uses it: one device, exact resumption, and SLURM left to whoever submitted the job."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from memgrid.config.schema import TrainerConfig
from memgrid.io.checkpoints import State, load, newest, save
from memgrid.io.display import Watcher, on_terminal, progress_bar, watcher
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


class Epochs(Callback):
    """Tells how a training goes, after every batch.

    Args:
        epochs: how many there are. tell: is called with the share of all that is done, from 0 to 1.
    """

    def __init__(self, epochs: int, tell: Callable[[float], None] | None = None) -> None:
        self.epochs, self.tell = epochs, tell

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """It begins, or goes on."""
        self.share(trainer.current_epoch)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A batch is done."""
        self.share(trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches)

    def share(self, done: float) -> None:
        """So many epochs are done."""
        if self.tell is not None:
            self.tell(done / self.epochs)


class ToldEpochs(Epochs):
    """Tells of epochs: in a bar where somebody watches, as a line for each in a log, and to the watcher.

    Args:
        what: such as `epoch`. shown: whether anything is shown. line: what there is to say of an epoch that has ended.
    """

    def __init__(self, epochs: int, what: str, shown: bool, line: Callable[[], str]) -> None:
        super().__init__(epochs, partial(self.step, watcher()))
        self.what, self.line = what, line
        self.bar, self.lines = progress_bar(shown, telling=False), shown and not on_terminal()

    def step(self, told: Watcher, share: float) -> None:
        """A share is done."""
        told.step(self.what, share * self.epochs, self.epochs, ordinal=True)
        for task in self.bar.task_ids:
            self.bar.update(task, completed=round(share * self.epochs, 2))

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """The bar appears."""
        self.bar.start()
        self.bar.add_task(f"training, {self.what}", total=self.epochs)
        super().on_train_start(trainer, module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """The time runs."""
        self.began = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """A line, in a log."""
        if self.lines:
            passed = time.monotonic() - self.began
            print(f"train    {self.what} {trainer.current_epoch + 1} of {self.epochs}: {self.line()}, {passed:.1f} s", flush=True)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """The bar goes."""
        self.bar.stop()

    def on_exception(self, trainer: lightning.Trainer, module: lightning.LightningModule, exception: BaseException) -> None:
        """The same."""
        self.bar.stop()


@contextmanager
def trainer_of(
    config: TrainerConfig,
    max_epochs: int,
    folder: Path,
    state: State | None,
    every: int | None = 1,
    logger: Logger | None = None,
    epochs: Epochs | None = None,
) -> Iterator[tuple[lightning.Trainer, Path | None]]:
    """A trainer, and the path with which its training goes on, None where it begins; to be used inside the `with`.

    Args:
        folder: where checkpoints are left. state: what the training goes on from (see `resumable`), or None.
        every: a checkpoint after so many epochs; None: none.
        epochs: tells how it goes, or nobody does.
    """
    torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in NOT_FOR_US:
            warnings.filterwarnings("ignore", message=message)
        trainer = lightning.Trainer(
            accelerator=config.accelerator,
            devices=1,
            precision=config.precision,  # type: ignore[arg-type]
            max_epochs=max_epochs,
            logger=logger or False,
            callbacks=[*([epochs] if epochs else []), *checkpoints(folder, every)],
            enable_checkpointing=bool(every),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            deterministic=True,
            default_root_dir=folder,
            plugins=[LightningEnvironment(), WholeCheckpoints(state)],
        )
        yield trainer, None if state is None else folder / CHECKPOINT


def checkpoints(folder: Path, every: int | None) -> list[Callback]:
    """What writes checkpoints into a folder."""
    if not every:
        return []
    options: dict[str, Any] = {"save_top_k": 1, "save_on_train_epoch_end": True, "enable_version_counter": False}
    return [ModelCheckpoint(folder, filename=Path(CHECKPOINT).stem, every_n_epochs=every, **options)]


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
