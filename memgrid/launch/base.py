"""Launchers: the runs of a sweep as jobs, on a SLURM cluster (`hydra/launcher=slurm`) or in processes of this machine (`local`).

They wait for every job, ask the queue alone (submitit would need SLURM's accounting to see that a job is lost), and tell of each run what
the disk says. The jobs do not need them: if the launching process ends, they go on. Several may be at work: each does what no other does.
"""

from __future__ import annotations

import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from memgrid.config.mistakes import broken_file, one_sentence
from memgrid.errors import UserError
from memgrid.io.commands import any_terminal
from memgrid.io.display import plural, sentences_for_warnings
from memgrid.launch.handover import another_folder, answer_file, close, python
from memgrid.launch.job import ending_on_sigterm, log_file, requeue_in_peace
from memgrid.launch.progress.board import Board
from memgrid.launch.progress.tally import Tally
from memgrid.launch.sweep import run_of
from memgrid.launch.tasks import SweepTarget, Task, changes, collect, groups, left
from memgrid.launch.workspace import Workspace
from memgrid.results.work import WorkFolder

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


@dataclass
class JobSettings:
    """What every launcher may be told of its jobs."""

    submitit_folder: str = "${hydra.sweep.dir}"
    name: str = "memgrid"
    timeout_min: int = 60
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    tasks_per_node: int = 1
    mem_gb: int | None = None
    nodes: int = 1
    stderr_to_stdout: bool = False


class JobLauncher(Launcher):  # type: ignore[misc]
    """Submits what is missing, and waits until each job has an answer or is gone, and until what others do is done."""

    executor: str  # what submitit calls the queue

    def __init__(self, **params: Any) -> None:
        self.params: dict[str, Any] = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in params.items()
        }
        self.folder = Path(self.params["submitit_folder"]).absolute()
        self.target: SweepTarget

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Hydra says what is launched."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Hydra calls this with every combination of the sweep.

        Raises:
            UserError: a run cannot be done in a job.
        """
        workspace, loader = Workspace.current(), self.hydra_context.config_loader
        assert workspace.target is not None  # as for every command that sweeps
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
        board = Board(self.target, Tally(len(tasks)))
        missing, elsewhere = left(tasks, self.target, self.waiting(), workspace.failures, board.tally)
        if len(missing) < len(tasks):
            print(f"memgrid: {len(tasks) - len(missing)} of {len(tasks)} runs are done or under way", flush=True)
        with board.shown():
            while missing or elsewhere:
                elsewhere += self.work_off(self.bundled(groups(missing, self.target)), workspace.failures, board)
                if elsewhere:
                    self.wait_for_others(elsewhere)
                missing, elsewhere = left(elsewhere, self.target, self.waiting(), workspace.failures, board.tally, joined=True)
        return [JobReturn(task.overrides, status=JobStatus.COMPLETED) for task in tasks]

    def bundled(self, works: list[list[Task]]) -> list[list[Task]]:
        """Which runs are one job, from those that share their work."""
        return works

    def work_off(self, waiting: list[list[Task]], failures: list[str], board: Board) -> list[Task]:
        """Submit each group of runs as one job, and tell how it ended; what went wrong is added to `failures`.

        Returns: runs on which others are working.
        """
        active: dict[str, tuple[Any, list[Task]]] = {}
        elsewhere: list[Task] = []
        watch, refused, fewer = Watch(self.queue), False, len(waiting)
        try:
            while waiting or active:
                if waiting and not refused and (room := min(self.room(len(active)), len(waiting), fewer)):
                    batch, others = self.still_missing(waiting[:room], failures, board.tally)
                    elsewhere, waiting = elsewhere + others, batch + waiting[room:]
                    try:
                        active |= self.submit(batch) if batch else {}
                        waiting = waiting[len(batch) :]
                    except UserError as error:
                        # There may be a limit to what a user can have in the queue: fewer may fit.
                        fewer = len(batch) // 2
                        if not fewer and not active:
                            raise
                        if not fewer:
                            refused = True
                            print(f"memgrid: {error}; {len(waiting)} jobs wait until others have ended", flush=True)
                ended = watch.ended({job_id: answer_file(job.paths) for job_id, (job, _) in active.items()})
                for job_id in ended:
                    elsewhere += collect(*active.pop(job_id), self.target, failures, board.tally)
                board.look(active, at_once=bool(ended))
                if refused and ended:
                    refused, fewer = False, len(ended)
                if active:
                    time.sleep(1)
        except KeyboardInterrupt:
            print(f"\nmemgrid: {self.farewell(list(active))}", file=sys.stderr)
            raise
        return elsewhere

    def still_missing(self, batch: list[list[Task]], failures: list[str], tally: Tally) -> tuple[list[list[Task]], list[Task]]:
        """What of a batch is still to be done, and what others do: while this launcher waited for room, they may have begun."""
        queue = self.waiting()
        found = [left(group, self.target, queue, failures, tally, joined=True) for group in batch]
        return [missing for missing, _ in found if missing], [task for _, others in found for task in others]

    def wait_for_others(self, tasks: list[Task]) -> None:
        """Return when nobody works on one of the runs any more: it is done, or whoever did it is gone."""
        print(f"memgrid: waits for {len(tasks)} runs that are being done elsewhere", flush=True)
        began, queue = time.monotonic(), self.waiting()
        while all(task.is_elsewhere(self.target, queue) for task in tasks):
            time.sleep(min(LONGEST_POLL, 1 + (time.monotonic() - began) / 10))
            queue = self.waiting()

    def submit(self, batch: list[list[Task]]) -> dict[str, tuple[Any, list[Task]]]:
        """Give a batch to the cluster at once; returns each job, under its id, with its runs."""
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        close(self.folder)
        general = {field.name for field in fields(JobSettings)}
        given = {key if key in general else f"{self.executor}_{key}": value for key, value in self.params.items()}
        of_the_executor = {f"{self.executor}_python": python()}
        if (timeouts := given.pop(f"{self.executor}_max_num_timeout", None)) is not None:
            of_the_executor[f"{self.executor}_max_num_timeout"] = timeouts
        del given["submitit_folder"]
        executor = AutoExecutor(folder=self.folder, cluster=self.executor, **of_the_executor)
        try:
            executor.update_parameters(**given)
        except NameError as error:  # so submitit says it
            raise UserError(f"hydra.launcher has a key that it does not know ({str(error).split('. ')[0]}): leave it out") from None
        try:
            jobs = executor.map_array(self, batch, [Singleton.get_state()] * len(batch))
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(f"SLURM refused the jobs: {reason(str(error))}") from None
        names = f"job {jobs[0].job_id}" if len(jobs) == 1 else f"{len(jobs)} jobs, {jobs[0].job_id} to {jobs[-1].job_id}"
        print(f"memgrid: {plural(sum(map(len, batch)), 'run')} submitted as {names}; logs are in {self.folder}", flush=True)
        return {job.job_id: (job, tasks) for job, tasks in zip(jobs, batch, strict=True)}

    def checkpoint(self, *arguments: Any) -> Any:
        """What submitit puts back into the queue when the job is cut off: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)

    def __call__(self, tasks: list[Task], state: dict[type, Singleton]) -> dict[str, Any]:
        """What a job does: its runs, one after another; returns its answer, see `memgrid.launch.handover.read_answer`."""
        Singleton.set_state(state)
        setup_globals()
        with any_terminal(), Workspace().entered() as workspace, ending_on_sigterm(workspace), sentences_for_warnings():
            requeue_in_peace(workspace)
            failures, seconds = [], []
            for task in tasks:
                began = time.monotonic()
                failures.append(self.do(task))
                seconds.append(time.monotonic() - began)
            return {"failures": failures, "busy": workspace.postponed, "summary": workspace.summary, "seconds": seconds}

    def do(self, task: Task) -> str | None:
        """One run, unless it is no longer what was submitted; returns what went wrong, or None."""
        from submitit import JobEnvironment

        try:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, task.overrides)
            changed = changes(task.run, run_of(config, self.target))
        except (UserError, HydraException, OmegaConfBaseException) as error:
            changed = f"the configuration can no longer be read ({error if isinstance(error, UserError) else one_sentence(error)})"
        except (ValueError, YAMLError) as error:
            changed = f"the configuration can no longer be read ({broken_file(error) or error})"
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
            UserError: a run is one task; or the folder of the jobs has a name in which SLURM and submitit would put numbers.
        """
        if "%" in str(self.folder):
            raise UserError(f"{self.folder} has a % in its name, which SLURM replaces: give another root, or {another_folder()}")
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
