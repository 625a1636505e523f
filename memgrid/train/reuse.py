"""Equal partitions are trained once: a run takes over the result of an equal one, under its own class names.

`Recite | Others` and `Recollect | Others` divide memorized sequences alike; see `memgrid.taxonomy.Partition`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from filelock import FileLock

from memgrid.config.derive import partition
from memgrid.config.names import settings, training_key
from memgrid.config.schema import RunConfig
from memgrid.io.files import write_parquet, write_text
from memgrid.metrics import reordered
from memgrid.results.folder import ANSWERS, finished
from memgrid.tracking.log import log_history, summarise, tracked
from memgrid.train.train import write_predictions


class Twin:
    """What is known on disk of the training that a run shares with its equals: `<root>/runs/.trainings/<key>`."""

    def __init__(self, run: RunConfig) -> None:
        self.run, self.runs = run, Path(run.root) / "runs"
        self.path = self.runs / ".trainings" / training_key(run)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One process at a time: another waits, and then finds the result."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            yield

    def remember(self, folder: Path) -> None:
        """Note where the training's result lies."""
        write_text(folder.relative_to(self.runs).as_posix(), self.path)

    def found(self, folder: Path, origin: dict[str, str]) -> Path | None:
        """The folder of a finished equal run other than `folder`, of a corpus and an LLM with the same fingerprints."""
        if self.run.force or not self.path.exists():
            return None
        twin = self.runs / self.path.read_text()
        result = finished(twin) if twin != folder else None
        return twin if result is not None and result["origin"] == origin else None

    def adopt(self, twin: Path, samples: pl.DataFrame, folder: Path) -> dict[str, Any]:
        """Write the equal run's results into `folder`, classes named and ordered as in this run's taxonomy; returns the metrics."""
        theirs = finished(twin)
        assert theirs is not None
        order = partition(self.run).order
        place = np.array(theirs["order"])[np.argsort(order)]
        metrics = {
            **reordered(theirs, place),
            "settings": settings(self.run),
            "classes": list(self.run.taxonomy.classes),
            "order": list(order),
            "same_as": twin.relative_to(self.runs).as_posix(),
        }
        write_parquet(samples, folder / "samples.parquet")
        epochs = reordered(pl.read_parquet(twin / "epochs.parquet").to_dicts(), place)
        write_parquet(pl.DataFrame(epochs), folder / "epochs.parquet")
        for name in ("predictions.parquet", ANSWERS):
            if (twin / name).is_file():  # an older run has no baselines
                predictions = pl.read_parquet(twin / name)
                members = predictions.columns[2:]
                probabilities = np.array([predictions[member].to_list() for member in members])[..., place]
                write_predictions(samples, probabilities, members, folder / name)
        with tracked(self.run, folder) as logger:
            if logger is not None:
                log_history(logger, epochs)
            summarise(logger, metrics)
        return metrics
