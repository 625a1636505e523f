"""What was fitted on one run says of the eval samples of another: its networks as they were trained, its probes and baselines fitted again.

Features are raw: nothing is fitted to the other run, no mean or scale either. Maps of another number of layers are resampled by depth.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch

from memgrid.config.derive import partition
from memgrid.config.names import training_seed
from memgrid.config.schema import RunConfig
from memgrid.corpus.corpus import Corpus
from memgrid.results.folder import RunFolder
from memgrid.results.transfers.record import PANEL
from memgrid.store.store import Store
from memgrid.train.baselines import Side, linear, without_attention
from memgrid.train.data import AttentionData, Batch
from memgrid.train.panel import Panel, load_panel
from memgrid.train.train import PROBE, statistics
from memgrid.train.transfer.depth import at_depth

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # trainer.precision → the type that networks answered in


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished run with what its samples are read from.

    Attributes:
        samples: sequence_id, label, title, side, and group where the run kept it.
        prefix_logprob: of each of them, float (n,), NaN where unknown.
    """

    run: RunConfig
    folder: RunFolder
    corpus: Corpus
    store: Store
    samples: pl.DataFrame
    prefix_logprob: np.ndarray

    def side(self, name: str) -> pl.DataFrame:
        """The samples of one side."""
        return self.samples.filter(pl.col("side") == name)

    @property
    def groups(self) -> np.ndarray:
        """The group of near-duplicates of each eval sample, int64 (n,); each its own where the run kept none."""
        table = self.side("eval")
        return table["group"].to_numpy().astype(np.int64) if "group" in table.columns else np.arange(table.height)

    def known(self, data: AttentionData, side: str) -> Side:
        """One side as it is known without attention, with the labels of the data that were read for it."""
        mine = (self.samples["side"] == side).to_numpy()
        return Side.of(data.known[side], self.prefix_logprob[mine], data.side(side)["label"].to_numpy().astype(np.int64))


def answers(source: Finished, here: Finished) -> dict[str, np.ndarray | None]:
    """What everything that was fitted on the train side of `source` says of the eval samples of `here`.

    Returns:
        Probabilities by name, in the order of the classes of `here`: of the panel float32 (members, n, classes); of the probes and the
        baselines float64 (n, classes), None where what one sees is not known of a run.

    Raises:
        UserError: the networks cannot be read, or a store holds attention of other sequences.
    """
    # The device and the threads are those of this machine, all else is as the networks were trained.
    trainer = replace(source.run.trainer, accelerator=here.run.trainer.accelerator, threads=here.run.trainer.threads)
    run = replace(source.run, trainer=trainer, data=here.run.data)
    torch.set_num_threads(trainer.threads or len(os.sched_getaffinity(0)))
    panel = load_panel(run, source.store, source.folder).panel
    titles, net = list(run.taxonomy.classes), np.argsort(partition(run).order)  # networks see classes in the partition's order
    place = net[[titles.index(title) for title in here.run.taxonomy.classes]]
    pools = tuple(dict.fromkeys(member.reads for member in panel.members))
    theirs = side_of(source, "train", net, pools, run)
    own = side_of(here, "eval", place, pools, run)
    found: dict[str, np.ndarray | None] = {PANEL: of_panel(panel, batches(own, "eval", source.store.identity.layers), run)}
    seen = [statistics(batches(data, side, source.store.identity.layers), run, theirs) for data, side in ((theirs, "train"), (own, "eval"))]
    train, evaluate = alike(source.known(theirs, "train"), here.known(own, "eval"))
    for pool in pools:
        found[f"{PROBE}{pool}"] = linear([part[pool] for part in seen], train.labels, run.seed)[0]
    found |= without_attention(train, evaluate, source.corpus.k, len(titles), run.seed)
    return {name: None if said is None else said[..., place] for name, said in found.items()}


def side_of(finished: Finished, side: str, place: np.ndarray, pools: tuple[str, ...], run: RunConfig) -> AttentionData:
    """The maps of one side, read, with labels in the order in which the networks of `run` see the classes."""
    table = finished.side(side)
    table = table.with_columns(label=pl.Series(place.astype(np.int8)[table["label"].to_numpy()]))
    data = AttentionData(finished.store, finished.corpus, table, pools, run.data, run.cnn.batch_size, training_seed(run))
    data.setup()
    return data


def batches(data: AttentionData, side: str, layers: int) -> Iterator[Batch]:
    """One side in order, in the batches in which a run evaluates, with so many layers."""
    for pools, labels in data.loader(side, 4 * data.batch_size, None):
        yield {name: at_depth(packed, layers) for name, packed in pools.items()}, labels


@torch.inference_mode()
def of_panel(panel: Panel, read: Iterable[Batch], run: RunConfig) -> np.ndarray:
    """Probabilities float32 (members, n, classes), in the precision in which the networks were trained."""
    mixed, parts = MIXED.get(run.trainer.precision), []
    with nullcontext() if mixed is None else torch.autocast(panel.device.type, mixed):
        for pools, labels in read:
            moved = {name: packed.to(panel.device) for name, packed in pools.items()}
            parts.append(panel.predict_step((moved, labels), 0).float().cpu())
    return torch.cat(parts, 1).numpy()


def alike(train: Side, evaluate: Side) -> tuple[Side, Side]:
    """Both sides with a log-probability of as many tokens: without that of the first, where one model read nothing before it."""
    both = train, evaluate
    if any(np.isnan(side.logprob[:, 0]).all() for side in both):
        both = tuple(replace(side, logprob=without_first(side.logprob)) for side in both)  # type: ignore[assignment]
    return both


def without_first(logprob: np.ndarray) -> np.ndarray:
    """The same with nothing known of the first token, float (n, tokens)."""
    return np.concatenate([np.full_like(logprob[:, :1], np.nan), logprob[:, 1:]], 1)
