"""The report's sections on causes: they show what lies in the runs' folders, and say what they cannot show."""

import json

import numpy as np
import polars as pl
import pytest
from maps_maker import attributes
from pages import check, words
from painting import left_out
from runs_maker import Run, finish
from test_dose_figures import made_up
from ways_maker import some_ways

from memgrid.errors import UserError
from memgrid.intervene.selectivity import selectivities
from memgrid.intervene.statistics import verdict
from memgrid.intervene.trials import UNITS
from memgrid.io.digests import write_parquet
from memgrid.localize.maps import write_decision_maps
from memgrid.report.__main__ import PAIR, style_of
from memgrid.report.facts import STYLES
from memgrid.report.report import gather, write_report
from memgrid.report.sections.causes import causal, where
from memgrid.results.boundary import adapter
from memgrid.results.folder import RunFolder
from memgrid.results.records import HEADS, InterveneRecord

CLASSES = {"Non-Memo": "non_memorized", "<b>Guess</b> | [1k]": "guess", "Recall": "memorized"}


SANITY = {"delta": {"0": 1.0, "4": 0.4}, "decisiveness": {"0": 1.0, "4": 0.1}}


def add_causes(folder, method="guided", layers=True):
    """What localization and intervention leave in a run's folder."""
    titles = json.loads((folder / "metrics.json").read_text())["classes"]
    delta = np.tril(np.random.default_rng(0).random((1, len(titles), 2, 16, 16)) ** 6)
    given = attributes(classes=titles, members=["a"], samples=[2] * len(titles), k=8, method=method)
    write_decision_maps(folder / f"localize-{method}.h5", given, delta, [np.arange(2)] * len(titles))
    shares = dict.fromkeys(("layer_share", "within_prefix", "suffix_to_prefix", "within_suffix", "half"), 12.34)
    classes = [{"class": title, "samples": 2, "layers": 2, "layer": 1, **shares, "layer_shares": [60, 40]} for title in titles]
    common = {"method": method, "settings": {}, "inputs": "x"}
    mark = {**common, "samples": "2 eval samples per class", "classes": classes, "sanity": dict.fromkeys(titles, SANITY)}
    (folder / f"localize-{method}.json").write_text(json.dumps(mark))
    table = made_up(titles, doses=(3.0, 10.0), layers=2 if layers else 0)
    kept = [(np.arange(100) < 100 * share).tolist() for share in table["extractable"]]
    table = table.with_columns(kept=pl.Series(kept), overlap=pl.lit(0.1), samples=pl.lit(100), removed=pl.col("q") / 100)
    table.write_parquet(folder / "intervene.parquet")
    (folder / "intervene.json").write_text(
        json.dumps({**common, "verdict": [adapter(type(one)).dump_python(one, mode="json", by_alias=True) for one in verdict(table)]})
    )
    return folder


@pytest.fixture(scope="module", autouse=True)
def unseen():
    """No drawing is looked at here."""
    with left_out(True):
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """One run with everything, whose class has signs of HTML and Markdown in its name."""
    root = tmp_path_factory.mktemp("causes")
    add_causes(finish(Run(root, "m", classes=CLASSES)))
    made = gather(root, root / "report", PAIR)
    write_report(made)
    return made


def test_the_papers_style_draws_other_maps(tmp_path):
    add_causes(finish(Run(tmp_path, "m")))
    figures = {}
    for style in STYLES:
        made = gather(tmp_path, tmp_path / style, PAIR, style=style)
        html = "".join(part.title for part in where(made).parts)
        figures[style] = {path.stem for path in (made.out / "figures").glob("*.png")} - {"layers", "randomisation"}
        assert ("All classes on one scale" in html) == (style == "ours")
    assert figures["ours"] == {"teaser", "teaser-one-scale", "delta-1-1", "delta-2-1", "delta-3-1"}
    assert figures["paper"] == {"teaser-one-scale", "delta-layers-1"}
    assert style_of("paper") == "paper"
    with pytest.raises(UserError, match=r"style=papr is no way to draw figures: use style=ours or style=paper \(did you mean paper\?\)"):
        style_of("papr")


def test_figures_tables_and_sentences_are_on_the_page(report):
    html = (report.out / "index.html").read_text()
    page = check(html)
    told = words(page)
    figures = {path.stem for path in (report.out / "figures").glob("*.png")}
    assert {"teaser", "layers", "randomisation", "doses", "dose-prices", "dose-layers", "delta-1-1", "delta-2-1", "delta-3-1"} <= figures
    assert all((report.out / link).is_file() for link in page.links if not link.startswith("#"))
    found = json.loads(next(report.root.rglob("intervene.json")).read_text())["verdict"]
    for one in found:
        assert len(one["sentences"]) == 6  # random, the most attended, the least decisive, two other classes, and what follows
        assert all(" ".join(sentence.split()) in told for sentence in one["sentences"])
    assert "correlate with these by 0.10 (D, by the networks alone) and by 0.40 (Δ, which keeps the attention)" in told
    assert "<b>Guess" not in html


def test_the_tables_are_files(report):
    localized = pl.read_csv(report.out / "localized.csv")
    assert localized["class"].to_list() == list(CLASSES)
    assert localized["sanity_decisiveness"].to_list() == [0.1] * 3
    doses = pl.read_csv(report.out / "interventions.csv")
    places = doses.select("class", "q").unique(maintain_order=True).rows()
    assert places == [(name, q) for name in list(CLASSES)[1:] for q in (3.0, 10.0)]
    assert doses.height == 5 * len(places)
    assert (doses["target"] - doses["share"] - doses["difference"]).abs().max() < 1
    assert (doses["adjusted"] >= doses["chance"]).all()
    assert set(doses.filter(pl.col("control") == "random")["draws"]) == {3}
    assert doses["removed"].equals(doses["q"].alias("removed"))  # both in percent
    for name in ("localized", "interventions"):
        lines = (report.out / f"{name}.md").read_text().splitlines()
        assert len(lines) == 2 + len(pl.read_csv(report.out / f"{name}.csv"))
        assert "\\|" in "".join(lines)
        assert "<b>" not in "".join(lines)


def test_of_many_runs_the_best_are_shown_and_the_rest_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("memgrid.report.sections.causes.SHOWN", 1)
    folders = [add_causes(finish(Run(tmp_path, "m", seed=seed)), layers=False) for seed in range(4)]
    best = max(folders, key=lambda folder: json.loads((folder / "metrics.json").read_text())["panel"]["min_f1"]["mean"])
    (best / "localize-guided.h5").write_bytes(b"damaged")
    (best / "intervene.parquet").write_bytes(b"damaged")
    report = gather(tmp_path, tmp_path / "report", PAIR)
    for section, figure in ((where(report), "teaser-one-scale"), (causal(report), "doses")):
        text = " ".join(section.text)
        assert "is left out: " in text
        assert "The figures of 2 more runs" in text
        assert len(list((tmp_path / "report" / "figures").glob(f"{figure}*.png"))) == 1
        (table,) = [part for part in section.parts if part.kind == "table"]
        assert len(table.groups) == 4


def test_two_methods_of_one_run_are_two_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("memgrid.report.sections.causes.SHOWN", 1)
    folder = finish(Run(tmp_path, "m"))
    for method in ("guided", "gradcam"):
        add_causes(folder, method)
    report = gather(tmp_path, tmp_path / "report", PAIR)
    assert report.tables["localized"]["method"].unique().sort().to_list() == ["gradcam", "guided"]
    assert [group.heading.split(" · ")[-1] for group in where(report).parts[-1].groups] == ["gradcam", "guided"]


def test_a_run_of_which_only_heads_were_switched_off_has_its_section(tmp_path):
    """Of positions there is nothing to tell, and the page says so."""
    folder = add_causes(finish(Run(tmp_path, "m", classes=CLASSES)))
    titles = list(CLASSES)[1:]
    table = some_ways(np.random.default_rng(0), titles, (HEADS,), draws=9)
    values = np.random.default_rng(1).random((len(titles), 8, 4))
    rows = [
        {"class": title, "unit": HEADS, "layer": 1, "head": 1 + head, **dict(zip(list(UNITS)[4:], of_head, strict=True))}
        for title, of_class in zip(titles, values.tolist(), strict=True)
        for head, of_head in enumerate(of_class)
    ]
    units, run = pl.DataFrame(rows, schema=UNITS), RunFolder(folder)
    write_parquet(table, run.intervention)
    write_parquet(units, run.intervention_units)
    found = selectivities(table, units)
    run.write_record(InterveneRecord("guided", {}, "x", verdict(table), selectivity=found))
    made = gather(tmp_path, tmp_path / "report", PAIR)
    write_report(made)
    told = words(check((made.out / "index.html").read_text()))
    assert all(" ".join(line.split()) in told for one in found for line in one.sentences)
    assert "No run has an intervention" in told
    assert {"where", "heads"} <= {path.stem for path in (made.out / "figures").glob("*.png")}
    assert not list((made.out / "figures").glob("dose*"))
    assert pl.read_csv(made.out / "ways.csv").height == 4 * len(titles)
