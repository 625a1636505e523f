"""What the report's page says of how networks learned: loss and min-F1 over the epochs of the best setting, and of undertrained ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import polars as pl

from memgrid.io.display import plural
from memgrid.metrics.scores import scores
from memgrid.report.facts import Report
from memgrid.report.figures.curves import Curve, Panel, draw_over_epochs
from memgrid.report.page import Part, Section
from memgrid.report.read import read_or_told
from memgrid.report.rows import NamedRun
from memgrid.results.result import MemberEpoch

SHOWN = 3  # settings with a figure: the best, and undertrained ones
TITLE = "How the networks learned"


def section(report: Report) -> Section:
    """Loss and min-F1 over the epochs; without parts where no run kept them."""
    parts: list[Part] = []
    for label, run, epochs in chosen(report):
        table = by_epoch(epochs)
        where = f"{label}, {run.llm}, seed {run.settings['seed']}"
        caption = (
            f"{where}: mean over {plural(len(run.result.members), 'CNN')}, bands from the lowest to the highest of them. Loss: mean "
            "cross-entropy in nats per sample; an eval loss that rises while the train loss falls says that they learn samples by heart."
        )
        name = f"epochs-{len(parts) + 1}" if parts else "epochs"
        parts.append(report.drawn(name, partial(draw_over_epochs, panels_of(table)), f"Over the epochs: {label}", caption))
    if not parts:
        return Section("epochs", TITLE, ["No run has kept its epochs (epochs.parquet in its folder)."], fill=("force=true",))
    return Section("epochs", TITLE, [], parts)


def chosen(report: Report) -> Iterator[tuple[str, NamedRun, list[MemberEpoch]]]:
    """A run with its epochs of the best setting, and of the first ones whose networks are undertrained or constant."""
    rows, number = {row.label: row for row in report.benchmark}, 0
    for place, row in enumerate(report.ranked().iter_rows(named=True)):
        if number == SHOWN or (place and not row["doubt"]):
            continue
        for run in rows[row["label"]].runs:
            if run.folder.epochs.is_file() and (epochs := read_or_told(run.folder.read_epochs)):
                yield row["label"], run, epochs
                number += 1
                break


def by_epoch(epochs: Sequence[MemberEpoch]) -> pl.DataFrame:
    """A row per epoch that was looked at: means over networks, the lowest and the highest of each score."""
    table = pl.DataFrame(
        [
            {
                **{"epoch": each.epoch + 1, "train_loss": each.train_loss, "eval_loss": each.eval_loss},
                "min_f1": scores(np.array(each.confusion))["min_f1"],
            }
            for each in epochs
        ]
    )
    columns = [name for name in table.columns if name != "epoch"]
    ends = [end for name in columns for end in (pl.col(name).min().alias(f"{name}_low"), pl.col(name).max().alias(f"{name}_high"))]
    return table.group_by("epoch").agg(*(pl.col(name).mean() for name in columns), *ends).sort("epoch")


def panels_of(table: pl.DataFrame) -> list[Panel]:
    """The two panels: loss of both sides, and min-F1."""

    def curve(name: str, column: str) -> Curve:
        ends = ("", "_low", "_high")
        return Curve(name, table["epoch"].to_list(), *(table[f"{column}{end}"].to_list() for end in ends))

    losses = [curve("eval samples", "eval_loss"), curve("train samples", "train_loss")]
    return [Panel("loss (nats)", losses, 0), Panel("min-F1 (%)", [curve("eval samples", "min_f1")], -3, 103)]
