"""What `plan` tells of the paper's whole grid, on a corpus that is large enough for it."""

import io
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import NIGHT
from omegaconf import OmegaConf
from rich.console import Console
from settings_maker import composed

from memgrid.config.schema import TaxonomyConfig
from memgrid.io.paths import CONF
from memgrid.label.labels import Labels
from memgrid.launch.workspace import Workspace
from memgrid.pipeline import stages
from memgrid.pipeline.context import RunContext
from memgrid.pipeline.plan import Pace
from memgrid.pipeline.stages import plan_stage

DUPLICATION, COMPLETION = ("recite", "recollect"), ("reconstruct", "guess", "code")
FAMILIES = {
    "4A": [f"{a}_{b}" for a in DUPLICATION for b in COMPLETION],
    "4B": [f"{b}_recite" for b in COMPLETION],
    "3A": [*DUPLICATION, *COMPLETION],
    "3B": [*(f"recite_or_{b}" for b in COMPLETION), *(f"{b}_or_recollect" for b in COMPLETION)],
}


def population(rows: int, rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """Labels of a made-up corpus: half of it memorized, duplicates over six decades, templates, code, and overlap of every degree."""
    kind = rng.random(rows)
    return {
        "memorized": {"memorized": rng.random(rows) < 0.5, "confidence": rng.random(rows).astype(np.float32)},
        "duplicates": {"duplicates": np.exp(rng.uniform(0, 13, rows)).astype(np.int64)},
        "templates": {"is_repeating": kind < 0.08, "is_incrementing": (kind > 0.08) & (kind < 0.14)},
        "rouge": {"rouge_l": rng.beta(1, 3, rows), "rouge_3": rng.beta(0.5, 4, rows)},
        "code": {"is_code": rng.random(rows) < 0.3},
    }


@pytest.mark.slow
def test_the_papers_whole_grid_on_many_sequences(tmp_path, monkeypatch):
    """About 60 thousand samples per model size instead of 1.7 million, and at most 60 GB for three sizes; seconds per setting."""
    rows, rng = 2_000_000 if NIGHT else 300_000, np.random.default_rng(0)
    folder = tmp_path / "corpus"
    folder.mkdir()
    tokens = pl.Series(rng.integers(0, 50000, (rows, 64), dtype=np.uint16), dtype=pl.Array(pl.UInt16, 64)).cast(pl.List(pl.UInt16))
    pl.DataFrame({"sequence_id": np.arange(rows), "tokens": tokens}).write_parquet(folder / "sequences.parquet", compression="uncompressed")
    labels = population(rows, rng)
    grid = [(name, delta, 0.5, "both") for names in FAMILIES.values() for name in names for delta in (5, 50, 1000)]
    grid += [("rasy", 5, rho / 10, rouge) for rho in range(1, 10) for rouge in ("both", "l", "3")]
    assert len(grid) == 87
    workspace = Workspace(Console(file=io.StringIO(), width=400))
    small = (
        "llm=tiny_random",
        "llm.random.hidden_size=16",
        "llm.random.vocab_size=50304",
        "select.train_per_class=4000",
        "select.eval_per_class=2000",
        "cnn=paper",
    )
    where = (f"root={tmp_path}", "corpus=tables", "corpus.name=made", f"corpus.path={folder}")
    run = composed(*small, *where)
    files = {name: OmegaConf.to_container(OmegaConf.load(CONF / "taxonomy" / f"{name}.yaml")) for name in {cell[0] for cell in grid}}
    runs = {name: replace(run, taxonomy=TaxonomyConfig(**file)) for name, file in files.items()}
    monkeypatch.setattr(stages, "measure", lambda *_: Pace(0.01, 0.1, 0.001))  # what is asked here are samples and bytes
    monkeypatch.setattr(RunContext, "lm", None)
    chosen: dict[tuple[str, int, float, str], pl.DataFrame] = {}
    for size, layers in (("12b", 36), ("6.9b", 32), ("2.8b", 32)):
        for name, delta, rho, rouge in grid:
            llm = replace(runs[name].llm, name=size, random={**runs[name].llm.random, "num_hidden_layers": layers})
            context = RunContext(replace(runs[name], llm=llm, delta=delta, rho=rho, rouge=rouge), workspace)
            if not context.labels.has("memorized"):
                for group, columns in labels.items():
                    Labels(tmp_path, context.identity, context.corpus).write(group, columns)
            if (name, delta, rho, rouge) in chosen:  # every size has the same labels here, and so the same samples
                context.samples = chosen[name, delta, rho, rouge]
            plan_stage(context)
            chosen[name, delta, rho, rouge] = context.samples
    lines = [line for line in workspace.console.file.getvalue().splitlines() if line.startswith("plan")]
    distinct = [int(line.split("want ")[1].split()[0].replace(",", "")) for line in lines if "87 runs of" in line]
    gigabytes = float(lines[-1].split("together: ")[1].split()[0])
    assert len(distinct) == 3
    assert all(50_000 < count < 90_000 for count in distinct)
    assert gigabytes <= 60
