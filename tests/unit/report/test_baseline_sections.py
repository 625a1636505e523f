import polars as pl
import pytest
from painting import left_out
from runs_maker import Run, finish, rewrite
from test_baseline_tables import finished

from memgrid.report.__main__ import PAIR
from memgrid.report.report import gather
from memgrid.report.sections.baselines import AGAIN, adds, curve, hard, sections
from memgrid.report.shell.render import render
from memgrid.results.folder import RunFolder


@pytest.fixture(autouse=True)
def unseen():
    """No drawing is looked at here."""
    with left_out(True):
        yield


def report_of(root):
    return gather(root, root / "report", PAIR)


def test_older_runs_are_named_and_nothing_breaks(tmp_path):
    finish(Run(tmp_path))
    made = sections(report_of(tmp_path))
    assert [section.key for section in made] == ["adds", "negatives", "learning"]
    assert made[0].text == [f"1 setting has no answers of baselines on disk: {AGAIN}."]
    assert not any(section.parts for section in made)


def test_what_is_worse_is_said(tmp_path):
    path = RunFolder(finished(tmp_path, 0.6, {"tokens": 0.95})).predictions
    nothing = pl.lit(pl.Series([[0.3, 0.3, 0.4]], dtype=pl.List(pl.Float32))).first()
    table = pl.read_parquet(path)
    table.with_columns(**dict.fromkeys(set(table.columns) - {"sequence_id", "label"}, nothing)).write_parquet(path)
    finish(Run(tmp_path, taxonomy="recite"))
    made = adds(report_of(tmp_path))
    assert "Of 3 pairs of classes, attention adds something to all that needs no attention in 0;" in made.text[0]
    assert "it is better in 0, worse in 3, and not seen to differ in 0." in made.text[0]
    assert "1 setting has no answers" in made.text[1]
    page = render("t", "s", [made], "f")
    assert "what it says" in page
    assert "instead of it, it is worse (50.0 % right against" in page


def test_what_hard_negatives_change_is_said_from_the_numbers(tmp_path):
    counts = {"": [[55, 3, 2], [2, 55, 3], [2, 3, 55]], "select.non_memorized=matched": [[20, 5, 35], [2, 55, 3], [20, 5, 35]]}
    for override, confusion in counts.items():
        rewrite(finish(Run(tmp_path, overrides=(override,) if override else ())), confusion=confusion)
    (line,) = hard(report_of(tmp_path)).text
    assert "Non-Memo matched in duplicates" in line
    assert "58 % of these negatives are called Recall, ordinarily 5 % are called Guess" in line


def test_without_an_ordinary_run_nothing_is_said(tmp_path):
    for override in ("select.non_memorized=matched", "select.decoded=suffix"):
        finish(Run(tmp_path, overrides=(override,)))
    (line,) = hard(report_of(tmp_path)).text
    assert "the ordinary run is missing" in line


def test_the_curve_is_drawn(tmp_path):
    for size in (50, 100):
        folder = finish(Run(tmp_path, overrides=(f"select.train_per_class={size}",)))
        rewrite(folder, samples={"train": size, "eval": 60})
    made = curve(report_of(tmp_path))
    assert (tmp_path / "report" / "figures" / "learning.png").is_file()
    assert len(made.parts) == 2
