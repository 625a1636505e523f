"""Hydra callbacks that make trouble inside a job; see test_slurm.py."""

import os
import time

from hydra.experimental.callback import Callback


class HardExit(Callback):
    """Ends the process in the middle, as running out of memory would, wherever the taxonomy is `prashanth`."""

    def on_job_start(self, config, **_):
        if config.taxonomy.name == "prashanth":
            os.write(2, b"slurmstepd: error: Detected 1 oom-kill event(s)\n")
            os._exit(3)


class Slow(Callback):
    """Makes every epoch take so many seconds longer, so that there is something to interrupt."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_job_start(self, **_):
        from memgrid.classifier import Panel

        def wait(panel):
            print("epoch", panel.current_epoch, flush=True)
            time.sleep(self.seconds)

        Panel.on_train_epoch_end = wait
