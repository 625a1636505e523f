"""What attention adds, from made-up predictions whose answer is known."""

import json

import numpy as np
import polars as pl
import pytest
from runs_maker import Run, finish, rewrite

from memgrid.metrics.resampling import mean_interval
from memgrid.report.baseline_tables import added, learning, negatives
from memgrid.report.read import read_runs
from memgrid.report.rows import named, ranking_rows
from memgrid.report.tables import REFERENCES, controls
from memgrid.results.folder import BASELINES, RunFolder

EVAL = 60


def answer(path, share, members=("k8-f16-mean",), classes=3, order=(0, 1, 2)):
    """Predictions that are right for a share of the samples, the same ones for every name; `order`: classes as they stand in the run."""
    labels = np.repeat(np.arange(classes), EVAL)
    sure = np.random.default_rng(0).random(len(labels)) < share
    said = np.where(sure, labels, (labels + 1) % classes)
    probabilities = np.where(np.arange(classes) == said[:, None], 0.8, 0.1)
    given = {member: pl.Series(probabilities[:, order].tolist(), dtype=pl.List(pl.Float32)) for member in members}
    table = pl.DataFrame({"sequence_id": np.arange(len(labels)), "label": np.argsort(order)[labels]}) if not path.exists() else None
    (pl.read_parquet(path) if table is None else table).with_columns(**given).write_parquet(path)


def finished(root, panel, baselines, order=(0, 1, 2), **given):
    run = Run(root, **given)
    folder = finish(run)
    answer(RunFolder(folder).predictions, panel, run.settings["cnn"]["members"], order=order)
    for name, share in baselines.items():
        answer(RunFolder(folder).baselines, share, (name,), order=order)
    return folder


def rows_of(root):
    return ranking_rows(named(read_runs(root)[0]))


@pytest.mark.parametrize(
    ("panel", "tokens", "verdict", "instead", "words"),
    [
        (0.95, 0.6, "adds", "better", "attention adds to all that needs none (+0."),
        (0.6, 0.95, "nothing seen", "worse", "nothing is seen that attention adds to all that needs none ("),
        (0.9, 0.9, "nothing seen", "not seen to differ", "nothing is seen that attention adds to all that needs none ("),
    ],
)
def test_the_verdict_follows_the_numbers(tmp_path, panel, tokens, verdict, instead, words):
    finished(tmp_path, panel, {"tokens": tokens, "overlap": 0.5})
    table = added(rows_of(tmp_path))
    assert table["pair"].to_list() == ["Non-Memo or Guess", "Non-Memo or Recall", "Guess or Recall"]
    row = table.row(0, named=True)
    assert row["verdict"] == verdict
    assert row["instead"] == instead
    assert row["meaning"].startswith(words)
    assert f"instead of it, it is {instead} (" in row["meaning"]
    for name in ("every", "tokens", "overlap"):
        assert row[f"adds_{name}_low"] <= row[f"adds_{name}"] <= row[f"adds_{name}_high"]
    assert row["best"] == "tokens"
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["difference"] == pytest.approx(row["attention"] - row["without"])
    assert row["confidence"] is row["adds_confidence"] is None


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(0)
    both = rng.random(400) < 0.6
    gained = both | (rng.random(400) < 0.2)
    low, high = mean_interval(gained.astype(float) - both)
    assert low > 0
    apart = mean_interval(gained.astype(float) - rng.permutation(both))
    assert high - low < (apart[1] - apart[0]) / 2
    assert mean_interval(np.zeros(30)) == (0.0, 0.0)


def test_older_runs_have_no_pairs_and_are_still_read(tmp_path):
    finish(Run(tmp_path))
    rows = rows_of(tmp_path)
    assert not added(rows).height
    table = controls(rows)
    assert table["shuffled_min_f1"].null_count() == 0
    assert table["together_min_f1"].null_count() == table.height


def test_a_damaged_file_is_passed_over(tmp_path):
    folder = finished(tmp_path, 0.9, {"tokens": 0.8})
    RunFolder(folder).baselines.write_bytes(b"nothing")
    assert not added(rows_of(tmp_path)).height


def test_classes_in_another_order_are_put_right(tmp_path):
    """Equal partitions in one row: the second has its classes turned."""
    first = finished(tmp_path / "one", 0.9, {"tokens": 0.5}, taxonomy="recite", delta=50)
    turned = finished(tmp_path / "one", 0.9, {"tokens": 0.5}, (0, 2, 1), taxonomy="recollect", delta=50, seed=1)
    assert first != turned
    finished(tmp_path / "two", 0.9, {"tokens": 0.5}, taxonomy="recite", delta=50)
    both, alone = (added(rows_of(tmp_path / name)) for name in ("one", "two"))
    assert both["runs"].to_list() == [2, 2, 2]
    for name in ("attention", "without", "difference", "adds_every", "adds_tokens"):
        np.testing.assert_allclose(both[name], alone[name])


def test_hard_negatives_stand_after_the_ordinary_run(tmp_path):
    for given in (("select.decoded=suffix",), ("select.non_memorized=matched",), ()):
        finish(Run(tmp_path, overrides=given))
    table = negatives(rows_of(tmp_path))
    assert list(zip(table["drawn"], table["read"], strict=True)) == [
        ("any", "own words"),
        ("any", "true suffix"),
        ("matched", "own words"),
    ]
    assert set(table["negative"]) == {"Non-Memo"}
    assert table["group"].n_unique() == 1
    assert ((table["kept"] + table["mistaken"]) <= 100).all()
    # The usual value is the default, however many runs have another.
    assert sorted(row.label for row in rows_of(tmp_path))[0] == "Non-Memo, Guess, Recall"


def test_the_learning_curve_is_of_runs_that_differ_in_size_alone(tmp_path):
    for size in (100, 50, 400):
        folder = finish(Run(tmp_path, overrides=(f"select.train_per_class={size}",)))
        panel = json.loads(RunFolder(folder).metrics.read_text())["panel"]
        together = {**panel, "min_f1": {**panel["min_f1"], "mean": 40.0}}
        rewrite(folder, samples={"train": size, "eval": EVAL}, baselines={"together": together}, probes={})
    finish(Run(tmp_path, overrides=("cnn.epochs=3",)))
    table = learning(rows_of(tmp_path))
    assert table["train"].to_list() == [50, 100, 400]
    assert set(table["together"]) == {40.0}
    assert table["probe"].null_count() == 3
    assert "train_per_class" not in " ".join(table["setting"])
    assert not learning(rows_of(tmp_path)[:1]).height


def test_every_baseline_has_a_name():
    assert all(REFERENCES[name].phrase and REFERENCES[name].heading for name in BASELINES)
    assert set(REFERENCES) == {"shuffled", *BASELINES, "probe"}
