"""Hydra callbacks that make trouble inside a job; see test_slurm.py."""

import os
import time
from pathlib import Path

from hydra.experimental.callback import Callback


class HardExit(Callback):
    """Ends the process in the middle, as running out of memory would, wherever the taxonomy is `prashanth`."""

    def on_job_start(self, config, **_):
        if config.taxonomy.name == "prashanth":
            os.write(2, b"slurmstepd: error: Detected 1 oom-kill event(s)\n")
            os._exit(3)


class Held(Callback):
    """Stops a training in its second epoch, or an extraction after its first shard, so that something can happen to it.

    Then `folder` has a file `held-<seed>`. It goes on when there is a file `go` too; a start after the first is not stopped.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_job_start(self, config, **_):
        from memgrid.classifier import Panel
        from memgrid.extract import ShardWriter

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

        Panel.on_train_epoch_end = at_the_end_of_an_epoch
        ShardWriter.flush = after_a_shard
