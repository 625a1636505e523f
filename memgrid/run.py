"""`python -m memgrid.run`: compose the configuration, validate it, and go through the stages in their order."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, replace

from filelock import Timeout
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from memgrid.config.derive import forced
from memgrid.config.describe import Composed, helped
from memgrid.config.overrides import CONFIG_DIR
from memgrid.config.schema import RunConfig
from memgrid.config.validate import register, typed
from memgrid.errors import BusyError, UserError
from memgrid.io.commands import HELP, any_terminal
from memgrid.io.digests import write_yaml
from memgrid.io.files import remove
from memgrid.launch.cli import attempt, composed, config_dir, noted, prepared_root, restarted, start
from memgrid.launch.job import check_tasks, log_file
from memgrid.launch.workspace import Workspace
from memgrid.pipeline.places import refuse_lost
from memgrid.pipeline.sweep import Runs, owns, result_of, stay_offline
from memgrid.results.findings import print_result, stage_sentences
from memgrid.results.folder import RunFolder, work_folder_of
from memgrid.results.records import LATER
from memgrid.results.result import RunResult
from memgrid.results.work import WorkFolder

COMMAND = Composed(
    "run",
    RunConfig,
    "Labels the sequences of a corpus, extracts the attention with which a model decodes them, trains small CNNs to tell the classes of a "
    "taxonomy apart, and prints how well they do. What is on disk is not computed again; a finished run prints its result at once.",
    {
        "run": "the whole experiment on the embedded model",
        "run taxonomy=prashanth delta=40 rho=0.3": "another taxonomy, at other thresholds",
        "run -m taxonomy=rasy,guess_recite delta=40,60": "a sweep over four settings",
        "run experiment=causal": "also where the CNNs decide, and what happens when that is switched off",
        "run -m experiment=smoke hydra/launcher=local": "each run of a sweep in a process of its own; slurm: as jobs of a cluster",
    },
)
JOB_WAITS, TERMINAL_WAITS = 600, 1  # seconds for another process that works on the same run


def run_cell(run: RunConfig, workspace: Workspace) -> None:
    """Do one run, or print its result if it is finished."""
    check_tasks()
    folder = RunFolder.of(run)
    if (done := result_of(run)) is not None:  # no lock is taken and nothing written: the root may be another user's
        print_done(run, done, folder, workspace.console)
        return
    with prepared_root(run.root):
        if owns(run):
            run_alone(run, folder, workspace)
        else:
            run_shared(run, work_folder_of(run), workspace)


def run_alone(run: RunConfig, folder: RunFolder, workspace: Workspace) -> None:
    """Do the stages of one run; meanwhile no other process works on it."""
    if "train" not in run.stages and not folder.is_finished():
        raise UserError(f"stages={run.stages} needs trained networks, and {folder.path} holds none: add train to stages")
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        # It may be this job's own lock, on a node that failed.
        with folder.lock(JOB_WAITS if restarted(folder.path) else TERMINAL_WAITS):
            if run.force and restarted(folder.path):
                run = replace(run, force=False)  # what is there is this job's own
            clear(run, folder)
            if (done := result_of(run)) is not None:  # while this process waited for the lock
                return print_done(run, done, folder, workspace.console)
            folder.note_job(log_file())
            with noted(folder.path, workspace):
                go_through(run, folder, workspace)
    except Timeout:
        raise BusyError(f"another process is working on {folder.path}") from None


def run_shared(run: RunConfig, folder: WorkFolder, workspace: Workspace) -> None:
    """Do stages whose results all runs share. While that lasts, and if it does not end well, `status` finds a folder of the job's own."""
    folder.path.mkdir(parents=True, exist_ok=True)
    if run.force and restarted(folder.path):
        run = replace(run, force=False)
    try:
        lock = folder.lock(0).acquire()
    except Timeout:
        with noted(folder.path, workspace, own=False):
            go_through(run, folder, workspace)  # another process does the same: they share the work
        return
    with lock:
        folder.note_job(log_file())
        with noted(folder.path, workspace):
            go_through(run, folder, workspace)
        shutil.rmtree(folder.path, ignore_errors=True)


def go_through(run: RunConfig, folder: WorkFolder, workspace: Workspace) -> None:
    """The stages that the run asks for, in their order."""
    stay_offline(run)
    refuse_lost(run)
    if "train" in run.stages:
        write_yaml(OmegaConf.create(asdict(run) | ({CONFIG_DIR: own} if (own := config_dir()) else {})), folder.config)
    from memgrid.pipeline.stages import do_stages  # imports torch, which a finished or a refused run can do without

    do_stages(run, workspace)


def clear(run: RunConfig, folder: RunFolder) -> None:
    """Remove the results of the stages that are to be done again, but not the lock that this process holds."""
    again = forced(run)
    later = [path for stage in LATER if stage in again for path in folder.stage_files(run, stage)]
    for entry in folder.path.iterdir() if "train" in again else later:
        if entry != folder.lock_file:
            remove(entry)


def print_done(run: RunConfig, result: RunResult, folder: RunFolder, console: Console) -> None:
    """The result of a finished run, and what the stages after training found."""
    print_result(result, folder, console)
    for line in stage_sentences(run, folder):
        console.print(line, highlight=False, soft_wrap=True)


@composed("run")
def compose_and_run(config: DictConfig) -> str | None:
    """Hydra calls this once per combination."""
    return attempt(lambda workspace: run_cell(typed(config), workspace))


def main() -> None:
    """`memgrid run`."""
    if HELP & set(sys.argv[1:]):
        with any_terminal():
            print(helped(COMMAND))
        return
    register()
    start(compose_and_run, Runs())


if __name__ == "__main__":
    # Jobs import what they were given by its module, and not from the `__main__` of the process that submitted them.
    from memgrid.run import main as begin

    begin()
