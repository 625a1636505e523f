"""Charts of a report, each as PNG and PDF: settings against each other, and taxonomies against each other.

All scores are in percent. Charts with a row per setting are two columns wide and grow in height: text never shrinks.
"""

from __future__ import annotations

import itertools
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from memgrid.report.baseline_tables import ADDS, EVERY, NOTHING
from memgrid.report.figures.style import (
    COLOURS,
    DOUBLE,
    KEY_LINE,
    SINGLE,
    STEPS,
    TITLE,
    Legend,
    count_lines,
    draw_key,
    figure,
    key_lines,
    limits,
    place,
    rows,
    text_width,
    wrapped,
)
from memgrid.report.tables import REFERENCES
from memgrid.taxonomy.thresholds import ROUGE_NAMES

# Family of a taxonomy → what it is, colour, marker.
FAMILIES = {
    "4A": ("4A: duplication first", COLOURS[0], "o"),
    "4B": ("4B: completion first", COLOURS[1], "s"),
    "3A": ("3A: one node", COLOURS[2], "^"),
    "3B": ("3B: either of two", COLOURS[3], "D"),
    "null": ("null: for no reason", COLOURS[6], "P"),
    "other": ("other", COLOURS[4], "v"),
}
# Which ROUGE ρ is applied to → name, colour, marker, line.
ROUGES = {
    "both": (ROUGE_NAMES["both"], COLOURS[0], "o", "-"),
    "l": (ROUGE_NAMES["l"], COLOURS[3], "s", "--"),
    "3": (ROUGE_NAMES["3"], COLOURS[2], "^", ":"),
}
CONTROLS = {  # column → name, colour, marker
    "min_f1": ("attention", COLOURS[0], "o"),
    "confidence_min_f1": (REFERENCES["confidence"].legend, COLOURS[2], "|"),
    "shuffled_min_f1": (REFERENCES["shuffled"].legend, COLOURS[3], "X"),
    "probe_min_f1": (REFERENCES["probe"].legend, COLOURS[5], "^"),
    "together_min_f1": (REFERENCES["together"].legend, COLOURS[1], "s"),
}
GREY = "0.55"
# Verdict on a pair → what it means, colour, marker.
VERDICTS = {
    ADDS: ("attention adds something", COLOURS[2], "o"),
    NOTHING: ("nothing is seen that it adds", GREY, "s"),
}
NARROWEST = 0.02  # axis of what is added, in nats
GAP = 0.1  # between bars of a flow, in inches
# Markers that look equally large.
SIZES = {"D": 4.8, "s": 5.0, "^": 6.2, "v": 6.2, "X": 6.0, "|": 9.0}


def numbers(table: pl.DataFrame, column: str) -> np.ndarray:
    """The column as float64, null as NaN."""
    return table[column].cast(pl.Float64).to_numpy().astype(float)


def dot(colour: str, marker: str, x: Any = (), y: Any = (), **kwargs: Any) -> Line2D:
    """A marker, for a legend or at so many places; `|` is a thick stroke."""
    given = {"markersize": SIZES.get(marker, 5.5), "markeredgewidth": 2 if marker == "|" else 1, **kwargs}
    return Line2D(x, y, color=colour, marker=marker, linestyle="none", **given)


def points(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, marker: str) -> None:
    """Markers with a white edge, so that two at nearly the same place are still two."""
    edge: dict[str, Any] = {} if marker == "|" else {"markeredgecolor": "white", "markeredgewidth": 0.5}
    axes.add_line(dot(colour, marker, x, y, zorder=4, **edge))


def number_text(value: float, form: str = ".1f") -> str:
    """A number of the column at the right, or a dash."""
    return format(value, form).replace("-", "−") if np.isfinite(value) else "–"


def draw_ranking(table: pl.DataFrame, path: Path, noise: float | None = None) -> None:
    """The settings' min-F1, with the spread over the panel and the interval, by family, and small what the controls reach.

    Args:
        table: setting, family (of `FAMILIES`), min_f1, spread (standard deviation over the panel), low, high (95 %); sorted. Where it has
            them, also doubt (hollow where it is not empty) and columns of `CONTROLS`.
        noise: so many points below the best are no difference.
    """
    score, spread, low, high = (numbers(table, name) for name in ("min_f1", "spread", "low", "high"))
    families = np.array([family if family in FAMILIES else "other" for family in table["family"]])
    drawn = [family for family in FAMILIES if family in families[np.isfinite(score)]]
    marks: list[tuple[Artist, str]] = [
        (Line2D([], [], color="0.2", linewidth=1), "95 % interval"),
        (Line2D([], [], color="0.2", linewidth=5, alpha=0.35, solid_capstyle="butt"), "± standard deviation over the panel"),
    ]
    best = score[np.isfinite(score)].max(initial=-np.inf)
    band = (best - noise, best) if noise and np.isfinite(best) else ()
    if band:
        marks.append((Patch(color="0.88"), f"noise floor ({noise:g} points below the best)"))
    legend: list[Any] = [[(dot(*FAMILIES[family][1:]), FAMILIES[family][0]) for family in drawn], marks]
    doubtful = table["doubt"].to_numpy() != "" if "doubt" in table.columns else np.zeros(table.height, bool)
    if doubtful.any():
        marks.append((dot("0.2", "o", markerfacecolor="white"), "undertrained or constant"))
    beside = {name: numbers(table, name) for name in CONTROLS if name != "min_f1" and name in table.columns and table[name].count()}
    small = {name: partial(dot, GREY, CONTROLS[name][2], markersize=0.7 * SIZES.get(CONTROLS[name][2], 5.5)) for name in beside}
    legend.append([(small[name](), CONTROLS[name][0]) for name in beside])
    reach = limits(score, low, high, score - spread, score + spread, np.array(band), *beside.values())
    with rows(path, table["setting"].to_list(), legend, reach, ("min-F1", [number_text(value) for value in score])) as axes:
        if band:
            axes.axvspan(*band, color="0.88", linewidth=0, zorder=0)
        for family in drawn:
            y = np.flatnonzero(families == family)
            colour = FAMILIES[family][1]
            axes.hlines(y, score[y] - spread[y], score[y] + spread[y], color=colour, alpha=0.35, linewidth=5, zorder=2)
            axes.hlines(y, low[y], high[y], color=colour, linewidth=1, zorder=3)
            points(axes, score[y], y, *FAMILIES[family][1:])
            if (hollow := y[doubtful[y]]).size:
                axes.add_line(dot(*FAMILIES[family][1:], score[hollow], hollow, markerfacecolor="white", zorder=5))
        for name, values in beside.items():
            axes.add_line(small[name](values, np.arange(table.height), zorder=2.5))


def draw_protocols(table: pl.DataFrame, path: Path) -> None:
    """The min-F1 of each setting by our protocol and by the paper's.

    Args:
        table: setting, min_f1 (ours), paper_min_f1.
    """
    ours, paper = numbers(table, "min_f1"), numbers(table, "paper_min_f1")
    markers = dot(COLOURS[0], "o"), dot(COLOURS[3], "D", markerfacecolor="white")
    names = "ours: last epoch, mean over the panel", "the paper's: sum over the panel and its last epochs"
    column = ("difference", [number_text(value, "+.1f") for value in ours - paper])
    with rows(path, table["setting"].to_list(), [list(zip(markers, names, strict=True))], limits(ours, paper), column) as axes:
        y = np.arange(table.height)
        axes.hlines(y, np.fmin(ours, paper), np.fmax(ours, paper), color=GREY, linewidth=1.5, zorder=2)
        axes.add_line(dot(COLOURS[3], "D", paper, y, markerfacecolor="white", zorder=3))
        axes.add_line(dot(COLOURS[0], "o", ours, y, markersize=4.5, zorder=4))


def draw_controls(table: pl.DataFrame, path: Path) -> None:
    """The min-F1 of each setting beside what its controls reach.

    Args:
        table: setting, min_f1 (attention), and some of the others of `CONTROLS`; a null was not run.
    """
    scores = {name: numbers(table, name) for name in CONTROLS if name in table.columns}
    present = [name for name in scores if np.isfinite(scores[name]).any()]
    legend = [[(dot(*CONTROLS[name][1:]), CONTROLS[name][0]) for name in present]]
    with rows(path, table["setting"].to_list(), legend, limits(*scores.values())) as axes:
        y = np.arange(table.height)
        for name in reversed(present):
            points(axes, scores[name], y, *CONTROLS[name][1:])


def draw_spread(table: pl.DataFrame, path: Path) -> None:
    """The min-F1 of each member of the panel, by setting: colour for kernel size, marker for pooling, filling for features.

    Args:
        table: setting, member (such as k6-f10-mean), min_f1.
    """
    settings = table["setting"].unique(maintain_order=True).to_list()
    score, row = numbers(table, "min_f1"), np.array([settings.index(setting) for setting in table["setting"]])
    members = [member_parts(name) for name in table["member"]]
    styles, legend = member_styles(members)
    lanes = {member: 0.56 * (lane + 0.5) / len(styles) - 0.28 for lane, member in enumerate(styles)}
    inside = [score[(row == index) & np.isfinite(score)] for index in range(len(settings))]
    ranges = [number_text(np.ptp(values) if len(values) else np.nan) for values in inside]
    with rows(path, settings, legend, limits(score), ("range", ranges), pitch=0.3) as axes:
        for y, values in enumerate(inside):
            if len(values):
                axes.hlines(y, values.min(), values.max(), color="0.8", linewidth=1)
                axes.vlines(values.mean(), y - 0.34, y + 0.34, color=GREY, linewidth=1)
        for member, style in styles.items():
            mine = np.array([parts == member for parts in members])
            axes.plot(score[mine], row[mine] + lanes[member], markersize=4.5, linestyle="none", markeredgewidth=0.9, **style)


def member_parts(name: str) -> tuple[int, int, str]:
    """Kernel size, features and pooling of `k6-f10-mean`; zeros and the name itself for what is no such name."""
    parts = re.fullmatch(r"k(\d+)-f(\d+)-(\w+)", name)
    return (int(parts[1]), int(parts[2]), parts[3]) if parts else (0, 0, name)


def member_styles(members: list[tuple[int, int, str]]) -> tuple[dict[tuple[int, int, str], dict[str, Any]], Legend]:
    """How each member is drawn, and the legend for it."""
    kernels, features, poolings = (sorted(set(values)) for values in zip(*members, strict=True))
    colours = dict(zip(kernels, itertools.cycle(COLOURS[at] for at in (0, 3, 2, 4, 1, 5)), strict=False))
    fills = dict(zip(reversed(features), itertools.cycle(("full", "none", "left", "top")), strict=False))
    markers = {pooling: {"mean": "o", "max": "^"}.get(pooling, "D") for pooling in poolings}
    styles = {
        parts: {"color": colours[parts[0]], "fillstyle": fills[parts[1]], "marker": markers[parts[2]]} for parts in sorted(set(members))
    }
    legend: Legend = [
        [(Patch(color=colours[kernel]), f"kernel {kernel}") for kernel in kernels if kernel]
        + [(dot(GREY, "s", fillstyle=fills[number]), f"{number} features") for number in features if number],
        [(dot(GREY, markers[pooling]), f"{pooling} pooling" if pooling in ("mean", "max") else pooling) for pooling in poolings]
        + [(dot(GREY, "|", markeredgewidth=1), "mean over the panel")],
    ]
    return styles, legend


def draw_rho_curve(table: pl.DataFrame, path: Path) -> None:
    """The min-F1 over ρ: a panel per language model, a line per ROUGE that ρ is applied to, with its interval.

    Args:
        table: llm, rouge (both, l, 3), rho, min_f1, low, high.
    """
    table = table.drop_nulls("min_f1")
    llms = table["llm"].unique(maintain_order=True).to_list()
    drawn = [rouge for rouge in ROUGES if rouge in set(table["rouge"])]
    lines: dict[str, dict[str, Any]] = {
        rouge: {"color": ROUGES[rouge][1], "marker": ROUGES[rouge][2], "linestyle": ROUGES[rouge][3], "markersize": 3.5} for rouge in drawn
    }
    columns = min(4, max(len(llms), 1))
    width = SINGLE if columns == 1 else DOUBLE
    key = key_lines([[(Line2D([], [], **lines[rouge]), ROUGES[rouge][0]) for rouge in drawn]], width - 0.2)
    left, gap, tall, below = 0.55, 0.15, 1.8, 0.45
    wide = (width - left - 0.1 + gap) / columns - gap
    names = [wrapped(llm, wide, 2, TITLE) for llm in llms]
    head, above = 0.1 + KEY_LINE * len(key), 0.12 + 0.16 * max(map(count_lines, names))
    reach = limits(*(numbers(table, name) for name in ("min_f1", "low", "high")))
    with figure(path, width, head + -(-len(llms) // columns) * (above + tall + below)) as fig:
        draw_key(fig, key)
        for index, (llm, name) in enumerate(zip(llms, names, strict=True)):
            row, column = divmod(index, columns)
            axes = place(fig, left + column * (wide + gap), head + row * (above + tall + below) + above, wide, tall)
            draw_rho_panel(axes, table.filter(pl.col("llm") == llm).sort("rho"), lines, wide)
            axes.set(ylim=reach, xlabel="ρ", ylabel="" if column else "min-F1 (%)")
            axes.tick_params(length=2, labelleft=not column)
            axes.set_title(name, pad=4)
            axes.yaxis.set_major_locator(MaxNLocator("auto", steps=STEPS))


def draw_rho_panel(axes: Axes, table: pl.DataFrame, lines: dict[str, dict[str, Any]], wide: float) -> None:
    """One language model's curves, sorted by ρ; where there is only one ρ, points side by side."""
    every = np.unique(numbers(table, "rho").round(6))
    air = max(0.06 * np.ptp(every), 0.05)
    axes.set_xlim(every[0] - air, every[-1] + air)
    room = wide * np.ptp(every) / (np.ptp(every) + 2 * air)
    names = [f"{value:g}" for value in every]
    each = max(map(text_width, names)) + 0.05
    step = next((n for n in range(1, len(every)) if -(-len(every) // n) * each < room), len(every))
    axes.set_xticks(every[::step], names[::step])
    axes.grid(color="0.9", linewidth=0.5)
    for lane, (rouge, style) in enumerate(lines.items()):
        mine = table.filter(pl.col("rouge") == rouge)
        rho, score, low, high = (numbers(mine, name) for name in ("rho", "min_f1", "low", "high"))
        if len(every) == 1:
            rho = rho + air * (lane - (len(lines) - 1) / 2) / 2
        if len(rho) == 1:  # no band can be seen
            axes.vlines(rho, low, high, color=style["color"], linewidth=1)
        axes.fill_between(rho, low, high, color=style["color"], alpha=0.13, linewidth=0)
        axes.plot(rho, score, **style)


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
