import io
import json
import subprocess
import sys
import time

import polars as pl
import pytest
from conftest import NIGHT, memgrid
from rich.console import Console
from runs_maker import Run, finish, make_runs, result_of, rewrite

from memgrid.errors import UserError
from memgrid.report.__main__ import PAIR, ROWS, main, ranking_table, remarks
from memgrid.report.read import finished_runs
from memgrid.report.report import gather
from memgrid.report.rows import named
from memgrid.report.tables import runs_table
from memgrid.results.findings import describe, result_table, verdicts
from memgrid.results.result import from_json


@pytest.fixture
def metrics(done):
    """A real run's metrics, with the panel's interval lifted well above every control."""
    found = json.loads(next(done.glob("runs/*/*/*/metrics.json")).read_text())
    for entry in found["panel"]["f1"]:
        entry["low"] = 80.0
    for entry in found["control"]["f1"]:
        entry["mean"] = 30.0
    found["training"] = []  # three epochs are too few, which is told first
    del found["digest"]  # it is another content now
    return found


def verdicts_of(metrics):
    return verdicts(from_json(json.dumps(metrics)))


def test_all_classes_told_apart_is_said(metrics):
    assert verdicts_of(metrics)[0] == "Told apart better than by chance and by the shuffled control: Non-Memo, Guess, Recall."


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
        ("rot=here", "the report knows only root=<folder>, out=<folder> and flow=<taxonomy>,<taxonomy>, not rot=here"),
        ("flow=rasy", "flow=rasy does not name two taxonomies"),
        ("flow=rasy,raisy", "flow=raisy is no known taxonomy: use two of code, "),
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


def test_a_class_no_better_than_the_control_is_said_in_plain_words(metrics):
    metrics["control"]["f1"][1]["mean"] = 100.0
    said = " ".join(verdicts_of(metrics))
    assert f"NOT told apart better than by chance or the shuffled control: {metrics['classes'][1]}" in said


def test_a_control_that_collapsed_is_not_an_easy_bar(metrics):
    for entry in metrics["control"]["f1"]:
        entry["mean"] = 0.0
    metrics["panel"]["f1"][2]["low"] = 49.0  # always answering one of three balanced classes gives it an F1 of 50
    assert f"NOT told apart better than by chance or the shuffled control: {metrics['classes'][2]}" in " ".join(verdicts_of(metrics))


def test_confidence_is_compared(metrics):
    metrics["panel"]["min_f1"]["mean"], metrics["confidence"]["min_f1"]["mean"] = 60.0, 75.0
    assert "15.0 points below that from the model's own confidence" in " ".join(verdicts_of(metrics))
