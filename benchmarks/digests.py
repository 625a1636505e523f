"""Rows about what digests cost: the share of each stage that is spent on sums, and on the file beside every checkpoint."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import polars as pl
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.measure import Row
from benchmarks.shapes import Settings
from memgrid.config.validate import register, typed
from memgrid.io import checkpoints
from memgrid.io import digests as sums
from memgrid.io.paths import CONF, TOY
from memgrid.launch.workspace import Workspace
from memgrid.pipeline.stages import do_stages
from memgrid.results.folder import RunFolder

STAGES = ("label", "extract", "train", "localize", "intervene")
QUICK = (
    *("cnn=single", "cnn.epochs=1", "control.members=0", "corpus=tables", "corpus.name=few"),
    *(f"select.{key}={count}" for key, count in {"train_per_class": 8, "eval_per_class": 3}.items()),
    *("select.min_train_per_class=2", "select.min_eval_per_class=1"),
    *(
        "localize.samples=2",
        "localize.sanity=0",
        "intervene.percent=[5]",
        "intervene.samples=2",
        "intervene.seeds=1",
        "intervene.ordinary=2",
    ),
)


@contextmanager
def clocked() -> Iterator[list[float]]:
    """Inside, the seconds spent in digests are added up in the one entry of a list."""
    total = [0.0]

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its seconds added up."""

        def call(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                total[0] += time.perf_counter() - began

        return call

    whole = SimpleNamespace(sha256=timed(hashlib.sha256))  # checkpoints are summed at once
    with (
        mock.patch.object(sums, "sealed", timed(sums.sealed)),
        mock.patch.object(sums, "fault_of", timed(sums.fault_of)),
        mock.patch.object(checkpoints, "digests", timed(checkpoints.digests)),
        mock.patch.object(checkpoints, "write_text", timed(checkpoints.write_text)),
        mock.patch.object(checkpoints, "hashlib", whole),
    ):
        yield total


def few_sequences(folder: Path) -> Path:
    """A part of the embedded corpus."""
    folder.mkdir()
    pl.read_parquet(TOY / "sequences.parquet").sample(160, seed=0).write_parquet(folder / "sequences.parquet")
    (folder / "documents.parquet").symlink_to(TOY / "documents.parquet")
    return folder


def digests(settings: Settings) -> list[Row]:
    """Each stage of the default run, once: seconds in digests over seconds of the stage."""
    words = [f"root={settings.folder / 'digests'}", "wandb=off", "trainer.progress=false"]
    if settings.quick:
        words += [*QUICK, f"corpus.path={few_sequences(settings.folder / 'few')}"]
    rows = []
    register()
    for stage in STAGES:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            run = typed(compose("run", [*words, f"stages=[{stage}]"]))
        sums.write_yaml(OmegaConf.structured(run), RunFolder.of(run).config)
        began = time.perf_counter()
        with clocked() as spent, redirect_stdout(StringIO()):
            do_stages(run, Workspace())
        seconds = time.perf_counter() - began
        how = "seconds in SHA-256 sums and in the files beside checkpoints, of those of the stage, in the default run"
        rows.append(Row(f"digests in {stage}", spent[0], seconds, spent[0] / seconds, "s", ("ratio", "<=", 0.03), how))
    return rows
