"""Networks that are constant or undertrained are named wherever their scores are."""

import dataclasses
import json
import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from runs_maker import PAPERS, Run, finish, result_of, rewrite

from memgrid.report.facts import noise_floor
from memgrid.report.read import finished_runs
from memgrid.report.rows import named, ranking_rows
from memgrid.report.sections.doubts import doubt_text, in_short, null_text
from memgrid.report.tables import controls, ranking, rho_table
from memgrid.results.findings import doubts, result_table, verdicts
from memgrid.results.result import BEHIND, MemberTraining, from_json, to_json

FINE, BEHIND_IT, CONSTANT = MemberTraining(0.5, 0.45, 3), MemberTraining(0.9, 0.45, 3), MemberTraining(1.1, 0.45, 1)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return result_of(Run(tmp_path_factory.mktemp("run")))


def trained(result, *training):
    return dataclasses.replace(result, training=list(training))


@given(st.floats(0, 3), st.floats(0, 3), st.integers(1, 4))
def test_a_network_is_judged_by_a_linear_probe_on_its_own_training_samples(result, train, probe, answers):
    made = trained(result, MemberTraining(train, probe, answers))
    behind = train > probe + BEHIND * math.log(len(result.classes))
    assert made.doubt == ("constant" if answers == 1 else "undertrained" if behind else "")
    assert bool(doubts(made)) == bool(made.doubt)
    assert from_json(json.dumps(to_json(made))) == dataclasses.replace(made, memgrid=to_json(made)["memgrid"])


def test_a_loss_that_is_no_number_is_no_good_one(result):
    assert trained(result, MemberTraining(math.nan, 0.4, 3)).doubt == "undertrained"


def test_older_results_are_not_judged(result):
    assert (result.training, result.doubt, doubts(result)) == ([], "", [])


def test_the_terminal_names_them(result):
    made = trained(result, FINE, BEHIND_IT, CONSTANT, CONSTANT)
    one, other = doubts(made)
    assert one.startswith("NOT TRAINED: 2 of 4 networks give the same answer")
    assert "1 of 4 networks has not learned what they could (a training loss of 0.90" in other
    assert "a linear probe has 0.45 on others): use more cnn.epochs" in other
    assert verdicts(made)[:2] == [one, other]
    with (console := Console(width=120)).capture() as shown:
        console.print(result_table(made))
    assert "min-F1, constant" in shown.get()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Ten settings and two that mean nothing; of recite one of two seeds is undertrained, code is constant, one ρ is undertrained."""
    root = tmp_path_factory.mktemp("rows")
    cells = [{"taxonomy": name} for name in (*PAPERS[:8], "null_coin", "null_guess_coin")]
    cells += [{"taxonomy": "recite", "seed": seed} for seed in (0, 1)] + [{"taxonomy": "rasy", "rho": rho} for rho in (0.3, 0.5, 0.7)]
    for cell in cells:
        finish(Run(root, **cell))
    for run in finished_runs(root):
        name, given_ = run.settings["taxonomy"]["name"], run.settings
        poor = (name, given_["seed"]) == ("recite", 1) or (name, given_["rho"]) == ("rasy", 0.3)
        training = [CONSTANT if name == "code" else BEHIND_IT if poor else FINE] * len(run.result.members)
        rewrite(run.folder.path, training=[dataclasses.asdict(member) for member in training])
    return ranking_rows(named(finished_runs(root)))


def test_the_ranking_marks_them_and_says_so(rows):
    table = ranking(rows)
    marked = dict(table.filter(pl.col("doubt") != "").select("setting", "doubt").iter_rows())
    assert marked == {
        "Non-Memo, Code, Others": "constant",
        "Non-Memo, Recite[50], Others": "undertrained in 1 of 2 runs",
        "Non-Memo, Guess, Recall (ρ=0.3)": "undertrained",
    }
    constant, undertrained = doubt_text(table)
    assert constant.startswith("1 setting is constant")
    assert constant.endswith("Non-Memo, Code, Others.")
    assert undertrained.startswith("2 settings are undertrained")
    assert rho_table(rows).filter(rho=0.3)["doubt"].to_list() == ["undertrained"]
    assert doubt_text(table.filter(doubt="")) == []


def test_what_was_not_trained_to_its_end_is_no_noise(rows):
    """Two seeds of recite differ, of which one is undertrained; trained, both would be a pair."""
    assert noise_floor(rows) is None
    fine = [dataclasses.replace(row, runs=[dataclasses.replace(run, result=trained(run.result)) for run in row.runs]) for row in rows]
    assert noise_floor(fine).pairs == 1


def test_the_ranking_says_where_null_taxonomies_land(rows):
    table = ranking(rows)
    null = table.filter(family="null")
    assert set(null["setting"]) == {"Non-Memo, Heads, Tails", "Non-Memo, Guess, Heads, Tails"}
    (text,) = null_text(table)
    for setting, score in null.select("setting", "min_f1").iter_rows():
        place = table["label"].to_list().index(setting) + 1
        assert f"{setting}: {score:.1f}, place {place}" in text
    assert null_text(table.filter(pl.col("family") != "null")) == []


def test_the_controls_stand_beside_each_row(rows):
    table, beside = ranking(rows), controls(rows)
    assert table["shuffled_min_f1"].null_count() == 0
    both = table.select(pl.col("label").alias("setting"), "shuffled_min_f1", "confidence_min_f1", "chance").sort("setting")
    assert both.equals(beside.select(both.columns).sort("setting"))


def test_a_row_that_differs_in_many_keys_is_named_by_the_first():
    few = {"variant": "seed=1, rho=0.3", "label": "A, B · seed=1, rho=0.3"}
    many = {"variant": "a=1, b=2, c=3", "label": "A, B · a=1, b=2, c=3"}
    assert in_short(few) == few["label"]
    assert in_short(many) == "A, B · a=1 (and 2 keys more)"
