"""The rows about the paper's corpus: label, taxonomy and select for its whole grid, on made-up files with the real columns.

Run as a module, `python -m benchmarks.corpus corpus=<folder> root=<folder>`, it goes through all 87 settings in this fresh process, and
prints CPU seconds, peak memory in MB and what came out, as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from hydra import compose, initialize_config_dir
from rich.console import Console

from benchmarks import measure
from benchmarks.measure import Row
from benchmarks.shapes import Settings
from benchmarks.tasks import forget_peak, resident
from memgrid.config.validate import register
from memgrid.io.paths import CONF
from memgrid.label import labels
from memgrid.launch.sweep import combinations
from memgrid.launch.workspace import Workspace
from memgrid.pipeline.context import RunContext
from memgrid.pipeline.stages import label_stage
from memgrid.pipeline.sweep import Runs

ROWS = 7_000_000  # of the largest model: 5 million of the Pile, and what is memorized
MODEL = ("llm.random.vocab_size=50304", "llm.semantic_filters=deduped_12b")  # one whose tokens these are; nothing is asked of it
EXPERIMENTS = ("benchmark_taxonomies", "optimize_rho")


def judge(_: object) -> Callable[[Sequence[str]], list[bool]]:
    """In the place of a judge of code, which costs what its library costs: every second text or so is code."""
    return lambda texts: [len(text) % 2 == 1 for text in texts]


def whole_grid(overrides: list[str], experiments: tuple[str, ...] = EXPERIMENTS) -> dict[str, Any]:
    """Label and select every run of some experiments in this process: CPU seconds, of them for loading, memory in MB, what came out."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        runs = []
        for name in experiments:
            given = [f"experiment={name}", "llm=tiny_random", *overrides]
            runs += [run for _, run in combinations(compose("run", overrides=given, return_hydra_config=True), Runs())]
    forget_peak()
    before, started, cpu, loading = resident("VmRSS"), time.perf_counter(), time.process_time(), 0.0
    heights, workspace = [], Workspace(Console(file=io.StringIO(), width=300))
    with mock.patch.object(labels, "detector", judge):
        for run in runs:
            context = RunContext(run, workspace)
            rows = len(context.corpus.tokens)
            loading = loading or time.process_time() - cpu
            label_stage(context)
            heights.append(sorted(context.samples.group_by("side", "label").len()["len"].unique().to_list()))
    told = workspace.console.file.getvalue()  # type: ignore[attr-defined]
    seconds = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu, "loading": loading}
    return {"runs": len(runs), "rows": rows, "before": before, "peak": resident("VmHWM"), "heights": heights, "told": told, **seconds}


def corpus(settings: Settings) -> list[Row]:
    """CPU and memory of the whole grid; the files take 0.3 kB a row of disk."""
    from tests.semantic_filters_maker import make_semantic_filters

    rows = 60_000 if settings.quick else ROWS
    folder = make_semantic_filters(settings.folder / "filters", rows)
    made = measure.child("benchmarks.corpus", corpus=folder, root=settings.folder / "root", quick=settings.quick)
    how = (
        f"{made['rows']:,.0f} made-up rows with the columns of semantic-filters, label (the given columns, ROUGE), taxonomy and select for "
    )
    how += f"the paper's {made['runs']:.0f} settings in one process"
    beyond = (made["peak"] - made["before"]) * 1024 / made["rows"]
    return [
        Row(
            "paper's corpus: whole grid",
            made["cpu"],
            made["loading"],
            made["cpu"] / made["loading"],
            "s",
            ("value", "<=", 120.0),
            f"{how}; against reading the files alone, CPU time",
        ),
        Row(
            "paper's corpus: peak memory",
            made["peak"] / 1024,
            made["before"] / 1024,
            made["peak"] / made["before"],
            "GiB",
            ("value", "<=", 3.7),
            f"{how}; against the process before it reads",
        ),
        Row(
            "paper's corpus: memory per row",
            beyond,
            0.25,
            beyond / 0.25,
            "KiB",
            ("value", "<=", 0.5),
            f"{how}; the peak beyond the process before it reads, against token ids of four bytes alone",
        ),
    ]


def main(arguments: list[str]) -> None:
    """Go through the grid."""
    given = dict(argument.split("=", 1) for argument in arguments)
    overrides = [f"root={given['root']}", f"corpus.path={given['corpus']}", *MODEL]
    quick = given.get("quick") == "True"
    print(json.dumps(whole_grid([*overrides, "taxonomy=recite", "delta=50"], EXPERIMENTS[:1]) if quick else whole_grid(overrides)))


if __name__ == "__main__":
    main(sys.argv[1:])
