"""Figures of positions, heads and layers beside each other are whole and show what the tables say."""

import numpy as np
import polars as pl
import pytest
from test_run_figures import drawing  # noqa: F401
from ways_maker import some_ways

from memgrid.intervene.selectivity import selectivities
from memgrid.intervene.trials import UNITS
from memgrid.report.figures.causes.where import draw_heads, draw_where
from memgrid.results.records import HEADS, LAYERS, NAMES, POSITIONS, RANDOM, WAYS

LONG = "Reconstruct-or-Recollect[1k]-or-something-else"


@pytest.mark.parametrize("names", [("Guess", "Recall"), (LONG,), tuple(f"Recite[{n}]" for n in range(4))], ids=["rasy", "one", "most"])
@pytest.mark.parametrize("units", [(POSITIONS, HEADS, LAYERS), (HEADS, LAYERS), (HEADS,)])
def test_ways_at_equal_damage(names, units, drawing, tmp_path):  # noqa: F811
    table = some_ways(np.random.default_rng(0), names, units, draws=3)
    draw_where(table, selectivities(table), tmp_path / "where")
    drawing.check(tmp_path / "where")
    axes = drawing.figures[-1].axes
    assert len(axes) == 2 * len(names)
    ways = {NAMES[unit, way] for unit in units for way in (*WAYS[unit], RANDOM)}
    assert {label.get_text() for label in axes[1].get_yticklabels()} == ways
    assert len(axes[0].lines) == len(ways) + 1  # and where the perplexity is twice as high
    assert all(line.get_ydata()[0] == 1 for line in axes[0].lines[:-1])


@pytest.mark.parametrize("lacking", ["one unit", "damage"])
def test_nothing_is_drawn_where_there_is_nothing_to_compare(lacking, tmp_path):
    table = some_ways(np.random.default_rng(0), ("A",), (POSITIONS,) if lacking == "one unit" else (HEADS, LAYERS), draws=3)
    if lacking == "damage":
        table = table.with_columns(damages=pl.lit(None, pl.List(pl.Float64)))
    draw_where(table, selectivities(table), tmp_path / "where")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("layers", "heads"), [(6, 8), (1, 1), (36, 40)])
def test_what_a_class_owes_its_heads(layers, heads, drawing, tmp_path):  # noqa: F811
    random, rows = np.random.default_rng(0), []
    for name in ("Guess", LONG):
        for layer in range(1, layers + 1):
            for head in range(1, heads + 1):
                values = dict(zip(("attribution", "ablation", "delta", "norm"), random.normal(size=4), strict=True))
                rows.append({"class": name, "unit": HEADS, "layer": layer, "head": head, **values})
    units = pl.DataFrame(rows, schema=UNITS)
    draw_heads(units, tmp_path / "heads")
    drawing.check(tmp_path / "heads")
    axes = drawing.figures[-1].axes
    assert len(axes) == 6
    shown = axes[1].images[0].get_array()
    expected = units.filter(pl.col("class") == "Guess")["ablation"].to_numpy().reshape(layers, heads)
    np.testing.assert_allclose(shown, np.clip(expected, 0, None))
    draw_heads(units.clear(), tmp_path / "none")
    assert not list(tmp_path.glob("none*"))
