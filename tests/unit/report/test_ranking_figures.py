import itertools

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from matplotlib.patches import PathPatch, Polygon, Rectangle
from test_run_figures import LONG, recorded

from memgrid.report.figures.flow import draw_flow, percent
from memgrid.report.figures.ranking import (
    CONTROLS,
    FAMILIES,
    GREY,
    ROUGES,
    draw_added,
    draw_controls,
    draw_protocols,
    draw_ranking,
    draw_rho_curve,
    draw_spread,
    member_styles,
)
from memgrid.report.figures.style import COLOURS

NODES = ("Recite[5]", "Recite[50]", "Recite[1k]", "Recollect[5]", "Recollect[50]", "Recollect[1k]", "Reconstruct", "Guess", "Code", "Rest")
PANEL = [f"k{kernel}-f{features}-{pooling}" for kernel in (6, 8) for features in (10, 16) for pooling in ("mean", "max")]


@pytest.fixture
def drawing(monkeypatch):
    return recorded(monkeypatch)


def settings(count):
    """Names such as the paper's, the longest of 45 characters."""
    return [f"Non-Memo, {first}, {second}, Others" for first, second in itertools.permutations(NODES, 2)][:count]


def scores(count):
    """Runs of so many settings, best first, every seventh without a score of the controls; families in turn."""
    rng = np.random.default_rng(count)
    best = np.sort(rng.uniform(45, 92, count))[::-1]
    spread = rng.uniform(0.3, 2.5, count)
    return pl.DataFrame(
        {
            "setting": settings(count),
            "family": list(itertools.islice(itertools.cycle([*FAMILIES, "unheard of"]), count)),
            "min_f1": best,
            "spread": spread,
            "low": best - 2 * spread,
            "high": best + 1.5 * spread,
            "paper_min_f1": best + rng.normal(0, 2, count),
            "shuffled_min_f1": rng.uniform(0, 33, count),
            "confidence_min_f1": [None if row % 7 == 3 else score for row, score in enumerate(best * 0.9)],
        }
    )


def awkward():
    """Three settings of which one has no score, one nothing but a score, and one a score of 0."""
    none = dict.fromkeys(("spread", "low", "high", "paper_min_f1", "shuffled_min_f1", "confidence_min_f1"))
    rows = [{"setting": LONG, "family": "4A", "min_f1": 100.0, **none}, {"setting": "$", "family": "3A", "min_f1": None, **none}]
    rows.append({"setting": "x" * 90, "family": None, "min_f1": 0.0, **dict.fromkeys(none, 0.0)})
    return pl.DataFrame(rows, infer_schema_length=None)


def lines_of(axes, colour, marker):
    return [line for line in axes.lines if (line.get_color(), line.get_marker()) == (colour, marker)]


ROWS = {"ranking": draw_ranking, "protocols": draw_protocols, "controls": draw_controls}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("table", [scores(1), scores(12), awkward()], ids=["one", "twelve", "awkward"])
def test_rows(name, table, drawing, tmp_path):
    ROWS[name](table, tmp_path / name)
    drawing.check(tmp_path / name)
    shown = [text.get_text().replace("\n", "") for text in drawing.figures[-1].axes[0].get_yticklabels()]
    assert [text.replace(" ", "") for text in shown] == [one.replace(" ", "") for one in table["setting"]]
    low, high = drawing.figures[-1].axes[0].get_ylim()
    assert low > high  # the first row on top


def test_many_rows_grow_in_height(drawing, tmp_path):
    draw_ranking(scores(90), tmp_path / "ranking", noise=1.5)
    drawing.check(tmp_path / "ranking")
    assert 90 * 0.2 < drawing.size[1] / 200 < 90 * 0.2 + 2
    assert len(drawing.found("^60$")) == 2  # numbers at both ends of a tall chart


def test_ranking_shows_the_numbers(drawing, tmp_path):
    table = scores(12)
    draw_ranking(table, tmp_path / "ranking", noise=2.5)
    axes = drawing.figures[-1].axes[0]
    for family, (name, colour, marker) in FAMILIES.items():
        (line,) = lines_of(axes, colour, marker)
        mine = table.with_row_index().filter(pl.col("family").replace("unheard of", "other") == family)
        assert line.get_xdata().tolist() == mine["min_f1"].to_list()
        assert line.get_ydata().tolist() == mine["index"].to_list()
        assert len(drawing.found(f"^{name}$")) == 1
    drawn = {tuple(segment[:, 0].round(6)) for lines in axes.collections for segment in lines.get_segments()}
    for row in table.iter_rows(named=True):
        assert (round(row["low"], 6), round(row["high"], 6)) in drawn
        assert (round(row["min_f1"] - row["spread"], 6), round(row["min_f1"] + row["spread"], 6)) in drawn
    (band,) = (patch for patch in axes.patches if isinstance(patch, Rectangle | Polygon))
    assert band.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx(
        [table["min_f1"].max() - 2.5, table["min_f1"].max()]
    )
    assert drawing.found("noise floor")
    doubtful = table.with_columns(doubt=pl.Series(["", "constant"] * 6), probe_min_f1=pl.col("min_f1") - 3)
    draw_ranking(doubtful, tmp_path / "ranking")
    axes = drawing.figures[-1].axes[0]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert sorted(row for line in hollow for row in line.get_ydata()) == list(range(1, 12, 2))
    (probe,) = lines_of(axes, GREY, CONTROLS["probe_min_f1"][2])
    assert probe.get_xdata().tolist() == doubtful["probe_min_f1"].to_list()
    draw_ranking(table[:2], tmp_path / "ranking")
    assert not drawing.found("noise floor")
    assert not drawing.figures[-1].axes[0].patches


def test_families_rouges_and_controls_differ_by_colour_and_by_marker():
    for group in (FAMILIES, ROUGES, CONTROLS):
        looks = [entry[1:3] for entry in group.values()]
        assert all(len(set(one)) == len(group) for one in zip(*looks, strict=True))
        assert {colour for colour, _ in looks} <= set(COLOURS)


def test_protocols_show_the_difference(drawing, tmp_path):
    draw_protocols(
        pl.DataFrame({"setting": ["a", "b", "c"], "min_f1": [70.0, 60.0, 50.0], "paper_min_f1": [69.0, 62.5, None]}), tmp_path / "p"
    )
    drawing.check(tmp_path / "p")
    assert [len(drawing.found(text)) for text in (r"^\+1\.0$", "^−2.5$", "^–$")] == [1, 1, 1]


def test_controls_that_were_not_run_are_left_out(drawing, tmp_path):
    table = scores(12).with_columns(shuffled_min_f1=pl.lit(None))
    draw_controls(table, tmp_path / "controls")
    axes = drawing.figures[-1].axes[0]
    assert not lines_of(axes, *CONTROLS["shuffled_min_f1"][1:])
    assert not drawing.found("shuffled")
    (confidence,) = lines_of(axes, *CONTROLS["confidence_min_f1"][1:])
    assert np.isfinite(confidence.get_xdata()).sum() == table["confidence_min_f1"].count()
    assert axes.lines[-1].get_color() == CONTROLS["min_f1"][1]  # attention lies on top


def members_table(count, members):
    rng = np.random.default_rng(0)
    rows = [{"setting": one, "member": member, "min_f1": 70 + rng.normal()} for one in settings(count) for member in members]
    rows[0]["min_f1"] = None
    return pl.DataFrame(rows, infer_schema_length=None)


@pytest.mark.parametrize(("count", "members"), [(1, PANEL[:1]), (3, PANEL), (35, PANEL[:4]), (2, ["k1-f1-mean", "k16-f256-max", "probe"])])
def test_spread(count, members, drawing, tmp_path):
    table = members_table(count, members)
    draw_spread(table, tmp_path / "spread")
    drawing.check(tmp_path / "spread")
    axes = drawing.figures[-1].axes[0]
    assert len(axes.lines) == len(members)
    assert sum(np.isfinite(line.get_xdata()).sum() for line in axes.lines) == table["min_f1"].count()
    rows = np.concatenate([line.get_ydata() for line in axes.lines])
    assert np.bincount(rows.round().astype(int)).tolist() == [len(members)] * count  # each stays in the row of its setting


def test_all_members_of_a_panel_look_different():
    parts = [(kernel, features, pooling) for kernel in (4, 6, 8) for features in (8, 10, 16) for pooling in ("mean", "max")]
    styles, _ = member_styles(parts)
    assert len({tuple(style.values()) for style in styles.values()}) == len(parts)
    assert len({style["color"] for (kernel, _, _), style in styles.items() if kernel == 6}) == 1
    assert len({style["marker"] for (_, _, pooling), style in styles.items() if pooling == "max"}) == 1


def curves(llms, rhos, rouges=tuple(ROUGES)):
    rng = np.random.default_rng(0)
    rows = [{"llm": llm, "rouge": rouge, "rho": rho, "min_f1": 70 + 20 * rho} for llm in llms for rouge in rouges for rho in rhos]
    table = pl.DataFrame(rows).with_columns(low=pl.col("min_f1") - 1, high=pl.col("min_f1") + rng.uniform(0.5, 1))
    return table.sample(fraction=1, shuffle=True, seed=0)  # no order is needed


@pytest.mark.parametrize(
    ("llms", "rhos", "rouges"),
    [
        (["toy"], [0.5], ("both",)),
        (["toy"], [0.5], tuple(ROUGES)),
        (
            ["pythia-2.8b", "pythia-6.9b", "pythia-12b", "organisation/a-model-with-a-very-long-name"],
            np.arange(0, 1.01, 0.1),
            tuple(ROUGES),
        ),
        (["a", "b", "c", "d", "e"], [0.25, 0.333, 0.5], ("l", "3")),
    ],
)
def test_rho_curve(llms, rhos, rouges, drawing, tmp_path):
    table = curves(llms, rhos, rouges)
    draw_rho_curve(table, tmp_path / "rho")
    drawing.check(tmp_path / "rho")
    panels = drawing.figures[-1].axes
    assert len(panels) == len(llms)
    assert len({axes.get_ylim() for axes in panels}) == 1
    assert [len(drawing.found(f"^{name}$")) for name, *_ in map(ROUGES.get, rouges)] == [1] * len(rouges)
    for axes, llm in zip(panels, table["llm"].unique(maintain_order=True), strict=True):
        for rouge in rouges:
            (line,) = lines_of(axes, *ROUGES[rouge][1:3])
            mine = table.filter(llm=llm, rouge=rouge).sort("rho")
            assert line.get_ydata().tolist() == mine["min_f1"].to_list()
            if len(rhos) > 1:
                assert line.get_xdata() == pytest.approx(mine["rho"].to_list())


def test_rho_curve_with_a_null_and_a_rouge_of_one_point(drawing, tmp_path):
    table = curves(["toy"], [0.1, 0.5, 0.9]).filter((pl.col("rouge") != "l") | (pl.col("rho") == 0.5))
    draw_rho_curve(table.with_columns(min_f1=pl.when(pl.col("rho") > 0.8).then(None).otherwise("min_f1"), low=None), tmp_path / "rho")
    drawing.check(tmp_path / "rho")
    (line,) = lines_of(drawing.figures[-1].axes[0], *ROUGES["both"][1:3])
    assert len(line.get_xdata()) == 2


SKEWED = np.array([[900000, 0, 0], [0, 1500, 3000], [0, 4500, 0], [0, 10, 4490], [1, 0, 0]])


@pytest.mark.parametrize(
    ("counts", "left", "right"),
    [
        (SKEWED, ["Non-Memo", "Recite", "Reconstruct", "Recollect", "One"], ["Non-Memo", "Guess", "Recall"]),
        (SKEWED.T, ["Non-Memo", LONG, "Recite[50]-or-Reconstruct"], ["Non-Memo", "Recite", "Reconstruct", "Recollect", LONG]),
        (np.array([[5, 0], [0, 0]]), ["All", "Empty"], ["All", "Empty"]),
        (np.zeros((2, 3), int), ["A", "B"], ["A", "B", "C"]),
        (np.array([[7]]), ["A"], ["B"]),
        (np.ones((12, 2), int), [f"Class {i}" for i in range(12)], ["A", "B"]),
    ],
)
def test_flow(counts, left, right, drawing, tmp_path):
    draw_flow(counts, ("Non-Memo, Recite[50]-or-Reconstruct, Others", left), ("rasy", right), tmp_path / "flow")
    drawing.check(tmp_path / "flow")
    axes = drawing.figures[-1].axes[0]
    ribbons = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(ribbons) == np.count_nonzero(counts)
    assert len(bars) == np.count_nonzero(counts.sum(0)) + np.count_nonzero(counts.sum(1))
    # True to the counts: thickness is proportional, and what leaves one side arrives at the other.
    thick = np.array([patch.get_path().vertices[-1, 1] - patch.get_path().vertices[0, 1] for patch in ribbons])
    assert np.sort(thick / max(thick.sum(), 1e-9)) == pytest.approx(np.sort(counts[counts > 0]) / max(counts.sum(), 1))
    assert sum(bar.get_height() for bar in bars) == pytest.approx(2 * thick.sum())
    for titles, total in ((left, counts.sum(1)), (right, counts.sum(0))):
        for title, count in zip(titles, total, strict=True):
            shown = [text.get_text().replace("\n", "") for text, _ in drawing.texts.values()]
            assert f"{title}{count:,} ({percent(100 * count / max(counts.sum(), 1))})" in shown


def test_flows_colours_are_those_of_the_left_classes(drawing, tmp_path):
    draw_flow(np.full((8, 2), 5), ("left", [f"Class {i}" for i in range(8)]), ("right", ["A", "B"]), tmp_path / "flow")
    ribbons = [patch for patch in drawing.figures[-1].axes[0].patches if isinstance(patch, PathPatch)]
    assert len({patch.get_facecolor() for patch in ribbons}) == 8
    assert all(0.2 < patch.get_alpha() < 0.8 for patch in ribbons)


@pytest.mark.parametrize(("value", "text"), [(0, "0.0%"), (1e-9, "<0.1%"), (0.049, "<0.1%"), (0.05, "0.1%"), (99.96, "100.0%")])
def test_percent(value, text):
    assert percent(value) == text


def test_what_attention_adds_is_drawn(tmp_path):
    verdicts = ["adds", "nothing seen"]
    gains = {"adds_every": [0.05, -0.001], "adds_every_low": [0.01, -0.002], "adds_every_high": [0.09, 0.003]}
    draw_added(pl.DataFrame({"pair": ["a or b"] * 2, **gains, "verdict": verdicts}), tmp_path / "added")
    assert imread(tmp_path / "added.png").shape[1] == 1400
    assert (tmp_path / "added.pdf").stat().st_size > 1000
