"""Feeding: the maps of a run's samples as batches, in an order fixed by seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytorch_lightning as pl_
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from memgrid.config.schema import DataConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import UserError
from memgrid.label.selection.select import SIDES
from memgrid.launch.job import leave_signals_to_the_parent
from memgrid.lm.triangle import Triangle
from memgrid.store.shard import Maps
from memgrid.store.store import Store

Batch = tuple[dict[str, torch.Tensor], torch.Tensor]


class ResidentMaps(Dataset[Batch]):
    """Samples in memory; an item is a whole batch, indexed by a list of rows.

    Gives ({pool: float16 (batch, positions, layers)}, labels int64 (batch,)).
    """

    def __init__(self, pools: dict[str, np.ndarray], labels: np.ndarray) -> None:
        self.pools = {name: torch.from_numpy(array) for name, array in pools.items()}
        self.labels = torch.from_numpy(labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.as_tensor(rows)
        return {name: array[index] for name, array in self.pools.items()}, self.labels[index]


class StreamedMaps(Dataset[Batch]):
    """The same batches, read from the store when they are asked for; a process that unpickles it opens files of its own."""

    def __init__(self, store: Store, ids: np.ndarray, pools: tuple[str, ...], labels: np.ndarray) -> None:
        self.store, self.ids, self.pools, self.labels = store, ids, pools, labels.astype(np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: list[int]) -> Batch:
        maps = self.store.read(self.ids[rows], self.pools)
        return {name: torch.from_numpy(array) for name, array in maps.pools.items()}, torch.from_numpy(self.labels[rows])


class SeededBatches(Sampler[list[int]]):
    """Batches of row numbers; `epoch` sets the order, so that a resumed epoch is the epoch it would have been."""

    def __init__(self, samples: int, batch_size: int, seed: int | None) -> None:
        self.samples, self.batch_size, self.seed, self.epoch = samples, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.samples) if self.seed is None else np.random.default_rng((self.seed, self.epoch)).permutation(self.samples)
        for start in range(0, self.samples, self.batch_size):
            yield order[start : start + self.batch_size].tolist()


class AttentionData(pl_.LightningDataModule):
    """The run's samples: train batches in seeded order, eval batches in the order of `samples`; the same ones resident or streamed.

    Args:
        samples: sequence_id, label, side, group, as `memgrid.label.selection.select.select` gives them.
        pools: which pooled maps the panel reads.
        config: resident or streamed, and with how many processes.
        shuffled: train on labels that were permuted (the control); the eval labels stay true.
    """

    def __init__(
        self,
        store: Store,
        corpus: Corpus,
        samples: pl.DataFrame,
        pools: tuple[str, ...],
        config: DataConfig,
        batch_size: int,
        seed: int,
        shuffled: bool = False,
    ) -> None:
        super().__init__()
        self.store, self.corpus, self.samples, self.config = store, corpus, samples, config
        self.pools, self.batch_size, self.seed, self.shuffled = pools, batch_size, seed, shuffled
        self.datasets: dict[str, ResidentMaps | StreamedMaps] = {}
        self.known: dict[str, Maps] = {}

    @property
    def resident(self) -> bool:
        """Whether the maps are kept in memory."""
        length, layers = self.store.identity.length, self.store.identity.layers
        needed = self.samples.height * len(Triangle(length)) * layers * 2 * len(self.pools)
        return self.config.mode == "resident" or (self.config.mode == "auto" and needed <= self.config.memory_gb * 1e9)

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return len(SeededBatches(self.side("train").height, self.batch_size, self.seed))

    def side(self, side: str) -> pl.DataFrame:
        """The samples of one side."""
        return self.samples.filter(pl.col("side") == side)

    def groups(self, side: str) -> np.ndarray:
        """The group of near-duplicates that each sample of a side is in, int64 (n,)."""
        return self.side(side)["group"].to_numpy().astype(np.int64)

    def setup(self, stage: str | None = None) -> None:
        """Make both sides' datasets, once.

        Raises:
            UserError: the store holds attention of other sequences under these ids.
        """
        for side in () if self.datasets else SIDES:
            rows = self.side(side)
            ids = rows["sequence_id"].to_numpy()
            maps = self.store.read(ids, self.pools if self.resident else (), measured=True)
            self.check_prefix(ids, maps.decoded)
            labels = rows["label"].to_numpy()
            if self.shuffled and side == "train":
                labels = np.random.default_rng(self.seed).permutation(labels)
            self.datasets[side] = ResidentMaps(maps.pools, labels) if self.resident else StreamedMaps(self.store, ids, self.pools, labels)
            self.known[side] = replace(maps, pools={})  # what a store knows of the samples but their attention

    def with_shuffled_labels(self) -> AttentionData:
        """The same samples for the control."""
        return AttentionData(self.store, self.corpus, self.samples, self.pools, self.config, self.batch_size, self.seed, shuffled=True)

    def check_prefix(self, ids: np.ndarray, decoded: np.ndarray) -> None:
        """Ids must mean the same sequences in the store and in the corpus."""
        differ = (decoded[:, : self.corpus.k] != self.corpus.prefix[self.corpus.rows_of(ids)]).any(1)
        if differ.any():
            raise UserError(
                f"the store {self.store.folder} holds another text as sequence {ids[differ][0]}: "
                "the corpus has changed, use another root or corpus.name"
            )

    def loader(self, side: str, batch_size: int, seed: int | None) -> DataLoader[Batch]:
        """Batches of one side; worker processes only where there is a disk to wait for."""
        dataset = self.datasets[side]
        workers = 0 if self.resident else self.config.workers
        sampler = SeededBatches(len(dataset), batch_size, seed)
        # Processes that read ahead begin before Lightning sets the epoch from which a training goes on.
        if self.trainer is not None:
            sampler.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=leave_signals_to_the_parent,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches in an order fixed by seed and epoch."""
        return self.loader("train", self.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the eval side, in order."""
        return self.loader("eval", 4 * self.batch_size, None)
