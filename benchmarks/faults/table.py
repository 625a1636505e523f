"""The table: fault × tries × survived."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.faults.ground import Ground, NotTriedError

COLUMNS = ("fault", "where", "tries", "survived", "what was seen")
BEGIN, END = "<!-- make faults: begin -->", "<!-- make faults: end -->"


Tried = tuple[str | None, str]  # of a try: what was wrong afterwards (None: nothing), and what was seen
DRAWS = 8  # how often what missed, such as a signal that came too late, is drawn anew


@dataclass
class Row:
    """A line: one fault, in one place, tried so often.

    Attributes:
        wrong: what was not survived, a clause each. seen: of those that were, by kind, such as `detected`.
        missed: why a try is none, such as a disk that could not be mounted.
    """

    fault: str
    where: str
    wrong: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    tries: int = 0

    def add(self, wrong: str | None, seen: str = "") -> None:
        """A try: what was wrong afterwards, or None; and what was seen."""
        self.tries += 1
        if wrong is not None:
            self.wrong.append(wrong)
        if seen:
            self.seen[seen] += 1

    def cells(self) -> list[str]:
        """The line for people."""
        seen = [f"{count} {kind}" for kind, count in self.seen.items()]
        missed = [f"not tried: {reason}" if not self.tries else f"one more not tried: {reason}" for reason in dict.fromkeys(self.missed)]
        told = [*seen, *missed, *list(dict.fromkeys(self.wrong))[:2]]
        return [self.fault, self.where, str(self.tries), str(self.tries - len(self.wrong)), "; ".join(told).replace("\n", " ")]


@dataclass(frozen=True)
class Job:
    """What makes a row.

    Attributes:
        attempts: on a ground, the tries, each still to be done; one may raise NotTriedError.
    """

    fault: str
    where: str
    attempts: Callable[[Ground], Iterable[Callable[[], Tried]]]

    def row(self, ground: Ground) -> Row:
        """Try; what breaks here is told in the row, and nothing that was not seen counts as survived."""
        row = Row(self.fault, self.where)
        try:
            for attempt in self.attempts(ground):
                try:
                    row.add(*attempt())
                except NotTriedError as error:
                    row.missed.append(str(error))
        except NotTriedError as error:
            row.missed.append(str(error))
        except Exception as error:  # the other rows are tried all the same
            row.add(f"the attempt broke ({type(error).__name__}: {error})"[:300])
        return row


def drawn(attempt: Callable[[float], Tried | None]) -> Tried:
    """The first attempt that does not miss; it is given a factor that falls from 1 with every draw.

    Raises:
        NotTriedError: all miss.
    """
    for number in range(DRAWS):
        if (found := attempt(0.75**number)) is not None:
            return found
    raise NotTriedError(f"missed {DRAWS} times")


def markdown(rows: list[Row], where: str) -> str:
    """The table for the documentation."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row.cells())} |" for row in rows]
    return "\n".join([*lines, "", where])


def machine(command: str, seconds: float, busy: float, load: float) -> str:
    """Where, when and how the numbers came about.

    Args:
        busy: seconds of CPU. load: the system's, of the last 15 minutes.
    """
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    what = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return f"`{command}`, {what}, {date}: {seconds / 60:.1f} minutes, {busy / 60:.1f} of CPU; the machine's load was {load:.1f}."


def put_between(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
