"""Trackers that only leave files in a run's folder, by Lightning's loggers: CSV and TensorBoard, a row per epoch.

A training that goes on knows all its epochs from the checkpoint and logs them first (`memgrid.tracking.log.log_history`). So the files of a
tracker are begun anew by every start: whatever a killed one had written of an epoch, each is there once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from memgrid.io.display import csv_text
from memgrid.io.files import PRIVATE_FOLDER, remove, write_text

if TYPE_CHECKING:
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

SUMMARY = "summary.csv"
FLUSH_SECONDS = 1  # its own interval is 120: whoever looks at a training would see nothing of it


def local_logger(tracker: str, folder: Path, deciding: dict[str, Any]) -> CSVLogger | TensorBoardLogger:
    """A logger with a row per epoch whose step is the epoch; its files are begun anew in `<folder>/<tracker>`.

    It has a method `summarise` that takes final scores.

    Args:
        tracker: csv or tensorboard. deciding: settings that it notes.
    """
    remove(folder / tracker)
    (folder / tracker).mkdir(PRIVATE_FOLDER, parents=True)  # Lightning's files are open to the world
    logger = csv_logger(folder, tracker) if tracker == "csv" else tensorboard_logger(folder, tracker)
    logger.log_hyperparams(deciding)
    return logger


def csv_logger(folder: Path, name: str) -> CSVLogger:
    """Curves in metrics.csv, settings in hparams.yaml, final scores in summary.csv."""
    from pytorch_lightning.loggers import CSVLogger  # seconds to import, and no command line needs it

    class EpochLogger(CSVLogger):
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
            """Lightning calls this at the end of an epoch; `metrics` has the key epoch."""
            epoch = int(metrics["epoch"])
            super().log_metrics({**metrics, "epoch": epoch}, epoch)

        def summarise(self, summary: dict[str, float], result: object = None) -> None:
            """Write final scores, a row."""
            write_text(csv_text(pl.DataFrame([summary])), Path(self.log_dir) / SUMMARY)

    return EpochLogger(folder, "", name, flush_logs_every_n_steps=1)


def tensorboard_logger(folder: Path, name: str) -> TensorBoardLogger:
    """Curves and final scores as events, settings in hparams.yaml and, with the final scores, as TensorBoard's hyperparameters."""
    from pytorch_lightning.loggers import TensorBoardLogger

    class EpochLogger(TensorBoardLogger):
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            """As above; without the key epoch, final scores."""
            epoch = int(metrics["epoch"]) if "epoch" in metrics else step
            super().log_metrics(metrics, epoch)

        def summarise(self, summary: dict[str, float], result: object = None) -> None:
            """Note final scores beside the settings."""
            self.log_hyperparams(self.hparams, summary, 0)

    return EpochLogger(folder, "", name, default_hp_metric=False, flush_secs=FLUSH_SECONDS)
