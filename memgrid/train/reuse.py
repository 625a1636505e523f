"""Equal partitions are trained once: a run takes over the result of an equal one, under its own class names.

`Recite | Others` and `Recollect | Others` divide memorized sequences alike; see `memgrid.taxonomy.taxonomy.Partition`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import polars as pl

from memgrid.config.derive import forced, partition
from memgrid.config.names import settings, training_key
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.digests import check_file, write_parquet
from memgrid.io.files import write_text
from memgrid.io.locks import lock
from memgrid.results.folder import RunFolder, runs_below
from memgrid.results.result import Origin, RunResult
from memgrid.tracking.log import log_history, summarise, tracked
from memgrid.train.train import write_predictions


class SharedTraining:
    """What the disk holds of the training that a run shares with its equals: `<root>/runs/.trainings/<key>`."""

    def __init__(self, run: RunConfig) -> None:
        self.run, self.runs = run, runs_below(run.root)
        self.path = self.runs / ".trainings" / training_key(run)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One process at a time: another waits, and then finds the result."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with lock(self.path.with_suffix(".lock")):
            yield

    def remember(self, folder: RunFolder) -> None:
        """Note where the training's result lies."""
        write_text(folder.path.relative_to(self.runs).as_posix(), self.path)

    def equal_run(self, folder: RunFolder, origin: Origin) -> RunFolder | None:
        """The folder of a finished equal run other than `folder`, of a corpus and an LLM with the same fingerprints.

        One whose files cannot be read is none.
        """
        if "train" in forced(self.run) or not self.path.exists():
            return None
        equal = RunFolder(self.runs / self.path.read_text(errors="replace"))
        try:
            result = equal.result() if equal != folder else None
            for path in (equal.epochs, equal.predictions, equal.baselines) if result is not None else ():
                if path != equal.baselines or path.exists():  # an older run has none
                    check_file(path)
        except (UserError, OSError):
            return None
        same = result is not None and result.order is not None and (result.origin, result.partition) == (origin, training_key(self.run))
        return equal if same else None

    def adopt(self, equal: RunFolder, samples: pl.DataFrame, folder: RunFolder) -> RunResult:
        """Write the equal run's files into `folder`, classes named and ordered as in this run's taxonomy; returns the result."""
        theirs = equal.result()
        assert theirs is not None
        assert theirs.order is not None
        order = partition(self.run).order
        place = np.array(theirs.order)[np.argsort(order)].tolist()
        result = replace(
            theirs.in_order(place),
            settings=settings(self.run),
            classes=list(self.run.taxonomy.classes),
            order=list(order),
            same_as=equal.path.relative_to(self.runs).as_posix(),
        )
        write_parquet(samples, folder.samples)
        epochs = [epoch.in_order(place) for epoch in equal.read_epochs()]
        folder.write_epochs(epochs)
        for theirs_path, path in ((equal.predictions, folder.predictions), (equal.baselines, folder.baselines)):
            if theirs_path.is_file():  # an older run has no baselines
                predictions = equal.table(theirs_path)
                members = predictions.columns[2:]
                probabilities = np.array([predictions[member].to_list() for member in members])[..., place]
                write_predictions(samples, probabilities, members, path)
        with tracked(self.run, folder) as logger:
            if logger is not None:
                log_history(logger, epochs)
            summarise(logger, result)
        return result
