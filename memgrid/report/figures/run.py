"""A run's own figures: the confusion matrix, and the attention of one sample of each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter

from memgrid.lm.triangle import Triangle
from memgrid.report.figures.style import (
    DOUBLE,
    LINE,
    PART,
    SINGLE,
    TITLE,
    count_lines,
    figure,
    place,
    shade,
    text_width,
    wrapped,
    write,
)

MAP_LAYERS = 6


def draw_confusion(counts: np.ndarray, titles: list[str], caption: str, path: Path) -> None:
    """A confusion matrix: counts and shares of the true class.

    Args:
        counts: int (classes, classes): rows are true, columns predicted.
    """
    label_width, bar_width, classes = 1.1, 0.9, len(titles)
    names = [wrapped(title, label_width) for title in titles]
    left = 0.4 + max(map(text_width, names))
    cell = min(0.85, (DOUBLE - left - text_width("00 ") - bar_width) / classes)
    below = [wrapped(title, cell - 0.06) for title in titles]
    if max(text_width(part) for title in titles for part in PART.findall(title)) > cell - 0.06:
        # Too narrow for words: the columns get numbers, which stand before the names.
        below = [str(index + 1) for index in range(classes)]
        names = [f"{index} {name}" for index, name in enumerate(names, 1)]
        left += text_width("00 ")
    side = cell * classes
    width = max(left + side + bar_width, SINGLE)
    caption = wrapped(caption, width - 0.2, size=TITLE)
    top = 0.18 + 0.16 * count_lines(caption)
    with figure(path, width, top + side + 0.35 + LINE * max(map(count_lines, below))) as fig:
        axes = place(fig, left, top, side, side)
        image = shade(axes, counts, lambda share, count: f"{share:.0%}\n{count}")
        axes.set_xticks(range(classes), below)
        axes.set_yticks(range(classes), names)
        axes.set(xlabel="predicted class", ylabel="true class")
        write(fig, 0.1, 0.08, caption, size=TITLE)
        bar = place(fig, left + side + 0.1, top, 0.12, side)
        fig.colorbar(image, cax=bar, format=PercentFormatter(1), label="share of the true class")


def draw_maps(maps: dict[str, np.ndarray], length: int, k: int, pool: str, path: Path) -> None:
    """One example per class: its pooled map in up to six evenly spaced layers.

    Args:
        maps: class title → packed maps float16 (positions, layers), lower triangle row by row.
        k: tokens in the prefix; thin lines mark where the suffix begins.
    """
    layers = next(iter(maps.values())).shape[1]
    shown = np.unique(np.linspace(0, layers - 1, min(MAP_LAYERS, layers)).round().astype(int))
    left, right, gap, above = 0.5, 0.85, 0.08, 0.32
    side = min(1.6, (DOUBLE - left - right + gap) / len(shown) - gap)
    width = max(left + len(shown) * (side + gap) - gap + right, SINGLE)
    with figure(path, width, len(maps) * (above + side) + 0.4) as fig:
        for row, (title, packed) in enumerate(maps.items()):
            top = row * (above + side)
            write(fig, left, top + 0.11, wrapped(title, width - left, 1, TITLE), size=TITLE)
            for column, layer in enumerate(shown):
                axes = place(fig, left + column * (side + gap), top + above, side, side)
                drawn = draw_map(axes, packed[:, layer], length, k)
                # Above the diagonal nothing is drawn: there is room.
                axes.text(0.97, 0.96, f"layer {layer + 1}", transform=axes.transAxes, ha="right", va="top")
                axes.set_xticks([0, k], ["0", str(k)] if row == len(maps) - 1 else ["", ""])
                axes.set_yticks([0, k], ["0", str(k)] if column == 0 else ["", ""])
                axes.set(xlabel="key" if row == len(maps) - 1 else "", ylabel="query" if column == 0 else "")
        height = min(3.0, len(maps) * (above + side) - above)
        scale = place(fig, left + len(shown) * (side + gap), above, 0.12, height)
        bar = fig.colorbar(drawn, cax=scale, label=f"attention ({pool} over heads)")
        bar.set_ticks(range(-4, 1), labels=["≤ 10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "1"])


def draw_map(axes: Axes, packed: np.ndarray, length: int, k: int) -> AxesImage:
    """One layer's map, logarithmic; thin lines where the suffix begins."""
    image = Triangle(length).unpack(np.log10(packed.astype(float) + 1e-4), above=np.nan)
    drawn = axes.imshow(image, cmap="viridis", vmin=-4, vmax=0, interpolation="nearest")
    axes.plot([-0.5, k - 0.5, k - 0.5], [k - 0.5, k - 0.5, length - 0.5], color="white", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2)
    return drawn
