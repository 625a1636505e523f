"""Figures of positions, heads and layers beside each other: what stays extractable at equal damage, and which heads a class needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from memgrid.report.figures.style import (
    COLOURS,
    DOUBLE,
    KEY_LINE,
    STEPS,
    TEXT,
    TITLE,
    count_lines,
    draw_key,
    figure,
    key_lines,
    place,
    text_width,
    wrapped,
    write,
)
from memgrid.results.records import HEADS, LAYERS, LIMIT, NAMES, POSITIONS, RANDOM, WAYS, Selectivity, WayArea, of_unit

UNIT_COLOURS = {POSITIONS: COLOURS[0], HEADS: COLOURS[1], LAYERS: COLOURS[2]}
LOOKS = (("-", "o"), ("--", "^"), (":", "v"))  # of a unit's ways, in their order
RANDOM_LOOK = ((0, (1, 1)), "x")
WAY_TITLES = {"attribution": "by gradient × activation", "ablation": "switched off alone", "delta": "by Δ"}


def look(unit: str, way: str) -> tuple[str, Any, str]:
    """Colour, line and marker."""
    line, marker = RANDOM_LOOK if way == RANDOM else LOOKS[WAYS[unit].index(way)]
    return UNIT_COLOURS[unit], line, marker


def has_ways(found: Sequence[Selectivity]) -> bool:
    """Whether there is anything to draw: ways to choose heads or layers, whose damage is known."""
    return any(way.unit != POSITIONS for one in found for way in one.ways)


def draw_where(table: pl.DataFrame, found: Sequence[Selectivity], path: Path) -> None:
    """For each class its share still extractable over the damage, a line per way; beside it the areas below them, with 95 % intervals.

    Nothing is drawn where only positions were switched off, or where damage was not measured: see `has_ways`.

    Args:
        table: as `memgrid.intervene.experiment.intervene` returns it. found: what it shows of each class.
    """
    if not has_ways(found):
        return
    keys = [(unit, way) for unit in WAYS for way in (*WAYS[unit], RANDOM) if any((unit, way) in ways_of(one) for one in found)]
    key = key_lines([[(Line2D([], [], **drawn(*each), markersize=3), NAMES[each]) for each in keys]], DOUBLE - 0.2)
    titles = [wrapped(f"{one.title} ({one.samples} samples)", DOUBLE - 0.2, size=TITLE) for one in found]
    names = max(text_width(NAMES[each]) for each in keys)
    left, gap, tall = 0.65, names + 0.35, max(1.9, 0.19 * len(keys))
    width = (DOUBLE - left - gap - 0.25) / 2
    above = 0.18 + 0.16 * max(map(count_lines, titles))
    top = 0.1 + KEY_LINE * len(key)
    with figure(path, DOUBLE, top + len(found) * (above + tall + 0.3) + 0.25) as fig:
        draw_key(fig, key)
        for row, one in enumerate(found):
            upper = top + row * (above + tall + 0.3)
            write(fig, 0.1, upper + 0.06, titles[row], size=TITLE)
            curves, areas = place(fig, left, upper + above, width, tall), place(fig, left + width + gap, upper + above, width, tall)
            draw_curves(curves, table.filter(pl.col("class") == one.title), keys)
            draw_areas(areas, one.ways)
            if row == len(found) - 1:
                curves.set_xlabel("rise in ordinary loss (nats per token)")
                areas.set_xlabel("still extractable, mean")


def ways_of(one: Selectivity) -> set[tuple[str, str]]:
    """The units and ways of a class."""
    return {(way.unit, way.way) for way in one.ways}


def drawn(unit: str, way: str) -> dict[str, Any]:
    """How a way is drawn."""
    colour, line, marker = look(unit, way)
    return {"color": colour, "linestyle": line, "marker": marker, "linewidth": 1.4 if way == WAYS[unit][0] else 1.0}


def draw_curves(axes: Axes, rows: pl.DataFrame, keys: Sequence[tuple[str, str]]) -> None:
    """One class: a line per way from nothing switched off on, points with 95 % intervals over samples; of random draws the mean."""
    for unit, way in keys:
        mine = of_unit(rows, unit).filter((pl.col("masked") == way) & pl.col("damage").is_not_null())
        doses = mine.group_by("q").agg(pl.col("damage", "extractable").mean(), pl.col("samples").first()).sort("q")
        x, y = (np.append(start, doses[column].to_numpy()) for start, column in ((0, "damage"), (1, "extractable")))
        axes.plot(np.maximum(x, 0), y, markersize=3, **drawn(unit, way))
        if way != RANDOM:
            bounds = mine.sort("q")["extractable_low", "extractable_high"].to_numpy().T
            axes.vlines(np.maximum(x[1:], 0), *bounds, color=UNIT_COLOURS[unit], linewidth=0.6, alpha=0.7)
    axes.set(xlim=(-0.02 * LIMIT, 1.1 * LIMIT), ylim=(-0.04, 1.04), ylabel="still extractable")
    axes.axvline(LIMIT, color="0.6", linewidth=0.8, linestyle=":")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.tick_params(length=2)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)


def draw_areas(axes: Axes, ways: Sequence[WayArea]) -> None:
    """The areas of one class, the least on top."""
    for number, way in enumerate(ways):
        colour, _, marker = look(way.unit, way.way)
        axes.hlines(number, way.low, way.high, color=colour, linewidth=1.2)
        axes.plot(way.area, number, color=colour, marker=marker, markersize=4, linestyle="none")
    axes.set_yticks(range(len(ways)), [way.name for way in ways])
    axes.set(xlim=(0, 1.05 * max(way.high for way in ways)), ylim=(len(ways) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.tick_params(length=2)
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)


def draw_heads(units: pl.DataFrame, path: Path) -> None:
    """For each class what it owes every head, layer by layer: a panel per way, each on a scale of its own.

    Nothing is drawn where heads were not ranked.

    Args:
        units: as `memgrid.intervene.trials.UNITS`.
    """
    heads = units.filter(pl.col("unit") == HEADS)
    if heads.is_empty():
        return
    titles = [str(name) for name in heads["class"].unique(maintain_order=True)]
    layers, most = (int(heads[column].to_numpy().max()) for column in ("layer", "head"))
    left, gap, tall = 0.55, 0.5, min(2.4, max(0.9, 0.16 * layers))
    width = (DOUBLE - left - 0.1 - gap * 2) / 3
    above = 0.4
    with figure(path, DOUBLE, 0.1 + len(titles) * (above + tall + 0.25) + 0.25) as fig:
        for row, title in enumerate(titles):
            upper = 0.1 + row * (above + tall + 0.25)
            write(fig, 0.1, upper + 0.02, wrapped(title, DOUBLE - 0.2, 1, size=TITLE), size=TITLE)
            mine = heads.filter(pl.col("class") == title).sort("layer", "head")
            for column, (way, name) in enumerate(WAY_TITLES.items()):
                where = left + column * (width + gap), upper + above, width, tall
                draw_grid(fig, where, mine[way].to_numpy().reshape(layers, most), name, column == 0, row == len(titles) - 1)


def draw_grid(fig: Figure, where: tuple[float, float, float, float], values: np.ndarray, name: str, first: bool, last: bool) -> None:
    """The heads of a model, a row per layer: the more a class owes a head, the darker; what is below zero is white."""
    axes = place(fig, *where)
    most = max(float(values.max()), 0.0) or 1.0
    axes.imshow(np.clip(values, 0, None), cmap="Blues", vmin=0, vmax=most, aspect="auto", interpolation="nearest")
    axes.set_title(f"{name}, up to {most:.2g}", size=TEXT, pad=3)
    for axis, size in ((axes.yaxis, values.shape[0]), (axes.xaxis, values.shape[1])):
        step = -(-size // 8)
        axis.set_ticks(np.arange(0, size, step), [str(number + 1) for number in range(0, size, step)])
    axes.tick_params(length=2)
    if first:
        axes.set_ylabel("layer")
    if last:
        axes.set_xlabel("head")
