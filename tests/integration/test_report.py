import io
import json
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from conftest import NIGHT, memgrid
from rich.console import Console
from runs_maker import Run, finish, make_runs, result_of, rewrite

from memgrid.errors import UserError
from memgrid.metrics.intervals import panel_scores
from memgrid.metrics.pairs import pair_scores
from memgrid.report.__main__ import PAIR, ROWS, main, ranking_table, remarks
from memgrid.report.read import finished_runs
from memgrid.report.report import gather
from memgrid.report.rows import named
from memgrid.report.tables import runs_table
from memgrid.results.findings import describe, result_table, verdicts
from memgrid.results.result import from_json


@pytest.fixture
def metrics(done):
    """A real run's metrics, as if all its classes were told apart."""
    found = json.loads(next(done.glob("runs/*/*/*/metrics.json")).read_text())
    for pair in found["pairs"]:
        pair["adjusted"] = 0.01
    found["training"] = []  # three epochs are too few, which is told first
    del found["digest"]  # it is another content now
    return found


def verdicts_of(metrics):
    return verdicts(from_json(json.dumps(metrics)))


def test_all_classes_told_apart_is_said(metrics):
    assert verdicts_of(metrics)[0] == "Told apart from each other class: Non-Memo, Guess, Recall."


def test_a_root_without_runs_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        finished_runs(tmp_path)
    process = memgrid(f"root={tmp_path}", module="report", check=False)
    assert process.returncode == 1
    assert "no finished run" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (
            "rot=here",
            "the report knows only root=<folder>, out=<folder>, sort=min_f1|worst_pair, flow=<taxonomy>,<taxonomy>, style=ours|paper and "
            "text=true|false",
        ),
        ("sort=f1", "sort=f1 is nothing that a ranking is sorted by: use sort=min_f1 or sort=worst_pair"),
        ("text=yes", "text=yes is neither true nor false: text=true puts the text"),
        ("flow=rasy", "flow=rasy does not name two taxonomies"),
        ("flow=rasy,raisy", "flow=raisy is no known taxonomy (did you mean rasy?): use two of code, "),
        ("flow=prashanth@dleta=5,rasy", "flow=prashanth@dleta=5 gives prashanth the unknown threshold dleta (did you mean delta?)"),
        ("style=papr", "style=papr is no way to draw figures: use style=ours or style=paper (did you mean paper?)"),
        ("out=/dev/null/x", "out=/dev/null/x cannot be written to (Not a directory)"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, argument, told):
    finish(Run(tmp_path))
    process = memgrid(f"root={tmp_path}", argument, module="report", check=False)
    assert process.returncode == 1
    assert told in process.stderr
    assert process.stderr.count("\n") == 1


def test_the_command_line(tmp_path):
    folders = make_runs(tmp_path / "runs-here", taxonomies=("rasy", "recite", "recollect", "prashanth"), deltas=(5, 50), seeds=(0, 1))
    rewrite(folders[-1], settings={})
    process = memgrid(f"root={tmp_path / 'runs-here'}", f"out={tmp_path / 'out'}", "flow=recite,rasy", module="report")
    shown = process.stdout
    assert f"{len(folders) - 1} finished runs below" in shown
    assert "Non-Memo, Recite[5], Reconstruct, Recollect" in shown
    assert "differ by" in shown
    assert f"{folders[-1]} is left out" in process.stderr
    assert {"index.html", "runs.csv", "runs.md", "ranking.csv", "figures"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert not (tmp_path / "runs-here" / "report").exists()
    best = pl.read_csv(tmp_path / "out" / "ranking.csv").row(0, named=True)
    assert f"{best['min_f1']:.1f}" in shown


def printed(width, *made):
    console = Console(width=width, file=io.StringIO())
    console.print(*made)
    return console.file.getvalue()


def test_only_the_best_are_printed(tmp_path):
    make_runs(tmp_path, deltas=(5, 50), rhos=(0.4, 0.5, 0.6))
    report = gather(tmp_path, tmp_path / "report", PAIR)
    shown = printed(160, ranking_table(report, 160))
    assert shown.count("Non-Memo") == ROWS
    assert "interval" in shown
    assert remarks(report)[:2] == [
        f"and {len(report.rows) - 8 - ROWS} more rows in {tmp_path}/report/ranking.csv",
        f"8 rows of the sweep over ρ are in {tmp_path}/report/rho.csv",
    ]


def test_a_narrow_terminal_leaves_the_interval_out(tmp_path):
    finish(Run(tmp_path))
    shown = printed(80, ranking_table(gather(tmp_path, tmp_path / "report", PAIR), 80))
    assert "interval" not in shown
    assert "confidence" in shown


def test_a_result_is_described_by_what_it_depends_on(tmp_path):
    assert describe(Run(tmp_path).settings) == "toy · rasy · ρ=0.5 (both) · seed 0"
    assert describe(Run(tmp_path, taxonomy="recite", delta=5).settings) == "toy · recite · δ=5 · seed 0"


def test_titles_in_square_brackets_are_shown_as_they_are(tmp_path):
    made = result_of(Run(tmp_path, classes={"Non": "non_memorized", "Guess[bold]": "guess", "R": "memorized"}))
    assert "Guess[bold]" in printed(140, result_table(made))


def test_the_report_starts_without_torch():
    process = subprocess.run([sys.executable, "-X", "importtime", "-m", "memgrid.report", "x"], capture_output=True, text=True)
    assert process.returncode == 1
    assert " torch" not in process.stderr
    assert " matplotlib" not in process.stderr


@pytest.mark.slow
def test_two_thousand_runs_are_reported_in_under_a_minute(tmp_path):
    """By day an eighth of them, in as much less time beside what the figures of few runs take, 12 s."""
    sizes = 8 if NIGHT else 1
    rhos = [step / 10 for step in range(1, 10)]
    folders = make_runs(tmp_path, llms=[f"model-{size}b" for size in range(sizes)], seeds=(0, 1, 2), rhos=rhos)
    assert len(folders) >= 250 * sizes
    start = time.process_time()
    main([f"root={tmp_path}"])
    assert time.process_time() - start < 12 + 6 * sizes
    assert pl.read_csv(tmp_path / "report" / "runs.csv", infer_schema_length=None).height == len(folders)


def test_the_table_repeats_the_metrics(done, metrics):
    row = runs_table(named(finished_runs(done))).row(0, named=True)
    assert row["min_f1"] == metrics["panel"]["min_f1"]["mean"]
    assert row["shuffled_min_f1"] == metrics["control"]["min_f1"]["mean"]
    assert row["taxonomy"] == "rasy"


def test_classes_that_are_alike_are_said_in_plain_words(metrics):
    next(pair for pair in metrics["pairs"] if (pair["first"], pair["second"]) == (0, 2))["adjusted"] = 0.051
    assert verdicts_of(metrics)[:2] == [
        "Told apart from each other class: Guess.",
        "NOT told apart from each other class: Non-Memo (from Recall), Recall (from Non-Memo).",
    ]


def test_the_pairs_are_those_of_the_predictions(metrics, done):
    table = pl.read_parquet(next(done.glob("runs/*/*/*/predictions.parquet")))
    answers = np.mean([table[name].list.to_array(3).to_numpy() for name in metrics["members"]], 0)
    samples = pl.read_parquet(next(done.glob("runs/*/*/*/samples.parquet"))).filter(side="eval")
    assert samples["sequence_id"].equals(table["sequence_id"])
    assert samples["group"].n_unique() < samples.height  # templates of one pattern are near-duplicates
    expected = pair_scores(table["label"].to_numpy(), answers, samples["group"].to_numpy().astype(np.int64))
    assert [[pair[key] for key in ("first", "second", "accuracy", "chance")] for pair in metrics["pairs"]] == [
        pytest.approx([pair[key] for key in ("first", "second", "accuracy", "chance")]) for pair in expected
    ]


def test_the_intervals_are_those_of_the_predictions(metrics, done):
    table, samples = (pl.read_parquet(next(done.glob(f"runs/*/*/*/{name}.parquet"))) for name in ("predictions", "samples"))
    predicted = np.stack([table[name].list.to_array(3).to_numpy().argmax(-1) for name in metrics["members"]])
    groups = samples.filter(side="eval")["group"].to_numpy()
    expected = panel_scores(table["label"].to_numpy().astype(int), predicted, 3, metrics["settings"]["seed"], groups=groups)
    assert metrics["panel"]["accuracy"] == pytest.approx(expected["accuracy"])
    assert expected["accuracy"] != pytest.approx(panel_scores(table["label"].to_numpy().astype(int), predicted, 3, 0)["accuracy"])


def test_what_a_probe_sees_is_said(metrics):
    metrics["probe_test"] = {"accuracy": 61.2, "permuted": 33.4, "permutations": 39, "chance": 0.025}
    said = "a linear classifier is right for 61.2 %, and for 33.4 % where labels are permuted (p = 0.025, 39 permutations)."
    assert f"Attention says something of the classes: {said}" in verdicts_of(metrics)
    metrics["probe_test"]["chance"] = 0.2
    assert verdicts_of(metrics)[1].startswith("NOTHING of the classes is seen in attention by a linear classifier: it is right for 61.2 %")


def test_results_of_before_say_nothing_of_pairs(metrics):
    del metrics["pairs"], metrics["probe_test"]
    assert not any("apart" in line or "linear" in line for line in verdicts_of(metrics))


def test_confidence_is_compared(metrics):
    metrics["panel"]["min_f1"]["mean"], metrics["confidence"]["min_f1"]["mean"] = 60.0, 75.0
    assert "15.0 points below that from the model's own confidence" in " ".join(verdicts_of(metrics))
