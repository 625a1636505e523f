"""The table: fault × tries × survived."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.faults.ground import Ground

COLUMNS = ("fault", "where", "tries", "survived", "what was seen")
BEGIN, END = "<!-- make faults: begin -->", "<!-- make faults: end -->"


@dataclass
class Row:
    """A line: one fault, in one place, tried so often.

    Attributes:
        wrong: what was not survived, a clause each. seen: of those that were, by kind, such as `detected`.
    """

    fault: str
    where: str
    wrong: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    tries: int = 0

    def add(self, wrong: str | None, seen: str = "") -> None:
        """A try: what was wrong afterwards, or None; and what was seen."""
        self.tries += 1
        if wrong is not None:
            self.wrong.append(wrong)
        if seen:
            self.seen[seen] = self.seen.get(seen, 0) + 1

    def cells(self) -> list[str]:
        """The line for people."""
        seen = [f"{count} {kind}" for kind, count in self.seen.items()] + list(dict.fromkeys(self.wrong))[:2]
        return [self.fault, self.where, str(self.tries), str(self.tries - len(self.wrong)), "; ".join(seen)]


Job = Callable[[Ground], Row]  # what makes a row


def tried(fault: str, where: str, attempts: Iterable[Callable[[], tuple[str | None, str]]]) -> Row:
    """A row of attempts; each gives what was wrong (None: nothing) and what was seen."""
    row = Row(fault, where)
    for attempt in attempts:
        row.add(*attempt())
    return row


def markdown(rows: list[Row], where: str) -> str:
    """The table for the documentation."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row.cells())} |" for row in rows]
    return "\n".join([*lines, "", where])


def machine(command: str, seconds: float) -> str:
    """Where, when and how the numbers came about."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    what = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return f"`{command}`, {what}, {date}, {seconds / 60:.1f} minutes."


def put_between(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
