"""The figure of transfers: a heat map of what is left of min-F1 where networks of one run answer on another's samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import PercentFormatter

from memgrid.report.figures.style import DOUBLE, LINE, TITLE, count_lines, figure, ink, place, text_width, wrapped, write

LONGEST_NAME, LEAST_CELL, MOST_CELL = 1.8, 0.15, 0.42  # inches; in a smaller cell there is no number


def draw_transfers(shares: Mapping[str, np.ndarray], names: list[str], unseen: np.ndarray, path: Path) -> None:
    """Heat maps side by side; rows are the runs that were fitted on, columns, which have the numbers of the rows, those that were tried on.

    Args:
        shares: by heading, float (runs, runs): the min-F1 as a share of the run's own, 1 for as much; NaN where it was not tried.
        unseen: bool (runs, runs), where the first of them is not more than chance: its number is in brackets.
    """
    titles = [wrapped(f"{number} {name}", LONGEST_NAME) for number, name in enumerate(names, 1)]
    left = 0.2 + max(map(text_width, titles))
    wide = (DOUBLE - left - 0.1) / len(shares)
    pitch = LINE * max(map(count_lines, titles)) + 0.06
    cell = max(min((wide - 0.15) / len(names), MOST_CELL), 0.05)
    side, tall = cell * len(names), max(cell, pitch) * len(names)
    heads = [wrapped(heading, max(side, wide - 0.15), size=TITLE) for heading in shares]
    top = 0.12 + 0.16 * max(map(count_lines, heads))
    bottom = top + tall + 0.4
    small = 7 if cell > 0.24 else 5.5
    with figure(path, DOUBLE, bottom + 0.7) as fig:
        for number, (head, values) in enumerate(zip(heads, shares.values(), strict=True)):
            corner = left + number * wide
            write(fig, corner, top - 0.06 - 0.16 * count_lines(head), head, size=TITLE)
            axes = place(fig, corner, top, side, tall)
            image = axes.imshow(np.ma.masked_invalid(values), cmap=palette(), vmin=0, vmax=1, aspect="auto")
            for (row, column), share in np.ndenumerate(values):
                hidden = unseen[row, column] and number == 0
                text = "–" if np.isnan(share) else f"({100 * share:.0f})" if hidden else f"{100 * share:.0f}"
                colour = "black" if np.isnan(share) else ink(image.to_rgba(np.minimum(share, 1)))
                if cell >= LEAST_CELL:
                    axes.text(column, row, text, ha="center", va="center", color=colour, size=small)
            axes.set_xticks(range(len(names)), [str(at) for at in range(1, len(names) + 1)], size=small)
            axes.set_yticks(*(((), ()) if number else (range(len(names)), titles)))
            axes.tick_params(length=2)
        bar = place(fig, DOUBLE / 2 - 1, bottom, 2, 0.1)
        label = "min-F1 as a share of the run's own\n(rows: fitted on, columns: tried on)"
        fig.colorbar(image, cax=bar, orientation="horizontal", format=PercentFormatter(1), label=label)


def palette() -> matplotlib.colors.Colormap:
    """Blue to yellow, and grey where nothing was tried."""
    return matplotlib.colormaps["cividis"].with_extremes(bad="0.9")
