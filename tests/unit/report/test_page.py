"""The page: self-contained, well-formed, complete, and honest about what is not there."""

import base64
import gzip
import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imsave
from pages import check, words
from painting import left_out
from runs_maker import Run, finish, leave, make_labels, make_runs, rewrite

from memgrid.errors import UserError
from memgrid.report.__main__ import PAIR
from memgrid.report.flows import section as flows
from memgrid.report.page import ROWS, Column, Embedded, Entry, Fold, Group, Listing, Picture, Section, interval, listing, picture
from memgrid.report.report import gather, write_report, write_tables
from memgrid.report.sections.checks import examples
from memgrid.report.shell.render import FEW_ROWS, curly, render


@pytest.fixture(scope="module", autouse=True)
def unseen():
    """No drawing is looked at here."""
    with left_out(True):
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two models, a grid, a sweep over ρ, examples, labels of one model, and runs of every other state."""
    root = tmp_path_factory.mktemp("report")
    choice = {"llms": ("pythia-12b", "pythia-2.8b"), "taxonomies": ("rasy", "prashanth", "recite", "recollect", "guess_recite")}
    make_runs(root, **choice, deltas=(5, 50), seeds=(0, 1), rhos=(0.3, 0.5, 0.7), pictures=True)
    finish(Run(root, "pythia-12b", overrides=("cnn.epochs=3",)))
    finish(Run(root, "pythia-12b", "recite", delta=5, compat="paper"))
    rewrite(finish(Run(root, "old", "code")), settings={}, memgrid="")  # versions were not noted then
    for seed, state in enumerate(("failed", "stopped", "missing"), 7):
        leave(Run(root, "pythia-12b", seed=seed), state)
    make_labels(root, "pythia-12b")
    write_report(gather(root, root / "report", PAIR))
    return root / "report"


@pytest.fixture(scope="module")
def page(report):
    return check((report / "index.html").read_text())


def test_every_section_is_there_and_in_the_contents(page):
    scores = ("summary", "ranking", "sizes", "rho", "confusion")
    rest = ("flow", "attention", "protocols", "controls", "panel", "where", "causal", "missing")
    for key in (*scores, *rest):
        assert key in page.ids
    assert [link for link in page.links if link in ("#found", "#summary", "#ranking", "#lacking")][:4] == [
        *("#found", "#summary", "#ranking"),
        "#lacking",
    ]
    assert {"#where", "#causal"} & {*page.links} == set()  # nothing to show


def test_every_figure_is_drawn_and_shown(report, page):
    drawn = {path.stem if path.suffix == ".png" else path.name for path in (report / "figures").iterdir()}
    wanted = {"ranking", "rho", "confusion", "flow-pythia-12b-toy", "protocols", "controls", "panel"}
    wanted |= {f"{name}-pythia-{size}" for name in ("ranking", "confusion", "attention") for size in ("12b", "2.8b")}
    wanted |= {f"confusions-{page}-1" for page in ("3-classes", "4-classes", "rho-1", "rho-2", "rho-3")}
    assert wanted <= drawn
    assert len(page.images) == len(list((report / "figures").glob("*.png"))) == len(wanted)


def test_no_link_leads_beside_the_page_and_every_file_that_is_named_exists(report, page):
    assert all(link.startswith("#") for link in page.links)
    named = re.findall(r"beside this page: (\S+\.pdf)", page.text)
    assert len(named) > 8
    assert all((report / name).is_file() for name in named)


def test_every_table_with_all_its_columns_lies_in_the_page(report):
    held = re.findall(r'<script type="application/gzip" id="file-([\w.-]+)">(.*?)</script>', (report / "index.html").read_text())
    assert {"runs", "ranking", "members", "confusions"} <= {name for name, _ in held}
    for name, content in held:
        assert gzip.decompress(base64.b64decode(content)).decode() == (report / f"{name}.csv").read_text()


def test_every_table_can_be_read_again(report):
    for name in ("runs", "ranking", "ranking-pythia-12b", "sizes", "rho", "confusions", "protocols", "controls", "members", "states"):
        table = pl.read_csv(report / f"{name}.csv", infer_schema_length=None)
        assert table.height
        lines = (report / f"{name}.md").read_text().splitlines()
        assert len(lines) == table.height + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {table.width + 1}


def test_the_page_says_what_the_tables_say(report, page):
    best = pl.read_csv(report / "ranking.csv").row(0, named=True)
    assert f"{best['min_f1']:.1f}" in page.text
    assert best["setting"] in page.text
    assert "= also: Non-Memo, Recollect[5], Others" in page.text
    assert "differ in min-F1 by" in page.text
    assert "cnn.epochs=3" in page.text
    assert "compat=paper" in page.text
    assert "only pythia-12b" in page.text


def test_the_sweep_over_rho_does_not_flood_the_ranking(report, page):
    ranked = words(page).split("Each language model")[1]
    assert "ρ=0.3" not in ranked
    assert pl.read_csv(report / "ranking.csv")["setting"].str.contains("ρ=0.3", literal=True).any()


def test_what_is_missing_or_failed_is_said(page):
    told = words(page)
    assert "2 failed, 1 stopped, 1 missing" in told
    assert "class 'Recite' has 12 samples" in told
    assert "another version of memgrid wrote it" in told
    assert "No flow for pythia-2.8b on toy: " in told
    assert "has no labels memorized, duplicates, templates, rouge (stages=[label]" in told


def test_signs_of_html_and_markdown_are_only_text(tmp_path):
    formula = '=HYPERLINK("x")'
    classes = {formula: "non_memorized", "<script>alert(1)</script>": "guess", '[x](y.html) | "b" & \\c': "memorized"}
    finish(Run(tmp_path, "m<1>", classes=classes))
    make_labels(tmp_path, "m<1>")
    write_report(gather(tmp_path, tmp_path / "out", PAIR))
    html = (tmp_path / "out" / "index.html").read_text()
    checker = check(html)
    assert "<script>alert" not in html
    assert ", ".join(classes) in checker.text
    assert "y.html" not in checker.links
    assert pl.read_csv(tmp_path / "out" / "runs.csv")["setting"].item() == "'" + ", ".join(classes)
    assert set(pl.read_csv(tmp_path / "out" / "confusions.csv")["true"]) >= {f"'{formula}", "<script>alert(1)</script>"}
    assert (tmp_path / "out" / "runs.md").read_text().count("\n") == 3
    assert "[x](" not in (tmp_path / "out" / "runs.md").read_text()


def test_one_run_without_anything_else(tmp_path):
    finish(Run(tmp_path, "only"), control=False)
    write_report(gather(tmp_path, tmp_path / "report", PAIR))
    told = words(check((tmp_path / "report" / "index.html").read_text()))
    assert "1 finished run of 1 setting on only" in told
    assert "No partition was trained more than once" in told
    assert "All runs are on one language model, only." in told
    assert "No taxonomy was run at more than one ρ" in told
    assert "No run had controls" in told
    assert "No run has left a figure of examples" in told
    chain = re.escape(f"root={tmp_path} 'stages=[label,extract,train,localize,intervene]'")
    assert re.search(rf"No run was localized\. python -m memgrid\.run llm=hf llm\.name=only [^#]*{chain}", told)
    assert "No run has an intervention. python -m memgrid.run llm=hf" in told
    assert "Nothing is missing or failed." in told
    assert not (tmp_path / "report" / "rho.csv").exists()


def test_a_table_that_is_empty_now_does_not_stay_from_the_last_report(tmp_path):
    out = tmp_path / "report"
    out.mkdir()
    (out / "rho.csv").write_text("old")
    finish(Run(tmp_path))
    write_tables(gather(tmp_path, out, PAIR).tables, out)
    assert not (out / "rho.csv").exists()


def flow_text(root, pair=PAIR):
    section = flows.section(gather(root, root / "report", pair))
    return " ".join([*section.text, *(part.caption for part in section.parts if isinstance(part, Picture))])


def test_labels_that_do_not_belong_together_are_no_flow(tmp_path):
    finish(Run(tmp_path))
    folder = make_labels(tmp_path)
    table = pl.read_parquet(folder / "rouge.parquet")
    table.write_parquet(folder / "rouge.parquet", metadata={"memgrid": '{"corpus": "another", "k": 32, "llm": "toy"}'})
    assert "were not all made from the same corpus and model" in flow_text(tmp_path)
    (folder / "rouge.parquet").write_bytes(b"no table")
    assert "is damaged" in flow_text(tmp_path)


def test_code_that_nobody_judged_is_no_flow(tmp_path):
    finish(Run(tmp_path))
    folder = make_labels(tmp_path, groups=("memorized", "duplicates", "templates", "rouge", "code"))
    assert "sequences of corpus toy memorized by toy: on the left as code divides them" in flow_text(tmp_path, ("code", "rasy"))
    table = pl.read_parquet(folder / "code.parquet", memory_map=False)
    origin = {"memgrid": pl.read_parquet_metadata(folder / "code.parquet")["memgrid"]}
    table.with_columns(is_code=pl.lit(None, pl.Boolean)).write_parquet(folder / "code.parquet", metadata=origin)
    assert "whether the text is code has not been judged" in flow_text(tmp_path, ("code", "rasy"))


def test_the_flow_is_at_the_runs_thresholds(tmp_path):
    for seed in (0, 1):
        finish(Run(tmp_path, taxonomy="prashanth", delta=5, seed=seed))
    finish(Run(tmp_path, rho=0.3, rouge="l"))
    make_labels(tmp_path)
    assert "as prashanth (δ=5) divides them, on the right as rasy (ρ=0.3, ROUGE-L) does" in flow_text(tmp_path)


def test_a_taxonomy_that_nobody_knows(tmp_path):
    finish(Run(tmp_path))
    with pytest.raises(UserError, match=r"flow=raisy is no known taxonomy \(did you mean rasy\?\): use two of .*rasy"):
        gather(tmp_path, tmp_path / "report", ("raisy", "rasy"))


def test_the_example_of_the_best_run_that_has_one(tmp_path):
    finish(Run(tmp_path, "a", "rasy"))
    folder = finish(Run(tmp_path, "a", "prashanth", delta=5))
    (folder / "figures").mkdir()
    imsave(folder / "figures" / "attention.png", np.eye(40))
    (folder / "figures" / "attention.pdf").write_bytes(b"%PDF")
    (part,) = examples(gather(tmp_path, tmp_path / "report", PAIR)).parts
    assert "One eval sample of each class of Non-Memo, Recite[5], Reconstruct, Recollect, a, seed 0" in part.caption
    assert (tmp_path / "report" / "figures" / "attention-a.pdf").read_bytes() == b"%PDF"


# The parts


def test_a_long_table_says_that_it_is_cut(tmp_path):
    table = pl.DataFrame({"setting": [str(index) for index in range(ROWS + 5)], "min_f1": np.arange(ROWS + 5.0)})
    made = listing(table, {"setting": "setting", "min_f1": "min-F1"}, "t", "c", best="min_f1")
    assert sum(len(group.rows) for group in made.groups) == ROWS
    assert made.more == f"The first {ROWS} of {ROWS + 5} rows."
    assert [row[1].style for row in made.groups[0].rows][-1] == "best"


def test_groups_each_have_their_best(tmp_path):
    table = pl.DataFrame({"setting": ["a", "b", "c"], "min_f1": [1.0, 2.0, None], "kind": ["x", "x", "y"], "also": ["", "d", ""]})
    made = listing(table, {"setting": "setting", "min_f1": "min-F1"}, "t", "c", group="kind", small=("also",), best="min_f1")
    assert [group.heading for group in made.groups] == ["x", "y"]
    assert [row[1].style for row in made.groups[0].rows] == ["", "best"]
    assert made.groups[0].rows[1][0].small == ["= also: d"]
    assert made.groups[1].rows[0][1].value == "–"


def test_a_picture_is_as_wide_as_its_pixels_say(tmp_path):
    imsave(tmp_path / "a.png", np.zeros((10, 1000)))
    assert picture(tmp_path / "a.png", "t", "c", "alt").width == 620


def test_intervals_and_apostrophes():
    assert pl.DataFrame({"low": [71.26], "high": [80.0]}).select(interval()).item() == "71.3–80.0"
    assert curly("the paper's: models' own 'quoted' it's") == "the paper’s: models’ own 'quoted' it’s"


def test_a_page_without_parts_says_so():
    html = render("t", "s", [Section("a", "A", ["why"]), Section("b", "B", [], [Fold("more", [])])], "f")
    told = words(check(html))
    assert told.startswith("t To the results t s B What is not on this page 1 B # more 2 What is not on this page # A. why")
    assert "What came out" not in told


def test_what_came_out_stands_first_with_where_it_is_from():
    sections = [Section("a", "A", ["how"], [Fold("more", [])]), Section("b", "B", [], [Fold("more", [])], ["found it", "twice"])]
    told = words(check(render("t", "s", sections, "f")))
    assert "1 What came out # found it twice B 2 A # how" in told


def test_a_page_has_the_commands_that_fill_it():
    section = Section("a", "A", ["why"], fill=("-m", "rho=0.3,0.5"))
    html = render("t", "s", [section], "f", typed=lambda given: f"run root='a b' {' '.join(given)}")
    assert "A. why run root='a b' -m rho=0.3,0.5" in words(check(html))


def test_what_there_is_no_room_for_is_left_out_and_named():
    rows = [[Entry(f"row {number}")] for number in range(FEW_ROWS + 50)]
    table = Listing("a table", "c", [Column("h", True)], [Group("", rows)])
    shown, folded = (Picture(title, "c", "alt", "A" * 50_000, 100, f"figures/{title}.pdf") for title in ("shown", "folded"))

    def page(most):
        parts = [replace(table, groups=[Group("", list(rows))]), replace(shown), Fold("more", [replace(folded)])]
        html = render("t", "s", [Section("a", "A", [], parts)], "f", {"big": "".join(map(str, range(20_000)))}, most_bytes=most)
        return html, words(check(html))

    html, told = page(10**6)
    assert "Left out" not in told
    names = ["big.csv", "rows of a table", "folded", "shown"]
    for number in range(1, len(names) + 1):
        before = len(html.encode())
        html, told = page(before - 1)
        assert len(html.encode()) < before
        assert f"Left out to keep this page small, and beside it: {', '.join(names[:number])}." in told
    assert f"The first {FEW_ROWS} of {FEW_ROWS + 50} rows" in told
    assert "Left out to keep this page small; beside it: figures/shown.pdf" in told
    assert len(page(10)[0]) == len(html)  # what cannot be left out stays


def test_tables_and_figures_have_ids_by_which_links_find_them():
    sections = [Section("ranking", "A", [], [Listing("t", "c", [], [], "ranking"), Fold("more", [Listing("u", "c", [], [], "ranking")])])]
    sections += [Section("b", "B", [], [Picture("Δ of “x”", "c", "a", "", 1, "figures/delta-1.pdf"), Listing("Left out", "c", [], [])])]
    ids = check(render("t", "s", sections, "f")).ids
    assert {"table-ranking", "table-ranking-2", "figure-delta-1", "table-left-out"} <= {*ids}


def test_an_embedded_part_has_its_markup_its_data_and_each_script_once():
    data = {"text": "</script><b>&'\u2028", "numbers": [1.5, None]}
    parts = [Embedded(key, "t", "c", f'<button id="{key}-go">go</button>', data, ("page/page.js",)) for key in ("one", "two")]
    html = render("t", "s", [Section("a", "A", [], [parts[0], Fold("more", parts[1:])])], "f")
    checker = check(html)
    assert {"one", "one-go", "two", "two-go"} <= {*checker.ids}
    assert html.count("const page = ") == 1
    held = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert [json.loads(text) for text in held] == [data, data]
