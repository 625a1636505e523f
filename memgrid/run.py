"""`python -m memgrid.run`: compose the configuration, validate it, and go through the stages in their order."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape

from memgrid import launcher
from memgrid.config import register, typed
from memgrid.job import TERMINATED, check_gpu, check_tasks, in_job, log_file, stop_on_sigterm, stopping
from memgrid.marks import LATER, results_of, said
from memgrid.naming import prepare_root, work_folder
from memgrid.report import print_result
from memgrid.results import clear_failure, finished, job_log, note_failure, note_job, write_config
from memgrid.schema import CONF, OWN_STAGES, STAGES, RunConfig, UserError
from memgrid.sweep import failures, one_sentence, result_of

JOB_WAITS, TERMINAL_WAITS = 600, 1  # seconds for another process that works on the same run
INTERRUPTED = 130


def run_cell(run: RunConfig, console: Console) -> None:
    """Do one run, or print its result if it is finished."""
    check_tasks()
    prepare_root(run)
    folder = work_folder(run)
    if not set(OWN_STAGES) & set(run.stages):
        with noted(folder):
            return go_through(run, folder, console)  # leaves nothing in the run's folder
    if "train" not in run.stages and finished(folder) is None:
        raise UserError(f"stages={run.stages} needs trained networks, and {folder} holds none: add train to stages")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # In a job it may be this job's own lock, on a node that failed.
        with FileLock(folder / ".lock", timeout=JOB_WAITS if in_job() else TERMINAL_WAITS):
            if run.force and restarted(folder):
                run = replace(run, force=False)  # what is there is this job's own
            if run.force:
                clear(run, folder)
            done = result_of(run)
            if done is not None:
                return print_done(run, done, folder, console)
            note_job(folder, log_file())
            with noted(folder):
                go_through(run, folder, console)
    except Timeout:
        raise UserError(f"another process is working on {folder}: wait for it, or stop it") from None


@contextmanager
def noted(folder: Path) -> Iterator[None]:
    """Note in a folder how what is done inside fails; a process that was told to stop fails at nothing."""
    clear_failure(folder)
    try:
        yield
    except Exception as error:
        if stopping():
            sys.exit(TERMINATED)
        note_failure(folder, told(error), log_file())
        raise


def restarted(folder: Path) -> bool:
    """Whether this job has worked on the run before and was requeued since."""
    return in_job() and job_log(folder) == log_file()


def told(error: Exception) -> str:
    """An error in one line: a sentence of ours, or the type and first line of somebody else's."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def go_through(run: RunConfig, folder: Path, console: Console) -> None:
    """The stages that the run asks for, in their order."""
    if "train" in run.stages:
        write_config(OmegaConf.structured(run), folder)
    if "fetch" not in run.stages:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's library is imported, with the stages
    from memgrid.stages import STAGES as DO  # imports torch, which a finished or a refused run can do without
    from memgrid.stages import Cell

    check_gpu(run)
    cell = Cell(run, console)
    for stage in STAGES:
        if stage in run.stages:
            DO[stage](cell)


def clear(run: RunConfig, folder: Path) -> None:
    """Remove the results of the stages that are to be done again, but not the lock that this process holds."""
    later = [path for stage in LATER if stage in run.stages for path in results_of(run, folder, stage)]
    for entry in folder.iterdir() if "train" in run.stages else later:
        if entry.name != ".lock" and entry.exists():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def print_done(run: RunConfig, metrics: dict[str, Any], folder: Path, console: Console) -> None:
    """The result of a finished run, and what the stages after training found."""
    print_result(metrics, folder, console)
    for line in said(run, folder):
        console.print(escape(line), highlight=False, soft_wrap=True)


@hydra.main(config_path=str(CONF), config_name="run", version_base="1.3")
def compose_and_run(config: DictConfig) -> str | None:
    """Hydra calls this once per combination; in a sweep, a run that cannot be done is told, and returned, and the others go on."""
    alone = HydraConfig.get().mode == RunMode.RUN
    try:
        chosen = HydraConfig.get().runtime.choices["hydra/launcher"]
        if alone and chosen != "basic":
            raise UserError(f"hydra/launcher={chosen} submits the runs of a sweep: add -m, or leave it out to run here")
        run_cell(typed(config), Console())
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


def show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Our own warnings as a sentence, without the line of code that Python adds; the others as ever."""
    own = category.__module__.startswith("memgrid.")
    print(f"memgrid: {message}" if own else warnings.formatwarning(message, category, *where[:2]), file=sys.stderr)


def main() -> None:
    """The console script `memgrid`; exits with 1 if a run could not be done."""
    register()
    launcher.register()
    stop_on_sigterm()
    failures.clear()
    warnings.showwarning = show_warning  # type: ignore[assignment]
    # Hydra wants all overrides in one row; people put -m anywhere.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: "=" in word and not word.startswith("-"))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # otherwise Hydra prints errors itself, and ends the process
    try:
        compose_and_run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except UserError as error:  # of a launcher: those of runs are told above
        sys.exit(f"memgrid: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"memgrid: {one_sentence(error)}")
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    # Jobs import what they were given by its module, and not from the `__main__` of the process that submitted them.
    from memgrid.run import main as start

    start()
