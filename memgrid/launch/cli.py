"""What every command has in common that Hydra composes: how it starts, how errors are told, and with which status it ends."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from memgrid.config.mistakes import broken_file, one_sentence
from memgrid.errors import BusyError, UserError
from memgrid.io.commands import any_terminal, end_without_reader, nearest, reader_has_gone, refuse_unreadable
from memgrid.io.display import sentences_for_warnings
from memgrid.io.files import disk_trouble
from memgrid.io.locks import missing_right
from memgrid.io.paths import CONF
from memgrid.launch.job import INTERRUPTED, TERMINATED, ending_on_sigterm, in_job, job_number, log_file
from memgrid.launch.progress.ending import settings_of
from memgrid.launch.progress.tally import Tally
from memgrid.launch.tasks import SweepTarget
from memgrid.launch.workspace import Workspace
from memgrid.results.doing.notes import telling
from memgrid.results.folder import prepare_folder
from memgrid.results.work import WorkFolder


def composed(config_name: str) -> Callable[[Callable[[DictConfig], object]], Callable[[], object]]:
    """`hydra.main` with memgrid's configuration of that name; 1.3 wants to be told whose behaviour it shall have, 1.4 does not."""
    behaviour = {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}
    return hydra.main(config_path=str(CONF), config_name=config_name, **behaviour)


def start(task: Callable[[], object], target: SweepTarget | None = None) -> None:
    """Let Hydra go through the combinations of the command line; exits with 1 if one could not be done.

    Args:
        task: what `hydra.main` made.
        target: what it sweeps over.
    """
    workspace = Workspace(target=target)
    with any_terminal():
        try:
            refuse_unreadable(sys.argv[1:])
            with workspace.entered(), ending_on_sigterm(workspace), sentences_for_warnings(), mended_for_hydra() as words:
                refuse_unknown_options(words)
                refuse_no_choice(words)
                task()
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except UserError as error:  # of the words or of a launcher: those of runs are told above
            sys.exit(f"memgrid: {error}")
        except (HydraException, OmegaConfBaseException) as error:
            sys.exit(f"memgrid: {one_sentence(error)}")
        except (ValueError, YAMLError) as error:
            if (sentence := broken_file(error)) is None:
                raise
            sys.exit(f"memgrid: {sentence}")
        except OSError as error:  # Hydra looks for files and makes folders, of whatever name it was given
            if reader_has_gone(error):
                raise
            sys.exit(
                f"memgrid: {missing_right(error) or f'{str(error.filename)[-200:]} cannot be used ({error.strerror}): use another name'}"
            )
        if workspace.failures:
            sys.exit(1)


@contextmanager
def mended_for_hydra() -> Iterator[list[str]]:
    """Inside, what Hydra takes from the process is as it needs it; yields the words of the command line in their order there.

    Hydra wants all overrides in one row, and people put -m anywhere. Without HYDRA_FULL_ERROR it prints errors itself and ends the process.
    """
    typed, usual = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [typed[0], *sorted(typed[1:], key=lambda word: "=" in word and not word.startswith("-"))]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        yield sys.argv[1:]
    finally:
        sys.argv = typed
        if usual is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)


def config_dir() -> str | None:
    """The folder of files of the user's own that --config-dir named, None if it was not given; within `hydra.main`."""
    own = [source.path for source in HydraConfig.get().runtime.config_sources if source.provider == "command-line"]
    return str(Path(own[0].removeprefix("file://")).absolute()) if own else None


def refuse_unknown_options(words: list[str]) -> None:
    """Raise UserError for an option that Hydra does not have, of which it would print its usage."""
    known = [option for action in get_args_parser()._actions for option in action.option_strings]
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("-") and not any(each.startswith(option) for each in known):
            dashed = f" (did you mean {word.lstrip('-')}?)" if "=" in word else ""
            raise UserError(f"{word} is no option{nearest(option, known) or dashed}: `--help` lists them")


def refuse_no_choice(words: list[str]) -> None:
    """Raise UserError for a group that is set to null, of which Hydra makes a traceback."""
    for word in words:
        group, _, choice = word.partition("=")
        if group and (CONF / group).is_dir() and "null" in choice.split(","):
            names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            raise UserError(f"{word} chooses nothing: use {', '.join(names)}, or leave {group} out")


def attempt(work: Callable[[Workspace], None]) -> str | None:
    """Do one combination, within `hydra.main`; in a sweep, one that cannot be done is told, and returned, and the others go on.

    One on which another process is working is put off; `memgrid.launch.sweep.Sweeper`, or the launcher of the job, comes back to it.
    """
    workspace, alone = Workspace.current(), HydraConfig.get().mode == RunMode.RUN
    tally, number = workspace.shared(Tally), 0 if alone else int(HydraConfig.get().job.num)
    try:
        chosen = HydraConfig.get().runtime.choices["hydra/launcher"]
        if alone and chosen != "basic":
            raise UserError(f"hydra/launcher={chosen} submits the runs of a sweep: add -m, or leave it out to run here")
        with chdir(HydraConfig.get().runtime.cwd):  # whatever hydra.job.chdir says, paths are where they were typed
            begin_in_turn(workspace, number)
            work(workspace)
        tally.end(number, failed=False)
        return None
    except Exception as caught:
        if workspace.stopping:
            sys.exit(TERMINATED)
        if reader_has_gone(caught):
            end_without_reader()
        error = disk_trouble(caught) or caught
        if not isinstance(error, UserError):
            if alone:
                raise
            traceback.print_exc()
        if isinstance(error, BusyError) and not alone:
            workspace.postponed.append(HydraConfig.get().job.num)
            tally.leave(number)
            print(f"memgrid: {error}: its turn comes last", flush=True)
            return str(error)
        print(f"memgrid: {in_one_line(error)}", file=sys.stderr)
        workspace.failures.append(in_one_line(error))
        tally.end(number, failed=True)
        if alone:
            sys.exit(1)
        return in_one_line(error)


def begin_in_turn(workspace: Workspace, number: int) -> None:
    """Say which run of a sweep in this process begins, how many have ended, and how long the rest will take."""
    tally = workspace.shared(Tally)
    run = workspace.planned.get(tuple(HydraConfig.get().overrides.task))
    if tally.total > 1 and run is not None:
        typed = list(workspace.planned)
        setting = settings_of(typed)[typed.index(tuple(HydraConfig.get().overrides.task))]
        so_far = f" ({tally.text()})" if tally.ended else ""
        print(f"memgrid: run {number + 1} of {tally.total}, {setting}{so_far}", flush=True)
    tally.begin(number)


def in_one_line(error: Exception) -> str:
    """A sentence of ours, or the type and first line of somebody else's error."""
    if closed := missing_right(error):
        return closed
    if isinstance(error, BusyError):
        return f"{error}: wait for it, or stop it"
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@contextmanager
def noted(folder: Path, workspace: Workspace, own: bool = True) -> Iterator[None]:
    """Note in a folder what is being done inside, and how it fails; a process that was told to stop fails at nothing.

    What is started by itself and refused before it has left anything was a mistake in the command: it has been told, and leaves no folder.

    Args:
        own: whether no other process works on the folder.
    """
    work, new = WorkFolder(folder), not WorkFolder(folder).config.exists()
    work.clear_failure()
    try:
        with telling(work, job_number()):
            yield
    except Exception as caught:
        if workspace.stopping:
            sys.exit(TERMINATED)
        error = disk_trouble(caught, folder) or caught
        if isinstance(error, UserError) and own and new and not workspace.planned and not in_job() and work.is_empty():
            work.remove()
        elif not reader_has_gone(error):
            with suppress(UserError, OSError):  # where nothing can be written, the error itself is what matters
                work.note_failure(in_one_line(error), log_file())
        if error is caught:
            raise
        raise error from None


@contextmanager
def prepared_root(root: str) -> Iterator[None]:
    """Inside, there is a root that can be written to; one that is new is gone again if what is done inside is refused and left nothing.

    Raises:
        UserError: it cannot be written to.
    """
    new = [folder for folder in (Path(root), *Path(root).parents) if not os.path.exists(folder)]
    prepare_folder(root)
    try:
        yield
    except UserError:
        with suppress(OSError):
            for folder in new:
                folder.rmdir()
        raise


def restarted(folder: Path) -> bool:
    """Whether this job has worked on the run before and was requeued since."""
    return in_job() and WorkFolder(folder).job_log() == log_file()
