"""All confusion matrices: drawn numbers against counting by hand, and every one of them on one page."""

import json

import numpy as np
import polars as pl
import pytest
from painting import left_out
from runs_maker import Run, finish, make_runs
from test_run_figures import LONG, recorded, some_counts

from memgrid.report.confusions.figure import NAME, NUMBER, Matrix, draw_matrices, on_a_page, short
from memgrid.report.confusions.pages import pages, sheets_by_classes, sheets_over_rho
from memgrid.report.confusions.table import confusions_table
from memgrid.report.flows.word import PAIR
from memgrid.report.read import read_runs
from memgrid.report.report import gather
from memgrid.report.rows import named, ranking_rows
from memgrid.results.folder import RunFolder


@pytest.fixture
def drawing(monkeypatch):
    return recorded(monkeypatch)


def read(folder):
    return json.loads(RunFolder(folder).metrics.read_text())


def rows_of(root):
    return ranking_rows(named(read_runs(root)[0]))


@pytest.mark.parametrize(("classes", "number"), [(2, 9), (3, 4), (4, 9), (5, 4), (8, 3), (12, 1)])
def test_numbers_and_sums_are_drawn(classes, number, drawing, tmp_path):
    titles = ["Non-Memo", "Recite[1k]-or-Reconstruct", LONG, *(f"Class {at}" for at in range(classes))][:classes]
    matrices = [
        Matrix(f"{LONG}, {LONG}, {LONG} · x=1", f"min-F1 {at}", some_counts(classes, at) // 100, titles)
        for at in range(min(number, on_a_page(classes)))
    ]
    draw_matrices(matrices, f"{classes} classes: {LONG}", tmp_path / "page")
    drawing.check(tmp_path / "page", (NUMBER, NAME))
    axes = [each for each in drawing.figures[-1].axes if each.images]
    assert len(axes) == len(matrices)
    for drawn, matrix in zip(axes, matrices, strict=True):
        said = [text.get_text() for text in drawn.texts]
        cells, counts = classes**2, matrix.counts.tolist()
        assert said[:cells] == [str(count) for row in counts for count in row]
        assert said[cells : cells + classes] == [f"{sum(row):,}" for row in counts]
        assert said[cells + classes : -1] == [f"{sum(column):,}" for column in zip(*counts, strict=True)]
        assert said[-1] == f"Σ {sum(map(sum, counts)):,}"
        shares = drawn.images[0].get_array()
        assert shares[1, 0] == pytest.approx(counts[1][0] / sum(counts[1]))
        assert drawn.images[0].get_clim() == (0, 1)


def test_a_class_without_samples_is_grey(drawing, tmp_path):
    counts = some_counts(3)
    counts[1] = 0
    draw_matrices([Matrix("one", "min-F1 1", counts, ["A", "B", "C"])], "heading", tmp_path / "page")
    drawing.check(tmp_path / "page", (NUMBER, NAME))
    (axes,) = (each for each in drawing.figures[-1].axes if each.images)
    assert np.isnan(np.ma.filled(axes.images[0].get_array(), np.nan)[1]).all()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (9_999, "9,999"), (48_000, "48.0k"), (99_949, "99.9k"), (99_950, "100k"), (999_499, "999k"), (1_200_000, "1.2M")],
)
def test_short_counts(count, text):
    assert short(count) == text
    assert short(count, 100_000) == (f"{count:,}" if count < 100_000 else text)


def test_pages_hold_every_setting_once_with_the_papers_sum(tmp_path):
    taxonomies = ("rasy", "prashanth", "recite", "recite_guess", "recite_reconstruct")
    make_runs(tmp_path, llms=("a", "b"), taxonomies=taxonomies, deltas=(5, 50, 1000), seeds=(0, 1))
    rows = rows_of(tmp_path)
    sheets = list(sheets_by_classes(rows))
    assert [sheet.name for sheet in sheets] == [f"confusions-4-classes-{page}" for page in (1,)] + ["confusions-3-classes-1"]
    drawn = {matrix.name: matrix for sheet in sheets for matrix in sheet.matrices}
    assert sorted(drawn) == sorted(row.label for row in rows)
    assert sum(len(sheet.matrices) for sheet in sheets) == len(rows)
    mine = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/rasy/*/metrics.json")]
    assert len(mine) == 4
    expected = np.sum([one["paper_protocol"]["confusion"] for one in mine], 0)
    np.testing.assert_array_equal(drawn["Non-Memo, Guess, Recall"].counts, expected)
    table = confusions_table(rows).filter(pl.col("setting") == "Non-Memo, Guess, Recall", pl.col("llm") == "all")
    assert table.filter(pl.col("sum") == "paper")["count"].to_list() == expected.ravel().tolist()
    last = np.sum([one["confusion"] for one in mine], 0)
    assert table.filter(pl.col("sum") == "ours")["count"].to_list() == last.ravel().tolist()
    assert set(table["classes"]) == {3}


def test_matrices_over_rho(tmp_path):
    for rho in (0.7, 0.3, 0.5):
        finish(Run(tmp_path, rho=rho))
    finish(Run(tmp_path, rho=0.3, rouge="l"))
    folder = finish(Run(tmp_path, rho=0.5, rouge="l"))
    finish(Run(tmp_path, rho=0.5, rouge="3"))  # one value alone is no sweep
    both, only_l = sheets_over_rho(rows_of(tmp_path))
    assert [matrix.name for matrix in both.matrices] == ["ρ = 0.3", "ρ = 0.5", "ρ = 0.7"]
    assert both.heading == "Non-Memo, Guess, Recall, ρ applied to ROUGE-L or ROUGE-3"
    assert only_l.heading == "Non-Memo, Guess, Recall, ρ applied to ROUGE-L"
    np.testing.assert_array_equal(only_l.matrices[1].counts, read(folder)["paper_protocol"]["confusion"])


@pytest.mark.parametrize(("style", "drawn", "rest"), [("ours", 1, " style=paper draws them,"), ("paper", 2, "")])
def test_what_has_no_room_is_said(style, drawn, rest, tmp_path, monkeypatch):
    make_runs(tmp_path, taxonomies=("rasy", *(f"recite{more}" for more in ("", "_or_guess", "_or_code"))), rhos=(0.3, 0.4, 0.5))
    report = gather(tmp_path, tmp_path / "report", PAIR, style=style)
    with left_out(True):
        parts, text = pages(report)
    titles = [[figure.title for figure in part.parts] for part in parts]
    assert titles[0] == ["3 classes, page 1 of 2", "3 classes, page 2 of 2"]
    assert len(titles[1]) == 3
    assert not text
    monkeypatch.setattr("memgrid.report.confusions.pages.SHOWN", 1)
    monkeypatch.setattr("memgrid.report.confusions.pages.PAPERS", 2)
    for path in (tmp_path / "report").glob("figures/*"):
        path.unlink()
    with left_out(True):
        parts, text = pages(report)
    assert [part.title for part in parts] == ["All settings, summed as in the paper"]
    names = ["confusions-3-classes-1", "confusions-rho-1-1"][:drawn]
    assert sorted(path.stem for path in (tmp_path / "report").glob("figures/*.png")) == names
    more = [f"{drawn - 1} page more of matrices: confusions-* in figures/."] if drawn > 1 else []
    assert text == [*more, f"{5 - drawn} pages more of matrices, not drawn:{rest} confusions.csv has their cells."]
