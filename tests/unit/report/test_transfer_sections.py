"""The report's section on transfers: a matrix, a table and a summary, or the command that fills it."""

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from pages import check, words
from runs_maker import Run, finish
from transfers_maker import add_transfer

from memgrid.report.__main__ import PAIR
from memgrid.report.report import gather, write_report
from memgrid.report.transfers.figure import draw_transfers
from memgrid.report.transfers.section import FILL, section

CLASSES = {"Non-Memo": "non_memorized", "<b>Guess</b> | [1k]": "guess", "Recall": "memorized"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Runs of two models and two seeds, each tried on all others; the networks of one know nothing."""
    root = tmp_path_factory.mktemp("transfers")
    runs = [Run(root, llm, seed=seed, classes=CLASSES) for llm in ("m", "n") for seed in (0, 1)]
    for run in runs:
        finish(run)
    for run in runs[:3]:
        add_transfer(run, [other for other in runs if other is not run], weight=0.0 if run is runs[2] else 0.9, known=2)
    made = gather(root, root / "report", PAIR)
    write_report(made)
    return made


def test_it_has_a_matrix_a_table_and_a_sentence(report):
    page = check((report.out / "index.html").read_text())
    told = words(page)
    table = report.tables["transfers"]
    assert table.height == 9
    seen = table.filter(pl.col("verdict") != "not seen to transfer").height
    assert seen == 6
    assert f"of 9 transfers {seen} are more than chance" in told
    assert "Does it transfer?" in told
    assert "<b>Guess" not in (report.out / "index.html").read_text()
    assert imread(report.out / "figures" / "transfers.png")[..., :3].std() > 0.02


def test_the_table_is_a_file_with_names_of_both_runs(report):
    table = pl.read_csv(report.out / "transfers.csv")
    assert table["tried_on"].unique().sort().to_list() == ["m · seed 0", "m · seed 1", "n · seed 0"]
    assert set(table["trained_on"]) == {"m · seed 0", "m · seed 1", "n · seed 0", "n · seed 1"}
    assert (table["trained_on"] != table["tried_on"]).all()
    assert ((table["ratio"] - 100 * table["min_f1"] / table["own"]).abs() < 1e-6).all()
    assert set(table["left_out"]) == {6}
    assert (table["best"] >= table["together"]).all()


def test_runs_that_are_called_alike_are_told_apart(tmp_path):
    one, other = Run(tmp_path, "m"), Run(tmp_path, "m", overrides=("cnn=single",))
    for run in (one, other):
        finish(run)
    add_transfer(one, [other])
    (row,) = gather(tmp_path, tmp_path / "report", PAIR).tables["transfers"].to_dicts()
    assert row["tried_on"].startswith("m · seed 0 (")
    assert row["trained_on"].startswith("m · seed 0 (")
    assert row["trained_on"] != row["tried_on"]


def test_without_a_transfer_it_says_what_makes_one(tmp_path):
    finish(Run(tmp_path, "m"))
    report = gather(tmp_path, tmp_path / "report", PAIR)
    assert (section(report).text, section(report).fill) == (["No run was tried with the networks of another."], FILL)
    assert section(report).parts == []


@pytest.mark.parametrize("runs", [2, 5, 14])
def test_a_figure_of_few_and_of_many_runs(runs, tmp_path):
    values = np.full((runs, runs), 0.7)
    values[0, 1] = np.nan
    names = [f"pythia-2.8b-deduped@step{number}000 · semantic_filters · seed {number}" for number in range(runs)]
    draw_transfers({"networks": values, "without attention": values}, names, np.eye(runs, dtype=bool), tmp_path / "figure")
    assert imread(tmp_path / "figure.png")[..., :3].std() > 0.02
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
