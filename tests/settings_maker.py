"""Settings as a user types them, without the tenth of a second that Hydra takes for each."""

from functools import cache

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from memgrid.config.describe import groups
from memgrid.config.schema import RunConfig
from memgrid.config.validate import register, typed
from memgrid.io.paths import CONF
from memgrid.launch.sweep import Composer

GLOBAL = {"cluster", "compat", "experiment"}  # groups whose files speak of others


@cache
def composer() -> tuple[Composer, dict[str, str]]:
    """What composes the combinations of a sweep, as Hydra does, which `test_composing` shows; and the usual choice of each group."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composer = Composer(loader, loader.load_configuration("run", [], run_mode=RunMode.MULTIRUN))
    return composer, {group: f"{group}={choice}" for group, choice in groups("run").items() if choice and group not in GLOBAL}


def raw(*overrides: str) -> DictConfig:
    """What Hydra composes."""
    composer_of_runs, usual = composer()
    chosen = {word.partition("=")[0]: word for word in overrides}
    if chosen.keys() & GLOBAL:
        return composer_of_runs.compose(list(overrides))
    # With a word for every group, combinations differ by words of the same groups, which is what is quick.
    choices = [chosen.get(group, word) for group, word in usual.items()]
    return composer_of_runs.compose([*choices, *(word for word in overrides if word.partition("=")[0] not in usual)])


def composed(*overrides: str) -> RunConfig:
    """The settings of a run, validated."""
    return typed(raw(*overrides))
