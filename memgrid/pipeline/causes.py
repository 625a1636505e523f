"""The stages after training: where a finished run's networks decide (localize), and whether the model needs it (intervene)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from memgrid.config.derive import taxonomy
from memgrid.config.schema import RunConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import UserError
from memgrid.intervene.experiment import Files, Texts, intervene
from memgrid.intervene.selectivity import selectivities
from memgrid.intervene.statistics import verdict
from memgrid.io.digests import is_usable
from memgrid.lm.model import LanguageModel, Tokenizer
from memgrid.lm.triangle import Triangle
from memgrid.localize.localize import eval_samples, localize, one_sample
from memgrid.localize.maps import DecisionMaps, read_decision_maps
from memgrid.localize.randomization import agreement, randomization_test
from memgrid.report.figures.causes.doses import DRAWINGS
from memgrid.report.figures.causes.maps import draw_decision_maps, draw_layer_shares, draw_randomization, draw_sequence, draw_teaser
from memgrid.report.figures.causes.where import draw_heads, draw_where
from memgrid.report.viewer.words import is_public
from memgrid.results.findings import mean_curves, stage_sentences
from memgrid.results.folder import RunFolder
from memgrid.results.records import (
    ClassRegions,
    InterveneRecord,
    LocalizeRecord,
    RandomizationCurves,
    Selectivity,
    stage_settings,
)
from memgrid.store.store import Store
from memgrid.train.panel import TrainedPanel, load_panel

ENDINGS = (".png", ".pdf")
UNSEEN, NOT_MEMORIZED = "text that the model never read", "training text that is not memorized"


def once(run: RunConfig, stage: str, folder: RunFolder, say: Callable[[str], None], do: Callable[[], None]) -> None:
    """Do a stage after training unless it is done; either way, tell what it found."""
    alone = replace(run, stages=[stage])
    if folder.undone(alone):
        is_usable(folder.record_path(run, stage))  # a damaged one is named and set aside
        do()
        if folder.undone(alone) or not folder.is_finished():
            raise UserError(f"{folder.path} lost files while the stage {stage} went on: start again")
    for line in stage_sentences(alone, folder):
        say(f"{stage:<8} {line}")


def locate(run: RunConfig, corpus: Corpus, store: Store, folder: RunFolder, tokenizer: Tokenizer) -> None:
    """Write the decision maps of the finished run in `folder`, their figures, the randomization test, and last the record.

    Raises:
        UserError: attention is missing, the run is not finished, or its networks cannot be read.
    """
    samples = folder.table(folder.samples)
    chosen = eval_samples(corpus, samples, len(run.taxonomy.classes), run.localize.samples, run.seed)
    if lacking := len(store.missing(np.concatenate(chosen))):
        raise UserError(f"attention of {lacking} samples is not in {store.folder}: add extract to stages")
    method = run.localize.method
    maps = read_decision_maps(localize(run, corpus, store, samples, folder, method, run.localize.samples), with_members=True)
    trained = load_panel(run, store, folder)
    draw_maps(maps, folder.figures)
    draw_sequences(trained, maps, corpus, store, partial(token_names, run, tokenizer), folder.figures)
    curves: dict[str, RandomizationCurves] = {}
    if run.localize.sanity:
        for label, title in enumerate(maps.classes):
            of_class = randomization_test(trained, corpus, store, maps.ids[label][: run.localize.sanity], label, method, run.seed)
            curves[title] = RandomizationCurves(decision_map=of_class["delta"], decisiveness=of_class["decisiveness"])
        draw_randomization(mean_curves(curves), folder.figures / f"randomisation-{method}")
    classes = [class_regions(maps, label) for label in range(len(maps.classes))]
    samples_used = f"{min(maps.samples)} eval samples per class"
    folder.write_record(LocalizeRecord(method, stage_settings(run, "localize"), maps.inputs, samples_used, classes, curves))


def draw_maps(maps: DecisionMaps, figures: Path) -> None:
    """What the Δ maps look like: classes side by side, shares of layers, and every class layer by layer."""
    titles = list(maps.classes)
    draw_teaser(maps.values, titles, maps.k, figures / f"teaser-{maps.method}")
    draw_layer_shares(maps.values, titles, figures / f"layers-{maps.method}")
    for number, (title, delta) in enumerate(zip(titles, maps.values, strict=True), 1):
        draw_decision_maps(delta, title, maps.k, figures / f"delta-{maps.method}-{number}-{file_name(title)}")


def draw_sequences(
    trained: TrainedPanel, maps: DecisionMaps, corpus: Corpus, store: Store, names: Callable[[np.ndarray], list[str]], figures: Path
) -> None:
    """One eval sequence of each class, token by token.

    Args:
        names: what tokens are called.
    """
    for label, (title, ids) in enumerate(zip(maps.classes, maps.ids, strict=True)):
        sample = one_sample(trained, corpus, store, int(ids[0]), label, maps.method)
        path = figures / f"sequence-{maps.method}-{label + 1}-{file_name(title)}"
        draw_sequence(sample.attention, sample.values, names(sample.decoded), f"{title}: sequence {sample.sequence_id}", maps.k, path)


def token_names(run: RunConfig, tokenizer: Tokenizer, decoded: np.ndarray) -> list[str]:
    """What tokens are called in figures, which travel: text only of the embedded corpus, places in the sequence of any other.

    Args:
        decoded: int (length,).
    """
    return tokenizer.detokenize(decoded[:, None]) if is_public(asdict(run)) else [str(place) for place in range(len(decoded))]


def file_name(title: str) -> str:
    """A class's title as a part of a file's name."""
    return re.sub(r"[^\w.+-]+", "-", title).strip("-.")[:40] or "class"


def class_regions(maps: DecisionMaps, label: int) -> ClassRegions:
    """What there is to tell of one class's decision map."""
    decision_map, k = maps.values[label], maps.k
    total = float(decision_map.sum(dtype=np.float64)) or 1.0
    layers = 100 * decision_map.sum((1, 2), dtype=np.float64) / total

    def share(part: np.ndarray) -> float:
        return 100 * float(part.sum(dtype=np.float64)) / total

    order = np.sort(Triangle(decision_map.shape[1]).pack(decision_map).ravel())[::-1].cumsum(dtype=np.float64)
    several = [of_member[label] for of_member in maps.members.values()] if len(maps.members) > 1 else []
    agreed = agreement(np.stack(several)) if several else None
    return ClassRegions(
        title=maps.classes[label],
        samples=maps.samples[label],
        layers=len(decision_map),
        layer=int(layers.argmax()) + 1,
        layer_share=float(layers.max()),
        within_prefix=share(decision_map[:, :k]),
        suffix_to_prefix=share(decision_map[:, k:, :k]),
        within_suffix=share(decision_map[:, k:, k:]),
        half=100 * float((order < order[-1] / 2).sum() + 1) / len(order),
        layer_shares=layers.tolist(),
        agreement=agreed and agreed[0],
        shared=agreed and 100 * agreed[1],
    )


def switch_off(run: RunConfig, language_model: Callable[[], LanguageModel], corpus: Corpus, unseen: np.ndarray, folder: RunFolder) -> None:
    """Switch off where the run's networks decide, write the table, its figures, and last the record.

    The model is loaded only if the Δ maps are there.

    Args:
        unseen: ids of sequences that the model never read, see `texts_of`.

    Raises:
        UserError: there are no Δ maps of the run's method, or no class has an extractable sample.
    """
    path = folder.decision_maps(run.localize.method)
    if not path.exists():
        raise UserError(f"the Δ maps of localize.method={run.localize.method} are not in {folder.path}: add localize to stages")
    maps = read_decision_maps(path, with_members=run.intervene.average == "votes")
    torch.set_num_threads(run.trainer.threads or len(os.sched_getaffinity(0)))
    texts, damage_on = texts_of(run, corpus, unseen, folder)
    table = intervene(
        language_model(),
        corpus,
        maps.votes() if run.intervene.average == "votes" else maps.values,
        list(maps.classes),
        texts,
        run.intervene,
        Files(folder.intervention, folder.intervention_units, folder.intervention_journal),
    )
    units = folder.table(folder.intervention_units)
    found = selectivities(table, units)
    draw_intervention(table, units, found, folder.figures)
    settings = stage_settings(run, "intervene")
    folder.write_record(InterveneRecord(run.localize.method, settings, maps.inputs, verdict(table), damage_on, selectivity=found))


def draw_intervention(table: pl.DataFrame, units: pl.DataFrame, found: list[Selectivity], figures: Path) -> None:
    """What an intervention shows; figures of an earlier one that this one does not have are removed."""
    drawings: dict[str, Callable[[Path], None]] = {name: partial(draw, table) for name, draw in DRAWINGS.items()}
    drawings |= {"where": partial(draw_where, table, found), "heads": partial(draw_heads, units)}
    for name, draw in drawings.items():
        for ending in ENDINGS:
            (figures / f"{name}{ending}").unlink(missing_ok=True)
        draw(figures / name)


def texts_of(run: RunConfig, corpus: Corpus, unseen: np.ndarray, folder: RunFolder) -> tuple[Texts, str]:
    """What an intervention reads: eval samples, train samples to rank heads and layers on, and text on which damage is measured, by name.

    Args:
        unseen: ids of sequences that the model never read, on which damage is measured; where there are none, on the eval samples of the
            class that is not memorized.
    """
    samples, classes, excluded = alone(folder.table(folder.samples)), len(run.taxonomy.classes), sorted(taxonomy(run).never_memorized)
    chosen = eval_samples(corpus, samples, classes, None, run.seed)
    ranked_on = eval_samples(corpus, samples, classes, 2 * run.intervene.samples, run.seed, "train")
    held_out = np.random.default_rng(run.seed).permutation(np.sort(unseen))[: 2 * run.intervene.ordinary]  # a few may be extractable
    damage_on = UNSEEN if len(held_out) else NOT_MEMORIZED
    if not len(held_out):
        held_out = np.concatenate([np.zeros(0, np.int64), *(chosen[label] for label in excluded)])
    memorized, others = ({label: ids for label, ids in enumerate(side) if label not in excluded} for side in (chosen, ranked_on))
    return Texts(memorized, others, held_out), damage_on


def alone(samples: pl.DataFrame) -> pl.DataFrame:
    """One of each class's groups of near-duplicates, which would survive or fall together; runs of earlier versions know of no groups."""
    return samples.unique(["label", "group"], keep="first", maintain_order=True) if "group" in samples.columns else samples
