"""The section of the page on flows: how sequences go from the classes of one taxonomy to those of another (the paper's Figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from memgrid.report.facts import Report
from memgrid.report.figures.flow import draw_flow
from memgrid.report.flows.sides import head_of
from memgrid.report.page import Fold, Part, Section, listing
from memgrid.report.sections.labelled import Side

FLOWS = 6  # models and corpora that are drawn
COLUMNS = {"llm": "model", "corpus": "corpus", "from": "from", "to": "to", "count": "sequences", "share": "% of the class"}


def section(report: Report) -> Section:
    """How sequences go from the classes of one taxonomy to those of another."""
    title = f"From {report.pair[0]} to {report.pair[1]}"
    parts: list[Part] = []
    text = [f"No flow for {flow.llm} on {flow.corpus}: {flow.lacks}." for flow in report.flows if flow.lacks]
    for flow in [flow for flow in report.flows if flow.counts.any()][:FLOWS]:
        heads = [head_of(side) for side in flow.sides]
        caption = (
            f"All {flow.counts.sum():,} sequences of corpus {flow.corpus} memorized by {flow.llm}: on the left as {heads[0]} divides them, "
            f"on the right as {heads[1]} does; a ribbon is as thick as the number of sequences that are in both classes."
        )
        parts.append(report.drawn(f"flow-{flow.llm}-{flow.corpus}", flow_drawing(flow.counts, flow.sides), title, caption))
    table = report.tables["flow"]
    if table.height:
        what = "Memorized sequences in each pair of classes, and their share of the class that they come from."
        parts.append(Fold("The numbers", [listing(table, COLUMNS, title, what, "flow")]))
    return Section("flow", title, text, parts)


def flow_drawing(counts: np.ndarray, sides: Sequence[Side]) -> Callable[[Path], None]:
    """What draws a flow, without the classes that are empty.

    Args:
        counts: int (left classes, right classes), of both sides.
    """
    kept = [counts.sum(1 - axis) > 0 for axis in (0, 1)]
    left, right = (
        (head_of(side), [title for title, any_ in zip(side[0].classes, some, strict=True) if any_])
        for side, some in zip(sides, kept, strict=True)
    )
    return partial(draw_flow, counts[np.ix_(*kept)], left, right)
