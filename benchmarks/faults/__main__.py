"""`python -m benchmarks.faults`: try every fault and write the table into docs/reliability.md.

`only=kills|room|planted|flips` for one group, `rows=<words>` for the rows whose fault and command hold these words, `tries=N` for another
number of tries: these print the table and write nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue

# Read when the libraries are loaded, and inherited by the processes started from here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_SILENT", "true")

from rich.console import Console
from rich.table import Table

from benchmarks.faults import flips, kills, planted, room
from benchmarks.faults.cases import make_given
from benchmarks.faults.ground import Ground, mounted
from benchmarks.faults.starting import Starter
from benchmarks.faults.table import COLUMNS, Job, Row, machine, markdown, put_between

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
DISK = 200  # megabytes
# A group of rows, and how often each fault is tried.
GROUPS: dict[str, tuple[Callable[[int], Iterator[Job]], int]] = {
    "kills": (kills.jobs, 5),
    "room": (room.jobs, 2),
    "planted": (planted.jobs, 1),
    "flips": (flips.jobs, 20),
}
SIDES = 2  # at a time: as many as there are cores


def side(jobs: Queue[tuple[int, Job]], folder: Path, found: dict[int, Row]) -> float:
    """Make rows until none is left, on a ground of one's own; returns the seconds of CPU that all commands have taken."""
    folder.mkdir()
    with mounted(folder / "disk", DISK):
        (folder / "logs").mkdir()
        start = Starter(folder / "logs")
        ground = Ground(folder, folder.parent / "given", start)
        with suppress(Empty):
            while True:
                number, job = jobs.get_nowait()
                found[number] = job.row(ground)
                print(" · ".join(found[number].cells()), flush=True)
        return start.busy()


def chosen(words: dict[str, str]) -> list[Job]:
    """The rows that are asked for."""
    if set(words) - {"only", "rows", "tries"} or words.get("only", "") not in ("", *GROUPS):
        sys.exit(f"{words} is not understood: use tries=N, rows=WORDS, or only= with one of {', '.join(GROUPS)}")
    tries, only, wanted = int(words.get("tries", 0)), words.get("only", ""), words.get("rows", "")
    every = [job for name, (make, usual) in GROUPS.items() if only in ("", name) for job in make(tries or usual)]
    return [job for job in every if wanted in f"{job.fault} {job.where}"]


def main(arguments: list[str]) -> int:
    """Try, print, and write the table; 1 where something was not survived."""
    began = time.monotonic()
    jobs: Queue[tuple[int, Job]] = Queue()
    for numbered in enumerate(chosen(dict(argument.partition("=")[::2] for argument in arguments))):
        jobs.put(numbered)
    found: dict[int, Row] = {}
    with tempfile.TemporaryDirectory(prefix="memgrid-faults-") as name, ThreadPoolExecutor() as pool:
        Path(name).chmod(0o755)
        make_given(Path(name) / "given")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        work = [pool.submit(side, jobs, Path(name) / f"side-{at}", found) for at in range(SIDES)]
        try:
            busy = max(one.result() for one in work)
        finally:  # told to end, or broken: what is under way ends, and leaves no disk mounted
            jobs.queue.clear()
    rows = [found[number] for number in sorted(found)]
    where = machine("make faults", time.monotonic() - began, busy + time.process_time(), os.getloadavg()[2])
    table = Table(*COLUMNS, caption=where)
    for row in rows:
        table.add_row(*row.cells(), style="red" if row.wrong else "yellow" if row.missed else "")
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    if not arguments:
        put_between(PAGE, markdown(rows, where))
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
