"""Numbers recomputed by hand from metrics.json, and what is never put into one row."""

import json
import time

import numpy as np
import polars as pl
import pytest
from conftest import NIGHT
from runs_maker import Run, finish, grid, make_runs, result_of, rewrite

from memgrid.metrics.intervals import over_runs
from memgrid.metrics.scores import scores
from memgrid.report.__main__ import PAIR
from memgrid.report.confusions.table import confusions_table
from memgrid.report.facts import noise_floor
from memgrid.report.flows.table import counted
from memgrid.report.page import shown, write_markdown
from memgrid.report.read import FinishedRun, finished_runs, read_runs
from memgrid.report.report import gather
from memgrid.report.rows import family, named, partition_of, ranking_rows, setting_name, title_with_delta
from memgrid.report.settings.variants import panel_text, variants
from memgrid.report.tables import (
    benchmark,
    controls,
    members_table,
    protocols,
    ranking,
    rho_table,
    runs_table,
    sizes_table,
    sweeps,
)
from memgrid.results.folder import RunFolder
from memgrid.taxonomy.taxonomy import Taxonomy
from memgrid.taxonomy.thresholds import Thresholds


def rows_of(root):
    return ranking_rows(named(finished_runs(root)))


def read(folder):
    return json.loads((folder / "metrics.json").read_text())


def finish_all(root, **choice):
    """Every run of a grid, trained for itself."""
    return [finish(run) for run in grid(root, **choice)]


# Names


@pytest.mark.parametrize(
    ("taxonomy", "changes", "name"),
    [
        ("recollect_code", {"delta": 5}, "Non-Memo, Recollect[5], Code, Others"),
        ("recite_guess", {"delta": 1000}, "Non-Memo, Recite[1k], Guess, Others"),
        ("guess_or_recollect", {"delta": 50}, "Non-Memo, Guess-or-Recollect[50], Others"),
        ("recite_or_code", {"delta": 5}, "Non-Memo, Recite[5]-or-Code, Others"),
        ("rasy", {"delta": 5}, "Non-Memo, Guess, Recall"),
        ("rasy", {"rho": 0.6, "rouge": "l"}, "Non-Memo, Guess, Recall (ρ=0.6, ROUGE-L)"),
        ("rasy", {"rho": 0.5, "rouge": "3"}, "Non-Memo, Guess, Recall (ρ=0.5, ROUGE-3)"),
        ("guess_recite", {"delta": 5, "rho": 0.25}, "Non-Memo, Guess, Recite[5], Others (ρ=0.25)"),
        ("recite", {"delta": 5, "rho": 0.25, "compat": "paper"}, "Non-Memo, Recite[5], Others"),
        ("prashanth", {"delta": 1500}, "Non-Memo, Recite[1500], Reconstruct, Recollect"),
    ],
)
def test_names_as_in_the_paper(tmp_path, taxonomy, changes, name):
    settings = Run(tmp_path, taxonomy=taxonomy, **changes).settings
    assert setting_name(settings, partition_of(settings)) == name


@pytest.mark.parametrize(
    ("title", "rules", "delta", "told"),
    [
        ("Often", "recite", 5, "Often[5]"),
        ("Rare or code", ["recollect", "code"], 5, "Rare or code[5]"),
        ("A-or-B-or-C", ["recollect", "code"], 5, "A-or-B-or-C[5]"),
        ("Recite", "recite", 0, "Recite[0]"),
        ("Recite", "recite", None, "Recite"),
    ],
)
def test_titles_of_ones_own(title, rules, delta, told):
    assert title_with_delta(title, rules, delta) == told


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        (["non_memorized", "recite", "code", "memorized"], "4A"),
        (["non_memorized", "guess", "recite", "memorized"], "4B"),
        (["non_memorized", "guess", "code", "memorized"], "other"),
        (["non_memorized", "recollect", "memorized"], "3A"),
        (["non_memorized", "reconstruct", "memorized"], "3A"),
        (["non_memorized", ["recite", "code"], "memorized"], "3B"),
        (["non_memorized", ["recite"], ["memorized"]], "3A"),
        (["non_memorized", ["recite", "code", "guess"], "memorized"], "other"),
        (["non_memorized", "memorized"], "other"),
        (["recite", "guess", "memorized"], "other"),
    ],
)
def test_families(rules, wanted):
    assert family({f"class {index}": rule for index, rule in enumerate(rules)}) == wanted


def test_the_grid_has_the_paper_s_families(tmp_path):
    runs = named([FinishedRun(RunFolder(run.folder), result_of(run)) for run in grid(tmp_path, deltas=(5,))])
    number = {name: sum(run.family == name for run in runs) for name in ("4A", "4B", "3A", "3B", "other")}
    assert number == {"4A": 7, "4B": 3, "3A": 6, "3B": 6, "other": 0}  # prashanth and rasy beside the paper's twenty


def test_the_same_titles_with_other_rules_are_another_setting(tmp_path):
    finish(Run(tmp_path, taxonomy="rasy"))
    finish(Run(tmp_path, taxonomy="rasy", classes={"Non-Memo": "non_memorized", "Guess": "code", "Recall": "memorized"}))
    finish(Run(tmp_path, taxonomy="guess", classes={"Non-Memo": "non_memorized", "Guess": "reconstruct", "Recall": "memorized"}))
    rows = rows_of(tmp_path)
    names = {row.setting for row in rows}
    assert len(rows) == len(names) == 3
    assert all(name.startswith("Non-Memo, Guess, Recall (") for name in names)


# The ranking


def test_means_over_seeds_and_models_by_hand(tmp_path):
    folders = finish_all(tmp_path, llms=("a", "b"), taxonomies=("guess_recite",), deltas=(5,), seeds=(0, 1))
    found = [read(folder) for folder in folders]
    (row,) = ranking(rows_of(tmp_path)).iter_rows(named=True)
    assert (row["llms"], row["seeds"], row["runs"], row["classes"], row["family"]) == ("a, b", 2, 4, 4, "4B")
    assert row["min_f1"] == pytest.approx(np.mean([one["panel"]["min_f1"]["mean"] for one in found]))
    assert row["min_f1"] == pytest.approx(np.mean([one["members_min_f1"] for one in found]))
    assert row["spread"] == pytest.approx(np.std([one["members_min_f1"] for one in found]))
    assert (row["low"], row["high"]) == over_runs(*([one["panel"]["min_f1"][key] for one in found] for key in ("mean", "low", "high")))[1:]
    assert row["low"] < row["min_f1"] < row["high"]
    worst = [min(pair["accuracy"] for pair in one["pairs"]) for one in found]
    assert row["worst_pair"] == pytest.approx(np.mean(worst))
    assert row["apart"] == sum(all(pair["adjusted"] <= 0.05 for pair in one["pairs"]) for one in found)
    assert row["mean_f1"] == pytest.approx(np.mean([one["panel"]["mean_f1"]["mean"] for one in found]))
    precision = np.array([[entry["mean"] for entry in one["panel"]["precision"]] for one in found])
    assert row["min_precision"] == pytest.approx(precision.min(1).mean())
    assert row["mean_precision"] == pytest.approx(precision.mean())
    recall = np.array([[entry["mean"] for entry in one["panel"]["recall"]] for one in found])
    assert row["min_recall"] == pytest.approx(recall.min(1).mean())
    assert row["mean_recall"] == pytest.approx(recall.mean())
    assert row["eval_loss"] == pytest.approx(np.mean([one["eval_loss"] for one in found]))
    assert row["eval"] == found[0]["samples"]["eval"]


def test_the_paper_s_scores_are_those_of_the_summed_matrix(tmp_path):
    folders = finish_all(tmp_path, llms=("a", "b"), taxonomies=("prashanth",), deltas=(5,), seeds=(0, 1))
    total = sum(np.array(read(folder)["paper_protocol"]["confusion"]) for folder in folders)
    (row,) = ranking(rows_of(tmp_path)).iter_rows(named=True)
    hits, true, predicted = np.diag(total), total.sum(1), total.sum(0)
    f1 = 2 * hits / (true + predicted)
    assert row["paper_min_f1"] == pytest.approx(100 * f1.min())
    assert row["paper_mean_f1"] == pytest.approx(100 * f1.mean())
    assert row["paper_min_precision"] == pytest.approx(100 * (hits / predicted).min())
    assert row["paper_mean_recall"] == pytest.approx(100 * (hits / true).mean())
    assert row["paper_eval_loss"] == pytest.approx(np.mean([read(folder)["paper_protocol"]["mean_eval_loss"] for folder in folders]))
    assert total.sum() == 4 * 3 * 4 * 240  # runs, epochs, CNNs, eval samples


def test_one_model_alone(tmp_path):
    finish_all(tmp_path, llms=("a", "b"), taxonomies=("rasy",), seeds=(0, 1))
    rows = rows_of(tmp_path)
    (row,) = ranking(rows, "b").iter_rows(named=True)
    assert (row["llms"], row["runs"]) == ("b", 2)
    assert ranking(rows, "c").height == 0


def test_one_run(tmp_path):
    found = read(finish(Run(tmp_path)))
    rows = rows_of(tmp_path)
    (row,) = ranking(rows).iter_rows(named=True)
    assert row["min_f1"] == pytest.approx(found["panel"]["min_f1"]["mean"])
    assert row["spread"] == pytest.approx(found["panel"]["min_f1"]["std"])
    assert row["paper_min_f1"] == pytest.approx(found["paper_protocol"]["min_f1"])
    assert noise_floor(rows) is None
    assert rho_table(rows).height == 0
    assert sizes_table(rows).columns == ["setting", "all", "toy"]


def test_the_best_comes_first(tmp_path):
    make_runs(tmp_path)
    assert ranking(rows_of(tmp_path))["min_f1"].is_sorted(descending=True)


# What is never in one row


@pytest.mark.parametrize(
    "override",
    [
        "cnn.epochs=3",
        "cnn.scale=raw",
        "cnn.pooling=max",
        "trainer.precision=bf16-mixed",
        "select.leak_free=false",
        "select.train_per_class=77",
        "corpus.k=16",
        "corpus.name=other",
        "llm.dtype=bfloat16",
        "compat=paper",
    ],
)
def test_runs_with_other_settings_are_rows_of_their_own(tmp_path, override):
    for seed in (0, 1):
        finish(Run(tmp_path, seed=seed))
    changed = [finish(Run(tmp_path, seed=seed, overrides=(override,))) for seed in (1,)]
    rows = rows_of(tmp_path)
    assert len(rows) == 2
    assert len({row.label for row in rows}) == 2
    (own,) = (row for row in rows if len(row.runs) == 1)
    assert own.runs[0].folder.path == changed[0]
    value = override.split("=")[1]
    if not override.startswith("cnn.pooling"):
        assert value in own.label
    else:
        assert "cnn.members=k6,8-f10,16-max" in own.label
    assert noise_floor(rows).pairs == 1


def test_runs_that_differ_in_controls_are_one_row_and_the_one_with_controls_counts(tmp_path):
    finish(Run(tmp_path, seed=0))
    finish(Run(tmp_path, seed=0, overrides=("control.members=0",)), control=False)
    finish(Run(tmp_path, seed=1, overrides=("control.members=0",)), control=False)
    rows = rows_of(tmp_path)
    (row,) = rows
    assert sorted((run.settings["seed"], run.result.control is not None) for run in row.runs) == [(0, True), (1, False)]
    assert runs_table(named(finished_runs(tmp_path))).height == 3
    assert noise_floor(rows).pairs == 1  # the same training twice is no pair


def test_what_models_have_to_themselves_is_no_variant(tmp_path):
    """Each size has its own path, and 12b may be run in bfloat16: the row over all sizes holds them all."""
    for llm, dtype in (("2.8b", "float32"), ("12b", "bfloat16")):
        for seed in (0, 1):
            finish(Run(tmp_path, llm, seed=seed, overrides=(f"llm.dtype={dtype}", f"llm.path=/models/{llm}")))
    (row,) = ranking(rows_of(tmp_path)).iter_rows(named=True)
    assert (row["runs"], row["llms"], row["variant"]) == (4, "2.8b, 12b", "")


def test_what_is_usual_is_told(tmp_path):
    runs = [Run(tmp_path, seed=seed, overrides=over) for seed, over in ((0, ()), (1, ()), (2, ("cnn.epochs=3", "cnn.scale=raw")))]
    texts, usual = variants([run.settings for run in runs])
    assert texts == ["", "", "cnn.epochs=3, cnn.scale=raw"]
    assert usual == {"cnn.epochs": "15", "cnn.scale": "log"}


def test_the_base_is_what_conf_ships_and_never_what_most_runs_have(tmp_path):
    smoke = [Run(tmp_path, seed=seed, overrides=("experiment=smoke",)) for seed in range(5)]
    for run in smoke:
        finish(run)
    odd = Run(tmp_path, overrides=("experiment=smoke", "cnn.epochs=60"))
    texts, usual = variants([run.settings for run in (*smoke, odd)])
    assert texts == [""] * 5 + ["cnn.epochs=60"]  # an experiment that conf/ ships is a base, too
    assert usual == {"cnn.epochs": "30", "experiment": "paper_in_small or rho_in_small or smoke"}
    finish(default := Run(tmp_path))
    texts, usual = variants([run.settings for run in (*smoke, default)])
    assert texts[-1] == ""
    assert all("cnn.epochs=30" in text for text in texts[:-1])
    assert usual["cnn.epochs"] == "15"
    assert "experiment" not in usual


def test_the_best_of_a_family_is_the_first_of_the_ranking(tmp_path):
    """Whatever most runs are like: a single run of one model, with other settings, is the best if its score is."""
    for seed in range(4):
        for llm in ("a", "b"):
            finish(Run(tmp_path, llm, seed=seed))
    best = finish(Run(tmp_path, "a", overrides=("cnn.epochs=3",)))
    rewrite(best, panel=better(json.loads((best / "metrics.json").read_text())["panel"]))
    report = gather(tmp_path, tmp_path / "report", PAIR)
    assert report.best_of_families()["label"].to_list() == [report.ranked()["label"][0]]
    assert "cnn.epochs=3" in report.ranked()["label"][0]


def better(panel):
    """A panel's scores that nothing else reaches."""
    return {**panel, "min_f1": {"mean": 99.0, "std": 0.1, "low": 98.0, "high": 100.0}}


def test_a_judge_of_code_matters_only_where_code_is_read(tmp_path):
    for taxonomy in ("rasy", "code"):
        for judge in ("magika", "usepackage"):
            finish(Run(tmp_path, taxonomy=taxonomy, overrides=(f"label.code={judge}",)))
    assert sorted((row.setting, len(row.runs)) for row in rows_of(tmp_path)) == [
        ("Non-Memo, Code, Others", 1),
        ("Non-Memo, Code, Others", 1),
        ("Non-Memo, Guess, Recall", 1),
    ]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (["k6-f10-mean", "k6-f16-mean", "k8-f10-mean", "k8-f16-mean"], "k6,8-f10,16-mean"),
        (["k6-f10-mean", "k8-f16-mean"], "k6-f10-mean+k8-f16-mean"),
        (["k6-f10-mean"], "k6-f10-mean"),
        (["mine", "k6-f10-mean"], "mine+k6-f10-mean"),
    ],
)
def test_panels_in_short(members, text):
    assert panel_text(members) == text


# Equal partitions


def test_equal_partitions_are_one_row(tmp_path):
    make_runs(tmp_path, taxonomies=("recite", "recollect", "rasy", "guess"), deltas=(5, 50), seeds=(0, 1))
    table = ranking(rows_of(tmp_path))
    assert dict(table.select("setting", "also").iter_rows()) == {
        "Non-Memo, Guess, Recall": "Non-Memo, Guess, Others",
        "Non-Memo, Recite[5], Others": "Non-Memo, Recollect[5], Others",
        "Non-Memo, Recite[50], Others": "Non-Memo, Recollect[50], Others",
    }
    assert table["runs"].to_list() == [2, 2, 2]


def test_a_result_that_was_taken_over_is_no_second_training(tmp_path):
    make_runs(tmp_path, taxonomies=("recite", "recollect"), deltas=(5,))
    assert noise_floor(rows_of(tmp_path)) is None


def test_equal_partitions_on_different_models_are_summed_in_one_order_of_classes(tmp_path):
    """Recollect is the first class there and Others here: the summed matrix must be that of Recite on both."""
    finish(Run(tmp_path, "a", "recite", delta=5))
    finish(Run(tmp_path, "a", "recite", delta=5, seed=1))
    finish(Run(tmp_path, "b", "recollect", delta=5))
    expected = finish(Run(tmp_path / "elsewhere", "b", "recite", delta=5))
    (row,) = rows_of(tmp_path)
    assert row.setting == "Non-Memo, Recite[5], Others"
    np.testing.assert_array_equal(row.confusion(row.of("b")), read(expected)["confusion"])
    np.testing.assert_array_equal(row.confusion(row.of("b"), paper=True), read(expected)["paper_protocol"]["confusion"])


def test_compat_paper_trains_equal_partitions_separately(tmp_path):
    folders = finish_all(tmp_path, taxonomies=("recite", "recollect"), deltas=(5,), compat="paper")
    rows = rows_of(tmp_path)
    assert sorted(row.setting for row in rows) == ["Non-Memo, Recite[5], Others", "Non-Memo, Recollect[5], Others"]
    a, b = (read(folder)["panel"]["min_f1"]["mean"] for folder in folders)
    noise = noise_floor(rows)
    assert noise.pairs == 1
    assert noise.mean == noise.most == noise.largest == pytest.approx(abs(a - b))


def test_compat_paper_trains_every_delta(tmp_path):
    """Guess does not depend on δ: three trainings of one setting, which are three pairs."""
    finish_all(tmp_path, taxonomies=("guess",), deltas=(5, 50, 1000), compat="paper")
    rows = rows_of(tmp_path)
    (row,) = rows
    assert (row.setting, len(row.runs)) == ("Non-Memo, Guess, Others", 3)
    assert noise_floor(rows).pairs == 3


def test_the_noise_of_seeds_by_hand(tmp_path):
    folders = finish_all(tmp_path, llms=("a", "b"), taxonomies=("rasy",), seeds=(0, 1, 2))
    scores_of = [read(folder)["panel"]["min_f1"]["mean"] for folder in folders]
    pairs = [
        abs(x - y)
        for group in (scores_of[:3], scores_of[3:])
        for x, y in ((group[0], group[1]), (group[0], group[2]), (group[1], group[2]))
    ]
    noise = noise_floor(rows_of(tmp_path))
    assert noise.pairs == 6
    assert noise.mean == pytest.approx(np.mean(pairs))
    assert noise.largest == pytest.approx(max(pairs))


# The other tables


def test_the_rho_table(tmp_path):
    finish_all(tmp_path, llms=("a", "b"), taxonomies=("rasy", "recite"), deltas=(5,), rhos=(0.3, 0.5, 0.6))
    rows = rows_of(tmp_path)
    table = rho_table(rows)
    assert table["llm"].unique(maintain_order=True).to_list() == ["all", "a", "b"]
    assert table.height == 27
    assert table["setting"].unique().to_list() == ["Non-Memo, Guess, Recall"]
    row = table.row(by_predicate=(pl.col("llm") == "a") & (pl.col("rho") == 0.6) & (pl.col("rouge") == "l"), named=True)
    assert (row["rouge_l"], row["rouge_3"], row["runs"]) == (True, False, 1)
    assert row["min_f1"] == pytest.approx(read(Run(tmp_path, "a", rho=0.6, rouge="l").folder)["panel"]["min_f1"]["mean"])
    whole = table.filter(pl.col("llm") == "all")
    assert whole["min_f1"].is_sorted(descending=True)
    assert {row.setting for row in benchmark(rows)} == {"Non-Memo, Guess, Recall", "Non-Memo, Recite[5], Others"}


def test_a_sweep_keeps_its_usual_point_when_an_equal_taxonomy_is_named_there(tmp_path):
    finish_all(tmp_path, taxonomies=("rasy",), rhos=(0.4, 0.5))
    finish_all(tmp_path, taxonomies=("guess",), seeds=(0, 1, 2))
    rows = rows_of(tmp_path)
    assert "Non-Memo, Guess, Others" in {row.setting for row in rows}
    assert rho_table(rows).height == 6
    assert rho_table(rows)["setting"].unique().to_list() == ["Non-Memo, Guess, Recall"]


def test_two_values_of_rho_stay_in_the_ranking(tmp_path):
    finish(Run(tmp_path, rho=0.3))
    finish(Run(tmp_path, rho=0.5))
    rows = rows_of(tmp_path)
    assert len(benchmark(rows)) == 2
    assert len(sweeps(rows)) == 1


def test_controls_by_hand_and_without(tmp_path):
    folder = finish(Run(tmp_path, seed=0))
    finish(Run(tmp_path, seed=1), control=False)
    finish(Run(tmp_path, taxonomy="recite", delta=5), control=False)
    half = finish(Run(tmp_path, taxonomy="prashanth", delta=5))
    rewrite(half, confidence={})
    table = controls(rows_of(tmp_path))
    assert table["setting"].to_list() == ["Non-Memo, Guess, Recall", "Non-Memo, Recite[5], Reconstruct, Recollect"]
    assert table["shuffled_min_f1"][0] == pytest.approx(read(folder)["control"]["min_f1"]["mean"])
    assert table["confidence_min_f1"][0] == pytest.approx(read(folder)["confidence"]["min_f1"]["mean"])
    assert table["confidence_min_f1"][1] is None
    assert table["chance"].to_list() == [pytest.approx(100 / 3), 25]


def test_no_controls_at_all(tmp_path):
    finish(Run(tmp_path), control=False)
    table = controls(rows_of(tmp_path))
    assert table.height == 0
    assert table.schema["shuffled_min_f1"] == pl.Float64


def test_protocols_members_and_confusions(tmp_path):
    folders = finish_all(tmp_path, llms=("a", "b"), taxonomies=("rasy",), seeds=(0, 1))
    rows = rows_of(tmp_path)
    table = protocols(rows)
    assert table["difference"][0] == pytest.approx(table["min_f1"][0] - table["paper_min_f1"][0])
    every = members_table(rows)
    assert every.height == 16
    first = read(folders[0])
    mine = every.filter((pl.col("llm") == "a") & (pl.col("seed") == 0))
    assert mine["member"].to_list() == first["members"]
    assert mine["min_f1"].to_list() == first["members_min_f1"]
    counts = confusions_table(rows).filter(pl.col("llm") == "a", pl.col("sum") == "ours")
    expected = np.array(first["confusion"]) + np.array(read(folders[1])["confusion"])
    np.testing.assert_array_equal(counts["count"].to_numpy().reshape(3, 3), expected)
    assert counts["share"].head(3).sum() == pytest.approx(100)


def test_sizes(tmp_path):
    finish_all(tmp_path, llms=("pythia-12b", "pythia-2.8b"), taxonomies=("rasy", "recite"), deltas=(5,))
    finish(Run(tmp_path, "pythia-12b", "prashanth", delta=5))
    table = sizes_table(rows_of(tmp_path))
    assert table.columns == ["setting", "all", "pythia-2.8b", "pythia-12b"]
    row = table.row(by_predicate=pl.col("setting") == "Non-Memo, Guess, Recall", named=True)
    assert row["all"] == pytest.approx((row["pythia-2.8b"] + row["pythia-12b"]) / 2)
    assert table.row(by_predicate=pl.col("setting").str.contains("Reconstruct"), named=True)["pythia-2.8b"] is None


def test_the_table_of_runs_has_a_row_per_folder(tmp_path):
    folders = make_runs(tmp_path, taxonomies=("recite", "recollect"), deltas=(5,))
    table = runs_table(named(finished_runs(tmp_path)))
    assert sorted(table["folder"]) == sorted(map(str, folders))
    assert table["same_as"].null_count() == 1
    assert table["rho"].null_count() == 2
    found = read(folders[0])
    row = table.row(by_predicate=pl.col("folder") == str(folders[0]), named=True)
    assert row["min_f1_std"] == found["panel"]["min_f1"]["std"]
    assert row["paper_min_f1"] == pytest.approx(scores(np.array(found["paper_protocol"]["confusion"]))["min_f1"])


def test_flow_by_hand():
    features = pl.DataFrame(
        {
            "memorized": [True, True, True, True, False],
            "duplicates": [100, 1, 100, 1, 100],
            "is_repeating": [False, True, True, False, False],
            "is_incrementing": [False] * 5,
            "rouge_l": [0.9, 0.0, 0.0, 0.1, 0.9],
            "rouge_3": [0.0] * 5,
        }
    )
    prashanth = Taxonomy.of("prashanth", {"N": "non_memorized", "Recite": "recite", "Reconstruct": "reconstruct", "Recollect": "memorized"})
    rasy = Taxonomy.of("rasy", {"N": "non_memorized", "Guess": "guess", "Recall": "memorized"})
    limits = Thresholds(50, 0.5, "both")
    counts = counted(features, (prashanth, limits), (rasy, limits))
    assert counts.tolist() == [[0, 0, 0], [0, 2, 0], [0, 1, 0], [0, 0, 1]]
    assert counted(features.head(0), (prashanth, limits), (rasy, limits)).tolist() == np.zeros((4, 3), int).tolist()
    partial = Taxonomy.of("partial", {"N": "non_memorized", "Recite": "recite"})
    assert counted(features, (partial, limits), (rasy, limits)).sum() == 2  # a sequence without a class counts nowhere


# Files


def test_markdown_keeps_its_cells(tmp_path):
    table = pl.DataFrame({"setting": ["a|b <i>c</i> \\ d\ne"], "min_f1": [71.25], "rho": [0.25], "eval_loss": [0.71234], "llm": [None]})
    write_markdown(table, tmp_path / "table.md")
    head, rule, row = (tmp_path / "table.md").read_text().splitlines()
    assert head == "| setting | min_f1 | rho | eval_loss | llm |"
    assert rule == "|---|---|---|---|---|"
    assert row == "| a\\|b &lt;i&gt;c&lt;/i&gt; \\\\ d e | 71.2 | 0.25 | 0.712 |  |"


@pytest.mark.parametrize(("column", "value", "text"), [("rouge_l", True, "yes"), ("paper_eval_loss", 0.04473, "0.0447"), ("seed", 3, "3")])
def test_values_for_people(column, value, text):
    assert shown(column, value) == text


@pytest.mark.slow
def test_two_thousand_runs_are_read_and_tabled_in_seconds(tmp_path):
    """By day an eighth of them, in an eighth of the time."""
    sizes, rhos = 8 if NIGHT else 1, tuple(tenth / 10 for tenth in range(1, 10))
    folders = make_runs(tmp_path, llms=[f"model-{size}b" for size in range(sizes)], seeds=(0, 1, 2), rhos=rhos)
    assert len(folders) >= 250 * sizes
    start = time.process_time()
    found, left_out = read_runs(tmp_path)
    reading = time.process_time() - start
    rows = ranking_rows(named(found))
    for make in (ranking, rho_table, controls, protocols, members_table, confusions_table, sizes_table, noise_floor):
        make(rows)
    assert len(found) == len(folders)
    assert not left_out
    assert reading < 10 * sizes / 8
    assert time.process_time() - start < 30 * sizes / 8
