"""Resident and streamed feeding give the same batches, whatever the number of processes and the way they start."""

import multiprocessing
import pickle

import numpy as np
import polars as pl
import pytest
import torch
from conftest import NIGHT
from torch.utils.data import DataLoader, Dataset

from memgrid.config.schema import DataConfig
from memgrid.corpus.corpus import Corpus
from memgrid.store.shard import Identity, Maps
from memgrid.store.store import Store
from memgrid.train.data import AttentionData, SeededBatches, StreamedMaps

LENGTH, LAYERS, COUNT = 16, 3, 90
CELLS = LENGTH * (LENGTH + 1) // 2


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Ninety samples in three shards of shuffled ids."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(1000)[:COUNT].astype(np.int64)
    tokens = rng.integers(0, 99, (COUNT, LENGTH), dtype=np.int32)
    maps = {pool: rng.random((COUNT, CELLS, LAYERS)).astype(np.float16) for pool in ("mean", "max")}
    store = Store(tmp_path_factory.mktemp("store"), Identity("llm", "", "f", "c", 8, LENGTH, LAYERS))
    for part in np.array_split(np.arange(COUNT), 3):
        store.write(Maps(ids[part], tokens[part], np.ones(len(part), np.float32), {pool: array[part] for pool, array in maps.items()}))
    side = np.where(np.arange(COUNT) < 60, "train", "eval")
    samples = pl.DataFrame({"sequence_id": ids, "label": (np.arange(COUNT) % 2).astype(np.int8), "side": side}).sort("sequence_id")
    return store, Corpus("c", ids, tokens, 8, None), samples, dict(zip(ids.tolist(), maps["mean"], strict=True))


def data(made, **config):
    store, corpus, samples, _ = made
    module = AttentionData(store, corpus, samples, ("mean", "max"), DataConfig(**config), 16, seed=3)
    module.setup()
    return module


def epoch(loader, number=0):
    loader.sampler.set_epoch(number)
    return [({pool: maps.clone() for pool, maps in pools.items()}, labels.clone()) for pools, labels in loader]


def assert_same(first, second):
    assert len(first) == len(second)
    for (pools, labels), (others, other_labels) in zip(first, second, strict=True):
        assert torch.equal(labels, other_labels)
        assert all(torch.equal(pools[pool], others[pool]) for pool in ("mean", "max"))


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_equals_resident_batch_by_batch(made, workers):
    resident, streamed = data(made, mode="resident"), data(made, mode="stream", workers=workers)
    assert resident.resident
    assert not streamed.resident
    for number in range(2):
        assert_same(epoch(resident.train_dataloader(), number), epoch(streamed.train_dataloader(), number))
    assert_same(epoch(resident.val_dataloader()), epoch(streamed.val_dataloader()))


class Sent(Dataset):
    """What reaches a process that is spawned, for one that is forked: it need not import everything anew, which takes seconds."""

    def __init__(self, dataset):
        self.pickled, self.here = pickle.dumps(dataset), None

    def __getitem__(self, rows):
        self.here = self.here or pickle.loads(self.pickled)
        return self.here[rows]


@pytest.mark.parametrize("method", ["fork", "sent", *(["spawn"] if NIGHT else [])])
def test_processes_open_files_of_their_own(made, method):
    store, _, samples, _ = made
    rows = samples.filter(pl.col("side") == "train")
    dataset = StreamedMaps(store, rows["sequence_id"].to_numpy(), ("mean", "max"), rows["label"].to_numpy())
    dataset[[0]]  # this process has files open already
    context = multiprocessing.get_context("spawn" if method == "spawn" else "fork")
    workers = 1 if method == "spawn" else 2  # one that is spawned imports everything, and a second would do no more
    sent = Sent(dataset) if method == "sent" else dataset
    loader = DataLoader(sent, sampler=SeededBatches(60, 16, 3), batch_size=None, num_workers=workers, multiprocessing_context=context)
    assert_same(epoch(loader), epoch(data(made, mode="resident").train_dataloader()))


def test_an_epoch_has_every_sample_once_with_its_own_map(made):
    samples, truth = made[2], made[3]
    rows = samples.filter(pl.col("side") == "eval")
    batches = epoch(data(made, mode="stream", workers=0).val_dataloader())
    maps = torch.cat([pools["mean"] for pools, _ in batches]).numpy()
    np.testing.assert_array_equal(maps, np.stack([truth[sequence] for sequence in rows["sequence_id"].to_list()]))
    np.testing.assert_array_equal(torch.cat([labels for _, labels in batches]), rows["label"])


def test_auto_goes_by_size(made):
    assert data(made, mode="auto", memory_gb=1.0).resident
    assert not data(made, mode="auto", memory_gb=1e-6).resident
