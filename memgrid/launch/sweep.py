"""Before the first run of a sweep: every combination is composed and validated, and leaves its configuration, so that none is forgotten."""

from __future__ import annotations

import copy
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from memgrid.config.mistakes import one_sentence
from memgrid.errors import UserError
from memgrid.io.display import on_terminal, progress_bar
from memgrid.launch.progress.ending import tell_end
from memgrid.launch.progress.tally import Tally
from memgrid.launch.tasks import SweepTarget, without_repeats
from memgrid.launch.workspace import Workspace

NUMBER = re.compile(r"(\w+)=(\d+(?:\.\d+)?)")
SILENT_SECONDS = 3.0  # after which it is told how long composing will take
POLL_SECONDS = 1.0  # between two looks at what other processes work on


class Sweeper(BasicSweeper):  # type: ignore[misc]
    """Hydra's sweeper, which begins by refusing the whole sweep for one bad combination.

    A run on which another process is working is done last, when that process has done it, which is then seen at once, or is gone.
    """

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        # Hydra loads its plugins' modules again when it looks for them: in BasicSweeper's own __init__, super() would mean another class.
        self.max_batch_size, self.params = max_batch_size, params or {}
        self.overrides: Any = None
        self.launcher: Any = None
        self.config: Any = None
        self.hydra_context, self.batch_index = None, 0

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Hydra says what is swept over. The sweep's folder has the time in its name: one for all who ask, and the launcher asks a copy."""
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = config.hydra.sweep.dir
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def validate_batch_is_legal(self, batch: list[list[str]]) -> None:
        """Hydra would compose each here, at a tenth of a second: `begin` has done it."""

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """The combinations that `begin` has left, in batches: what is fetched for many runs is fetched once.

        Those that read what others of the sweep find are batches of their own, which begin when all others have ended.
        """
        workspace = Workspace.current()
        assert workspace.target is not None
        (every,) = BasicSweeper.split_arguments(overrides, None)
        early: list[list[str]] = []
        late: list[list[str]] = []
        for words in every:
            if (run := workspace.planned.get(tuple(words))) is not None:
                (late if workspace.target.late(run) else early).append(words)
        chunks = BasicSweeper.split_overrides_to_chunks
        return [batch for part in (early, late) if part for batch in chunks(part, max_batch_size)]

    def sweep(self, arguments: list[str]) -> Any:
        """All runs; in the end those that were put off. UserError if one is bad: then nothing was started."""
        workspace = Workspace.current()
        begin(self.config, workspace)
        workspace.shared(Tally).total = len(workspace.planned)
        returned = super().sweep(arguments)
        assert workspace.target is not None
        typed = [words for batch in self.overrides for words in batch]
        if number := len(workspace.postponed):
            print(f"memgrid: waits for {number} runs on which other processes are working", flush=True)
        while workspace.postponed:
            number = free(workspace, typed)
            returned.append(self.launcher.launch([typed[number]], initial_job_idx=number))
        tell_end(workspace.planned, workspace.target, self.config.hydra.job.config_name, workspace.console)
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


def begin(config: DictConfig, workspace: Workspace) -> None:
    """Compose every combination, and leave in the workspace, for the launcher, what was composed.

    Raises:
        UserError: one is bad: a typo in the last is found before the first starts.
    """
    from memgrid.results.folder import prepare_folder  # imports polars, and other programs with Hydra import this module

    assert workspace.target is not None
    try:
        every = dict(combinations(config, workspace.target))
        workspace.planned = without_repeats(every, workspace.target)
        workspace.target.together(list(workspace.planned.values()))
        for root in {run.root for run in workspace.planned.values()}:
            prepare_folder(root)  # Hydra would make its own folder there, and fail with a traceback
    except (UserError, HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{error if isinstance(error, UserError) else one_sentence(error)}; nothing was started") from None
    if len(workspace.planned) < len(every):
        print(f"memgrid: {len(workspace.planned)} of {len(every)} runs do all that is asked of the others too", flush=True)
    for run in workspace.planned.values():
        workspace.target.plan(run)


def combinations(config: DictConfig, target: SweepTarget) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every run of a sweep in its order: how it was typed, and its settings, validated.

    Raises:
        UserError: one is invalid.
    """
    composer = Composer(GlobalHydra.instance().config_loader(), config)
    composed: dict[tuple[str, ...], Any] = {}
    every = composer.every()
    began, told = time.monotonic(), on_terminal()
    with progress_bar() as bar:
        for number, combination in enumerate(bar.track(every, description="composing runs")):
            if not told and number and (passed := time.monotonic() - began) > SILENT_SECONDS:
                told = True
                print(f"memgrid: {len(every)} combinations are composed, in about {passed / number * len(every):.0f} s", file=sys.stderr)
            # Runs that differ in such numbers alone, as parts and thresholds do, need no composition of their own.
            numbers = {match[1]: match[2] for word in combination if (match := NUMBER.fullmatch(word)) and match[1] in target.numbered}
            others = tuple(word for word in combination if word.partition("=")[0] not in numbers)
            run = with_numbers(composed.get(others), numbers)
            if run is None:
                whole = composer.compose(combination)
                run = target.typed(whole)
                if numbers and not refers_to(whole, target.numbered):
                    composed[others] = run
            else:
                target.validate(run)
            yield tuple(combination), run


class Composer:
    """Composes the combinations of a sweep as Hydra does, in a tenth of the time.

    Hydra reads and merges twenty files for each. Here it does so for the first; another choice in a group of files changes only that
    group's part, which is merged alone, and Hydra's own function sets the values. What may depend on more than one choice, and all that
    is refused, Hydra composes itself, so that it is as ever and its errors are told.

    Args:
        loader: Hydra's.
        config: what Hydra composed of the command line, with its own part.
    """

    def __init__(self, loader: Any, config: DictConfig) -> None:
        self.loader, self.config = loader, config
        self.name = config.hydra.job.config_name
        # As they were typed: what they refer to, such as a job's number, is not known yet.
        self.hydras, self.words = (unresolved(config.hydra.overrides, key) for key in ("hydra", "task"))
        # Where Hydra finds files: its own method, since a search path may be among the words.
        self.files = Files(loader._parse_overrides_and_create_caching_repo(self.name, self.hydras)[1])
        self.parsed = lru_cache(maxsize=4096)(self.parse)
        self.composed = lru_cache(maxsize=256)(self.by_hydra)
        self.part = lru_cache(maxsize=4096)(self.merge_part)
        self.chosen = lru_cache(maxsize=64)(self.of_choices)
        self.base: tuple[str, ...] | None = None  # the choices of the first combination

    def parse(self, word: str) -> Override:
        """One word of the command line, in Hydra's grammar."""
        return OverridesParser.create(config_loader=self.loader).parse_overrides([word])[0]

    def every(self) -> list[list[str]]:
        """The words of every combination, in their order."""
        swept = [f"{key}={value}" for key, value in (self.config.hydra.sweeper.params or {}).items()]
        overrides = [self.parsed(word) for word in (*swept, *self.words)]
        every: list[list[str]] = BasicSweeper.split_arguments(overrides, None)[0]
        return every

    def compose(self, words: list[str]) -> DictConfig:
        """One combination, to be read, without Hydra's own part, which no run has; raises what Hydra raises."""
        try:
            overrides = [self.parsed(word) for word in words]
            choices = [override for override in overrides if self.files.group_exists(override.key_or_group)]
            own = self.chosen(tuple(choice.input_line for choice in choices))
            if values := [override for override in overrides if override not in choices]:
                own = copy.deepcopy(own)
                self.loader._apply_overrides_to_config(values, own)
            return own
        except Exception:  # Hydra's functions also fail at their own assertions, and it is Hydra that tells what is wrong
            return self.by_hydra(tuple(words))

    def by_hydra(self, words: tuple[str, ...]) -> DictConfig:
        """The same by Hydra."""
        return without_hydra(self.loader.load_sweep_config(self.config, list(words)))

    def of_choices(self, words: tuple[str, ...]) -> DictConfig:
        """What the chosen files say."""
        if self.base is None:
            self.base = words
        changed = [(word, usual) for word, usual in zip(words, self.base, strict=False) if word != usual]
        if len(words) != len(self.base) or not all(self.are_apart(*pair) for pair in changed):
            return self.composed(words)
        own = copy.deepcopy(self.composed(self.base))
        with read_write(own), open_dict(own):
            for word, usual in changed:
                own[self.parsed(word).key_or_group] = self.part(word, usual)
        return own

    def are_apart(self, word: str, usual: str) -> bool:
        """Whether two words choose files of one group that decide nothing but the part of the configuration that has the group's name."""
        groups = {self.parsed(each).key_or_group for each in (word, usual)}
        return len(groups) == 1 and all(self.files.stands_alone(self.parsed(each)) for each in (word, usual)) and self.nothing_depends

    def merge_part(self, word: str, usual: str) -> Any:
        """The part of the configuration that has the group's name, after a choice that is not the first combination's."""
        group = self.parsed(word).key_or_group
        old, new = (f"{group}/{self.parsed(each).value()}" for each in (usual, word))
        merged = [replace(file, config_path=new) if file.config_path == old else file for file in self.defaults]
        return self.loader._compose_config_from_defaults_list(merged, self.files)._get_node(group)

    @cached_property
    def defaults(self) -> list[ResultDefault]:
        """The files of the first combination in the order in which they are merged, without those of Hydra itself."""
        assert self.base is not None
        every = self.loader.compute_defaults_list(self.name, [*self.hydras, *self.base], RunMode.RUN).defaults
        return [file for file in every if not file.config_path.startswith("hydra/")]

    @cached_property
    def nothing_depends(self) -> bool:
        """Whether no file is chosen by what is chosen in another group, as `- data: ${llm}` would."""
        return not any("${" in repr(self.files.load_config(file.config_path).defaults_list) for file in self.defaults)


class Files:
    """The configuration files of a sweep, each read once; merging changes what it is given, so that it is given a copy."""

    def __init__(self, repository: Any) -> None:
        self.group_exists = lru_cache(maxsize=None)(repository.group_exists)
        self.read = repository.load_config
        self.get_schema_source = repository.get_schema_source

    def load_config(self, config_path: str) -> Any:
        """What is in a file, without a part for Hydra itself, or None if there is no such file."""
        file = copy.deepcopy(self.read(config_path))
        if file is not None and "hydra" in file.config:
            file.config = without_hydra(file.config)
        return file

    def stands_alone(self, choice: Override) -> bool:
        """Whether a word chooses a file that chooses no others and says nothing outside of its own part."""
        value = choice.value()
        if choice.type != OverrideType.CHANGE or choice.package or not isinstance(value, str) or "/" in choice.key_or_group + value:
            return False
        file = self.read(f"{choice.key_or_group}/{value}")
        return file is not None and not file.defaults_list and file.header["package"] is None


def unresolved(config: DictConfig, key: str) -> list[str]:
    """A list of a configuration, with the references in it as they are written."""
    return list(OmegaConf.to_container(config._get_node(key), resolve=False))  # type: ignore[arg-type]


def with_numbers(run: Any, numbers: dict[str, str]) -> Any:
    """A composed run with other numbers; None where it has to be composed: there is none, or a number is not of the setting's kind."""
    if run is None or not numbers or not all(isinstance(getattr(run, key), float) or text.isdigit() for key, text in numbers.items()):
        return None
    return replace(run, **{key: float(text) if isinstance(getattr(run, key), float) else int(text) for key, text in numbers.items()})


def refers_to(composed: DictConfig, keys: tuple[str, ...]) -> bool:
    """Whether a setting is made from one of these, as `${seed}` in somebody's own file."""
    said = repr(OmegaConf.to_container(composed, resolve=False))
    return any(re.search(rf"\$\{{[^}}]*\b{key}\b", said) for key in keys)


def run_of(composed: DictConfig, target: SweepTarget) -> Any:
    """A composed configuration, which also has Hydra's own part, as one run; UserError if it is invalid."""
    return target.typed(without_hydra(copy.deepcopy(composed)))


def without_hydra(composed: DictConfig) -> DictConfig:
    """A composed configuration, from which Hydra's own part has been taken."""
    with read_write(composed), open_dict(composed):
        del composed["hydra"]
    return composed
