"""The stage intervene: positions are switched off inside the model while it decodes."""

from __future__ import annotations

import os
from collections.abc import Callable

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
from memgrid.localize.localize import eval_samples
from memgrid.localize.maps import read_decision_maps
from memgrid.report.figures.doses import DRAWINGS
from memgrid.results.folder import RunFolder
from memgrid.results.records import InterveneRecord, stage_settings

UNSEEN, NOT_MEMORIZED = "text that the model never read", "training text that is not memorized"


def switch_off(run: RunConfig, language_model: Callable[[], LanguageModel], corpus: Corpus, unseen: np.ndarray, folder: RunFolder) -> None:
    """Switch off where the run's networks decide, write the table, its figures, and last the record.

    The model is loaded only if the Δ maps are there.

    Args:
        unseen: ids of sequences that the model never read, on which general damage is measured; where there are none, on the eval samples
            of the class that is not memorized.

    Raises:
        UserError: there are no Δ maps of the run's method, or no class has an extractable sample.
    """
    path = folder.decision_maps(run.localize.method)
    if not path.exists():
        raise UserError(f"the Δ maps of localize.method={run.localize.method} are not in {folder.path}: add localize to stages")
    maps = read_decision_maps(path, with_members=run.intervene.average == "votes")
    torch.set_num_threads(run.trainer.threads or len(os.sched_getaffinity(0)))
    chosen = eval_samples(corpus, alone(folder.table(folder.samples)), len(maps.classes), None, run.seed)
    rules = taxonomy(run).classes
    excluded = [label for label, title in enumerate(maps.classes) if set(rules[title]) == {"non_memorized"}]
    held_out = np.random.default_rng(run.seed).permutation(np.sort(unseen))[: 2 * run.intervene.ordinary]  # a few may be extractable
    text = UNSEEN if len(held_out) else NOT_MEMORIZED
    if not len(held_out):
        held_out = np.concatenate([np.zeros(0, np.int64), *(chosen[label] for label in excluded)])
    memorized = {label: ids for label, ids in enumerate(chosen) if label not in excluded}
    table = intervene(
        language_model(),
        corpus,
        maps.votes() if run.intervene.average == "votes" else maps.values,
        list(maps.classes),
        memorized,
        held_out,
        run.intervene,
        folder.intervention,
        folder.intervention_journal,
    )
    for name, draw in DRAWINGS.items():
        draw(table, folder.figures / name)
    settings = stage_settings(run, "intervene")
    folder.write_record(InterveneRecord(run.localize.method, settings, maps.inputs, verdict(table), text))


def alone(samples: pl.DataFrame) -> pl.DataFrame:
    """One of each class's groups of near-duplicates, which would survive or fall together; runs of earlier versions know of no groups."""
    return samples.unique(["label", "group"], keep="first", maintain_order=True) if "group" in samples.columns else samples
