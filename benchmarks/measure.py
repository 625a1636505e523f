"""Measuring: rows of the table, interleaved timing, and the peak memory of a fresh process."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

Times = dict[str, list[float]]
Target = tuple[str, str, float]


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        value, baseline: in `unit`; the same work done by memgrid and by what it is compared with.
        ratio: value / baseline, the median over rounds where both were timed.
        goal: what is asked of ("value" or "ratio", "<=" or ">=", number); None in rows that are there for comparison only.
        how: one sentence, how it was measured.
    """

    name: str
    value: float
    baseline: float
    ratio: float
    unit: str
    goal: Target | None
    how: str

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        asked, sign, number = self.goal
        reached = self.value if asked == "value" else self.ratio
        return reached <= number if sign == "<=" else reached >= number

    def plain(self) -> dict[str, object]:
        """The row for machines; `target` and `met` are null in rows for comparison only."""
        target = None if self.goal is None else self.goal[2]
        numbers = {"value": self.value, "baseline": self.baseline, "ratio": self.ratio, "target": target}
        return {"name": self.name, **numbers, "met": self.met, "unit": self.unit, "how": self.how}

    def cells(self) -> list[str]:
        """The row for people: name, value, baseline, ratio, target, met."""
        target = ""
        if self.goal is not None:
            asked, sign, number = self.goal
            target = f"{'≤' if sign == '<=' else '≥'} {number:g} {'×' if asked == 'ratio' else self.unit}"
        met = {True: "yes", False: "NO", None: ""}[self.met]
        return [self.name, f"{number_text(self.value)} {self.unit}", number_text(self.baseline), f"{self.ratio:.3g} ×", target, met]


def number_text(number: float) -> str:
    """Four digits, thousands apart."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def interleaved(
    tasks: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1, clock: Callable[[], float] = time.process_time
) -> Times:
    """Seconds of each work, by default of the CPU (all threads), round by round: A B C A B C …, so that what else is done hits all alike.

    The order turns by one from round to round: no work always follows the same one.
    """
    times: Times = {name: [] for name in tasks}
    names = list(tasks)
    for turn in range(warm_up + rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            gc.collect()
            started = clock()
            tasks[name]()
            if turn >= warm_up:
                times[name].append(clock() - started)
    return times


def paired_ratio(times: Times, name: str, baseline: str) -> float:
    """Median over rounds of one work's time over another's in the same round."""
    return median(mine / other for mine, other in zip(times[name], times[baseline], strict=True))


def timed_row(times: Times, name: str, work: str, baseline: str, per: float, unit: str, goal: Target | None, how: str) -> Row:
    """A row of a work and its baseline, both in seconds × `per`."""
    value, other = per * median(times[work]), per * median(times[baseline])
    return Row(name, value, other, paired_ratio(times, work, baseline), unit, goal, how)


def child(module: str, **arguments: object) -> dict[str, float]:
    """Run `python -m <module> key=value …` in a fresh process and return the JSON of its last line.

    Raises:
        RuntimeError: it failed; its words are in the message.
    """
    command = [sys.executable, "-m", module, *(f"{key}={value}" for key, value in arguments.items())]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {process.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(process.stdout.strip().splitlines()[-1])
    return measured


def children(module: str, runs: dict[str, dict[str, object]]) -> dict[str, dict[str, float]]:
    """`child` for each of several arguments, two processes at a time: for what does not depend on time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(runs, pool.map(lambda arguments: child(module, **arguments), runs.values()), strict=True))
