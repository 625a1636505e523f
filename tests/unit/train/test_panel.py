"""Training on planted maps: members equal themselves trained alone, resuming equals going through, shuffled labels fall to chance."""

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import polars as pl
import pytest
import torch
from conftest import refusal

from memgrid.config.derive import Member
from memgrid.config.schema import CNNConfig, CorpusConfig, DataConfig, LLMConfig, RunConfig, TaxonomyConfig, TrainerConfig, WandbConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import DamageWarning, UserError
from memgrid.io.checkpoints import beside, previous
from memgrid.results.folder import CHECKPOINT
from memgrid.store.shard import Identity, Maps
from memgrid.store.store import Store
from memgrid.train.data import AttentionData, SeededBatches
from memgrid.train.panel import Panel, member_seed
from memgrid.train.train import fit

LENGTH, LAYERS, CELLS = 32, 2, 32 * 33 // 2
MEMBERS = [Member(3, 4, "mean"), Member(3, 6, "max"), Member(5, 4, "mean")]


class Killed(BaseException):
    """Nothing catches it."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """120 samples of two classes that differ in one cell of the first layer."""
    rng = np.random.default_rng(0)
    count = 120
    labels = np.arange(count) % 2
    maps = rng.random((count, CELLS, LAYERS)).astype(np.float16) / 10
    maps[labels == 1, 200:260, 0] += np.float16(0.5)
    ids = np.arange(count, dtype=np.int64)
    tokens = rng.integers(0, 99, (count, LENGTH), dtype=np.int32)
    store = Store(tmp_path_factory.mktemp("store"), Identity("llm", "", "f", "c", 16, LENGTH, LAYERS))
    store.write(Maps(ids, tokens, np.full(count, 0.5, np.float32), {"mean": maps, "max": maps + np.float16(0.1)}))
    samples = pl.DataFrame(
        {
            "sequence_id": ids,
            "label": labels.astype(np.int8),
            "title": [["A", "B"][label] for label in labels],
            "side": ["train" if i < 80 else "eval" for i in ids],
        }
    )
    return store, Corpus("c", ids, tokens, 16, None), samples


def run_config(**changes):
    cnn = CNNConfig(**{"kernel_size": 3, "features": 4, "pooling": "mean", "epochs": 4, "dropout": 0.25, "scale": "raw", **changes})
    taxonomy = TaxonomyConfig(name="t", classes={"A": "non_memorized", "B": "memorized"})
    trainer = TrainerConfig(progress=False, threads=1)
    return RunConfig(
        llm=LLMConfig(name="l"),
        corpus=CorpusConfig(name="c"),
        taxonomy=taxonomy,
        cnn=cnn,
        trainer=trainer,
        wandb=WandbConfig(mode="disabled"),
    )


def fitted(planted, folder, panel=MEMBERS, shuffled=False, stopped_at=None, mode="auto", **changes):
    store, corpus, samples = planted
    data = AttentionData(store, corpus, samples, ("mean", "max"), DataConfig(mode=mode, workers=1), 16, seed=0, shuffled=shuffled)

    begin = Panel.on_train_epoch_start

    def stop(module):
        """Somebody ends the training when that epoch begins."""
        if module.current_epoch == stopped_at:
            raise Killed
        begin(module)

    with mock.patch.object(Panel, "on_train_epoch_start", stop):
        return fit(run_config(**changes), panel, data, folder, None)


@pytest.fixture(scope="module")
def whole(planted, tmp_path_factory):
    """The history and the probabilities of an undisturbed training."""
    return fitted(planted, tmp_path_factory.mktemp("whole"))


def test_each_member_equals_itself_trained_alone(planted, whole, tmp_path):
    _, together = whole
    for index, member in enumerate(MEMBERS):
        _, alone = fitted(planted, tmp_path / member.name, [member])
        np.testing.assert_allclose(alone[0], together[index], atol=1e-5)


def test_same_seed_same_result_bit_for_bit(planted, whole, tmp_path):
    again = fitted(planted, tmp_path)
    assert whole[0] == again[0]
    np.testing.assert_array_equal(whole[1], again[1])


def test_resumed_equals_undisturbed(planted, whole, tmp_path):
    fitted(planted, tmp_path / "cut", epochs=2)
    resumed = fitted(planted, tmp_path / "cut")
    assert resumed[0] == whole[0]
    assert [row.epoch for row in resumed[0]] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    np.testing.assert_array_equal(resumed[1], whole[1])


@pytest.mark.parametrize("stopped_at", [None, 3])
def test_eval_samples_that_are_looked_at_less_often_change_nothing(stopped_at, planted, tmp_path):
    """What the last three epochs are made of is there; an epoch that nobody looked at has no row."""
    often = fitted(planted, tmp_path / "often", MEMBERS[:2], epochs=7)
    if stopped_at:
        with pytest.raises(Killed):
            fitted(planted, tmp_path / "seldom", MEMBERS[:2], stopped_at=stopped_at, epochs=7, evaluate_every=2)
    seldom = fitted(planted, tmp_path / "seldom", MEMBERS[:2], epochs=7, evaluate_every=2)
    assert seldom[0] == [row for row in often[0] if row.epoch in (1, 3, 4, 5, 6)]
    np.testing.assert_array_equal(seldom[1], often[1])


@pytest.fixture
def elsewhere(tmp_path):
    """A folder on another file system than the one for temporary files, as a root on a cluster is; where there is none, any."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


DAMAGES = {
    "empty": lambda _: b"",
    "torn": lambda kept: kept[: len(kept) // 2],
    "zeroed": lambda kept: bytes(len(kept)),
    "flipped": lambda kept: kept[:-9] + bytes([kept[-9] ^ 1]) + kept[-8:],
}


@pytest.mark.parametrize(("damage", "both"), [("empty", False), ("torn", True), ("zeroed", False), ("flipped", False)])
def test_a_damaged_checkpoint_never_stops_a_training(damage, both, planted, whole, elsewhere):
    """It goes on from the one before it, or begins anew, and ends as undisturbed."""
    with pytest.raises(Killed):
        fitted(planted, elsewhere, stopped_at=2)
    last = elsewhere / CHECKPOINT
    for path in (last, previous(last)) if both else (last,):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.warns(DamageWarning, match=r"last\.ckpt is damaged"):
        resumed = fitted(planted, elsewhere)
    assert resumed[0] == whole[0]
    np.testing.assert_array_equal(resumed[1], whole[1])
    assert sorted(path.name for path in elsewhere.iterdir()) == ["damaged", CHECKPOINT, beside(last).name]


def test_a_checkpoint_of_other_networks_is_passed_over(planted, whole, tmp_path):
    fitted(planted, tmp_path / "cut", MEMBERS[:1], epochs=2)
    again = fitted(planted, tmp_path / "cut")
    assert again[0] == whole[0]


def test_a_planted_signal_is_found_and_shuffled_labels_are_not(planted, tmp_path):
    eval_labels = planted[2].filter(pl.col("side") == "eval")["label"].to_numpy()
    _, probabilities = fitted(planted, tmp_path / "true", epochs=8)
    _, shuffled = fitted(planted, tmp_path / "shuffled", shuffled=True, epochs=8)
    assert (probabilities.argmax(-1) == eval_labels).mean() > 0.95
    assert (shuffled.argmax(-1) == eval_labels).mean() < 0.8


def test_losses_are_means_per_sample(planted, tmp_path):
    history, _ = fitted(planted, tmp_path, epochs=1)
    assert all(0.3 < row.eval_loss < 1.0 for row in history)  # ln 2 = 0.69 before anything is learned
    assert all(np.sum(row.confusion) == 40 for row in history)


def test_a_training_that_diverged_is_no_result(planted, tmp_path):
    said = refusal(lambda: fitted(planted, tmp_path, learning_rate=1e30))
    assert re.search(r"the network k\S+ gives no numbers for \d+ of \d+ eval samples", said)
    assert "use a lower cnn.learning_rate than 1e+30" in said


def test_the_linear_probe_trains(planted, tmp_path):
    _, probabilities = fitted(planted, tmp_path, [Member(1, 1, "mean")], kind="linear", epochs=20)
    eval_labels = planted[2].filter(pl.col("side") == "eval")["label"].to_numpy()
    assert (probabilities.argmax(-1)[0] == eval_labels).mean() > 0.9


@pytest.mark.parametrize(("key", "value"), [("kernel_size", 5), ("features", 9)])
def test_kernel_and_features_reach_the_network(key, value):
    member = Member(**{"kernel_size": 3, "features": 4, "pooling": "mean", key: value})
    net = Panel([member], run_config().cnn, LAYERS, LENGTH, 16, 2, 0, True).nets[member.name]
    assert net.body[0].weight.shape == (member.features, LAYERS, member.kernel_size, member.kernel_size)


def test_pooling_scale_and_dropout_reach_the_network():
    pools = {"mean": torch.zeros(1, CELLS, LAYERS), "max": torch.ones(1, CELLS, LAYERS)}
    mean, largest = Member(3, 4, "mean"), Member(3, 4, "max")
    panel = Panel([mean, largest], run_config(dropout=0.4).cnn, LAYERS, LENGTH, 16, 2, 0, False).eval()
    panel.nets[largest.name].load_state_dict(panel.nets[mean.name].state_dict())
    made = panel.logits(pools)
    assert not torch.equal(made[mean.name], made[largest.name])
    assert panel.nets[mean.name].body[2].p == 0.4
    logs = Panel([mean], run_config(scale="log").cnn, LAYERS, LENGTH, 16, 2, 0, False)
    assert not torch.equal(logs.images(pools)["max"], panel.images(pools)["max"])


def test_batches_follow_seed_and_epoch():
    def order(seed, epoch):
        sampler = SeededBatches(50, 16, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2) != order(1, 2)
    assert sorted(row for batch in order(0, 3) for row in batch) == list(range(50))
    assert [len(batch) for batch in order(None, 0)] == [16, 16, 16, 2]


def test_seeds_differ_by_member_and_run():
    assert len({member_seed(member, seed) for member in MEMBERS for seed in range(5)}) == 15


def test_another_corpus_under_the_same_ids_is_refused(planted):
    store, corpus, samples = planted
    other = Corpus("c", corpus.sequence_id, corpus.tokens + 1, 16, None)
    with pytest.raises(UserError, match="another text as sequence 0"):
        AttentionData(store, other, samples, ("mean",), DataConfig(), 16, seed=0).setup()


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_a_learning_rate_that_falls_ends_at_nothing_and_goes_on_where_it_was(mode, planted, tmp_path):
    """The first step is taken at the full rate and none at 0; a training that is cut off ends as one that was not, to the last bit."""
    rates, given = [], Panel.on_train_batch_start

    def note(module, *arguments):
        rates.append(module.trainer.optimizers[0].param_groups[0]["lr"])
        return given(module, *arguments)

    one = MEMBERS[:1]
    with mock.patch.object(Panel, "on_train_batch_start", note):
        through = fitted(planted, tmp_path / "through", one, mode=mode, schedule="linear")
    steps = 4 * 5  # epochs × batches
    np.testing.assert_allclose(rates, [1e-3 * (1 - step / steps) for step in range(steps)])
    with pytest.raises(Killed):
        fitted(planted, tmp_path / "cut", one, mode=mode, schedule="linear", stopped_at=2)
    history, probabilities = fitted(planted, tmp_path / "cut", one, mode=mode, schedule="linear")
    assert history == through[0]
    np.testing.assert_array_equal(probabilities, through[1])
    assert history != fitted(planted, tmp_path / "constant", one)[0]
