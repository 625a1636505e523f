"""Localization: the Δ maps of a finished run, from its networks and the store to one HDF5 file.

The networks are those that `train.panel.load_panel` gives; classes are in the order of the run's taxonomy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from memgrid.config.derive import protocol
from memgrid.config.names import digest_of, training_key
from memgrid.config.schema import RunConfig
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.ngrams import sequence_hashes
from memgrid.io.paths import VERSION
from memgrid.lm.triangle import Triangle
from memgrid.localize.attribution import STEPS, check_method, panel_means
from memgrid.localize.maps import made_from, write_decision_maps
from memgrid.results.folder import RunFolder
from memgrid.store.store import Store
from memgrid.train.data import AttentionData
from memgrid.train.panel import TrainedPanel, load_panel


def eval_samples(
    corpus: Corpus, samples: pl.DataFrame, classes: int, per_class: int | None, seed: int, side: str = "eval"
) -> list[np.ndarray]:
    """For each class the ids, int64, of its first `per_class` eval samples (None: of all), whatever the networks take them for.

    Or train samples, by `side`.

    First by the hash of the tokens that also orders the selection: any number of them is a uniform sample, and a part of any larger one.
    """
    chosen = []
    for label in range(classes):
        ids = np.sort(samples.filter((pl.col("side") == side) & (pl.col("label") == label))["sequence_id"].to_numpy())
        hashes = sequence_hashes(corpus.tokens[corpus.rows_of(ids)], seed)
        chosen.append(ids[np.argsort(hashes, kind="stable")][:per_class])
    return chosen


def batches(trained: TrainedPanel, corpus: Corpus, store: Store, ids: np.ndarray, batch_size: int) -> Iterator[dict[str, Tensor]]:
    """The packed maps that the panel and Δ read, float16 (batch, positions, layers), in batches on the panel's device.

    Raises:
        UserError: the store lacks a sample, or holds another text under its id.
    """
    pools = tuple(dict.fromkeys(["max", *(member.reads for member in trained.panel.members)]))
    data = AttentionData(store, corpus, pl.DataFrame(), pools, trained.run.data, batch_size, 0)
    for start in range(0, len(ids), batch_size):
        part = ids[start : start + batch_size]
        maps = store.read(part, pools)
        data.check_prefix(part, maps.decoded)
        yield {name: torch.from_numpy(array).to(trained.panel.device) for name, array in maps.pools.items()}


def localize(
    run: RunConfig,
    corpus: Corpus,
    store: Store,
    samples: pl.DataFrame,
    folder: RunFolder,
    method: str = "guided",
    samples_per_class: int | None = None,
    batch_size: int = 16,
) -> Path:
    """Write the Δ maps of a finished run to `<folder>/localize-<method>.h5`, unless they are there, made from the same things.

    Memory grows with `batch_size`, not with the number of samples; the result does not depend on it but for rounding.

    Args:
        samples: as `memgrid.label.selection.select.select` gives them; the eval side counts.
        folder: of the run.
        samples_per_class: at most so many of each class; None for all.

    Raises:
        UserError: the method is unknown or not for these networks, the run is not finished, or maps or networks are missing.
    """
    check_method(method)
    torch.set_num_threads(run.trainer.threads or len(os.sched_getaffinity(0)))
    trained = load_panel(run, store, folder)
    chosen = eval_samples(corpus, samples, len(trained.titles), samples_per_class, run.seed)
    path = folder.decision_maps(method)
    origin = provenance(trained, corpus, store, chosen, method)
    if made_from(path) == origin["inputs"]:
        return path
    by_class = []
    for label, ids in enumerate(chosen):
        read, everywhere = batches(trained, corpus, store, ids, batch_size), protocol(run).maximum_anywhere
        by_class.append(panel_means(trained.panel, read, trained.logit_of(label), method, everywhere)[0])
    write_decision_maps(path, origin, np.stack(by_class, 1), chosen)
    return path


def provenance(trained: TrainedPanel, corpus: Corpus, store: Store, chosen: list[np.ndarray], method: str) -> dict[str, Any]:
    """What the Δ maps are made from, as attributes of their file; `inputs` is equal if the maps would be."""
    origin = {
        "method": method,
        "classes": list(trained.titles),
        "members": [member.name for member in trained.panel.members],
        "samples": [len(ids) for ids in chosen],
        "k": store.identity.k,
        "llm": store.identity.llm,
        "corpus": corpus.name,
        "training": training_key(trained.run),
        "weights": trained.digest,
    }
    if protocol(trained.run).maximum_anywhere:
        origin["maximum"] = "anywhere"
    fingerprints = store.identity.fingerprint, corpus.fingerprint, [ids.tolist() for ids in chosen], trained.logits, STEPS
    return {**origin, "inputs": digest_of([origin, fingerprints]), "memgrid": VERSION}


@dataclass(frozen=True, eq=False)
class SampleDecision:
    """One sequence as the panel sees it.

    decoded: int32 (length,), the tokens that the attention was computed on.
    attention: float32 (layers, query, key), the max-pooled map. values: the same shape, the panel's average Δ of this sequence alone.
    """

    sequence_id: int
    title: str
    decoded: np.ndarray
    attention: np.ndarray
    values: np.ndarray


def one_sample(trained: TrainedPanel, corpus: Corpus, store: Store, sequence_id: int, label: int, method: str = "guided") -> SampleDecision:
    """What speaks for class `label` in one sequence, whose own class it need not be.

    Raises:
        UserError: the method is unknown or not for these networks, or the store lacks the sequence.
    """
    check_method(method)
    ids = np.array([sequence_id], np.int64)
    maps = store.read(ids, ("max",))
    read, everywhere = batches(trained, corpus, store, ids, 1), protocol(trained.run).maximum_anywhere
    means = panel_means(trained.panel, read, trained.logit_of(label), method, everywhere)
    values = means[0].mean(0).astype(np.float32)
    attention = Triangle(store.identity.length).unpack(maps.pools["max"][0].T.astype(np.float32))
    return SampleDecision(sequence_id, trained.titles[label], maps.decoded[0], attention, values)
