"""Figures of interventions are whole, readable and show what the table says."""

import numpy as np
import polars as pl
import pytest
from test_run_figures import drawing  # noqa: F401

from memgrid.report.figures.causes.doses import draw_doses, draw_layers, draw_prices

DOSES = (0.3, 1.0, 3.0, 10.0, 30.0)
LONG = "Reconstruct-or-Recollect[1k]-or-something-else"


def made_up(classes, doses=DOSES, layers=6, damage=True, seeds=3):
    """A table as `intervene` makes it."""
    random, rows = np.random.default_rng(0), []
    for name in classes[1:]:
        others = [f"other:{other}" for other in classes if other != name]
        trials = [(0.0, "none", None)]
        for q in doses:
            trials += [(q, kind, None) for kind in ("target", "least", "attended", *others)]
            trials += [(q, "random", seed) for seed in range(seeds)]
        for layer in range(1, layers + 1):
            trials += [(3.0, f"layer:{layer}", None), (3.0, f"random-layer:{layer}", 0)]
        for q, masked, seed in trials:
            share = 1.0 if masked == "none" else 0.9 * random.random()
            rows.append(
                {
                    **{"class": name, "q": q, "masked": masked, "seed": seed, "samples": 100, "extractable": share},
                    **{"extractable_low": max(0.0, share - 0.08), "extractable_high": min(1.0, share + 0.08)},
                    **{
                        "removed": q / 100,
                        "suffix_logprob": -3 * (1 - share),
                        "damage": random.random() if damage and "layer" not in masked else None,
                    },
                }
            )
    return pl.DataFrame(rows, schema_overrides={"seed": pl.Int64, "damage": pl.Float64})


@pytest.mark.parametrize(
    ("classes", "options"),
    [
        (["Non-Memo", "Guess", "Recall"], {}),
        (["Non-Memo", LONG], {"doses": (5.0,), "damage": False, "seeds": 1}),
        ([*(f"Recite[{n}]" for n in range(4)), LONG], {"doses": tuple(np.geomspace(0.01, 100, 13).round(3)), "layers": 36}),
    ],
    ids=["rasy", "least", "most"],
)
def test_doses_and_layers(classes, options, drawing, tmp_path):  # noqa: F811
    table = made_up(classes, **options)
    draw_doses(table, tmp_path / "deep" / "doses-2.8b")
    drawing.check(tmp_path / "deep" / "doses-2.8b")
    for name in classes[1:]:
        assert drawing.found(f"^{name[:12].replace('[', '.').replace(']', '.')}")
    assert len(drawing.figures[-1].axes) == (3 if options.get("damage", True) else 2) * len(classes[1:])
    draw_prices(table, tmp_path / "prices")
    drawing.check(tmp_path / "prices")
    assert len(drawing.figures[-1].axes) == (2 if options.get("damage", True) else 1) * len(classes[1:])
    draw_layers(table, tmp_path / "layers")
    drawing.check(tmp_path / "layers")
    assert len(drawing.figures[-1].axes) == len(classes[1:])


def test_lines_are_the_table(drawing, tmp_path):  # noqa: F811
    table = made_up(["Non-Memo", "Guess"])
    draw_doses(table, tmp_path / "doses")
    axes = drawing.figures[-1].axes[0]
    lines = [tuple(line.get_ydata()) for line in axes.lines]
    target = table.filter(pl.col("masked") == "target").sort("q")["extractable"]
    random = table.filter(pl.col("masked") == "random").group_by("q").agg(pl.col("extractable").mean()).sort("q")["extractable"]
    assert tuple(target) in lines
    assert any(np.allclose(random, line) for line in lines if len(line) == len(random))
    draw_prices(table, tmp_path / "prices")
    removed, damage = (axes.lines for axes in drawing.figures[-1].axes)
    for price, lines in (("removed", removed), ("damage", damage)):
        (of_target,) = [line for line in lines if tuple(line.get_ydata()) == tuple(target)]
        assert tuple(of_target.get_xdata()) == tuple(table.filter(pl.col("masked") == "target").sort("q")[price])
        (of_draws,) = [line for line in lines if np.allclose(line.get_ydata(), random)]
        means = table.filter(pl.col("masked") == "random").group_by("q").agg(pl.col(price).mean()).sort("q")[price]
        np.testing.assert_allclose(of_draws.get_xdata(), means)
    draw_layers(table, tmp_path / "layers")
    heights = [bar.get_height() for bar in drawing.figures[-1].axes[0].patches]
    parts = table.filter(pl.col("masked").str.starts_with("layer:"))["extractable"]
    np.testing.assert_allclose(heights[: len(parts)], 1 - parts.to_numpy())


def test_nothing_is_drawn_without_layers(tmp_path):
    draw_layers(made_up(["Non-Memo", "Guess"], layers=0), tmp_path / "layers")
    assert not list(tmp_path.iterdir())
