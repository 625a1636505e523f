"""How far a sweep is: how many of its runs have ended, failed, run and wait, and how long the rest will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from memgrid.io.display import duration, plural

AT_ONCE = 1.0  # seconds: what ends sooner was done before, and says nothing of the others


@dataclass(eq=False)
class Tally:
    """The runs of a sweep by their numbers.

    Attributes:
        total: how many there are. before: how many were done, or under way elsewhere, when the sweep began.
        ended: those that have ended since. failed: those of them that could not be done. began: those at work → when they began.
        took: seconds of each that ended and was no work of somebody else's.
    """

    total: int = 0
    before: int = 0
    ended: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    began: dict[int, float] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def begin(self, number: int) -> None:
        """A run begins."""
        self.began.setdefault(number, time.monotonic())

    def end(self, number: int, failed: bool, seconds: float | None = None) -> None:
        """A run has ended, after so many seconds, or as many as have passed since it began."""
        began = self.began.pop(number, None)
        if seconds is None and began is not None:
            seconds = time.monotonic() - began
        self.ended.add(number)
        if failed:
            self.failed.add(number)
        elif seconds is not None and seconds > AT_ONCE:
            self.took.append(seconds)

    @property
    def queued(self) -> int:
        """How many have not begun."""
        return max(0, self.total - self.before - len(self.ended) - len(self.began))

    def left(self) -> float | None:
        """Seconds that the rest will take if as many go on side by side as now and take as long as those before; None: nobody knows."""
        if not self.took:
            return None
        mean, now = sum(self.took) / len(self.took), time.monotonic()
        rests = [max(0.0, mean - (now - began)) for began in self.began.values()]
        return max([(sum(rests) + self.queued * mean) / max(1, len(rests)), *rests])

    def text(self) -> str:
        """Such as `3 of 9 runs done, 1 failed, 2 running, 3 queued, about 12 min left`."""
        parts = [f"{self.before + len(self.ended) - len(self.failed)} of {plural(self.total, 'run')} done"]
        numbers = {"failed": len(self.failed), "running": len(self.began), "queued": self.queued}
        parts += [f"{number} {state}" for state, number in numbers.items() if number]
        if self.began or self.queued:
            left = self.left()
            parts.append("no estimate before one has ended" if left is None else f"{duration(left)} left")
        return ", ".join(parts)
