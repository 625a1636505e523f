"""The report's section on degrees of memorization, from labels that are made up."""

from functools import partial

import numpy as np
import polars as pl
import pytest
from degrees_maker import COPIES, LENGTH, ROWS, K, labelled, made_up, without
from painting import left_out
from runs_maker import Run, finish, rewrite
from test_baseline_sections import report_of
from test_run_figures import drawing  # noqa: F401

from memgrid.metrics.extraction import CHANCES, TRIES
from memgrid.report.figures.curves import LEAST
from memgrid.report.report import write_report
from memgrid.report.sections.degrees import FILL, SHOWN, drawings, section
from memgrid.report.shell.render import render


@pytest.fixture(autouse=True)
def unseen(request):
    """Only where a drawing is looked at is one painted."""
    with left_out("drawing" not in request.fixturenames):
        yield


def told(report):
    return " ".join(section(report).text)


def test_older_roots_are_told_what_makes_them(tmp_path):
    finish(Run(tmp_path))
    labelled(tmp_path, without(made_up(), "degrees", "reference-ref"))
    report = report_of(tmp_path)
    made = section(report)
    assert made.parts == []
    assert (made.text, made.fill) == (["No labels say how memorized a sequence is."], FILL)
    assert not any(report.tables[name].height for name in ("extraction", "prefix", "copies"))
    write_report(report)
    assert not (tmp_path / "report" / "extraction.csv").exists()


def test_the_section_has_three_figures_and_tables_that_count_right(tmp_path):
    finish(Run(tmp_path))
    columns = made_up()
    labelled(tmp_path, columns)
    report = report_of(tmp_path)
    write_report(report)
    p_extract, shortest = columns["degrees"]["p_extract"], columns["degrees"]["shortest_prefix"]
    known, overlap = columns["memorized"]["memorized"], columns["rouge"]["rouge_l"] > 0.5
    classes = {"all": known | ~known, "Non-Memo": ~known, "Guess": known & overlap, "Recall": known & ~overlap}
    tries = pl.read_csv(tmp_path / "report" / "extraction.csv")
    assert tries.height == 2 * len(classes) * len(CHANCES) * len(TRIES)
    for row in tries.iter_rows(named=True):
        values = p_extract[classes[row["class"]]] / (1 if row["by"] == "model" else 9)
        assert row["sequences"] == len(values)
        assert row["count"] == (-np.expm1(row["n"] * np.log1p(-values)) >= row["p"] - 1e-12).sum()
        assert row["share"] == pytest.approx(100 * row["count"] / len(values))
        assert 0 <= row["low"] <= row["share"] <= row["high"] <= 100
    prefixes = pl.read_csv(tmp_path / "report" / "prefix.csv").filter(pl.col("by") == "model")
    assert prefixes.height == len(classes) * LENGTH
    for row in prefixes.iter_rows(named=True):
        assert row["count"] == (shortest[classes[row["class"]]] <= row["prefix"]).sum()
    at_k = {row["class"]: row["count"] for row in prefixes.filter(pl.col("prefix") == K).iter_rows(named=True)}
    assert at_k == {"all": 20, "Non-Memo": 0, "Guess": 10, "Recall": 10}
    copies = pl.read_csv(tmp_path / "report" / "copies.csv")
    assert copies["least"].to_list() == copies["most"].to_list() == list(COPIES)
    assert copies["sequences"].sum() == ROWS
    own = columns["duplicates"]["duplicates"] == 4
    row = copies.row(2, named=True)
    assert row["memorized"] == pytest.approx(100 * known[own].mean())
    assert row["p_extract_median"] == pytest.approx(np.median(p_extract[own]))
    assert row["reference_p_extract_mean"] == pytest.approx(p_extract[own].mean() / 9)


def test_guess_by_the_text_stands_beside_what_the_reference_continues(tmp_path):
    """Of twenty memorized ones every second is a guess, and the reference continues every fourth; without one nothing is said."""
    finish(Run(tmp_path))
    labelled(tmp_path, made_up())
    write_report(report_of(tmp_path))
    row = pl.read_csv(tmp_path / "report" / "agreement.csv").row(0, named=True)
    assert (row["stratum"], row["sequences"], row["first"], row["second"], row["both"]) == ("all", 20, 10, 5, 5)
    assert (row["same"], row["kappa"]) == (pytest.approx(75), pytest.approx(0.5))
    assert "Guess by the text, guess by a reference" in (tmp_path / "report" / "index.html").read_text()
    (tmp_path / "labels" / "toy" / "toy" / "reference-ref.parquet").unlink()
    write_report(report_of(tmp_path))
    assert not (tmp_path / "report" / "agreement.csv").exists()


def test_the_page_shows_and_defines_them(tmp_path):
    finish(Run(tmp_path))
    labelled(tmp_path, made_up())
    report = report_of(tmp_path)
    made = section(report)
    page = render("t", "s", [made], "f")
    for name in ("extraction", "prefix", "copies"):
        assert (tmp_path / "report" / "figures" / f"degrees-{name}.png").is_file()
        assert f"figures/degrees-{name}.pdf" in page
    assert [part.kind for part in made.parts] == ["figure"] * 3 + ["table"] * 3 + ["fold"]
    assert "1 − (1 − p_extract)ⁿ ≥ p" in page
    assert "Non-Memo 0.0 % (0.0–8.8) in 1, 20.0 % (10.5–34.8) in 100, 20.0 % (10.5–34.8) in 10,000" in page
    assert "its reference, ref" in page
    assert "did not read the text" in page


@pytest.mark.parametrize("lost", ["duplicates", "templates", "reference-ref"])
def test_what_is_missing_costs_only_what_hangs_on_it(tmp_path, lost):
    finish(Run(tmp_path))
    labelled(tmp_path, without(made_up(), lost))
    report = report_of(tmp_path)
    write_report(report)
    extraction = report.tables["extraction"]
    assert report.tables["copies"].height == (0 if lost == "duplicates" else len(COPIES))
    text = told(report)
    assert ("taxonomy=recite stages=[label]" in text) == (lost == "duplicates")
    classes = {"not memorized", "memorized"} if lost == "templates" else {"Non-Memo", "Guess", "Recall"}
    assert set(extraction["class"]) == {"all", *classes}
    assert ("has no labels templates" in text) == (lost == "templates")
    assert set(extraction["by"]) == ({"model"} if lost == "reference-ref" else {"model", "reference"})


def test_files_of_another_corpus_or_damaged_ones_are_not_used(tmp_path):
    finish(Run(tmp_path))
    path = labelled(tmp_path, without(made_up(), "reference-ref"))
    labelled(tmp_path, {"reference-ref": made_up()["reference-ref"]}, fingerprint="another")
    report = report_of(tmp_path)
    assert "not all made from the same corpus and model" in told(report)
    assert set(report.tables["extraction"]["by"]) == {"model"}
    (path / "degrees.parquet").write_bytes(b"PAR1 nothing PAR1")
    report = report_of(tmp_path)
    assert "is damaged" in told(report)
    assert not report.tables["extraction"].height
    write_report(report)


def test_another_sampling_is_told_and_the_plain_one_is_first(tmp_path):
    finish(Run(tmp_path))
    columns = made_up()
    other = columns["degrees"] | {"p_extract": np.sqrt(columns["degrees"]["p_extract"])}
    labelled(tmp_path, without(columns, "degrees") | {"degrees-t0.7-k40": other}, sampled={"temperature": 0.7, "top_k": 40})
    report = report_of(tmp_path)
    assert set(report.tables["extraction"]["sampling"]) == {"temperature 0.7, top-k 40"}
    assert "Tokens are drawn with temperature 0.7, top-k 40." in told(report)
    labelled(tmp_path, {"degrees": columns["degrees"]})
    assert set(report_of(tmp_path).tables["extraction"]["sampling"]) == {""}


def test_few_are_on_the_page_and_all_in_the_tables(tmp_path):
    rewrite(finish(Run(tmp_path)), origin={"corpus": "toy", "llm": "print"})
    for at in range(SHOWN + 1):
        labelled(tmp_path, made_up(), folder=f"m{at}")
    labelled(tmp_path, without(made_up(), "reference-ref"), folder="a")
    labelled(tmp_path, without(made_up(), "reference-ref"))
    report = report_of(tmp_path)
    made = section(report)
    assert report.tables["extraction"]["llm"].unique(maintain_order=True).to_list() == ["toy", "m0", "m1", "m2", "m3", "a"]
    assert len([part for part in made.parts if part.kind == "figure"]) == 3 * SHOWN
    assert "Only in extraction.csv, prefix.csv and copies.csv: m2 on toy, m3 on toy, a on toy." in made.text
    assert (tmp_path / "report" / "figures" / "degrees-copies-3.png").is_file()


@pytest.mark.parametrize(("rows", "memorized"), [(1, 0), (1, 1), (7, 0), (7, 7)])
def test_the_smallest_corpora(tmp_path, rows, memorized):
    finish(Run(tmp_path))
    labelled(tmp_path, made_up(rows, 2, memorized), k=1)
    report = report_of(tmp_path)
    write_report(report)
    assert report.tables["prefix"]["prefix"].max() == 2
    assert set(report.tables["prefix"].filter(pl.col("prefix") == 2)["share"]) == {100.0}


LOOKS = {"as usual": made_up(), "without": without(made_up(), "reference-ref"), "nothing memorized": made_up(memorized=0)}
LOOKS["many copies"] = made_up() | {"duplicates": {"duplicates": 3 ** (np.arange(ROWS) % 15)}}
LOOKS["one sequence"] = made_up(1, 4, 1)


@pytest.mark.parametrize("look", LOOKS)
def test_figures_are_whole(tmp_path, drawing, look):  # noqa: F811
    finish(Run(tmp_path))
    labelled(tmp_path, LOOKS[look], k=2 if look == "one sequence" else K)
    (each,) = report_of(tmp_path).degrees
    for name, draw in drawings(each).items():
        draw(tmp_path / name)
        drawing.check(tmp_path / name)
    lines = partial(map, lambda line: np.asarray(line.get_ydata(), float))
    lowest = min(values.min() for axes in drawing.figures[-1].axes[1:] for values in lines(axes.lines))
    assert lowest >= np.log10(LEAST)
