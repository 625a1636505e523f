"""`compat=paper`: the paper's protocol, its errors included."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from conftest import memgrid_here
from settings_maker import composed

from memgrid.config.derive import Member, decoded, members, protocol
from memgrid.config.names import run_folder, training_key, training_seed
from memgrid.config.overrides import overrides
from memgrid.config.schema import CNNConfig
from memgrid.launch.workspace import Workspace
from memgrid.localize import localize, randomization
from memgrid.metrics.scores import scores
from memgrid.pipeline.context import RunContext
from memgrid.train.panel import Panel, TrainedPanel


def test_its_numbers_are_the_papers_and_can_be_overridden():
    run = composed("compat=paper")
    select, cnn = run.select, run.cnn
    assert (select.train_per_class, select.eval_per_class, select.min_train_per_class, select.min_eval_per_class) == (
        4000,
        2000,
        4000,
        2000,
    )
    assert not select.leak_free
    assert (cnn.scale, cnn.dropout, cnn.epochs, cnn.batch_size, cnn.learning_rate, cnn.weight_decay) == ("raw", 0.5, 3, 16, 1e-3, 0.1)
    assert len(members(cnn, protocol(run))) == 8
    assert {member.reads for member in members(cnn, protocol(run))} == {"mean"}
    assert {member.reads for member in members(cnn)} == {"mean", "max"}
    assert composed("compat=paper", "select.train_per_class=9", "select.min_train_per_class=5").select.train_per_class == 9


def test_every_setting_is_trained_for_itself():
    runs = [composed("compat=paper", f"taxonomy={name}", f"delta={delta}") for name in ("recite", "recollect", "rasy") for delta in (5, 50)]
    for different in (run_folder, training_key, training_seed):
        assert len({different(run) for run in runs}) == len(runs)
    ours = [composed(f"taxonomy={name}", f"delta={delta}") for name in ("recite", "recollect", "rasy") for delta in (5, 50)]
    assert len({training_key(run) for run in ours}) == 3
    assert {training_seed(run) for run in ours} == {0}


def test_it_computes_in_float32_on_a_gpu_too():
    assert composed("trainer=gpu").trainer.precision == "bf16-mixed"
    run = composed("compat=paper", "trainer=gpu")
    assert (run.trainer.accelerator, run.trainer.precision) == ("gpu", "32-true")
    assert composed("compat=paper", "trainer=gpu", "trainer.precision=bf16-mixed").trainer.precision == "bf16-mixed"
    assert composed(*(word.strip("'") for word in overrides(run))) == run


def test_what_is_decoded_without_end_of_text_is_kept_apart():
    """Labels and attention, of the model's own words; a true suffix is the same for all."""
    runs = {
        words: composed(*words) for words in [(), ("compat=paper",), ("select.decoded=suffix",), ("compat=paper", "select.decoded=suffix")]
    }
    assert [decoded(run) for run in runs.values()] == ["continuation", "no-end", "suffix", "suffix"]
    contexts = [RunContext(run, Workspace()) for run in list(runs.values())[:2]]
    assert [context.labels.path("memorized").stem for context in contexts] == ["memorized", "memorized_no_end"]
    assert [context.labels.path("rouge").stem for context in contexts] == ["rouge", "rouge"]
    assert [context.store.folder.name for context in contexts] == ["toy", "toy@no-end"]
    assert [bool(context.lm.suppressed) for context in contexts] == [False, True]


@pytest.mark.slow
def test_a_run_by_the_papers_protocol(extracted, quick):
    small = ("select.train_per_class=32", "select.eval_per_class=20", "select.min_train_per_class=20", "select.min_eval_per_class=5")
    given = (
        "compat=paper",
        "cnn=panel",
        "cnn.kernel_size=6",
        "cnn.features=10",
        "cnn.pooling=[mean,max]",
        "cnn.epochs=4",
        *small,
        "control.members=0",
    )
    memgrid_here(*quick, *given, f"root={extracted}")
    (path,) = extracted.glob("runs/toy/rasy/delta50-rho0.5-both-*/metrics.json")
    metrics = json.loads(path.read_text())
    assert metrics["settings"]["compat"] == "paper"
    assert metrics["members"] == ["k6-f10-mean", "k6-f10-max"]
    epochs = pl.read_parquet(path.parent / "epochs.parquet").filter(pl.col("epoch") >= 1)  # the last three of four
    summed = np.sum(epochs["confusion"].to_list(), axis=0)
    paper = metrics["paper_protocol"]
    assert paper["confusion"] == summed.tolist()
    assert {key: paper[key] for key in scores(summed)} == scores(summed)
    # Sums of batch means over the number of items: 16 times too small.
    assert paper["mean_eval_loss"] == pytest.approx(epochs["eval_loss"].mean() / 16)
    # The two members saw the same maps and differ by their seeds alone.
    predictions = pl.read_parquet(path.parent / "predictions.parquet")
    assert predictions["k6-f10-mean"].to_list() != predictions["k6-f10-max"].to_list()


def test_decision_maps_are_shares_of_the_maximum_anywhere(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(localize, "panel_means", lambda *given: seen.append(given[-1]) or np.zeros((2, 1, 1, 4, 4)))
    monkeypatch.setattr(localize, "batches", lambda *_: [])
    store = SimpleNamespace(
        read=lambda *_: SimpleNamespace(pools={"max": np.zeros((1, 10, 1))}, decoded=np.zeros((1, 4))), identity=SimpleNamespace(length=4)
    )
    for words in ((), ("compat=paper",)):
        trained = TrainedPanel(composed(*words), None, ("A",), (0,), "")
        localize.one_sample(trained, None, store, 0, 0)
        given = {
            "load_panel": lambda *_, own=trained: own,
            "eval_samples": lambda *_: [np.array([0])],
            "provenance": lambda *_: {"inputs": "new"},
        }
        for name, stand_in in {**given, "write_decision_maps": lambda *_: None}.items():
            monkeypatch.setattr(localize, name, stand_in)
        localize.localize(trained.run, None, store, None, SimpleNamespace(decision_maps=lambda _: tmp_path / "maps.h5"))
        monkeypatch.setattr(randomization, "randomization", lambda *given: seen.append(given[-1]))
        monkeypatch.setattr(randomization, "batches", lambda *_: [])
        randomization.randomization_test(trained, None, store, np.array([0]), 0)
    assert seen == [False] * 3 + [True] * 3


def test_a_member_that_reads_means_only_needs_no_other_map():
    member, tokens = Member(3, 4, "max", means_only=True), 16
    panel = Panel([member], CNNConfig(kernel_size=3, features=4, pooling="max", dropout=0.0), 2, tokens, 8, 3, 0, False).eval()
    maps = torch.rand(5, tokens * (tokens + 1) // 2, 2)
    given = panel.logits({"mean": maps})[member.name]
    torch.testing.assert_close(given, panel.nets[member.name](panel.unpack(maps)))
