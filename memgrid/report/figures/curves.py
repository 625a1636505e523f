"""Figures of what depends on a number, each as PNG and PDF: on steps of a training, on samples, on tries, on a prefix, on copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from memgrid.report.figures.flow import flow_colours
from memgrid.report.figures.ranking import numbers
from memgrid.report.figures.style import (
    COLOURS,
    DOUBLE,
    KEY_LINE,
    SINGLE,
    STEPS,
    TITLE,
    draw_key,
    figure,
    key_lines,
    limits,
    place,
    text_width,
    write,
)
from memgrid.report.tables import REFERENCES

# Column of the learning curve → name, colour, marker, line.
LINES: dict[str, tuple[str, str, str, str]] = {
    "min_f1": ("attention, CNNs", COLOURS[0], "o", "-"),
    "probe": (REFERENCES["probe"].curve, COLOURS[5], "^", "-"),
    "together": (REFERENCES["together"].curve, COLOURS[1], "s", "--"),
    "confidence": (REFERENCES["confidence"].curve, COLOURS[2], "D", ":"),
}
MARKERS = "os^DvPX*"
ACROSS = 3  # panels in a row
DOTS = 12  # of a curve with more values than have room
LEAST = 1e-12  # a probability that is called zero


@dataclass(frozen=True)
class Curve:
    """A curve: its name, at which numbers it is known, its values there, and an interval of each if they have one."""

    name: str
    at: Sequence[float]
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True)
class Panel:
    """Curves that share a y axis.

    Attributes:
        least, most: the ends of the axis, if they are fixed. title: above it. is_probability: the axis is logarithmic, down to `LEAST`.
    """

    label: str
    curves: Sequence[Curve]
    least: float | None = None
    most: float | None = None
    title: str = ""
    is_probability: bool = False


@dataclass(frozen=True)
class Across:
    """The x axis that panels share.

    Attributes:
        at: number → its place. names: of the numbers that are written if there is room, the last one always.
        mark: a number at which a line stands, and what that means. every: whether each value has a dot, however many there are.
    """

    label: str
    at: dict[float, float]
    names: dict[float, str]
    mark: tuple[float, str] | None = None
    every: bool = True


def step_places(steps: Sequence[float]) -> np.ndarray:
    """Where steps lie on an axis: logarithmic if they span a decade; step 0 has a place of its own before the first."""
    every = np.array(steps, float)
    positive = every[every > 0]
    if len(positive) < 2 or positive.max() < 10 * positive.min():
        return every
    logs = np.log10(np.where(every > 0, every, positive.min()))
    return np.where(every > 0, logs, logs[every > 0].min() - 0.1 * np.ptp(logs[every > 0]))


def draw_over_steps(panels: Sequence[Panel], path: Path) -> None:
    """Curves over the steps of a training; a dot where a step was run, and a line only to guide the eye."""
    steps = sorted({step for panel in panels for curve in panel.curves for step in curve.at})
    places = dict(zip(steps, step_places(steps).tolist(), strict=True))
    draw_panels(panels, Across("training step", places, {step: f"{step:,}" for step in steps}), path)


def draw_over_epochs(panels: Sequence[Panel], path: Path) -> None:
    """Curves over the epochs of a training."""
    epochs = sorted({epoch for panel in panels for curve in panel.curves for epoch in curve.at})
    names = {epoch: f"{epoch:g}" for epoch in epochs if len(epochs) <= DOTS or epoch % 5 == 0 or epoch in (1, epochs[-1])}
    draw_panels(panels, Across("epoch", {epoch: float(epoch) for epoch in epochs}, names), path)


def draw_tries(panels: Sequence[Panel], path: Path) -> None:
    """Curves over the number of continuations that are sampled, on a logarithmic axis."""
    tries = sorted({number for panel in panels for curve in panel.curves for number in curve.at})
    decades = [float(10**power) for power in range(10) if tries[0] <= 10**power <= tries[-1]]
    names = {n: f"{n:.0f}" if n < 1000 else f"{n / 1000:.0f}k" for n in decades}
    draw_panels(panels, Across("sampled continuations n", {n: float(np.log10(n)) for n in tries}, names, every=False), path)


def draw_prefixes(panels: Sequence[Panel], k: int, path: Path) -> None:
    """Curves over the number of tokens in a prefix; a line marks the prefix of `k` tokens."""
    last = int(max(number for panel in panels for curve in panel.curves for number in curve.at))
    names: dict[float, str] = {j: str(j) for j in range(1, last + 1) if last <= 16 or j % 8 == 0 or j == 1}
    mark = (k, f"k = {k}") if 1 <= k <= last else None
    across = Across("tokens in the prefix j", {j: float(j) for j in range(1, last + 1)}, names, mark, every=False)
    draw_panels(panels, across, path)


def draw_copies(panels: Sequence[Panel], bins: Sequence[tuple[int, int]], path: Path) -> None:
    """Curves over bins of copies, which stand side by side; the numbers of a curve are the places of the bins.

    Args:
        bins: the least and the most copies of each; one of several numbers is written as its least and a plus.
    """
    places: dict[float, float] = {at: float(at) for at in range(len(bins))}
    names: dict[float, str] = {at: short_number(least) + "+" * (most > least) for at, (least, most) in enumerate(bins)}
    draw_panels(panels, Across("copies in the training text", places, names), path)


def short_number(number: int) -> str:
    """Such as `256`, `65.5k` or `4.19M`: with three digits from ten thousand on."""
    power = 0 if number < 10_000 else min(int(np.log10(number)) // 3, 4)
    return f"{number:,}" if power == 0 else f"{float(f'{number / 1000**power:.3g}'):g}{' kMGT'[power]}"


def draw_panels(panels: Sequence[Panel], across: Across, path: Path) -> None:
    """Curves in panels, up to three in a row, of which each name has one colour and marker."""
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    looks: dict[str, dict[str, Any]] = {
        name: {"color": colour, "marker": MARKERS[at % len(MARKERS)]}
        for at, (name, colour) in enumerate(zip(names, flow_colours(len(names)), strict=True))
    }
    entries = [(Line2D([], [], markersize=3.5, **looks[name]), name) for name in names]
    if across.mark is not None:
        entries.append((Line2D([], [], color="0.3", linestyle="--", linewidth=0.8), across.mark[1]))
    columns, head = min(len(panels), ACROSS), 0.2 * any(panel.title for panel in panels)
    width, left, tall = (SINGLE if columns == 1 else DOUBLE), 0.6, 2.1 if columns < ACROSS else 1.7
    key = key_lines([entries], width - 0.2)
    above, wide, pitch = 0.18 + KEY_LINE * len(key), width / columns - left - 0.15, head + tall + 0.5
    with figure(path, width, above + pitch * -(-len(panels) // columns) - 0.05) as fig:
        draw_key(fig, key)
        for index, panel in enumerate(panels):
            start, top = index % columns * width / columns + left, above + index // columns * pitch + head
            write(fig, start + wide / 2, top - 0.2, panel.title, size=TITLE, ha="center")
            axes = place(fig, start, top, wide, tall)
            for curve in panel.curves:
                draw_curve(axes, curve, across, panel.is_probability, looks[curve.name])
            set_axes(axes, panel, across, wide)


def set_axes(axes: Axes, panel: Panel, across: Across, wide: float) -> None:
    """The axes of a panel, `wide` inches of them, and what is marked there."""
    axes.set(xlabel=across.label, ylabel=panel.label)
    shown = ticks_with_room(across.names, across.at, wide)
    axes.set_xticks([across.at[number] for number in shown], [across.names[number] for number in shown])
    if panel.is_probability:
        axes.set_ylim(-12.6, 0.5)
        axes.set_yticks(range(-12, 1, 3), ["≤ 10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "1"])
    else:
        axes.set_ylim(panel.least, panel.most)
        axes.yaxis.set_major_locator(MaxNLocator("auto", steps=STEPS))
    if across.mark is not None:
        axes.axvline(across.at[across.mark[0]], color="0.3", linestyle="--", linewidth=0.8)
    axes.tick_params(length=2)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def draw_curve(axes: Axes, curve: Curve, across: Across, is_probability: bool, look: dict[str, Any]) -> None:
    """One curve, with the band of its intervals."""

    def known(values: Sequence[float | None]) -> np.ndarray:
        array = np.array(values, float)
        return np.log10(np.maximum(array, LEAST)) if is_probability else array

    x = [across.at[number] for number in curve.at]
    apart = 1 if across.every else max(1, len(x) // DOTS)
    axes.plot(x, known(curve.values), markersize=3.5, linewidth=1, markevery=apart, clip_on=False, zorder=3, **look)
    if curve.low:
        axes.fill_between(x, known(curve.low), known(curve.high), color=look["color"], alpha=0.13, linewidth=0)
        if len(x) == 1:  # a band has no width
            axes.vlines(x, known(curve.low), known(curve.high), color=look["color"], linewidth=1)


def ticks_with_room(names: dict[float, str], at: dict[float, float], width: float) -> list[float]:
    """The numbers that have room for their name on an axis of so many inches; the last one has, always."""
    places = list(at.values())
    inch = 0.91 * width / max(max(places) - min(places), 1e-9)
    *before, last = sorted(names)
    shown = [last]
    for number in reversed(before):
        if inch * (at[shown[-1]] - at[number]) > (text_width(names[number]) + text_width(names[shown[-1]])) / 2 + 0.08:
            shown.append(number)
    return shown[::-1]


def draw_learning(table: pl.DataFrame, path: Path) -> None:
    """The min-F1 over the train samples per class, on a logarithmic scale, beside that of what needs no attention.

    Args:
        table: train, min_f1, low, high, together, confidence, probe; sorted by train; nulls are not known.
    """
    train = numbers(table, "train")
    present = [name for name in LINES if np.isfinite(numbers(table, name)).any()]
    styles: dict[str, dict[str, Any]] = {
        name: {"color": colour, "marker": marker, "linestyle": line, "markersize": 3.5} for name, (_, colour, marker, line) in LINES.items()
    }
    width, left, tall = SINGLE, 0.55, 2.0
    key = key_lines([[(Line2D([], [], **styles[name]), LINES[name][0]) for name in present]], width - 0.2)
    top = 0.15 + KEY_LINE * len(key)
    with figure(path, width, top + tall + 0.45) as fig:
        draw_key(fig, key)
        axes = place(fig, left, top, width - left - 0.15, tall)
        for name in present:
            axes.plot(train, numbers(table, name), **styles[name])
        axes.fill_between(train, numbers(table, "low"), numbers(table, "high"), color=styles["min_f1"]["color"], alpha=0.13, linewidth=0)
        reach = limits(*(numbers(table, name) for name in (*present, "low", "high")))
        axes.set(xscale="log", ylim=reach, xlabel="train samples per class", ylabel="min-F1 (%)")
        axes.set_xlim(train.min() / 1.15, train.max() * 1.15)
        shown = ticks(train, width - left - 0.15)
        axes.xaxis.set_major_locator(FixedLocator(shown))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(shown, [f"{size:g}" for size in shown])
        axes.yaxis.set_major_locator(MaxNLocator("auto", steps=STEPS))
        axes.tick_params(length=2)
        axes.grid(color="0.9", linewidth=0.5)


def ticks(train: np.ndarray, width: float) -> list[float]:
    """The sizes that have room for their number on a logarithmic axis of so many inches."""
    sizes = np.unique(train)
    inch = width / max(np.log(sizes[-1] * 1.15**2 / sizes[0]), 0.1)
    shown: list[float] = []
    for size in sizes:
        if not shown or inch * np.log(size / shown[-1]) > text_width(f"{size:g}") + 0.08:
            shown.append(float(size))
    return shown
