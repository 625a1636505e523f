"""The row about sweeps: composing their combinations."""

from __future__ import annotations

import time
from statistics import median

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from benchmarks.measure import Row
from benchmarks.shapes import Settings
from memgrid.config.validate import register
from memgrid.io.paths import CONF
from memgrid.launch.sweep import combinations, run_of
from memgrid.pipeline.sweep import Runs

# No two of these share a composition: every combination has a file or a text of its own.
SWEPT = [
    "llm=glob(pythia-*)",
    "corpus=semantic_filters",
    "taxonomy=glob(*)",
    "llm.revision=step1000,step2000,step4000,step8000,step16000,main",
]


def composing(settings: Settings) -> list[Row]:
    """CPU for each combination of a sweep, validated, against Hydra's own composition, with which it agrees.

    Raises:
        AssertionError: it does not.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        swept = SWEPT if not settings.quick else ["llm=toy,tiny_random", "taxonomy=rasy,recite"]
        config = loader.load_configuration("run", swept, run_mode=RunMode.MULTIRUN)
        began = time.process_time()
        runs = dict(combinations(config, Runs()))
        seconds = time.process_time() - began
        alone = []
        for words in list(runs)[:: max(len(runs) // 20, 1)]:
            began = time.process_time()
            run = run_of(loader.load_sweep_config(config, list(words)), Runs())
            alone.append(time.process_time() - began)
            if run != runs[words]:
                raise AssertionError(f"the fast composition of {words} differs from Hydra's")
    value, baseline = 1e3 * seconds / len(runs), 1e3 * median(alone)
    how = (
        f"CPU of a sweep of {len(runs):,} combinations, each validated, against {len(alone)} of them composed by Hydra, with equal results"
    )
    return [Row("composing a sweep", value, baseline, value / baseline, "ms/combination", ("value", "<=", 10.0), how)]
