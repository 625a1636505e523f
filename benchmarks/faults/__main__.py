"""`python -m benchmarks.faults`: try every fault (at most 10 minutes) and write the table into docs/reliability.md.

`only=kills|room|flips|planted` for one group, `tries=N` for another number of tries, `case=NAME` for the rows of one command: these print
the table and write nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
from benchmarks.faults.table import COLUMNS, Row, machine, markdown, put_between

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
DISK = 200  # megabytes
# A group of rows, and how often each fault is tried.
GROUPS: dict[str, tuple[Callable[[Ground, int], Iterator[Row]], int]] = {
    "kills": (kills.rows, 5),
    "room": (room.rows, 3),
    "flips": (flips.rows, 20),
    "planted": (planted.rows, 1),
}
# What is done one after another, beside the others: two cores.
SIDES = (("kills",), ("room", "planted", "flips"))


def side(groups: list[str], folder: Path, tries: int | None) -> list[Row]:
    """The rows of some groups, on a ground of their own."""
    folder.mkdir()
    found: list[Row] = []
    with mounted(folder / "disk", DISK):
        (folder / "logs").mkdir(mode=0o777)
        ground = Ground(folder, folder.parent / "given", Starter(folder / "logs"))
        for name in groups:
            rows, usual = GROUPS[name]
            for row in rows(ground, tries or usual):
                print(" · ".join(row.cells()), flush=True)
                found.append(row)
    return found


def main(arguments: list[str]) -> int:
    """Try, print, and write the table; 1 where something was not survived."""
    words = dict(argument.partition("=")[::2] for argument in arguments)
    if set(words) - {"only", "tries"} or (only := words.get("only", "")) not in ("", *GROUPS):
        sys.exit(f"{' '.join(arguments)} is not understood: use tries=N, or only= with one of {', '.join(GROUPS)}")
    chosen = [[name for name in names if only in ("", name)] for names in SIDES]
    began, tries = time.monotonic(), int(words["tries"]) if "tries" in words else None
    with tempfile.TemporaryDirectory(prefix="memgrid-faults-") as name, ThreadPoolExecutor() as pool:
        Path(name).chmod(0o755)
        make_given(Path(name) / "given")
        work = [pool.submit(side, names, Path(name) / f"side-{at}", tries) for at, names in enumerate(chosen) if names]
        rows = [row for done in work for row in done.result()]
    where = machine("make faults", time.monotonic() - began)
    table = Table(*COLUMNS, caption=where)
    for row in rows:
        table.add_row(*row.cells(), style="red" if row.wrong else "")
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    if not arguments:
        put_between(PAGE, markdown(rows, where))
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
