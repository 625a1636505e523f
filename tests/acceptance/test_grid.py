"""The paper's whole grid over a million labelled rows of the paper's corpus: label, taxonomy, select."""

import io
import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console
from semantic_filters_maker import make_semantic_filters
from transformers import AutoTokenizer

from memgrid.config.validate import register
from memgrid.io.paths import CONF, TOY
from memgrid.launch.sweep import combinations
from memgrid.launch.workspace import Workspace
from memgrid.pipeline.sweep import Runs

ROWS = 1_000_000


def judge_of_code(corpus: Path, path: Path) -> Path:
    """A fastText model that calls about half of these made-up texts code."""
    fasttext = pytest.importorskip("fasttext", reason="fastText is not installed: pip install 'memgrid[fasttext]'")
    tokens = pl.read_parquet(next(corpus.rglob("memories*.parquet")), columns=["tokens"], n_rows=4000)["tokens"].to_list()
    texts = [" ".join(text.split()) for text in AutoTokenizer.from_pretrained(TOY).batch_decode(tokens)]
    lengths = np.array([len(text) for text in texts])
    kinds = np.where(lengths > np.median(lengths), "Code", "NaturalLanguage")
    lines = path.with_suffix(".txt")
    lines.write_text("\n".join(f"__label__{kind} {text}" for kind, text in zip(kinds, texts, strict=True)) + "\n")
    model = fasttext.train_supervised(str(lines), epoch=10, lr=0.2, verbose=0, thread=1, minCount=1)
    model.save_model(str(path))
    return path


def whole_grid(overrides: list[str]) -> dict:
    """Label and select every run of both experiments in one process; CPU seconds, peak memory in GB, and what came out."""
    from memgrid.pipeline.context import RunContext
    from memgrid.pipeline.stages import label_stage

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        runs = []
        for name in ("benchmark_taxonomies", "optimize_rho"):
            given = [f"experiment={name}", "llm=tiny_random", *overrides]
            runs += [run for _, run in combinations(compose("run", overrides=given, return_hydra_config=True), Runs())]
    started, cpu = time.perf_counter(), time.process_time()
    heights, workspace = [], Workspace(Console(file=io.StringIO(), width=300))
    for run in runs:
        context = RunContext(run, workspace)
        label_stage(context)
        heights.append(context.samples.group_by("side", "label").len()["len"].unique().to_list())
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "runs": len(runs),
        "wall": wall,
        "cpu": cpu,
        "gigabytes": gigabytes,
        "heights": heights,
        "told": workspace.console.file.getvalue(),
    }


@pytest.mark.slow
def test_a_million_rows_go_through_the_whole_grid(tmp_path):
    """In under a minute of CPU (of two that two cores have in a minute) and 4 GB."""
    corpus = tmp_path / "filters"
    corpus.mkdir()
    make_semantic_filters(corpus, ROWS)
    model = judge_of_code(corpus, tmp_path / "model.bin")
    overrides = [
        f"root={tmp_path / 'root'}",
        f"corpus.path={corpus}",
        "llm.random.vocab_size=50304",
        "llm.semantic_filters=deduped_12b",
        "label.code=fasttext",
        f"label.code_model={model}",
    ]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        made = pool.apply(whole_grid, (overrides,))
    print({key: made[key] for key in ("runs", "wall", "cpu", "gigabytes")})
    assert made["runs"] == 60 + 27
    labelled = [int(line.split()[1]) for line in made["told"].splitlines() if line.startswith("label")]
    assert len(labelled) == 87
    assert 0.99 * ROWS < min(labelled) == max(labelled) <= ROWS  # an id that occurs in both splits is one row
    assert made["cpu"] < 60
    assert made["gigabytes"] < 4
    assert all(sorted(heights) == [2000, 4000] for heights in made["heights"])
