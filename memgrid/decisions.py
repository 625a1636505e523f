"""The stages after training: where a finished run's networks decide, and whether the model needs it. They write into the run's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.markup import escape

from memgrid.config import taxonomy
from memgrid.corpus import Corpus
from memgrid.delta_figures import draw_delta, draw_layer_shares, draw_randomisation, draw_sequence, draw_teaser
from memgrid.deltas import DeltaMaps, read_delta
from memgrid.dose_figures import draw_doses, draw_layers
from memgrid.effect import verdict
from memgrid.intervene import intervene
from memgrid.lm import LanguageModel, Tokenizer
from memgrid.localize import TrainedPanel, eval_samples, load_panel, localize, one_sample, sanity
from memgrid.marks import delta_path, mean_curves, said, undone, write_mark
from memgrid.schema import RunConfig, UserError
from memgrid.store import Store

UNREAD, NOT_MEMORIZED = "text that the model never read", "training text that is not memorized"


def once(run: RunConfig, stage: str, folder: Path, say: Callable[[str], None], do: Callable[[], None]) -> None:
    """Do a stage after training unless it is done; either way, tell what it found."""
    alone = replace(run, stages=[stage])
    if undone(alone, folder):
        do()
    for line in said(alone, folder):
        say(f"{stage:<8} {escape(line)}")


def locate(run: RunConfig, corpus: Corpus, store: Store, folder: Path, tokenizer: Tokenizer) -> None:
    """Write the Δ maps of the finished run in `folder`, their figures, the randomisation test, and last the mark.

    Raises:
        UserError: attention is missing, the run is not finished, or its networks cannot be read.
    """
    samples = pl.read_parquet(folder / "samples.parquet")
    chosen = eval_samples(corpus, samples, len(run.taxonomy.classes), run.localize.samples, run.seed)
    if lacking := len(store.missing(np.concatenate(chosen))):
        raise UserError(f"attention of {lacking} samples is not in {store.folder}: add extract to stages")
    method = run.localize.method
    maps = read_delta(localize(run, corpus, store, samples, folder, method, run.localize.samples))
    trained = load_panel(run, store, folder)
    draw_maps(maps, folder / "figures")
    draw_sequences(trained, maps, corpus, store, tokenizer, folder / "figures")
    found: dict[str, Any] = {}
    if run.localize.sanity:
        for label, title in enumerate(maps.classes):
            found[title] = sanity(trained, corpus, store, maps.ids[label][: run.localize.sanity], label, method, run.seed)
        draw_randomisation(mean_curves(found), folder / "figures" / f"randomisation-{method}")
    classes = [numbers(title, delta, maps.k, many) for title, delta, many in zip(maps.classes, maps.delta, maps.samples, strict=True)]
    many = f"{min(maps.samples)} eval samples per class"
    write_mark(run, folder, "localize", maps.inputs, {"samples": many, "classes": classes, "sanity": found})


def draw_maps(maps: DeltaMaps, figures: Path) -> None:
    """What the Δ maps look like: classes side by side, shares of layers, and every class layer by layer."""
    titles = list(maps.classes)
    draw_teaser(maps.delta, titles, maps.k, figures / f"teaser-{maps.method}")
    draw_layer_shares(maps.delta, titles, figures / f"layers-{maps.method}")
    for number, (title, delta) in enumerate(zip(titles, maps.delta, strict=True), 1):
        draw_delta(delta, title, maps.k, figures / f"delta-{maps.method}-{number}-{file_name(title)}")


def draw_sequences(trained: TrainedPanel, maps: DeltaMaps, corpus: Corpus, store: Store, tokenizer: Tokenizer, figures: Path) -> None:
    """One eval sequence of each class, token by token; text of sequences stays in these files."""
    for label, (title, ids) in enumerate(zip(maps.classes, maps.ids, strict=True)):
        one = one_sample(trained, corpus, store, int(ids[0]), label, maps.method)
        tokens = tokenizer.detokenize(one.decoded[:, None])
        path = figures / f"sequence-{maps.method}-{label + 1}-{file_name(title)}"
        draw_sequence(one.attention, one.delta, tokens, f"{title}: sequence {one.sequence_id}", maps.k, path)


def file_name(title: str) -> str:
    """A class's title as a part of a file's name."""
    return re.sub(r"[^\w.+-]+", "-", title).strip("-.")[:40] or "class"


def numbers(title: str, delta: np.ndarray, k: int, samples: int) -> dict[str, Any]:
    """What there is to tell of one class's Δ map, shares in percent.

    `within_prefix`, `suffix_to_prefix` and `within_suffix` divide it by query and key; `half`: so many of all positions, the most decisive
    ones, hold half of it.
    """
    total = float(delta.sum(dtype=np.float64)) or 1.0
    layers = 100 * delta.sum((1, 2), dtype=np.float64) / total
    by_query = {"within_prefix": delta[:, :k], "suffix_to_prefix": delta[:, k:, :k], "within_suffix": delta[:, k:, k:]}
    order = np.sort(delta[:, np.tri(delta.shape[1], dtype=bool)].ravel())[::-1].cumsum(dtype=np.float64)
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
    maps = read_delta(path)
    torch.set_num_threads(run.trainer.threads or len(os.sched_getaffinity(0)))
    chosen = eval_samples(corpus, pl.read_parquet(folder / "samples.parquet"), len(maps.classes), None, run.seed)
    rules = taxonomy(run).classes
    spared = [label for label, title in enumerate(maps.classes) if set(rules[title]) == {"non_memorized"}]
    some = np.random.default_rng(run.seed).permutation(np.sort(unread))[: 2 * run.intervene.ordinary]  # a few may be extractable
    ordinary = some if len(some) else np.concatenate([np.zeros(0, np.int64), *(chosen[label] for label in spared)])
    memorized = {label: ids for label, ids in enumerate(chosen) if label not in spared}
    table = intervene(language_model(), corpus, maps.delta, list(maps.classes), memorized, ordinary, run.intervene, folder)
    draw_doses(table, folder / "figures" / "doses")
    draw_layers(table, folder / "figures" / "dose-layers")
    text = UNREAD if len(some) else NOT_MEMORIZED
    write_mark(run, folder, "intervene", maps.inputs, {"verdict": verdict(table), "damage_on": text})
