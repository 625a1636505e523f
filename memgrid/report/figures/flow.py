"""How sequences flow: from the classes of one taxonomy to those of another, and from step to step of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Curve

from memgrid.report.figures.ranking import GAP, GREY
from memgrid.report.figures.style import (
    COLOURS,
    DOUBLE,
    LINE,
    TITLE,
    count_lines,
    figure,
    place,
    spread_out,
    text_width,
    wrapped,
    write,
)


def draw_flow(counts: np.ndarray, left: tuple[str, list[str]], right: tuple[str, list[str]], path: Path) -> None:
    """An alluvial diagram: how the classes of one taxonomy are divided among those of another.

    Bars and ribbons are exactly as thick as their counts say; what is thinner than a hairline is drawn as one.

    Args:
        counts: int (left classes, right classes): sequences that are in both.
        left, right: a taxonomy's name and class titles.
    """
    total, sums = max(counts.sum(), 1), (counts.sum(1), counts.sum(0))
    labels = [
        [f"{wrapped(title, 1.5)}\n{count:,} ({percent(100 * count / total)})" for title, count in zip(titles, each, strict=True)]
        for (_, titles), each in zip((left, right), sums, strict=True)
    ]
    needs = [np.array([LINE * count_lines(label) + 0.07 for label in side]) for side in labels]
    heads = [wrapped(name, DOUBLE / 2 - 0.2, size=TITLE) for name, _ in (left, right)]
    top, tall = 0.25 + 0.16 * max(map(count_lines, heads)), max(2.4, *(side.sum() for side in needs))
    edges = [0.4 + max(map(text_width, labels[0])), DOUBLE - 0.4 - max(map(text_width, labels[1]))]
    scale = (tall - GAP * (max(counts.shape) - 1)) / total
    tops = [stack(side * scale, tall) for side in sums]
    with figure(path, DOUBLE, top + tall + 0.1) as fig:
        axes = place(fig, 0, top, DOUBLE, tall)
        axes.set(xlim=(0, DOUBLE), ylim=(tall, 0))
        axes.axis("off")
        draw_ribbons(axes, counts * scale, tops, (edges[0] + 0.06, edges[1] - 0.06))
        for at, (side, colours) in enumerate(((-1, flow_colours(len(counts))), (1, ["0.35"] * counts.shape[1]))):
            write(fig, 0.1 if at == 0 else DOUBLE - 0.1, 0.08, heads[at], size=TITLE, ha="left" if at == 0 else "right")
            draw_side(axes, edges[at], side, tops[at], sums[at] * scale, labels[at], needs[at], colours)


def percent(value: float) -> str:
    """With one decimal; what is there is never called 0.0 %."""
    return "<0.1%" if 0 < value < 0.05 else f"{value:.1f}%"


def flow_colours(count: int) -> list[Any]:
    """A colour per class; beyond eight, steps of a scale."""
    return list(COLOURS[:count]) if count <= len(COLOURS) else list(matplotlib.colormaps["viridis"](np.linspace(0, 1, count)))


def stack(thick: np.ndarray, tall: float) -> np.ndarray:
    """Upper edges of bars that stand on one another with gaps, centred in the height."""
    free = tall - thick.sum() - GAP * (len(thick) - 1)
    return free / 2 + np.concatenate([[0], np.cumsum(thick + GAP)[:-1]])


def draw_ribbons(
    axes: Axes, thick: np.ndarray, tops: Sequence[np.ndarray], edges: tuple[float, float], colours: list[Any] | None = None
) -> None:
    """A ribbon per pair of classes, the thin ones above the thick; on each bar in the order of the other side's classes."""
    starts = tops[0][:, None] + np.cumsum(thick, 1) - thick
    ends = tops[1][None, :] + np.cumsum(thick, 0) - thick
    colours = colours or flow_colours(len(thick))
    (x0, x1), middle = edges, sum(edges) / 2
    for i, j in sorted(np.ndindex(*thick.shape), key=lambda pair: -thick[pair]):
        if thick[i, j] > 0:
            y0, y1, high = starts[i, j], ends[i, j], thick[i, j]
            there = [(x0, y0), (middle, y0), (middle, y1), (x1, y1)]
            back = [(x1, y1 + high), (middle, y1 + high), (middle, y0 + high), (x0, y0 + high)]
            codes = [Curve.MOVETO, *[Curve.CURVE4] * 3, Curve.LINETO, *[Curve.CURVE4] * 3]
            axes.add_patch(PathPatch(Curve([*there, *back], codes), color=colours[i], linewidth=0.4, alpha=0.5, clip_on=False))


def draw_side(
    axes: Axes, edge: float, side: int, tops: np.ndarray, thick: np.ndarray, labels: list[str], needs: np.ndarray, colours: list[Any]
) -> None:
    """The bars of one taxonomy and their labels, which move apart where bars are too thin; a line leads from each bar to its label.

    Args:
        side: -1 for labels at the left of the bars, 1 for the right.
    """
    placed = spread_out(tops + thick / 2, needs, axes.get_ylim()[0])
    for top, high, y, label, colour in zip(tops, thick, placed, labels, colours, strict=True):
        if high > 0:
            axes.add_patch(Rectangle((edge - 0.06, top), 0.12, high, color=colour, linewidth=0.4, clip_on=False))
            axes.plot([edge + side * 0.08, edge + side * 0.24], [top + high / 2, y], color=GREY, linewidth=0.5)
        axes.text(edge + side * 0.28, y, label, ha="right" if side < 0 else "left", va="center", color="black" if high > 0 else "0.4")


# Over the steps of a training.

MOST_COLUMNS = 8  # of a flow over steps: more have no room for their numbers
AWAY_COLOUR = "0.75"


def shown_steps(many: int) -> list[int]:
    """The places of the steps that a flow shows: all, or as many as have room, the first and the last included."""
    return sorted(set(np.linspace(0, many - 1, min(many, MOST_COLUMNS)).round().astype(int).tolist()))


def draw_step_flow(steps: Sequence[int], counts: Sequence[np.ndarray], titles: Sequence[str], path: Path) -> None:
    """An alluvial diagram over the steps of a training: how many sequences each class has at each step, and where they go until the next.

    Args:
        counts: int (classes, classes) for each pair of steps that follow each other; the last class is that of what is not memorized.
        titles: of all classes.
    """
    total, sums = max(counts[0].sum(), 1), [counts[0].sum(1), *(matrix.sum(0) for matrix in counts)]
    labels = [
        [f"{wrapped(title, 1.3)}\n{count:,} ({percent(100 * count / total)})" for title, count in zip(titles, side, strict=True)]
        for side in (sums[0], sums[-1])
    ]
    needs = [np.array([LINE * count_lines(label) + 0.07 for label in side]) for side in labels]
    top, tall = 0.5, max(2.6, *(side.sum() for side in needs))
    edges = [0.4 + max(map(text_width, labels[0])), DOUBLE - 0.4 - max(map(text_width, labels[1]))]
    at = np.linspace(edges[0], edges[1], len(steps))
    scale = (tall - GAP * (len(titles) - 1)) / total
    tops = [stack(side * scale, tall) for side in sums]
    colours = [*flow_colours(len(titles) - 1), AWAY_COLOUR]
    with figure(path, DOUBLE, top + tall + 0.1) as fig:
        axes = place(fig, 0, top, DOUBLE, tall)
        axes.set(xlim=(0, DOUBLE), ylim=(tall, 0))
        axes.axis("off")
        for pair, matrix in enumerate(counts):
            draw_ribbons(axes, matrix * scale, tops[pair : pair + 2], (at[pair] + 0.06, at[pair + 1] - 0.06), colours)
        for place_, side in ((0, -1), (-1, 1)):
            draw_side(axes, at[place_], side, tops[place_], sums[place_] * scale, labels[place_], needs[place_], colours)
        for x, above, thick in zip(at[1:-1], tops[1:-1], sums[1:-1], strict=True):
            for high, size, colour in zip(above, thick * scale, colours, strict=True):
                axes.add_patch(Rectangle((x - 0.06, high), 0.12, size, color=colour, linewidth=0, clip_on=False))
        for x, step in zip(at, steps, strict=True):
            write(fig, x, 0.27, f"{step:,}", ha="center")
        write(fig, at.mean(), 0.08, "training step", size=TITLE, ha="center")
