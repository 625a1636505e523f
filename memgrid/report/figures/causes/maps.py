"""Figures of Δ maps: a class layer by layer, classes side by side, shares of the layers, one sequence, and the randomization test."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from memgrid.lm.triangle import Triangle
from memgrid.report.figures.run import MAP_LAYERS, draw_map
from memgrid.report.figures.style import (
    COLOURS,
    DOUBLE,
    KEY_LINE,
    SINGLE,
    STEPS,
    STYLE,
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

COLUMNS = 3  # maps in a row of a page
OWN_SCALE = "Δ, share of its largest"
# From white over orange to nearly black: where nothing is decided the paper stays white. Lightness falls all the way.
PALETTE = LinearSegmentedColormap.from_list("delta", ["#FFFFFF", "#FDD9A0", "#F0883E", "#C23B22", "#6B0F2A", "#1E0414"])
MARKERS = "os^Dv<>P"
TOKEN_WIDTH = 0.5  # inches that a token's text may take
TOKEN_SIZES = (4.5, 6.0)  # least and largest font size of tokens
# Characters that would break a label, and what stands for them.
SIGNS = {"\n": "↵", "\r": "↵", "\t": "⇥", " ": "␣"}


def draw_decision_maps(maps: np.ndarray, title: str, k: int, path: Path) -> list[Path]:
    """One class's Δ map, layer by layer, six layers a page.

    Args:
        maps: (layers, query, key), zero above the diagonal. All pages have one scale, from 0 to the largest value of all layers.
        k: tokens in the prefix; thin lines mark where the suffix begins.
        path: `<path>-1`, `<path>-2` … are the pages.

    Returns:
        The pages' paths, without suffix.
    """
    layers = len(maps)
    pages = [range(first, min(first + MAP_LAYERS, layers)) for first in range(0, layers, MAP_LAYERS)]
    paths = [path.with_name(f"{path.name}-{number}") for number in range(1, len(pages) + 1)]
    for page, shown in zip(paths, pages, strict=True):
        last = f"–{shown[-1] + 1}" if len(shown) > 1 else ""
        which = f"layer{'s' if last else ''} {shown[0] + 1}{last} of {layers}" if len(pages) > 1 else ""
        names = [f"layer {layer + 1}" for layer in shown]
        draw_grid(maps[shown], names, [float(maps.max())] * len(shown), f"{title}: {which}" if which else title, k, page)
    return paths


def draw_teaser(maps: np.ndarray, titles: list[str], k: int, path: Path, one_scale: bool = False) -> None:
    """Where each class is decided, classes side by side: Δ summed over the layers, each class on its own scale, or all on one.

    The sum, and not the maximum, since a position that speaks a little in many layers counts as much as one that speaks in a single one.

    Args:
        maps: (classes, layers, query, key). one_scale: as in the paper's Figure 6, in shares of the largest value of all classes.
    """
    summed = maps.sum(1)
    tops = [float(summed.max() if one_scale else values.max()) for values in summed]
    draw_grid(summed, titles, tops, "", k, path, "Δ, share of the largest of all" if one_scale else OWN_SCALE)


def draw_grid(maps: np.ndarray, names: list[str], tops: list[float], caption: str, k: int, path: Path, share: str = OWN_SCALE) -> None:
    """Maps in rows of three, each with its name in the empty half; `tops` are the values that count as 100 %, `share` says of what."""
    columns = min(COLUMNS, len(maps))
    rows = -(-len(maps) // columns)
    left, right, gap = 0.5, 0.88, 0.1
    side = (DOUBLE - left - right - (COLUMNS - 1) * gap) / COLUMNS
    width = max(left + columns * (side + gap) - gap + right, SINGLE)
    caption = wrapped(caption, width - 0.2, 2, TITLE)
    above = 0.16 + 0.16 * count_lines(caption) if caption else 0.1
    with figure(path, width, above + rows * (side + gap) - gap + 0.42) as fig:
        write(fig, 0.1, 0.08, caption, size=TITLE)
        for index, (values, name, top) in enumerate(zip(maps, names, tops, strict=True)):
            row, column = divmod(index, columns)
            axes = place(fig, left + column * (side + gap), above + row * (side + gap), side, side)
            drawn = draw_decision_map(axes, values, top, k)
            label = wrapped(name, 0.55 * side, 3)
            axes.text(0.97, 0.96, label, transform=axes.transAxes, ha="right", va="top", linespacing=1.1)
            lowest = index + columns >= len(maps)
            axes.set_xticks([0, k], ["0", str(k)] if lowest else ["", ""])
            axes.set_yticks([0, k], ["0", str(k)] if column == 0 else ["", ""])
            axes.set(xlabel="key" if lowest else "", ylabel="query" if column == 0 else "")
        height = min(3.0, rows * (side + gap) - gap)
        scale(fig, drawn, left + columns * (side + gap), above, height, share)


def draw_decision_map(axes: Axes, values: np.ndarray, top: float, k: int, exponent: float = 0.5) -> AxesImage:
    """One map in shares of `top`, by their root, since few positions take most; the diagonal and the suffix's beginning as lines."""
    length = len(values)
    image = np.where(Triangle(length).mask, values / (top or 1.0), np.nan)
    drawn = axes.imshow(image, cmap=PALETTE, norm=PowerNorm(exponent, 0, 1), interpolation="nearest")
    axes.plot([-0.5, k - 0.5, k - 0.5], [k - 0.5, k - 0.5, length - 0.5], color="0.45", linewidth=0.6)
    # White maps need an edge where the figures of attention have their colours.
    steps = np.repeat(np.arange(length + 1) - 0.5, 2)
    axes.plot(steps[1:-1], steps[:-2], color="0.75", linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2)
    axes.set(xlim=(-0.5, length - 0.5), ylim=(length - 0.5, -0.5))
    return drawn


def scale(
    fig: Figure, drawn: AxesImage, left: float, top: float, height: float, label: str, ticks: Sequence[float] = (0, 0.1, 0.25, 0.5, 1)
) -> None:
    """The colour bar of shares."""
    bar = fig.colorbar(drawn, cax=place(fig, left, top, 0.12, height), label=label)
    bar.set_ticks(ticks, labels=[f"{100 * tick:g}%" for tick in ticks])
    bar.ax.tick_params(length=2)


def draw_layer_shares(maps: np.ndarray, titles: list[str], path: Path) -> None:
    """How much of each class's Δ lies in each layer, in percent; a thin line where all layers would have the same.

    Args:
        maps: (classes, layers, query, key).
    """
    masses = maps.sum((2, 3), dtype=np.float64)
    totals = masses.sum(1, keepdims=True)
    shares = 100 * masses / np.where(totals > 0, totals, 1)
    numbers = np.arange(1, maps.shape[1] + 1)
    lines = dict(zip(titles, shares, strict=True))
    with curves(path, {title: (numbers, line) for title, line in lines.items()}, "layer", "share of the class's Δ (%)") as axes:
        axes.axhline(100 / len(numbers), color="0.6", linewidth=0.6, zorder=1)
        axes.set_ylim(0, max(1.08 * shares.max(), 120 / len(numbers)))
        axes.set_xlim(0.6, len(numbers) + 0.4)


def draw_randomization(correlations: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """The randomization test: how far a map still resembles the trained networks' when their last layers have random weights.

    Args:
        correlations: name of a curve, such as the method's → number of layers randomized → rank correlation.
    """
    lines = {name: (np.array(list(curve)), np.array(list(curve.values()))) for name, curve in correlations.items()}
    every = np.concatenate([values for _, values in lines.values()])
    with curves(path, lines, "layers with random weights, counted from the last", "rank correlation") as axes:
        axes.axhline(0, color="0.6", linewidth=0.6, zorder=1)
        axes.set_ylim(min(-0.06, float(every.min()) - 0.06), 1.06)


@contextmanager
def curves(path: Path, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], xlabel: str, ylabel: str) -> Iterator[Axes]:
    """A chart of one column of a paper: named lines over whole numbers, told apart by colour and marker."""
    handles = []
    size = 3.5 if max(len(x) for x, _ in lines.values()) <= 16 else 2  # of markers
    for index, name in enumerate(lines):
        look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        handles.append((Line2D([], [], markersize=size, linewidth=1.2, **look), wrapped(name, SINGLE - 0.7, 1)))
    key = key_lines([handles], SINGLE - 0.2)
    top = 0.16 + KEY_LINE * len(key)
    with figure(path, SINGLE, top + 2.2) as fig:
        draw_key(fig, key)
        axes = place(fig, 0.66, top, SINGLE - 0.78, 1.78)
        for (handle, _), (x, y) in zip(handles, lines.values(), strict=True):
            colour, marker = handle.get_color(), handle.get_marker()
            axes.plot(x, y, color=colour, marker=marker, markersize=size, linewidth=1.2, clip_on=False, zorder=3)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=STEPS, integer=True))
        axes.tick_params(length=2)
        axes.grid(color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes


def draw_sequence(attention: np.ndarray, maps: np.ndarray, tokens: list[str], title: str, k: int, path: Path) -> None:
    """One sequence, token by token: its attention in the layer with the largest share of its Δ, and below its Δ summed over layers.

    Args:
        attention: (layers, query, key), pooled by the maximum over heads. maps: its Δ, of the same shape, of this sequence alone.
        tokens: the text of each token that the attention was computed on.
        title: the class, or what else to write above.
    """
    length = len(tokens)
    layer = int(maps.sum((1, 2)).argmax())
    left, right = 0.2 + TOKEN_WIDTH, 0.95
    side = DOUBLE - left - right
    title = wrapped(title, DOUBLE - 0.2, 2, TITLE)
    above = 0.2 + 0.16 * count_lines(title)
    with figure(path, DOUBLE, above + 2 * (side + TOKEN_WIDTH + 0.22)) as fig:
        write(fig, 0.1, 0.08, title, size=TITLE)
        for below, name in enumerate((f"attention in layer {layer + 1},\nthe most decisive of {len(maps)}", "Δ, summed over the layers")):
            top = above + below * (side + TOKEN_WIDTH + 0.22)
            axes = place(fig, left, top, side, side)
            if below:
                summed = maps.sum(0)
                drawn = draw_decision_map(axes, summed, float(summed.max()), k)
                scale(fig, drawn, left + side + 0.1, top, 3.0, OWN_SCALE)
            else:
                drawn = draw_map(axes, Triangle(length).pack(attention[layer]), length, k)
                bar = fig.colorbar(drawn, cax=place(fig, left + side + 0.1, top, 0.12, 3.0), label="attention (max over heads)")
                bar.set_ticks(range(-4, 1), labels=["≤ 10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "1"])
            axes.text(0.98, 0.98, name, transform=axes.transAxes, ha="right", va="top")
            label_tokens(axes, tokens, k, side)


def label_tokens(axes: Axes, tokens: list[str], k: int, side: float) -> None:
    """Tokens along both axes, those of the suffix in colour, and a key to that in the empty half."""
    least, largest = TOKEN_SIZES
    size = min(largest, 72 * side / len(tokens) / 1.2)
    every = 1 if size >= least else int(np.ceil(least / size))
    size = max(size, least)
    places = range(0, len(tokens), every)
    names = [clipped(legible(tokens[at]), size) for at in places]
    axes.set_xticks(places, names, rotation=90, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)
    axes.tick_params(length=1.5, pad=1.5)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for at, label in zip(places, labels, strict=True):
            label.set_color("black" if at < k else COLOURS[0])
    axes.set(xlabel="", ylabel="")
    for row, (word, colour) in enumerate((("prefix", "black"), ("suffix", COLOURS[0]))):
        axes.text(0.98, 0.9 - 0.03 * row, word, transform=axes.transAxes, ha="right", va="top", color=colour)


def legible(token: str) -> str:
    """A token as one line of characters that the font has: spaces and line breaks as signs, what cannot be shown as □."""
    drawable = font_characters()
    return (
        "".join(SIGNS.get(sign, sign if sign.isprintable() and ord(sign) in drawable and not combining(sign) else "□") for sign in token)
        or "∅"
    )


def combining(character: str) -> bool:
    """Whether it is drawn onto the character before it."""
    return unicodedata.combining(character) > 0


@cache
def font_characters() -> frozenset[int]:
    """Code points that the figures' font can draw; asked once, since the font comes with matplotlib and does not change."""
    return frozenset(get_font(findfont(STYLE["font.family"])).get_charmap())


def clipped(text: str, size: float) -> str:
    """As much of the text as a token may take, with "…" where something is missing."""
    if text_width(text, size) <= TOKEN_WIDTH:
        return text
    while text and text_width(text + "…", size) > TOKEN_WIDTH:
        text = text[:-1]
    return text + "…"
