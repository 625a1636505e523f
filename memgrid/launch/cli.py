"""What every command has in common that Hydra composes: how it starts, how errors are told, and with which status it ends."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from memgrid.errors import UserError
from memgrid.io.paths import CONF
from memgrid.launch.base import PREFIX
from memgrid.launch.job import TERMINATED, in_job, log_file, stop_on_sigterm, stopping
from memgrid.launch.local import LocalLauncher, LocalSettings
from memgrid.launch.slurm import SlurmLauncher, SlurmSettings
from memgrid.launch.sweep import Sweeper, failures, one_sentence
from memgrid.results.work import WorkFolder

INTERRUPTED = 130


def start(task: Callable[[], object]) -> None:
    """Let Hydra go through the combinations of the command line; exits with 1 if one could not be done.

    Args:
        task: what `hydra.main` made.
    """
    register()
    stop_on_sigterm()
    failures.clear()
    warnings.showwarning = show_warning  # type: ignore[assignment]
    # Hydra wants all overrides in one row; people put -m anywhere.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: "=" in word and not word.startswith("-"))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # otherwise Hydra prints errors itself, and ends the process
    try:
        refuse_no_choice(sys.argv[1:])
        task()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except UserError as error:  # of the words or of a launcher: those of runs are told above
        sys.exit(f"memgrid: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"memgrid: {one_sentence(error)}")
    if failures:
        sys.exit(1)


def refuse_no_choice(words: list[str]) -> None:
    """Raise UserError for a group that is set to null, of which Hydra makes a traceback."""
    for word in words:
        group, _, choice = word.partition("=")
        if group and (CONF / group).is_dir() and "null" in choice.split(","):
            names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            raise UserError(f"{word} chooses nothing: use {', '.join(names)}, or leave {group} out")


def attempt(work: Callable[[], None]) -> str | None:
    """Do one combination, within `hydra.main`; in a sweep, one that cannot be done is told, and returned, and the others go on."""
    alone = HydraConfig.get().mode == RunMode.RUN
    try:
        chosen = HydraConfig.get().runtime.choices["hydra/launcher"]
        if alone and chosen != "basic":
            raise UserError(f"hydra/launcher={chosen} submits the runs of a sweep: add -m, or leave it out to run here")
        work()
        return None
    except Exception as error:
        if stopping():
            sys.exit(TERMINATED)
        if not isinstance(error, UserError):
            if alone:
                raise
            traceback.print_exc()
        print(f"memgrid: {told(error)}", file=sys.stderr)
        failures.append(told(error))
        if alone:
            sys.exit(1)
        return told(error)


def told(error: Exception) -> str:
    """An error in one line: a sentence of ours, or the type and first line of somebody else's."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@contextmanager
def noted(folder: Path) -> Iterator[None]:
    """Note in a folder how what is done inside fails; a process that was told to stop fails at nothing."""
    WorkFolder(folder).clear_failure()
    try:
        yield
    except Exception as error:
        if stopping():
            sys.exit(TERMINATED)
        WorkFolder(folder).note_failure(told(error), log_file())
        raise


def restarted(folder: Path) -> bool:
    """Whether this job has worked on the run before and was requeued since."""
    return in_job() and WorkFolder(folder).job_log() == log_file()


def show_warning(message: Warning | str, category: type[Warning], *where: object) -> None:
    """Our own warnings as a sentence, without the line of code that Python adds; the others as ever."""
    own = category.__module__.startswith("memgrid.")
    print(f"memgrid: {message}" if own else warnings.formatwarning(message, category, *where[:2]), file=sys.stderr)  # type: ignore[arg-type]


def register() -> None:
    """Make both launchers, and the sweeper, known to Hydra."""
    Plugins.instance().class_name_to_class[f"{PREFIX}.Sweeper"] = Sweeper
    for name, settings, launcher in (("slurm", SlurmSettings, SlurmLauncher), ("local", LocalSettings, LocalLauncher)):
        ConfigStore.instance().store(group="hydra/launcher", name=f"memgrid_{name}", node=settings)
        Plugins.instance().class_name_to_class[settings._target_] = launcher
