"""The attention that the CNNs of a finished run were trained on, as a data set: which of its samples do they memorize?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memgrid.audit.config import DatasetConfig
from memgrid.audit.data.dataset import Dataset
from memgrid.config.overrides import read_config
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.results.folder import RunFolder

if TYPE_CHECKING:
    import polars as pl


def load_attention(config: DatasetConfig) -> Dataset:
    """The pooled maps that a finished run's CNNs were trained on, and for held-out samples those that they were judged by.

    Raises:
        UserError: the folder holds no finished run, or its attention is gone.
    """
    import polars as pl
    from rich.console import Console

    from memgrid.config.derive import members, protocol
    from memgrid.launch.workspace import Workspace
    from memgrid.pipeline.context import RunContext

    run, samples = read_run(config)
    pool = members(run.cnn, protocol(run))[0].reads
    store = RunContext(run, Workspace(Console(quiet=True))).store
    sides = {}
    for side in ("train", "eval"):
        of_side = samples.filter(pl.col("side") == side)[: config.samples]
        if lacking := len(store.missing(of_side["sequence_id"].to_numpy())):
            raise UserError(f"attention of {lacking} samples of dataset.path={config.path} is not in {store.folder}: extract it again")
        sides[side] = store.read(of_side["sequence_id"].to_numpy(), (pool,)).pools[pool], of_side["label"].to_numpy().astype(np.int64)
    ids = samples.filter(pl.col("side") == "train")[: config.samples]["sequence_id"].to_numpy()
    return Dataset(config.name, *sides["train"], *sides["eval"], len(run.taxonomy.classes), run.corpus.length, identifiers=ids)


def read_run(config: DatasetConfig) -> tuple[RunConfig, pl.DataFrame]:
    """The settings of the finished run in `path`, with the root that it lies in, and its samples: sequence_id, side, label.

    Raises:
        UserError: the folder holds no finished run, or a damaged one.
    """

    folder = RunFolder(Path(str(config.path)).absolute())
    if not folder.is_finished() or not folder.samples.is_file():
        raise UserError(f"dataset.path={config.path} holds no finished run: give a folder such as memgrid-runs/runs/toy/rasy/rho0.5-...")
    run = read_config(folder.config, folder.path.parents[3])
    return run, folder.table(folder.samples, ["sequence_id", "side", "label"], "do the run again with force=true")
