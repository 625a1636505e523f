"""Jobs in processes of this machine (`hydra/launcher=local`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf

from memgrid.errors import UserError
from memgrid.launch.base import PREFIX, Launcher
from memgrid.launch.tasks import Task


@dataclass
class LocalSettings(LocalQueueConf):  # type: ignore[misc]
    """What conf/hydra/launcher/local.yaml may set."""

    _target_: str = f"{PREFIX}.LocalLauncher"
    at_once: int = 1


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
