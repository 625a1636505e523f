"""Δ maps as the paper draws them: classes side by side, layer by layer (its Figures 13-18)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memgrid.report.figures.causes.maps import draw_decision_map, scale
from memgrid.report.figures.run import MAP_LAYERS
from memgrid.report.figures.style import DOUBLE, SINGLE, TITLE, count_lines, figure, place, wrapped, write

EXPONENT = 1 / 5  # of the colours: what is weak in a layer is seen, too
TICKS, FEW_TICKS = (0, 0.001, 0.01, 0.1, 0.5, 1), (0, 0.01, 0.1, 1)
SHORT = 1.4  # inches of a colour bar that has room for few


def draw_side_by_side(maps: np.ndarray, titles: list[str], k: int, path: Path) -> list[Path]:
    """A row per layer and a column per class, six layers a page; each layer in shares of the largest value that any class has in it.

    Args:
        maps: (classes, layers, query, key), zero above the diagonal.
        k: tokens in the prefix; thin lines mark where the suffix begins.
        path: `<path>-1`, `<path>-2` … are the pages.

    Returns:
        The pages' paths, without suffix.
    """
    layers = maps.shape[1]
    pages = [range(first, min(first + MAP_LAYERS, layers)) for first in range(0, layers, MAP_LAYERS)]
    paths = [path.with_name(f"{path.name}-{number}") for number in range(1, len(pages) + 1)]
    for page, shown in zip(paths, pages, strict=True):
        draw_page(maps[:, shown], [layer + 1 for layer in shown], titles, k, page)
    return paths


def draw_page(maps: np.ndarray, numbers: list[int], titles: list[str], k: int, path: Path) -> None:
    """One page: maps of the layers with these numbers."""
    classes, layers = maps.shape[:2]
    left, right, gap = 0.5, 1.1, 0.08
    side = min(1.35, (DOUBLE - left - right + gap) / classes - gap)
    names = [wrapped(title, side, 3, TITLE) for title in titles]
    above = 0.12 + 0.16 * max(map(count_lines, names))
    width = max(left + classes * (side + gap) - gap + right, SINGLE)
    with figure(path, width, above + layers * (side + gap) - gap + 0.42) as fig:
        for column, name in enumerate(names):
            write(fig, left + column * (side + gap), 0.08, name, size=TITLE)
        for row, column in np.ndindex(layers, classes):
            axes = place(fig, left + column * (side + gap), above + row * (side + gap), side, side)
            drawn = draw_decision_map(axes, maps[column, row], float(maps[:, row].max()), k, EXPONENT)
            if column == 0:
                axes.text(0.97, 0.96, f"layer {numbers[row]}", transform=axes.transAxes, ha="right", va="top")
            lowest = row == layers - 1
            axes.set_xticks([0, k], ["0", str(k)] if lowest else ["", ""])
            axes.set_yticks([0, k], ["0", str(k)] if column == 0 else ["", ""])
            axes.set(xlabel="key" if lowest else "", ylabel="query" if column == 0 else "")
        height = min(3.0, layers * (side + gap) - gap)
        share = wrapped("Δ, share of the largest of its layer", height + 0.3)
        scale(fig, drawn, left + classes * (side + gap), above, height, share, TICKS if height > SHORT else FEW_TICKS)
