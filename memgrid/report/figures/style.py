"""Figures of a run, each as PNG and PDF, and what all figures share: style, sizes, colours and the fitting of text.

Everything is placed in inches and saved at exactly the size that was asked for, so that a figure fits the column it was made for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import blended_transform_factory

from memgrid.io.files import write_bytes

# Widths of one and of two columns of a paper; heights of a line of text and of a line of a legend; in inches.
SINGLE, DOUBLE = 3.4, 7.0
LINE, KEY_LINE = 0.14, 0.17
TEXT, TITLE = 8, 9
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "axes.titlesize": TITLE,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.borderpad": 0,
    "legend.borderaxespad": 0,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.6,
    "legend.columnspacing": 1.4,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    # A class may be called "$": it is no formula.
    "text.parse_math": False,
}
# Okabe and Ito (2008): told apart with every kind of colour vision. The first are the ones that stand out best on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
# A chart with more rows has numbers at both ends of its x axis.
TALL = 30
# What no line break should divide: up to a hyphen.
PART = re.compile(r"[^-_/\s]*[-_/]\s*|[^-_/\s]+\s*")
# Of ticks: whole numbers where there is room.
STEPS = (1, 2, 5, 10)
# Groups of entries, each beginning on a new line.
Legend = Sequence[Sequence[tuple[Artist, str]]]


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, saved as `path`.png and `path`.pdf; no window system is touched, a user's matplotlibrc is ignored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        fig = Figure(figsize=(width, height))
        yield fig
        # Not with_suffix: a name such as pythia-2.8b has a dot of its own.
        for suffix, metadata in (("png", None), ("pdf", {"CreationDate": None})):
            drawn = BytesIO()  # matplotlib stumbles over a file that the disk has no room for, and says something else
            fig.savefig(drawn, format=suffix, metadata=metadata)
            write_bytes(drawn.getvalue(), path.with_name(f"{path.name}.{suffix}"))


def place(fig: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at so many inches from the left and from the top of the figure."""
    full_width, full_height = fig.get_size_inches()
    return fig.add_axes((left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height))


def write(fig: Figure, left: float, top: float, text: str, **kwargs: Any) -> None:
    """Text with its upper edge at so many inches from the top of the figure."""
    fig.text(left, fig.get_figheight() - top, text, va="top", transform=fig.dpi_scale_trans, **kwargs)


@lru_cache(maxsize=2**14)  # the same words are measured again and again, half a millisecond each
def text_width(text: str, size: float = TEXT) -> float:
    """The width of the widest line, in inches; a little too large rather than too small."""
    font = FontProperties(family=STYLE["font.family"], size=size)
    return 1.04 * max(text_to_path.get_text_width_height_descent(line, font, False)[0] for line in text.split("\n")) / 72


def wrapped(text: str, width: float, lines: int | None = None, size: float = TEXT) -> str:
    """The text in lines of at most `width` inches: cut at spaces, a longer word at hyphens, a still longer part anywhere.

    Args:
        lines: so many at most; what does not fit becomes "…".
    """
    parts = [part for word in re.findall(r"\S+\s*", text) for part in breakable(word, width, size)]
    done = [""]
    for part in parts:
        if done[-1] and text_width((done[-1] + part).rstrip(), size) > width:
            done.append("")
        done[-1] += part
    if lines is not None and len(done) > lines:
        last = "".join(done[lines - 1 :])
        while last and text_width(last + "…", size) > width:
            last = last[:-1]
        done = [*done[: lines - 1], last.rstrip() + "…"]
    return "\n".join(line.rstrip() for line in done)


def breakable(word: str, width: float, size: float) -> list[str]:
    """The word whole where it fits, else its parts."""
    if text_width(word.rstrip(), size) <= width:
        return [word]
    parts = PART.findall(word)
    return parts if all(text_width(part.rstrip(), size) <= width for part in parts) else list(word)


def count_lines(text: str) -> int:
    """How many lines the text has."""
    return text.count("\n") + 1


def key_lines(legend: Legend, width: float) -> list[list[tuple[Artist, str]]]:
    """The legend's groups, each on lines of at most `width` inches."""
    lines: list[list[tuple[Artist, str]]] = []
    for group in legend:
        used = np.inf
        for entry in group:
            wide = text_width(entry[1]) + 0.43
            if used + wide > width + 0.15:
                lines.append([])
                used = 0
            lines[-1].append(entry)
            used += wide
    return lines


def draw_key(fig: Figure, lines: list[list[tuple[Artist, str]]]) -> None:
    """The lines of a legend at the top of the figure."""
    for index, entries in enumerate(lines):
        corner = (0.1, fig.get_figheight() - 0.08 - index * KEY_LINE)
        where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": corner, "bbox_transform": fig.dpi_scale_trans}
        fig.legend([entry[0] for entry in entries], [entry[1] for entry in entries], ncols=len(entries), **where)


def limits(*values: np.ndarray) -> tuple[float, float]:
    """Where an axis begins and ends: all values and some air, at least ten points, and not far outside 0 to 100."""
    every = np.concatenate([np.ravel(array) for array in values])
    every = every[np.isfinite(every)]
    low, high = (every.min(), every.max()) if len(every) else (0.0, 100.0)
    air = max(0.04 * (high - low), (10 - (high - low)) / 2)
    return max(float(low - air), -1.5), min(float(high + air), 101.5)


@contextmanager
def rows(
    path: Path, titles: list[str], legend: Legend, reach: tuple[float, float], column: tuple[str, list[str]] | None = None, pitch: float = 0
) -> Iterator[Axes]:
    """A chart with a row per title from top to bottom, row i at y = i, and min-F1 on the x axis.

    Args:
        reach: where the x axis begins and ends.
        column: heading and entries of a column of numbers at the right.
        pitch: height of a row, in inches; more where a title needs several lines.
    """
    names = [wrapped(title, 3.2) for title in titles]
    head, entries = column or ("", [""] * len(titles))
    left, right = 0.2 + max(map(text_width, names)), 0.2 + max(map(text_width, [head, *entries]))
    key = key_lines(legend, DOUBLE - 0.2)
    tall = len(names) > TALL
    top = 0.13 + KEY_LINE * len(key) + (0.2 if column or tall else 0)
    pitch = max(pitch, 0.2, 0.06 + LINE * max(map(count_lines, names)))
    with figure(path, DOUBLE, top + pitch * len(names) + 0.45) as fig:
        draw_key(fig, key)
        axes = place(fig, left, top, DOUBLE - left - right, pitch * len(names))
        axes.set(xlim=reach, ylim=(len(names) - 0.5, -0.5), xlabel="min-F1 (%)")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=STEPS))
        axes.tick_params(axis="x", length=2, top=tall, labeltop=tall)
        axes.grid(color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["left", "right", "top"]].set_visible(False)
        write(fig, DOUBLE - 0.1, top - 0.17, head, ha="right")
        across = blended_transform_factory(fig.transFigure, axes.transData)
        for row, entry in enumerate(entries):
            axes.text(1 - 0.1 / DOUBLE, row, entry, transform=across, ha="right", va="center_baseline")
        yield axes


def spread_out(wanted: np.ndarray, heights: np.ndarray, tall: float) -> np.ndarray:
    """Centres as near as possible (least squares) to those wanted, in their order, so that boxes of these heights do not overlap."""
    from sklearn.isotonic import isotonic_regression  # a second or two to import, and few figures need it

    before = np.concatenate([[0], np.cumsum((heights[1:] + heights[:-1]) / 2)])
    free = isotonic_regression(wanted - before)
    return np.clip(free, heights[0] / 2, tall - heights[-1] / 2 - before[-1]) + before


def draw_confusions(entries: list[tuple[str, np.ndarray, list[str]]], path: Path) -> None:
    """Confusion matrices side by side, up to four in a row: shares of the true class in percent; columns have the numbers of the rows.

    Args:
        entries: caption, counts (as in `draw_confusion`) and class titles of each.
    """
    longest = max(text_width(wrapped(f"0 {title}", 1.0)) for _, _, titles in entries for title in titles)
    least = 0.26 * max(len(titles) for _, _, titles in entries)  # a quarter of an inch for three digits
    fitting = next((n for n in (4, 3, 2) if (DOUBLE - 0.2) / n - longest - 0.2 >= least), 1)
    columns = min(fitting, len(entries))
    width = max(DOUBLE * columns / fitting, SINGLE)
    wide = (width - 0.2) / columns
    side = min(wide - longest - 0.2, max(least, 1.6))
    captions = [wrapped(caption, wide - 0.1, size=TITLE) for caption, _, _ in entries]
    above = [0.16 * max(map(count_lines, captions[at : at + columns])) + 0.1 for at in range(0, len(entries), columns)]
    # Upper edges of the rows of matrices.
    tops = 0.06 + np.cumsum(above) + (side + 0.34) * np.arange(len(above))
    bottom = tops[-1] + side + 0.34
    with figure(path, width, bottom + 0.65) as fig:
        for index, ((_, counts, titles), caption) in enumerate(zip(entries, captions, strict=True)):
            top, left = tops[index // columns], 0.1 + index % columns * wide
            write(fig, left, top - 0.06 - 0.16 * count_lines(caption), caption, size=TITLE)
            axes = place(fig, left + longest + 0.1, top, side, side)
            image = shade(axes, counts, lambda share, _: f"{100 * share:.0f}")
            room = max(int(side / len(titles) / LINE), 1)
            axes.set_xticks(range(len(titles)), map(str, range(1, len(titles) + 1)))
            axes.set_yticks(range(len(titles)), [wrapped(f"{at} {title}", longest, room) for at, title in enumerate(titles, 1)])
        bar = place(fig, width / 2 - 1, bottom, 2, 0.1)
        label = "share of the true class\n(rows: true, columns: predicted)"
        fig.colorbar(image, cax=bar, orientation="horizontal", format=PercentFormatter(1), label=label)


def ink(colour: Any) -> str:
    """Black or white, whichever is easier to read on the colour (the contrast of WCAG 2: at least 4.5)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return "black" if np.dot(linear, (0.2126, 0.7152, 0.0722)) > 0.179 else "white"


def shade(axes: Axes, counts: np.ndarray, label: Callable[[float, int], str]) -> AxesImage:
    """A confusion matrix, shaded and labelled by the share of the true class; a class without samples stays grey, with a dash."""
    totals = counts.sum(1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    palette = matplotlib.colormaps["cividis"].with_extremes(bad="0.9")
    image = axes.imshow(shares, cmap=palette, vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = "–" if np.isnan(share) else label(share, int(counts[row, column]))
        axes.text(column, row, text, ha="center", va="center", color=ink(image.to_rgba(share)))
    axes.tick_params(length=2)
    return image
