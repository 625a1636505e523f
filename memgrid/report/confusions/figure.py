"""Confusion matrices in pages, as the paper draws them: counts with their sums, nine on a page where classes are few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from memgrid.report.figures.style import DOUBLE, TEXT, TITLE, count_lines, figure, ink, place, wrapped, write

NAME, NUMBER = 7, 6  # sizes of the text of classes and of counts
NAMES, BESIDE = 0.68, 0.36  # inches at the left for the names of classes, and at the right for the sums
CELL, LEAST = 0.31, 1.26  # inches for the number in a cell; the smallest matrix


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix.

    Attributes:
        name, score: the lines above it, of which a long name is cut.
        counts: int (classes, classes), rows true and columns predicted. titles: of the classes.
    """

    name: str
    score: str
    counts: np.ndarray
    titles: Sequence[str]


def columns_of(classes: int) -> int:
    """How many matrices of so many classes have room side by side: three, two or one."""
    return next((n for n in (3, 2) if (DOUBLE - 0.1) / n - NAMES - BESIDE >= max(CELL * classes, LEAST)), 1)


def on_a_page(classes: int) -> int:
    """How many matrices of so many classes are on a page: nine, four or one."""
    return columns_of(classes) ** 2


def short(count: int, exact: int = 10_000) -> str:
    """A count in at most five characters, such as `9,999`, `48.0k` or `1.2M`; six where it is exact below a hundred thousand."""
    if count < exact:
        return f"{count:,}"
    return f"{count / 1000:.1f}k" if count < 99_950 else f"{count / 1000:.0f}k" if count < 999_500 else f"{count / 1e6:.1f}M"


def draw_matrices(matrices: Sequence[Matrix], heading: str, path: Path) -> None:
    """A page of matrices, at most `on_a_page` of them: counts, shaded by their share of the true class; around them the sums.

    At the right stand the sums of rows, the true classes, and below those of columns, the predicted ones.

    Args:
        heading: what is written above the page.
    """
    classes = max(len(matrix.titles) for matrix in matrices)
    columns = columns_of(classes)
    wide = (DOUBLE - 0.1) / columns
    side = min(wide - NAMES - BESIDE, max(CELL * classes, LEAST))
    captions = [f"{wrapped(matrix.name, wide - 0.12, 2, TEXT)}\n{matrix.score}" for matrix in matrices]
    above = [0.15 * max(map(count_lines, captions[at : at + columns])) + 0.08 for at in range(0, len(matrices), columns)]
    heading = wrapped(heading, DOUBLE - 0.2, 2, TITLE)
    head, tall = 0.14 + 0.16 * count_lines(heading), side + 0.36
    tops = head + np.cumsum(above) + tall * np.arange(len(above))
    bottom = tops[-1] + tall
    with figure(path, DOUBLE, bottom + 0.52) as fig:
        write(fig, 0.1, 0.08, heading, size=TITLE)
        for index, (matrix, caption) in enumerate(zip(matrices, captions, strict=True)):
            left, top = 0.1 + index % columns * wide, tops[index // columns]
            write(fig, left, top - 0.03 - 0.15 * count_lines(caption), caption, size=TEXT)
            image = draw_matrix(place(fig, left + NAMES, top, side, side), matrix, side)
        bar = place(fig, DOUBLE / 2 - 1, bottom + 0.04, 2, 0.08)
        label = "share of the true class (rows: true, columns: predicted; Σ: sums)"
        fig.colorbar(image, cax=bar, orientation="horizontal", format=PercentFormatter(1)).set_label(label, size=NAME)
        bar.tick_params(labelsize=NAME, length=2)


def draw_matrix(axes: Axes, matrix: Matrix, side: float) -> AxesImage:
    """One matrix of so many inches; a class without samples is grey."""
    counts, classes = matrix.counts, len(matrix.titles)
    totals = counts.sum(1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    palette = matplotlib.colormaps["cividis"].with_extremes(bad="0.9")
    image = axes.imshow(shares, cmap=palette, vmin=0, vmax=1)
    text: dict[str, Any] = {"ha": "center", "va": "center", "size": NUMBER}
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, short(int(count), 100_000), color=ink(image.to_rgba(shares[row, column])), **text)
    inch = classes / side  # in units of the axes
    right, below = classes - 0.5 + BESIDE / 2 * inch, classes - 0.5 + 0.09 * inch
    sums: list[tuple[float, float, str]] = [(right, at, said) for at, said in enumerate(map(short, counts.sum(1).tolist()))]
    sums += [(at, below, said) for at, said in enumerate(map(short, counts.sum(0).tolist()))]
    for x, y, said in [*sums, (right, below, f"Σ {short(int(counts.sum()))}")]:
        axes.text(x, y, said, color="0.3", clip_on=False, **text)
    room = max(int(side / classes / 0.1), 1)
    axes.set_yticks(range(classes), [wrapped(title, NAMES - 0.08, room, NAME) for title in matrix.titles], fontsize=NAME, linespacing=0.95)
    axes.set_xticks([])
    axes.tick_params(length=0, pad=2)
    return image
