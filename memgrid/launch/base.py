"""Launchers: the runs of a sweep as jobs, on a SLURM cluster (`hydra/launcher=slurm`) or in processes of this machine (`local`).

Hydra's own launcher for submitit stops at the first job that is lost, and needs SLURM's accounting to see that one is. These wait for every
job, ask the queue alone, and tell of each run what the disk says. The jobs do not need them: if the launching process ends, they go on.
"""

from __future__ import annotations

import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import HydraException
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from memgrid.config.mistakes import one_sentence
from memgrid.errors import UserError
from memgrid.io.commands import any_terminal
from memgrid.launch.job import ending_on_sigterm, log_file, requeue_in_peace
from memgrid.launch.sweep import run_of
from memgrid.launch.tasks import SweepTarget, Task, changes, collect, groups, wanted
from memgrid.launch.workspace import Workspace
from memgrid.results.work import WorkFolder

PREFIX = "hydra_plugins.memgrid"  # Hydra takes launchers from this namespace alone
LONGEST_POLL = 30.0  # seconds between two looks at the queue, which grow with the age of the sweep
LOST_SECONDS = 10.0  # a job's result may become visible after it has left the queue


class Watch:
    """Sees which jobs have ended: those with a result, and those that have left the queue without one."""

    def __init__(self, queue: Callable[[], set[str] | None]) -> None:
        self.queue = queue
        self.began = self.looked = time.monotonic()
        self.gone: dict[str, float] = {}

    def ended(self, results: dict[str, Path]) -> list[str]:
        """Ids of the jobs, given with the path of their results, that have ended since they were last asked for."""
        with_result = [job_id for job_id, path in results.items() if path.exists()]
        now = time.monotonic()
        lost: list[str] = []
        if now - self.looked >= min(LONGEST_POLL, (now - self.began) / 10):
            self.looked, queue = now, self.queue()
            for job_id in results.keys() - set(with_result):
                if queue is None or job_id in queue:
                    self.gone.pop(job_id, None)
                elif now - self.gone.setdefault(job_id, now) >= LOST_SECONDS:
                    lost.append(job_id)
        return [*with_result, *lost]


class Launcher(BaseSubmititLauncher):  # type: ignore[misc]
    """Submits what is missing, and waits until each job has a result or is gone."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.folder = Path(self.params["submitit_folder"]).absolute()
        self.target: SweepTarget

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Hydra calls this with every combination of the sweep.

        Raises:
            UserError: a run cannot be done in a job.
        """
        workspace, loader = Workspace.current(), self.hydra_context.config_loader
        assert workspace.target is not None  # `Sweep` has begun
        self.target = workspace.target
        tasks = [
            Task(
                number,
                list(words),
                workspace.planned.get(tuple(words)) or run_of(loader.load_sweep_config(self.config, list(words)), self.target),
            )
            for number, words in enumerate(job_overrides, initial_job_idx)
        ]
        self.check([task.run for task in tasks])
        queue = self.waiting()
        missing = [task for task in tasks if wanted(task.run, self.target, queue, workspace.failures)]
        if len(missing) < len(tasks):
            print(f"memgrid: {len(tasks) - len(missing)} of {len(tasks)} runs are done or under way", flush=True)
        self.work_off(groups(missing, self.target), workspace.failures)
        return [JobReturn(task.overrides, status=JobStatus.COMPLETED) for task in tasks]

    def work_off(self, waiting: list[list[Task]], failures: list[str]) -> None:
        """Submit each group of runs as one job, and tell how it ended; what went wrong is added to `failures`."""
        active: dict[str, tuple[Any, list[Task]]] = {}
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
                    collect(*active.pop(job_id), self.target, failures)
                if refused and ended:
                    refused, fewer = False, len(ended)
                if active:
                    time.sleep(1)
        except KeyboardInterrupt:
            print(f"\nmemgrid: {self.farewell(list(active))}", file=sys.stderr)
            raise

    def submit(self, batch: list[list[Task]]) -> dict[str, tuple[Any, list[Task]]]:
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
        return {job.job_id: (job, tasks) for job, tasks in zip(jobs, batch, strict=True)}

    def __call__(self, tasks: list[Task], state: dict[type, Singleton]) -> list[str | None]:
        """What a job does: its runs, one after another; returns for each what went wrong, or None."""
        Singleton.set_state(state)
        setup_globals()
        with any_terminal(), Workspace().entered() as workspace, ending_on_sigterm(workspace):
            requeue_in_peace(workspace)
            return [self.do(task) for task in tasks]

    def do(self, task: Task) -> str | None:
        """One run, unless it is no longer what was submitted; returns what went wrong, or None."""
        from submitit import JobEnvironment

        try:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, task.overrides)
            changed = changes(task.run, run_of(config, self.target))
        except (UserError, HydraException, OmegaConfBaseException) as error:
            changed = f"the configuration can no longer be read ({error if isinstance(error, UserError) else one_sentence(error)})"
        if changed:
            sentence = f"since this job was submitted, {changed}: submit it again"
            WorkFolder(self.target.folder(task.run)).note_failure(sentence, log_file())
            print(f"memgrid: {sentence}", file=sys.stderr)
            return sentence
        with open_dict(config.hydra.job):
            config.hydra.job.id, config.hydra.job.num = JobEnvironment().job_id, task.number
        names = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
        failure: str | None = run_job(self.task_function, config, hydra_context=self.hydra_context, **names).return_value
        return failure

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


def reason(output: str) -> str:
    """The line of sbatch's output that says what is wrong."""
    lines = [line.strip() for line in output.strip().splitlines()] or ["no reason was given"]
    return next((line for line in lines if "error" in line or "unrecognized" in line), lines[-1]).rpartition("sbatch: ")[2]
