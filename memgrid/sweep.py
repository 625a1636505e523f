"""Before the first run of a sweep: every combination is composed and validated, and leaves its configuration, so that none is forgotten."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from memgrid.config import typed, validate
from memgrid.corpus import load_corpus
from memgrid.marks import undone
from memgrid.naming import prepare_root, run_folder
from memgrid.results import finished, write_config
from memgrid.schema import OWN_STAGES, RunConfig, UserError

failures: list[str] = []  # what went wrong in the runs of this process
planned: dict[tuple[str, ...], RunConfig] = {}  # every combination of the sweep that was started last
PART = re.compile(r"^part=(\d+)$", re.MULTILINE)


class Sweeper(BasicSweeper):  # type: ignore[misc]
    """Hydra's sweeper, but without its own check of every combination: `Sweep` has composed them, at a tenth of a second each."""

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        # Hydra loads its plugins' modules again when it looks for them: in BasicSweeper's own __init__, super() would mean another class.
        self.max_batch_size, self.params = max_batch_size, params or {}
        self.overrides, self.batch_index = None, 0
        self.hydra_context = self.config = self.launcher = None

    def validate_batch_is_legal(self, batch: list[list[str]]) -> None:
        """Nothing is left to find."""


class Sweep(Callback):  # type: ignore[misc]
    """Hydra calls it; see `hydra.callbacks` in conf/run.yaml."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse the whole sweep for one bad combination: a typo in the last is found before the first starts."""
        planned.clear()
        try:
            runs = list(combinations(config))
            for root in {run.root: run for run in runs}.values():
                prepare_root(root)  # Hydra would make its own folder there, and fail with a traceback
        except (UserError, HydraException, OmegaConfBaseException) as error:
            # Hydra turns a callback's exception into a warning, but not this one.
            sys.exit(f"memgrid: {error if isinstance(error, UserError) else one_sentence(error)}; nothing was started")
        for run in runs:
            if "train" in run.stages:
                plan_run(run)


def one_sentence(error: HydraException | OmegaConfBaseException) -> str:
    """What Hydra or OmegaConf refuse: they take several lines for it."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name} is unknown: use {', '.join(error.options)}, or a file of your own with --config-dir"
    lines = [line.strip() for one in (error, error.__cause__) if one is not None for line in str(one).splitlines()]
    kept = [
        line for line in lines if line and not line.startswith(("full_key:", "reference_type=", "object_type=", "To append", "See http"))
    ]
    told = ": ".join(dict.fromkeys(line.rstrip(".") for line in kept))
    return f"{told}: look for its name in conf/" if "Key '" in told else told


def combinations(config: DictConfig) -> Iterator[RunConfig]:
    """Every run of a sweep, validated, in its order.

    Raises:
        UserError: one is invalid.
    """
    loader = GlobalHydra.instance().config_loader()
    swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *config.hydra.overrides.task])
    composed: dict[tuple[str, ...], RunConfig] = {}
    for combination in BasicSweeper.split_arguments(overrides, None)[0]:
        # Parts differ in their number alone: composing each would take minutes for a large sweep.
        others, part = tuple(word for word in combination if not PART.fullmatch(word)), PART.search("\n".join(combination))
        if part and others in composed:
            run = replace(composed[others], part=int(part[1]))
            validate(run)
        else:
            run = composed[others] = run_of(loader.load_sweep_config(config, combination))
        planned[tuple(combination)] = run
        yield run


def run_of(composed: DictConfig) -> RunConfig:
    """A composed configuration, which also has Hydra's own part, as one run; UserError if it is invalid."""
    own = copy.deepcopy(composed)
    with read_write(own), open_dict(own):
        del own["hydra"]
    return typed(own)


def result_of(run: RunConfig) -> dict[str, Any] | None:
    """The result of a run that need not be done again, or None: it is finished, and so is every later stage that it asks for.

    Raises:
        UserError: a user's tables hold other sequences than when the run was finished: its name tells their place alone.
    """
    if run.force or not set(OWN_STAGES) & set(run.stages):
        return None
    done = finished(run_folder(run))
    if (
        done is not None
        and run.corpus.kind == "tables"
        and run.corpus.path
        and load_corpus(run.corpus).fingerprint != done["origin"]["corpus"]
    ):
        raise UserError(
            f"corpus.path={run.corpus.path} holds other sequences than when this run was finished: give them another corpus.name, "
            "or put the old ones back"
        )
    return None if undone(run, run_folder(run)) else done


def plan_run(run: RunConfig) -> Path:
    """Leave the run's configuration in its folder: what has this alone is missing."""
    folder = run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.yaml").exists():
        write_config(OmegaConf.structured(run), folder)
    return folder
