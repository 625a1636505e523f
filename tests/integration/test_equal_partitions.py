"""Equal partitions: one training, the result under each taxonomy's own names."""

import json

import numpy as np
import polars as pl
from conftest import TWINS, memgrid_here

from memgrid.metrics.scores import confusion_matrix, scores


def test_the_second_of_two_equal_partitions_takes_over_the_result(twins_copy, quick):
    assert "nothing: the same partition was trained in" in (twins_copy / "recollect.out").read_text()
    (first,) = twins_copy.glob("runs/toy/recite/*/metrics.json")
    (second,) = twins_copy.glob("runs/toy/recollect/*/metrics.json")
    a, b = json.loads(first.read_text()), json.loads(second.read_text())
    assert a["partition"] == b["partition"]
    assert a["same_as"] is None
    assert b["same_as"] == first.parent.relative_to(twins_copy / "runs").as_posix()
    assert a["classes"] == ["Non-Memo", "Recite", "Others"]
    assert b["classes"] == ["Non-Memo", "Recollect", "Others"]
    turned = [0, 2, 1]  # Recite is the other's Others
    assert b["confusion"] == np.array(a["confusion"])[np.ix_(turned, turned)].tolist()
    assert b["panel"]["f1"] == [a["panel"]["f1"][index] for index in turned]
    assert b["panel"]["min_f1"] == a["panel"]["min_f1"]
    assert scores(np.array(b["paper_protocol"]["confusion"]))["f1"] == b["paper_protocol"]["f1"]

    # The adopted run's own files agree with its metrics: samples, predictions and the last epoch.
    predictions = pl.read_parquet(second.parent / "predictions.parquet")
    labels = pl.read_parquet(second.parent / "samples.parquet").filter(pl.col("side") == "eval")
    assert predictions["label"].to_list() == labels["label"].to_list()
    for name in b["members"]:
        chosen = np.array(predictions[name].to_list()).argmax(-1)
        assert confusion_matrix(predictions["label"].to_numpy(), chosen, 3).tolist() == b["confusion"]
    others = pl.read_parquet(second.parent / "baselines.parquet")
    assert others["label"].to_list() == labels["label"].to_list()
    for name, found in {**b["baselines"], **b["probes"]}.items():
        chosen = np.array(others[name].to_list()).argmax(-1)
        f1 = scores(confusion_matrix(others["label"].to_numpy(), chosen, 3))["f1"]
        np.testing.assert_allclose([entry["mean"] for entry in found["f1"]], f1)
    assert b["baselines"]["confidence"] == b["confidence"]
    epochs = pl.read_parquet(second.parent / "epochs.parquet").filter(pl.col("epoch") == 1)
    assert epochs["confusion"].to_list()[0] == b["confusion"]
    assert (second.parent / "figures" / "confusion.png").exists()

    # By force it is trained, and comes out the same: the order of classes does not reach the networks.
    memgrid_here(*quick, *TWINS, f"root={twins_copy}", "taxonomy=recollect", "force=true")
    trained = json.loads(second.read_text())
    assert trained["same_as"] is None
    for key in ("panel", "confusion", "members_min_f1", "paper_protocol", "eval_loss", "baselines", "probes"):
        assert trained[key] == b[key]


def test_a_threshold_that_does_not_matter_names_no_run(done_copy, quick):
    shown = memgrid_here(*quick, f"root={done_copy}", "delta=7").stdout
    assert "extract" not in shown
    assert len(list(done_copy.glob("runs/toy/rasy/*/metrics.json"))) == 1
