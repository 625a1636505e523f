"""Before the first run of a sweep: every combination is composed and validated, and leaves its configuration, so that none is forgotten."""

from __future__ import annotations

import copy
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from memgrid.config.mistakes import one_sentence
from memgrid.errors import UserError
from memgrid.launch.tasks import SweepTarget
from memgrid.launch.workspace import Workspace

NUMBER = re.compile(r"(\w+)=(\d+(?:\.\d+)?)")
SILENT_SECONDS = 3.0  # after which it is told how long composing will take
POLL_SECONDS = 1.0  # between two looks at what other processes work on


class Sweeper(BasicSweeper):  # type: ignore[misc]
    """Hydra's sweeper, without its own check of every combination: `Sweep` has composed them, at a tenth of a second each.

    A run on which another process is working is done last, when that process has done it, which is then seen at once, or is gone.
    """

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        # Hydra loads its plugins' modules again when it looks for them: in BasicSweeper's own __init__, super() would mean another class.
        self.max_batch_size, self.params = max_batch_size, params or {}
        self.overrides: Any = None
        self.launcher: Any = None
        self.hydra_context, self.config, self.batch_index = None, None, 0

    def validate_batch_is_legal(self, batch: list[list[str]]) -> None:
        """Nothing is left to find."""

    def sweep(self, arguments: list[str]) -> Any:
        """All runs; in the end those that were put off."""
        returned, workspace = super().sweep(arguments), Workspace.current()
        typed = [words for batch in self.overrides for words in batch]
        if number := len(workspace.postponed):
            print(f"memgrid: waits for {number} runs on which other processes are working", flush=True)
        while workspace.postponed:
            number = free(workspace, typed)
            returned.append(self.launcher.launch([typed[number]], initial_job_idx=number))
        return returned


def free(workspace: Workspace, combinations: list[list[str]]) -> int:
    """Wait until nobody else works on one of the runs that were put off; returns its number, which is put off no longer."""
    assert workspace.target is not None
    while True:
        for number in workspace.postponed:
            run = workspace.planned.get(tuple(combinations[number]))
            if run is None or not workspace.target.busy(run):
                workspace.postponed.remove(number)
                return number
        time.sleep(POLL_SECONDS)


class Sweep(Callback):  # type: ignore[misc]
    """Hydra makes and calls it; see `hydra.callbacks` in conf/run.yaml. What it finds out, it leaves in the workspace, for the launcher.

    Attributes:
        target: what is swept over.
    """

    def __init__(self, target: SweepTarget) -> None:
        self.target = target

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse the whole sweep for one bad combination: a typo in the last is found before the first starts."""
        from memgrid.results.folder import prepare_folder  # imports polars, and other programs with Hydra import this module

        workspace = Workspace.current()
        try:
            workspace.target, workspace.planned = self.target, dict(combinations(config, self.target))
            self.target.together(list(workspace.planned.values()))
            for root in {run.root for run in workspace.planned.values()}:
                prepare_folder(root)  # Hydra would make its own folder there, and fail with a traceback
        except (UserError, HydraException, OmegaConfBaseException) as error:
            # Hydra turns a callback's exception into a warning, but not this one.
            sys.exit(f"memgrid: {error if isinstance(error, UserError) else one_sentence(error)}; nothing was started")
        for run in workspace.planned.values():
            self.target.plan(run)


def combinations(config: DictConfig, target: SweepTarget) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every run of a sweep in its order: how it was typed, and its settings, validated.

    Raises:
        UserError: one is invalid.
    """
    loader = GlobalHydra.instance().config_loader()
    swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *config.hydra.overrides.task])
    composed: dict[tuple[str, ...], Any] = {}
    every = BasicSweeper.split_arguments(overrides, None)[0]
    began, told = time.monotonic(), False
    for number, combination in enumerate(every):
        if not told and number and (passed := time.monotonic() - began) > SILENT_SECONDS:
            told = True
            print(f"memgrid: {len(every)} combinations are composed, in about {passed / number * len(every):.0f} s", file=sys.stderr)
        # Runs that differ in such numbers alone, as parts and thresholds do: composing each would take minutes for a large sweep.
        numbers = {match[1]: match[2] for word in combination if (match := NUMBER.fullmatch(word)) and match[1] in target.numbered}
        others = tuple(word for word in combination if word.partition("=")[0] not in numbers)
        run = with_numbers(composed.get(others), numbers)
        if run is None:
            whole = loader.load_sweep_config(config, combination)
            run = run_of(whole, target)
            if not refers_to(whole, target.numbered):
                composed[others] = run
        else:
            target.validate(run)
        yield tuple(combination), run


def with_numbers(run: Any, numbers: dict[str, str]) -> Any:
    """A composed run with other numbers; None where it has to be composed: there is none, or a number is not of the setting's kind."""
    if run is None or not numbers or not all(isinstance(getattr(run, key), float) or text.isdigit() for key, text in numbers.items()):
        return None
    return replace(run, **{key: float(text) if isinstance(getattr(run, key), float) else int(text) for key, text in numbers.items()})


def refers_to(composed: DictConfig, keys: tuple[str, ...]) -> bool:
    """Whether a setting is made from one of these, as `${seed}` in somebody's own file."""
    own = {key: value for key, value in OmegaConf.to_container(composed, resolve=False).items() if key != "hydra"}  # type: ignore[union-attr]
    return any(re.search(rf"\$\{{[^}}]*\b{key}\b", repr(own)) for key in keys)


def run_of(composed: DictConfig, target: SweepTarget) -> Any:
    """A composed configuration, which also has Hydra's own part, as one run; UserError if it is invalid."""
    own = copy.deepcopy(composed)
    with read_write(own), open_dict(own):
        del own["hydra"]
    return target.typed(own)
