"""`python -m benchmarks`: measure everything (minutes); `quick=true` to see that it runs, `only=NAME` for one group, `out=FOLDER`."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

# Threads that wait by spinning would count as CPU time; read when torch is loaded, and inherited by the processes started from here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import auditing, composing, corpus, digests, extraction, gpu, labelling, loading, storage, training
from benchmarks.measure import Row
from benchmarks.shapes import Settings

GROUPS = {
    "cost": extraction.cost,
    "memory": extraction.memory,
    "growth": extraction.growth,
    "storage": storage.storage,
    "rouge": labelling.rouge,
    "corpus": corpus.corpus,
    "counting": labelling.counting,
    "composing": composing.composing,
    "feeding": training.feeding,
    "training": training.training,
    "auditing": auditing.auditing,
    "digests": digests.digests,
    "loading": loading.loading,
    "gpu": gpu.gpu,
}
COLUMNS = ("what", "memgrid", "baseline", "ratio", "target", "met")


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine(arguments: list[str], seconds: float) -> str:
    """Where, when and how the numbers came about."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    command = " ".join(["python -m benchmarks", *arguments])
    return f"{cpu_model()}, {os.cpu_count()} cores, torch {torch.__version__}, {date}, `{command}`, {seconds / 60:.1f} minutes"


def markdown(rows: list[Row], where: str) -> str:
    """The table and, below it, how each row was measured."""
    lines = ["# Benchmarks", "", where, "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    lines += ["", "Rows named “reference” measure the baseline's own layout; they and rows without a target are for comparison.", ""]
    return "\n".join([*lines, *(f"- **{row.name}**: {row.how}." for row in rows), ""])


def show(rows: list[Row], where: str) -> None:
    """Print the table."""
    table = Table(*COLUMNS, caption=where)
    for row in rows:
        table.add_row(*row.cells(), style="red" if row.met is False else "")
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def parse(arguments: list[str]) -> tuple[bool, list[str], Path]:
    """quick, the groups and the folder for results, from `key=value` words; ends the program with a sentence if it knows a word not."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    only = given.get("only", "")
    if set(given) - {"quick", "only", "out"} or (only and only not in GROUPS) or given.get("quick", "false") not in ("true", "false"):
        sys.exit(f"{' '.join(arguments)} is not understood: use quick=true, out=FOLDER, or only= with one of {', '.join(GROUPS)}")
    return given.get("quick") == "true", [only] if only else list(GROUPS), Path(given.get("out", Path(__file__).parent))


def main(arguments: list[str]) -> None:
    """Measure, print, and write results.md and results.json."""
    quick, groups, out = parse(arguments)
    torch.set_num_threads(1)
    rows: list[Row] = []
    started = time.perf_counter()
    for group in groups:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="memgrid-benchmarks-") as name:
            rows += GROUPS[group](Settings(quick, Path(name)))
        print(f"{group}: {time.perf_counter() - begun:.0f} s", flush=True)
    where = machine(arguments, time.perf_counter() - started)
    show(rows, where)
    if quick and out == Path(__file__).parent:
        return  # numbers of a quick run mean nothing: they do not replace measured ones
    out.mkdir(parents=True, exist_ok=True)
    stem = "results" if len(groups) > 1 else f"results-{groups[0]}"
    (out / f"{stem}.md").write_text(markdown(rows, where))
    (out / f"{stem}.json").write_text(json.dumps([row.plain() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
