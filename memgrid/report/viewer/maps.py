"""Attention and Δ for the page: of few sequences, from the store, and of classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memgrid.config.derive import decoded
from memgrid.config.overrides import command, read_config
from memgrid.errors import UserError
from memgrid.lm.triangle import Triangle
from memgrid.localize.maps import read_decision_maps
from memgrid.report.rows import NamedRun
from memgrid.report.viewer.chosen import Judged
from memgrid.report.viewer.packed import pack
from memgrid.store.archive import open_store
from memgrid.store.store import Store, store_folder

AVERAGED = 48  # sequences of a class whose mean is its own, at most: what is read for that stays small


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Packed maps of classes, layer by layer, in the order of the run's classes.

    Attributes:
        plain: `Packed.plain` of (classes, layers, positions). samples: of how many sequences each class's is the mean.
        layers, length, k: of the maps; the tokens of the prefix are the first k. note: how they were made, in words.
    """

    plain: dict[str, Any]
    samples: tuple[int, ...]
    layers: int
    length: int
    k: int
    note: str = ""

    @property
    def for_page(self) -> dict[str, Any]:
        """What the page reads."""
        return {**self.plain, "samples": list(self.samples), "note": self.note}


def store_of(run: NamedRun, root: Path) -> Store:
    """The attention of a run's model on its corpus; the model itself need not be at hand.

    Raises:
        UserError: there is none, with the command that makes it, or it is another model's.
    """
    config = read_config(run.folder.config, root)
    fingerprint = None if run.result.origin is None else run.result.origin.llm
    folder = store_folder(root, config.llm.name, config.corpus.name, decoded(config), fingerprint)
    store = open_store(folder)
    if store is None:
        raise UserError(f"its attention is not in {folder}: `{command(config, 'stages=[extract]')}` makes it")
    if fingerprint is not None and store.identity.fingerprint != fingerprint:
        raise UserError(f"{folder} holds the attention of another model: `{command(config, 'force=true')}` makes the run anew")
    return store


def sequence_maps(store: Store, ids: np.ndarray) -> list[dict[str, Any]]:
    """For each sequence its maps `mean` and `max`, (layers, positions) as `Packed.plain`, and its `decoded` tokens, int32 (length,)."""
    read = store.read(ids)
    pools = {pool: values.transpose(0, 2, 1) for pool, values in read.pools.items()}
    return [{"decoded": read.decoded[row], **{pool: pack(maps[row]).plain() for pool, maps in pools.items()}} for row in range(len(ids))]


def class_differences(store: Store, judged: Judged, classes: int) -> ClassMaps | None:
    """The mean map of every class less the mean of the others' (mean over heads); None where a class has no sequence in the store."""
    stored = ~np.isin(judged.ids, store.missing(judged.ids))
    means, samples = [], []
    for label in range(classes):
        ids = np.sort(judged.ids[stored & (judged.labels == label)])
        if not len(ids):
            return None
        some = ids[np.unique(np.linspace(0, len(ids) - 1, min(AVERAGED, len(ids))).round().astype(int))]
        means.append(store.read(some, ("mean",)).pools["mean"].mean(0, dtype=np.float64).T)
        samples.append(len(some))
    stacked = np.stack(means)
    others = (stacked.sum(0) - stacked) / (classes - 1)
    identity = store.identity
    return ClassMaps(pack(stacked - others, signed=True).plain(), tuple(samples), identity.layers, identity.length, identity.k)


def decision_maps(run: NamedRun) -> ClassMaps | None:
    """The run's Δ maps by the first method that it has, guided before others; None without such.

    Raises:
        UserError: the file is damaged, or of other classes.
    """
    methods = sorted(run.folder.methods(), key=lambda name: (name != "guided", name))
    if not methods:
        return None
    path = run.folder.decision_maps(methods[0])
    found = read_decision_maps(path)
    if set(found.classes) != set(run.result.classes):
        raise UserError(f"{path} has maps of other classes than the run: run it again with force=true")
    place = [found.classes.index(title) for title in run.result.classes]
    values, length = found.values[place], found.values.shape[-1]
    plain = pack(Triangle(length).pack(values)).plain()
    return ClassMaps(plain, tuple(found.samples[at] for at in place), values.shape[1], length, found.k, found.method)
