"""The stage intervene: positions are switched off inside the model while it decodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from memgrid.config.derive import taxonomy
from memgrid.config.schema import RunConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import UserError
from memgrid.intervene.experiment import intervene
from memgrid.intervene.statistics import verdict
from memgrid.lm.model import LanguageModel
from memgrid.lm.triangle import Triangle
from memgrid.localize.localize import eval_samples
from memgrid.localize.maps import read_decision_maps
from memgrid.report.figures.doses import draw_doses, draw_layers
from memgrid.results.records import delta_path, write_mark

UNREAD, NOT_MEMORIZED = "text that the model never read", "training text that is not memorized"


def numbers(title: str, delta: np.ndarray, k: int, samples: int) -> dict[str, Any]:
    """What there is to tell of one class's Δ map, shares in percent.

    `within_prefix`, `suffix_to_prefix` and `within_suffix` divide it by query and key; `half`: so many of all positions, the most decisive
    ones, hold half of it.
    """
    total = float(delta.sum(dtype=np.float64)) or 1.0
    layers = 100 * delta.sum((1, 2), dtype=np.float64) / total
    by_query = {"within_prefix": delta[:, :k], "suffix_to_prefix": delta[:, k:, :k], "within_suffix": delta[:, k:, k:]}
    order = np.sort(Triangle(delta.shape[1]).pack(delta).ravel())[::-1].cumsum(dtype=np.float64)
    return {
        "class": title,
        "samples": samples,
        "layers": len(delta),
        "layer": int(layers.argmax()) + 1,
        "layer_share": float(layers.max()),
        **{name: 100 * float(part.sum(dtype=np.float64)) / total for name, part in by_query.items()},
        "half": 100 * float((order < order[-1] / 2).sum() + 1) / len(order),
        "layer_shares": layers.tolist(),
    }


def switch_off(run: RunConfig, language_model: Callable[[], LanguageModel], corpus: Corpus, unread: np.ndarray, folder: Path) -> None:
    """Switch off where the run's networks decide, write the table, its figures, and last the mark.

    The model is loaded only if the Δ maps are there.

    Args:
        unread: ids of sequences that the model never read, on which general damage is measured; where there are none, on the eval samples
            of the class that is not memorized.

    Raises:
        UserError: there are no Δ maps of the run's method, or no class has an extractable sample.
    """
    path = delta_path(run, folder)
    if not path.exists():
        raise UserError(f"the Δ maps of localize.method={run.localize.method} are not in {folder}: add localize to stages")
    maps = read_decision_maps(path)
    torch.set_num_threads(run.trainer.threads or len(os.sched_getaffinity(0)))
    chosen = eval_samples(corpus, pl.read_parquet(folder / "samples.parquet"), len(maps.classes), None, run.seed)
    rules = taxonomy(run).classes
    spared = [label for label, title in enumerate(maps.classes) if set(rules[title]) == {"non_memorized"}]
    some = np.random.default_rng(run.seed).permutation(np.sort(unread))[: 2 * run.intervene.ordinary]  # a few may be extractable
    ordinary = some if len(some) else np.concatenate([np.zeros(0, np.int64), *(chosen[label] for label in spared)])
    memorized = {label: ids for label, ids in enumerate(chosen) if label not in spared}
    table = intervene(language_model(), corpus, maps.values, list(maps.classes), memorized, ordinary, run.intervene, folder)
    draw_doses(table, folder / "figures" / "doses")
    draw_layers(table, folder / "figures" / "dose-layers")
    text = UNREAD if len(some) else NOT_MEMORIZED
    write_mark(run, folder, "intervene", maps.inputs, {"verdict": verdict(table), "damage_on": text})
