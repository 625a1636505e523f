"""Figures of interventions: what is left of a class's reproduction the more of its decisive attention is switched off, and by layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter

from memgrid.report.figures.style import (
    COLOURS,
    DOUBLE,
    KEY_LINE,
    STEPS,
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
from memgrid.results.records import POSITIONS, of_unit

# Column of the table, what the axis says.
MEASURES = (
    ("extractable", "still extractable"),
    ("suffix_logprob", "log-probability\n(nats per token)"),
    ("damage", "rise in ordinary loss\n(nats per token)"),
)
# What a mask costs.
PRICES = (("removed", "attention removed"), ("damage", "rise in ordinary loss (nats per token)"))
# Controls of every class: colour, marker, name in the legend. Other classes take the remaining colours in turn.
KINDS = {
    "target": (COLOURS[0], "o", "most decisive"),
    "random": ("0.35", "s", "random, alike"),
    "least": (COLOURS[2], "v", "least decisive"),
    "attended": (COLOURS[3], "^", "most attended"),
}
OTHERS = (COLOURS[1], COLOURS[4], COLOURS[5])
STYLES = ("-", "--", ":")


def look(masked: str, others: Sequence[str]) -> tuple[str, str, Any, str]:
    """Colour, marker, line style and legend of what is masked."""
    if masked in KINDS:
        colour, marker, name = KINDS[masked]
        return colour, marker, "-", name
    turn = others.index(masked)
    name = f"most decisive for {masked.removeprefix('other:')}"
    return OTHERS[turn % len(OTHERS)], "D", STYLES[turn // len(OTHERS) % len(STYLES)], name


def draw_doses(table: pl.DataFrame, path: Path) -> None:
    """A row of panels per class: share still extractable, log-probability of the suffix, and damage if measured, against the dose q.

    Bands are 95 % intervals over samples, for random masks from the lowest to the highest of all seeds; of the other measures the band of
    random masks is the range of its seeds. Dotted: nothing masked.

    Args:
        table: as `memgrid.intervene.experiment.intervene` returns it.
    """
    doses = positions_of(table)
    if doses.is_empty():
        return
    names = doses["class"].unique(maintain_order=True).to_list()
    masks = [kind for kind in doses["masked"].unique(maintain_order=True) if kind != "none"]
    others = [kind for kind in masks if kind.startswith("other:")]
    drawn = [kind for kind in (*KINDS, *others) if kind in masks]
    key = key_lines([key_of(drawn, others)], DOUBLE - 0.2)
    titles = [wrapped(f"{name} ({size} samples)", DOUBLE - 0.2, size=TITLE) for name, size in sizes(doses)]
    measures = [(measure, label) for measure, label in MEASURES if doses[measure].count()]  # damage may not have been measured
    left, gap, tall, below = 0.65, 0.75, 1.45, 0.45
    width = (DOUBLE - left - 0.1 - gap * (len(measures) - 1)) / len(measures)
    above = 0.18 + 0.16 * max(map(count_lines, titles))
    top = 0.1 + KEY_LINE * len(key)
    with figure(path, DOUBLE, top + len(names) * (above + tall) + below + 0.25 * (len(names) - 1)) as fig:
        draw_key(fig, key)
        for row, name in enumerate(names):
            upper = top + row * (above + tall + 0.25)
            write(fig, 0.1, upper + 0.06, titles[row], size=TITLE)
            mine = doses.filter(pl.col("class") == name)
            for column, (measure, label) in enumerate(measures):
                axes = place(fig, left + column * (width + gap), upper + above, width, tall)
                draw_measure(axes, mine, measure, drawn, others)
                axes.set_ylabel(label)
                dress(axes, mine["q"].filter(mine["q"] > 0).unique().sort().to_numpy(), width, row == len(names) - 1)


def positions_of(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of doses of positions, over all layers."""
    return of_unit(table, POSITIONS).filter(~pl.col("masked").str.contains(r"^(?:all|(?:random-)?layer:\d+)$"))


def sizes(table: pl.DataFrame) -> list[tuple[str, int]]:
    """Every class with the number of its samples."""
    return [(str(name), int(rows["samples"][0])) for (name,), rows in table.group_by("class", maintain_order=True)]


def draw_measure(axes: Axes, rows: pl.DataFrame, measure: str, drawn: Sequence[str], others: Sequence[str]) -> None:
    """One measure of one class: a line per kind of mask, the most important on top."""
    share = measure == "extractable"
    nothing = rows.filter(pl.col("masked") == "none")[measure].drop_nulls()
    if len(nothing):
        axes.axhline(float(nothing[0]), color="0.6", linewidth=0.8, linestyle=":")
    for level, kind in enumerate(reversed(drawn), 2):
        colour, marker, style, _ = look(kind, others)
        measured = rows.filter((pl.col("masked") == kind) & pl.col(measure).is_not_null())
        low, high = (f"{measure}_low", f"{measure}_high") if share else (measure, measure)
        curve = (
            measured.group_by("q").agg(pl.col(measure).mean(), pl.col(low).min().alias("low"), pl.col(high).max().alias("high")).sort("q")
        )
        if curve.is_empty():
            continue
        q = curve["q"].to_numpy()
        if kind in ("target", "random") and len(q) > 1:
            axes.fill_between(q, curve["low"].to_numpy(), curve["high"].to_numpy(), color=colour, alpha=0.2, linewidth=0, zorder=1)
        elif share or kind == "random":
            axes.vlines(q, curve["low"].to_numpy(), curve["high"].to_numpy(), color=colour, linewidth=0.6, alpha=0.7, zorder=level)
        thick = 1.6 if kind == "target" else 1.0
        axes.plot(q, curve[measure].to_numpy(), color=colour, marker=marker, markersize=3, linewidth=thick, linestyle=style, zorder=level)
    if share:
        axes.set_ylim(-0.04, 1.04)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))


def draw_prices(table: pl.DataFrame, path: Path) -> None:
    """Two panels per class: the share still extractable over the attention that is removed, and over the damage if it was measured.

    A line per kind of mask, a point per dose; of random masks the mean over draws.

    Args:
        table: as `memgrid.intervene.experiment.intervene` returns it.
    """
    doses = positions_of(table).filter(pl.col("masked") != "none")
    if doses.is_empty():
        return
    masks = doses["masked"].unique(maintain_order=True).to_list()
    others = [kind for kind in masks if kind.startswith("other:")]
    drawn = [kind for kind in (*KINDS, *others) if kind in masks]
    key = key_lines([key_of(drawn, others)], DOUBLE - 0.2)
    prices = [(price, label) for price, label in PRICES if doses[price].count()]
    titles = [wrapped(f"{name} ({size} samples)", DOUBLE - 0.2, size=TITLE) for name, size in sizes(doses)]
    left, gap, tall, below = 0.65, 0.35, 1.6, 0.5
    width = (DOUBLE - left - 0.1 - gap * (len(prices) - 1)) / len(prices)
    above = 0.18 + 0.16 * max(map(count_lines, titles))
    top = 0.1 + KEY_LINE * len(key)
    with figure(path, DOUBLE, top + len(titles) * (above + tall + 0.25) + below - 0.25) as fig:
        draw_key(fig, key)
        for row, (name, _) in enumerate(sizes(doses)):
            upper = top + row * (above + tall + 0.25)
            write(fig, 0.1, upper + 0.06, titles[row], size=TITLE)
            for column, (price, label) in enumerate(prices):
                axes = place(fig, left + column * (width + gap), upper + above, width, tall)
                draw_price(axes, doses.filter(pl.col("class") == name), price, drawn, others)
                if not column:
                    axes.set_ylabel("still extractable")
                if row == len(titles) - 1:
                    axes.set_xlabel(label)


def draw_price(axes: Axes, rows: pl.DataFrame, price: str, drawn: Sequence[str], others: Sequence[str]) -> None:
    """One class's share still extractable over one price: a line per kind of mask, means over draws."""
    means = rows.group_by("masked", "q").agg(pl.col("extractable", price).mean()).sort("q")
    for level, kind in enumerate(reversed(drawn), 2):
        colour, marker, style, _ = look(kind, others)
        curve = means.filter(pl.col("masked") == kind)
        x, y = curve[price].to_numpy(), curve["extractable"].to_numpy()
        axes.plot(x, y, color=colour, marker=marker, markersize=3, lw=1.6 if kind == "target" else 1.0, ls=style, zorder=level)
    axes.set_ylim(-0.04, 1.04)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    if price == "removed":
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    plain(axes)


def key_of(drawn: Sequence[str], others: Sequence[str]) -> list[tuple[Line2D, str]]:
    """An entry of the legend for each kind of mask."""
    entries = []
    for kind in drawn:
        colour, marker, style, label = look(kind, others)
        entries.append((Line2D([], [], color=colour, marker=marker, markersize=3, linewidth=1.2, linestyle=style), wrapped(label, 2.5, 1)))
    return entries


def dress(axes: Axes, doses: np.ndarray, width: float, last: bool) -> None:
    """A logarithmic axis of doses, of which as many are named as there is room for; its title below the last row."""
    axes.set_xscale("log")
    if len(doses):
        low, high = np.log10(doses[[0, -1]])
        air = max(0.06 * (high - low), 0.05)
        axes.set_xlim(10 ** (low - air), 10 ** (high + air))
        inches = (np.log10(doses) - low + air) / (high - low + 2 * air) * width
        labels, end = [], -np.inf
        for place_, dose in zip(inches, doses, strict=True):
            half = text_width(f"{dose:g}") / 2
            fits = place_ - half > end + 0.06
            labels.append(f"{dose:g}" if fits else "")
            end = place_ + half if fits else end
        axes.xaxis.set_major_locator(FixedLocator(doses.tolist()))
        axes.set_xticks(doses, labels)
    axes.xaxis.set_minor_locator(NullLocator())
    plain(axes)
    if last:
        axes.set_xlabel("positions masked (q %)")


def plain(axes: Axes) -> None:
    """A light grid behind the lines, and no box around them."""
    axes.tick_params(length=2)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)


def draw_layers(table: pl.DataFrame, path: Path) -> None:
    """A panel per class: the share of samples that is lost when the decisive positions of a single layer are masked.

    Beside it, random positions of the layer that are alike; lines are 95 % intervals over samples. Nothing is drawn if no
    layer was masked by itself.
    """
    rows = table.with_columns(
        pl.col("masked").str.extract(r"^(layer|random-layer):\d+$").alias("kind"),
        pl.col("masked").str.extract(r"^(?:random-)?layer:(\d+)$").cast(pl.Int64).alias("layer"),
    ).filter(pl.col("layer").is_not_null())
    if rows.is_empty():
        return
    kinds = {"layer": (COLOURS[0], "most decisive of the layer"), "random-layer": ("0.6", "random, alike")}
    key = key_lines([[(Patch(color=colour), name) for colour, name in kinds.values()]], DOUBLE - 0.2)
    titles = [
        wrapped(f"{name} ({size} samples; q = {rows.filter(pl.col('class') == name)['q'][0]:g} %)", DOUBLE - 0.2, size=TITLE)
        for name, size in sizes(rows)
    ]
    above, tall = 0.18 + 0.16 * max(map(count_lines, titles)), 1.1
    top = 0.1 + KEY_LINE * len(key)
    with figure(path, DOUBLE, top + len(titles) * (above + tall + 0.2) + 0.25) as fig:
        draw_key(fig, key)
        for number, (_, part) in enumerate(rows.group_by("class", maintain_order=True)):
            upper = top + number * (above + tall + 0.2)
            write(fig, 0.1, upper + 0.06, titles[number], size=TITLE)
            axes = place(fig, 0.75, upper + above, DOUBLE - 0.85, tall)
            draw_losses(axes, part, {kind: colour for kind, (colour, _) in kinds.items()})
            if number == len(titles) - 1:
                axes.set_xlabel("layer")


def draw_losses(axes: Axes, rows: pl.DataFrame, colours: dict[str, str]) -> None:
    """For every layer a bar of each kind: the share that is no longer extractable, with its interval."""
    for turn, (kind, colour) in enumerate(colours.items()):
        mine = rows.filter(pl.col("kind") == kind).sort("layer")
        at = mine["layer"].to_numpy() + 0.4 * turn - 0.2
        axes.bar(at, 1 - mine["extractable"].to_numpy(), 0.38, color=colour)
        axes.vlines(at, 1 - mine["extractable_high"].to_numpy(), 1 - mine["extractable_low"].to_numpy(), color="0.1", linewidth=0.7)
    highest = 1 - float(rows["extractable_low"].to_numpy().min())
    axes.set(
        ylabel="no longer\nextractable",
        ylim=(0, min(1.0, 1.05 * highest + 0.02)),
        xlim=(0.4, int(rows["layer"].to_numpy().max()) + 0.6),
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    axes.xaxis.set_major_locator(MaxNLocator(20, integer=True, steps=STEPS, min_n_ticks=1))
    axes.tick_params(length=2)
    axes.spines[["right", "top"]].set_visible(False)


DRAWINGS = {"doses": draw_doses, "dose-prices": draw_prices, "dose-layers": draw_layers}
