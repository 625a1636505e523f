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
        total: how many there are. ended: those that are done or failed. failed: those of them that could not be done.
        began: those at work here → when they began. elsewhere: those on which others are working.
        took: seconds of each that ended and was no work of somebody else's.
    """

    total: int = 0
    ended: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    began: dict[int, float] = field(default_factory=dict)
    elsewhere: set[int] = field(default_factory=set)
    took: list[float] = field(default_factory=list)

    def begin(self, number: int) -> None:
        """A run begins."""
        self.elsewhere.discard(number)
        self.began.setdefault(number, time.monotonic())

    def leave(self, number: int, to_others: bool = True) -> None:
        """A run is not at work here: others are working on it, or it waits."""
        self.began.pop(number, None)
        (self.elsewhere.add if to_others else self.elsewhere.discard)(number)

    def end(self, number: int, failed: bool, seconds: float | None = None) -> None:
        """A run has ended, after so many seconds, or as many as have passed since it began."""
        began = self.began.pop(number, None)
        if seconds is None and began is not None:
            seconds = time.monotonic() - began
        self.elsewhere.discard(number)
        self.ended.add(number)
        if failed:
            self.failed.add(number)
        elif seconds is not None and seconds > AT_ONCE:
            self.took.append(seconds)

    @property
    def queued(self) -> int:
        """How many have not begun."""
        return max(0, self.total - len(self.ended) - len(self.began) - len(self.elsewhere))

    def left(self) -> float | None:
        """Seconds that the rest will take if as many go on side by side as now and take as long as those before; None: nobody knows."""
        if not self.took:
            return None
        mean, now = sum(self.took) / len(self.took), time.monotonic()
        rests = [max(0.0, mean - (now - began)) for began in self.began.values()]
        return max([(sum(rests) + self.queued * mean) / max(1, len(rests)), *rests])

    def text(self) -> str:
        """Such as `3 of 9 runs done, 1 failed, 2 running, 3 queued, about 12 min left`."""
        parts = [f"{len(self.ended) - len(self.failed)} of {plural(self.total, 'run')} done"]
        numbers = {"failed": len(self.failed), "running": len(self.began), "running elsewhere": len(self.elsewhere), "queued": self.queued}
        parts += [f"{number} {state}" for state, number in numbers.items() if number]
        if self.began or self.queued:
            left = self.left()
            parts.append("no estimate before one has ended" if left is None else f"{duration(left)} left")
        return ", ".join(parts)
