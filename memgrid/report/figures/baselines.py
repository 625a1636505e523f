"""Figures of comparisons, each as PNG and PDF: what attention adds for each pair of classes, and how scores grow with samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from memgrid.report.baseline_tables import ADDS, EVERY, NOTHING
from memgrid.report.figures.ranking import GREY, dot, number_text, numbers, points
from memgrid.report.figures.style import (
    COLOURS,
    KEY_LINE,
    SINGLE,
    STEPS,
    Legend,
    draw_key,
    figure,
    key_lines,
    limits,
    place,
    rows,
    text_width,
)
from memgrid.report.tables import REFERENCES

# Verdict on a pair → what it means, colour, marker.
VERDICTS = {
    ADDS: ("attention adds something", COLOURS[2], "o"),
    NOTHING: ("nothing is seen that it adds", GREY, "s"),
}
# Column of the learning curve → name, colour, marker, line.
LINES: dict[str, tuple[str, str, str, str]] = {
    "min_f1": ("attention, CNNs", COLOURS[0], "o", "-"),
    "probe": (REFERENCES["probe"].curve, COLOURS[5], "^", "-"),
    "together": (REFERENCES["together"].curve, COLOURS[1], "s", "--"),
    "confidence": (REFERENCES["confidence"].curve, COLOURS[2], "D", ":"),
}
NARROWEST = 0.02  # axis of what is added, in nats


def draw_added(table: pl.DataFrame, path: Path) -> None:
    """By how many nats attention lowers the log-loss of all that needs none, with a 95 % interval, a row per pair of classes.

    Args:
        table: pair, adds_every, adds_every_low, adds_every_high, verdict (a key of `VERDICTS`).
    """
    adds, low, high = (numbers(table, f"adds_{EVERY}{end}") for end in ("", "_low", "_high"))
    drawn = [verdict for verdict in VERDICTS if verdict in set(table["verdict"])]
    legend: Legend = [
        [(dot(*VERDICTS[verdict][1:]), VERDICTS[verdict][0]) for verdict in drawn] + [(Line2D([], [], color="0.2"), "95 % interval")]
    ]
    least, most = min(0.0, low.min()), max(0.0, high.max())
    air = max(0.06 * (most - least), (NARROWEST - (most - least)) / 2)
    shown = [number_text(value, "+.3f") for value in adds]
    with rows(path, table["pair"].to_list(), legend, (least - air, most + air), ("nats", shown)) as axes:
        axes.set_xlabel("what attention adds to all that needs none (nats per sample)")
        axes.axvline(0, color="0.3", linewidth=0.8, zorder=1)
        for verdict in drawn:
            y = np.flatnonzero(table["verdict"] == verdict)
            axes.hlines(y, low[y], high[y], color=VERDICTS[verdict][1], linewidth=1.2, zorder=3)
            points(axes, adds[y], y, *VERDICTS[verdict][1:])


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
