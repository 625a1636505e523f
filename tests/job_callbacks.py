"""Hydra callbacks that make trouble in the middle of a run: in a job of test_slurm.py, or in a process of its own."""

import os
import time
from pathlib import Path

from hydra.experimental.callback import Callback


def held(folder):
    """The override with which a run is stopped in its middle; see `Held`."""
    return f"+hydra.callbacks.held={{_target_: job_callbacks.Held, folder: {folder}}}"


class HardExit(Callback):
    """Ends the process in the middle, as running out of memory would, wherever the taxonomy is `prashanth`."""

    def on_job_start(self, config, **_):
        if config.taxonomy.name == "prashanth":
            os.write(2, b"slurmstepd: error: Detected 1 oom-kill event(s)\n")
            os._exit(3)


class Held(Callback):
    """Stops a training in its second epoch, an extraction after its first shard, an intervention after its fifth mask, and a transfer.

    Then `folder` has a file `held-<seed>`, and something can happen to the process. It goes on when there is a file `go` too; a start
    after the first is not stopped.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_job_start(self, config, **_):
        from memgrid.intervene.trials import Journal
        from memgrid.results.folder import RunFolder
        from memgrid.store.writer import ShardWriter
        from memgrid.train.panel import Panel

        def hold():
            mark = self.folder / f"held-{config.seed}"
            if mark.exists():
                return
            mark.touch()
            while not (self.folder / "go").exists():
                time.sleep(0.1)

        def at_the_end_of_an_epoch(panel):
            print("epoch", panel.current_epoch, flush=True)
            if panel.current_epoch == 1:
                hold()

        def after_a_shard(writer, flush=ShardWriter.flush):
            flush(writer)
            writer.wait()
            hold()

        def after_a_mask(journal, *record, add=Journal.add):
            add(journal, *record)
            if len(journal.done) == 5:
                hold()

        def before_a_transfer_is_written(folder, record, write=RunFolder.write_record):
            if hasattr(record, "transfers"):
                hold()
            write(folder, record)

        RunFolder.write_record = before_a_transfer_is_written
        Panel.on_train_epoch_end = at_the_end_of_an_epoch
        ShardWriter.flush = after_a_shard
        Journal.add = after_a_mask
