"""Launchers: the runs of a sweep as jobs, on a SLURM cluster (`hydra/launcher=slurm`) or in processes of this machine (`local`).

Hydra's own launcher for submitit stops at the first job that is lost, and needs SLURM's accounting to see that one is. These wait for every
job, ask the queue alone, and tell of each run what the disk says. The jobs do not need them: if the launching process ends, they go on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import HydraException
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf, LocalQueueConf, SlurmQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from memgrid.job import log_file, requeue_in_peace, stop_on_sigterm
from memgrid.outcomes import reason, tell_end, wanted
from memgrid.results import note_failure, note_queued
from memgrid.schema import UserError
from memgrid.sweep import Sweep, Sweeper, one_sentence, run_of
from memgrid.watch import Watch
from memgrid.works import Kind, Work, changes, groups

PREFIX = "hydra_plugins.memgrid"  # Hydra takes launchers from this namespace alone


@dataclass
class SlurmSettings(SlurmQueueConf):  # type: ignore[misc]
    """What conf/hydra/launcher/slurm.yaml may set."""

    _target_: str = f"{PREFIX}.SlurmLauncher"
    max_array_size: int = 1000


@dataclass
class LocalSettings(LocalQueueConf):  # type: ignore[misc]
    """What conf/hydra/launcher/local.yaml may set."""

    _target_: str = f"{PREFIX}.LocalLauncher"
    at_once: int = 1


def register() -> None:
    """Make both launchers, and the sweeper, known to Hydra."""
    Plugins.instance().class_name_to_class[f"{PREFIX}.Sweeper"] = Sweeper
    for name, settings, launcher in (("slurm", SlurmSettings, SlurmLauncher), ("local", LocalSettings, LocalLauncher)):
        ConfigStore.instance().store(group="hydra/launcher", name=f"memgrid_{name}", node=settings)
        Plugins.instance().class_name_to_class[settings._target_] = launcher


class Launcher(BaseSubmititLauncher):  # type: ignore[misc]
    """Submits what is missing, and waits until each job has a result or is gone."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.folder = Path(self.params["submitit_folder"]).absolute()
        self.kind: Kind

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Hydra calls this with every combination of the sweep.

        Raises:
            UserError: a run cannot be done in a job.
        """
        loader, planned = self.hydra_context.config_loader, Sweep.started.planned
        self.kind = Sweep.started.kind
        every = [
            Work(number, list(words), planned.get(tuple(words)) or run_of(loader.load_sweep_config(self.config, list(words)), self.kind))
            for number, words in enumerate(job_overrides, initial_job_idx)
        ]
        self.check([work.run for work in every])
        waiting = self.waiting()
        missing = [work for work in every if wanted(work.run, self.kind, waiting)]
        if len(missing) < len(every):
            print(f"memgrid: {len(every) - len(missing)} of {len(every)} runs are done or under way", flush=True)
        self.work_off(groups(missing, self.kind))
        return [JobReturn(work.overrides, status=JobStatus.COMPLETED) for work in every]

    def work_off(self, waiting: list[list[Work]]) -> None:
        """Submit each group of runs as one job, and tell how it ended."""
        active: dict[str, tuple[Any, list[Work]]] = {}
        watch, refused, fewer = Watch(self.queue), False, len(waiting)
        try:
            while waiting or active:
                if waiting and not refused and (room := min(self.room(len(active)), len(waiting), fewer)):
                    try:
                        active |= self.submit(waiting[:room])
                        waiting = waiting[room:]
                    except UserError as error:
                        # There may be a limit to what a user can have in the queue: fewer may fit.
                        fewer = room // 2
                        if not fewer and not active:
                            raise
                        if not fewer:
                            refused = True
                            print(f"memgrid: {error}; {len(waiting)} jobs wait until others have ended", flush=True)
                ended = watch.ended({job_id: job.paths.result_pickle for job_id, (job, _) in active.items()})
                for job_id in ended:
                    tell_end(*active.pop(job_id), self.kind)
                if refused and ended:
                    refused, fewer = False, len(ended)
                if active:
                    time.sleep(1)
        except KeyboardInterrupt:
            print(f"\nmemgrid: {self.farewell(list(active))}", file=sys.stderr)
            raise

    def submit(self, batch: list[list[Work]]) -> dict[str, tuple[Any, list[Work]]]:
        """Give a batch to the cluster at once; returns each job, under its id, with its runs."""
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        base = set(OmegaConf.structured(BaseQueueConf))
        given = {key if key in base else f"{self._EXECUTOR}_{key}": value for key, value in self.params.items()}
        folder, timeouts = given.pop("submitit_folder"), given.pop(f"{self._EXECUTOR}_max_num_timeout", None)
        retries = {} if timeouts is None else {f"{self._EXECUTOR}_max_num_timeout": timeouts}
        executor = AutoExecutor(folder=folder, cluster=self._EXECUTOR, **retries)
        executor.update_parameters(**given)
        try:
            jobs = executor.map_array(self, batch, [Singleton.get_state()] * len(batch))
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(f"SLURM refused the jobs: {reason(str(error))}") from None
        names = f"job {jobs[0].job_id}" if len(jobs) == 1 else f"{len(jobs)} jobs, {jobs[0].job_id} to {jobs[-1].job_id}"
        print(f"memgrid: {sum(map(len, batch))} runs submitted as {names}; logs are in {self.folder}", flush=True)
        return {job.job_id: (job, works) for job, works in zip(jobs, batch, strict=True)}

    def __call__(self, works: list[Work], state: dict[type, Singleton]) -> list[str | None]:
        """What a job does: its runs, one after another; returns for each what went wrong, or None."""
        Singleton.set_state(state)
        setup_globals()
        stop_on_sigterm()
        requeue_in_peace()
        return [self.do(work) for work in works]

    def do(self, work: Work) -> str | None:
        """One run, unless it is no longer what was submitted; returns what went wrong, or None."""
        from submitit import JobEnvironment

        try:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, work.overrides)
            changed = changes(work.run, run_of(config, self.kind))
        except (UserError, HydraException, OmegaConfBaseException) as error:
            changed = f"the configuration can no longer be read ({error if isinstance(error, UserError) else one_sentence(error)})"
        if changed:
            sentence = f"since this job was submitted, {changed}: submit it again"
            note_failure(self.kind.folder(work.run), sentence, log_file())
            print(f"memgrid: {sentence}", file=sys.stderr)
            return sentence
        with open_dict(config.hydra.job):
            config.hydra.job.id, config.hydra.job.num = JobEnvironment().job_id, work.number
        names = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
        told: str | None = run_job(self.task_function, config, hydra_context=self.hydra_context, **names).return_value
        return told

    def check(self, runs: list[Any]) -> None:
        """Refuse what no job can do.

        Raises:
            UserError: a run is one task.
        """
        if (tasks := self.params["tasks_per_node"] * self.params["nodes"]) > 1:
            raise UserError(f"hydra.launcher asks for {tasks} tasks in a job, and a run is one: set tasks_per_node=1 and nodes=1")

    @abstractmethod
    def room(self, active: int) -> int:
        """How many jobs may be submitted now."""

    @abstractmethod
    def queue(self) -> set[str] | None:
        """Ids of the jobs that wait or run; None where that cannot be told at the moment."""

    def waiting(self) -> set[str]:
        """Ids of the jobs in the queue that an earlier start may have put there."""
        return set()

    @abstractmethod
    def farewell(self, jobs: list[str]) -> str:
        """What becomes of the jobs of an interrupted launcher."""


class SlurmLauncher(Launcher):
    """Job arrays of at most `max_array_size`, all in the queue at once."""

    _EXECUTOR = "slurm"

    def __init__(self, max_array_size: int, **params: Any) -> None:
        super().__init__(**params)
        self.max_array_size = max_array_size

    def check(self, runs: list[Any]) -> None:
        """Refuse what no job on a cluster can do.

        Raises:
            UserError: a run is one task; compute nodes have no internet; or there is no SLURM here.
        """
        super().check(runs)
        if any(self.kind.needs_internet(run) for run in runs):
            raise UserError("stages has fetch, which needs the internet: run it first, here and without hydra/launcher=slurm")
        if self.max_array_size < 1:
            raise UserError(f"hydra.launcher.max_array_size={self.max_array_size} is too small: it must be at least 1")
        idle = [run for run in runs if "train" in run.stages and run.trainer.accelerator == "cpu"]
        if idle and "gpu" in str(self.params["gres"]):
            print("memgrid: the jobs get a GPU that no training will use: add trainer=gpu, unless that is meant", flush=True)
        if lacking := [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]:
            raise UserError(f"hydra/launcher=slurm finds no {lacking[0]} here: use it on a cluster's login node, or hydra/launcher=local")

    def room(self, active: int) -> int:
        """An array."""
        return self.max_array_size

    def queue(self) -> set[str] | None:
        """What squeue lists of this user."""
        return self.listed()

    def listed(self, *options: str) -> set[str] | None:
        """The same, narrowed by options of squeue."""
        words = ["squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%i", *options]
        try:
            asked = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return set(asked.stdout.split()) if asked.returncode == 0 else None

    def waiting(self) -> set[str]:
        """This user's jobs but for those that are ending."""
        return self.listed("-t", "PD,R,S,CF") or set()

    def submit(self, batch: list[list[Work]]) -> dict[str, tuple[Any, list[Work]]]:
        """Submit an array, and note for each run as which job it waits."""
        jobs = super().submit(batch)
        for job_id, (job, works) in jobs.items():
            for work in works:
                note_queued(self.kind.folder(work.run), job_id, job.paths.result_pickle)
        return jobs

    def farewell(self, jobs: list[str]) -> str:
        """They stay where they are."""
        arrays = " ".join(dict.fromkeys(job.partition("_")[0] for job in jobs))
        return f"the jobs go on without this process: `scancel {arrays}` ends them, and the same command collects their results"


class LocalLauncher(Launcher):
    """A process for each job, `at_once` of them side by side."""

    _EXECUTOR = "local"

    def __init__(self, at_once: int, **params: Any) -> None:
        super().__init__(**params)
        self.at_once = at_once
        self.processes: dict[str, Any] = {}

    def check(self, runs: list[Any]) -> None:
        """Refuse what no process here can do; UserError."""
        super().check(runs)
        if self.at_once < 1:
            raise UserError(f"hydra.launcher.at_once={self.at_once} is too small: it must be at least 1")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "processes": {}}  # a job needs no other's

    def submit(self, batch: list[list[Work]]) -> dict[str, tuple[Any, list[Work]]]:
        """Start a process for each."""
        jobs = super().submit(batch)
        self.processes |= {job_id: job for job_id, (job, _) in jobs.items()}
        return jobs

    def room(self, active: int) -> int:
        """As many as may run side by side."""
        return self.at_once - active

    def queue(self) -> set[str] | None:
        """The processes that have not ended."""
        return {job_id for job_id, job in self.processes.items() if job.state == "RUNNING"}

    def farewell(self, jobs: list[str]) -> str:
        """They are processes of this terminal."""
        return "the jobs end with this process: the same command goes on where they stopped"
