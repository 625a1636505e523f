"""A Hydra callback that ends a job's process in the middle, as running out of memory would, wherever the taxonomy is `guess`."""

import os

from hydra.experimental.callback import Callback


class HardExit(Callback):
    def on_job_start(self, config, **_):
        if config.taxonomy.name == "guess":
            os.write(2, b"slurmstepd: error: Detected 1 oom-kill event(s)\n")
            os._exit(3)
