"""Watching a queue: which jobs of a sweep have ended, with a result or without."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

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
