"""Where jobs wait and run: on a SLURM cluster (`hydra/launcher=slurm`), or in processes of this machine (`hydra/launcher=local`)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import Any

from memgrid.errors import UserError
from memgrid.launch.base import JobLauncher, JobSettings
from memgrid.launch.handover import answer_file
from memgrid.launch.tasks import Task
from memgrid.results.doing.queue import PATIENCE, queued_jobs
from memgrid.results.work import WorkFolder


@dataclass
class LocalSettings(JobSettings):
    """What conf/hydra/launcher/local.yaml may set."""

    _target_: str = "hydra_plugins.memgrid.LocalLauncher"
    at_once: int = 1
    runs_per_job: int = 1


class LocalLauncher(JobLauncher):
    """A process for each job, `at_once` of them side by side; with more `runs_per_job`, each does several runs one after another."""

    executor = "local"

    def __init__(self, at_once: int, runs_per_job: int = 1, **params: Any) -> None:
        super().__init__(**params)
        self.at_once, self.runs_per_job = at_once, runs_per_job
        self.processes: dict[str, Any] = {}

    def check(self, runs: list[Any]) -> None:
        """Refuse what no process here can do; UserError."""
        super().check(runs)
        for key in ("at_once", "runs_per_job"):
            if (value := getattr(self, key)) < 1:
                raise UserError(f"hydra.launcher.{key}={value} is too small: it must be at least 1")

    def bundled(self, works: list[list[Task]]) -> list[list[Task]]:
        """So many of them in a job that each has at least as many runs as are wanted, but for the last."""
        jobs: list[list[Task]] = []
        for work in works:
            if jobs and len(jobs[-1]) < self.runs_per_job:
                jobs[-1] += work
            else:
                jobs.append(list(work))
        return jobs

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "processes": {}}  # a job needs no other's

    def submit(self, batch: list[list[Task]]) -> dict[str, tuple[Any, list[Task]]]:
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


@dataclass
class SlurmSettings(JobSettings):
    """What conf/hydra/launcher/slurm.yaml may set."""

    _target_: str = "hydra_plugins.memgrid.SlurmLauncher"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = None
    comment: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    max_num_timeout: int = 0
    signal_delay_s: int = 120
    array_parallelism: int = 256
    max_array_size: int = 1000
    setup: list[str] | None = None
    additional_parameters: dict[str, Any] = field(default_factory=dict)


class SlurmLauncher(JobLauncher):
    """Job arrays of at most `max_array_size`, all in the queue at once."""

    executor = "slurm"

    def __init__(self, max_array_size: int, **params: Any) -> None:
        super().__init__(**params)
        self.max_array_size = max_array_size

    def check(self, runs: list[Any]) -> None:
        """Refuse what no job on a cluster can do.

        Raises:
            UserError: a run is one task; compute nodes have no internet; or there is no SLURM here.
        """
        super().check(runs)
        if any(self.target.needs_internet(run) for run in runs):
            raise UserError("stages has fetch, which needs the internet: run it first, here and without cluster= or hydra/launcher=slurm")
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
        jobs = queued_jobs(PATIENCE, *options)
        return None if jobs is None else set(jobs)

    def waiting(self) -> set[str]:
        """This user's jobs but for those that are ending."""
        return self.listed("-t", "PD,R,S,CF") or set()

    def submit(self, batch: list[list[Task]]) -> dict[str, tuple[Any, list[Task]]]:
        """Submit an array, and note for each run as which job it waits."""
        jobs = super().submit(batch)
        for job_id, (job, tasks) in jobs.items():
            for task in tasks:
                WorkFolder(self.target.folder(task.run)).note_queued(job_id, answer_file(job.paths))
        return jobs

    def farewell(self, jobs: list[str]) -> str:
        """They stay where they are."""
        arrays = " ".join(dict.fromkeys(job.partition("_")[0] for job in jobs))
        return f"the jobs go on without this process: `scancel {arrays}` ends them, and the same command collects their results"
