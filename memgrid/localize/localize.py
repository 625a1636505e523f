"""Localization: the Δ maps of a finished run, from its networks and the store to one HDF5 file.

A finished run has `checkpoints/last.ckpt`; one that took over an equal run's result (`train.reuse`) reads it there. Networks see the
classes in the partition's order; files and functions here name them in the taxonomy's.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from memgrid import __version__
from memgrid.config.derive import members, partition, protocol
from memgrid.config.names import digest_of, training_key
from memgrid.config.schema import RunConfig
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.ngrams import sequence_hashes
from memgrid.errors import UserError
from memgrid.lm.triangle import Triangle
from memgrid.localize.attribution import STEPS, check_method, panel_means
from memgrid.localize.maps import made_from, write_decision_maps
from memgrid.results.folder import finished
from memgrid.store.store import Store
from memgrid.train.data import AttentionData
from memgrid.train.devices import training_device
from memgrid.train.panel import Panel

# The networks of a finished run.


@dataclass(frozen=True, eq=False)
class TrainedPanel:
    """The networks of a finished run, in evaluation mode.

    Attributes:
        titles: the classes, in the taxonomy's order.
        place: for each class, the logit that stands for it.
        digest: SHA-256 of all weights, in hex.
    """

    run: RunConfig
    panel: Panel
    titles: tuple[str, ...]
    place: tuple[int, ...]
    digest: str


def load_panel(run: RunConfig, store: Store, folder: Path) -> TrainedPanel:
    """Read the networks of the finished run in `folder`, or of the equal run that trained them.

    They are put where `trainer.accelerator` says, in float32 whatever they were trained in: a gradient is a small difference.

    Raises:
        UserError: the run is not finished, or its checkpoint is missing, unreadable or not of its last epoch.
    """
    result = finished(folder)
    if result is None:
        raise UserError(f"{folder} holds no finished run, whose networks could be read: train it first, with train in stages")
    home = Path(run.root) / "runs" / result["same_as"] if result["same_as"] else folder
    checkpoint = read_checkpoint(home / "checkpoints" / "last.ckpt", run.cnn.epochs)
    titles = tuple(run.taxonomy.classes)
    shape = store.identity.layers, store.identity.length, store.identity.k, len(titles)
    panel = Panel(members(run.cnn, protocol(run)), run.cnn, *shape, run.seed, run.trainer.channels_last)
    try:
        panel.load_state_dict(checkpoint["state_dict"])
    except RuntimeError:
        raise UserError(f"{home / 'checkpoints' / 'last.ckpt'} holds other networks than this run's: run again with force=true") from None
    digest = hashlib.sha256()
    for name, weights in sorted(panel.state_dict().items()):
        digest.update(name.encode() + weights.contiguous().numpy().tobytes())
    panel.to(training_device(run.trainer)).eval().requires_grad_(False)
    return TrainedPanel(run, panel, titles, tuple(np.argsort(partition(run).order).tolist()), digest.hexdigest())


def read_checkpoint(path: Path, epochs: int) -> dict[str, Any]:
    """The state of a training that has seen all its epochs; UserError says what to do where there is none."""
    again = "run again with force=true, which trains the networks anew"
    if not path.exists():
        raise UserError(f"{path} is missing, and with it the trained networks: {again}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        seen = {row["epoch"] for row in checkpoint["history"]}
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
        raise UserError(f"{path} cannot be read: {again}") from None
    if len(seen) < epochs:
        raise UserError(f"{path} has seen {len(seen)} of {epochs} epochs: wait if another process trains this run, or {again}")
    return checkpoint


# The maps of its samples.


def eval_samples(corpus: Corpus, samples: pl.DataFrame, classes: int, per_class: int | None, seed: int) -> list[np.ndarray]:
    """For each class the ids, int64, of its first `per_class` eval samples (None: of all), whatever the networks take them for.

    First by the hash of the tokens that also orders the selection: any number of them is a uniform sample, and a part of any larger one.
    """
    chosen = []
    for label in range(classes):
        ids = np.sort(samples.filter((pl.col("side") == "eval") & (pl.col("label") == label))["sequence_id"].to_numpy())
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
    folder: Path,
    method: str = "guided",
    samples_per_class: int | None = None,
    batch_size: int = 16,
) -> Path:
    """Write the Δ maps of a finished run to `<folder>/localize-<method>.h5`, unless they are there, made from the same things.

    Memory grows with `batch_size`, not with the number of samples; the result does not depend on it but for rounding.

    Args:
        samples: as `memgrid.label.select.select` gives them; the eval side counts.
        folder: of the run.
        samples_per_class: at most so many of each class; None for all.

    Raises:
        UserError: the method is unknown or not for these networks, the run is not finished, or maps or networks are missing.
    """
    check_method(method)
    torch.set_num_threads(run.trainer.threads or len(os.sched_getaffinity(0)))
    trained = load_panel(run, store, folder)
    chosen = eval_samples(corpus, samples, len(trained.titles), samples_per_class, run.seed)
    path = folder / f"localize-{method}.h5"
    origin = provenance(trained, corpus, store, chosen, method)
    if made_from(path) == origin["inputs"]:
        return path
    by_class = []
    for place, ids in zip(trained.place, chosen, strict=True):
        by_class.append(panel_means(trained.panel, batches(trained, corpus, store, ids, batch_size), place, method)[0])
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
    fingerprints = store.identity.fingerprint, corpus.fingerprint, [ids.tolist() for ids in chosen], trained.place, STEPS
    return {**origin, "inputs": digest_of([origin, fingerprints]), "memgrid": __version__}


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
    means = panel_means(trained.panel, batches(trained, corpus, store, ids, 1), trained.place[label], method)
    values = means[0].mean(0).astype(np.float32)
    attention = Triangle(store.identity.length).unpack(maps.pools["max"][0].T.astype(np.float32))
    return SampleDecision(sequence_id, trained.titles[label], maps.decoded[0], attention, values)
