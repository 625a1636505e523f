"""What the sections of a report have in common: its runs, rows, tables and figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.report.page import Picture, interval, picture
from memgrid.report.rows import NamedRun, Row, models_of
from memgrid.report.shell.commands import Commands
from memgrid.report.tables import benchmark, mean, ranking

RANGE = [pl.col(name).round(1).cast(pl.String) for name in ("low", "high", "spread")]
PAPER = "paper"
STYLES = ("ours", PAPER)  # ways to draw: Δ maps with a scale for each class, or as the paper does, and then all pages of matrices


@dataclass(frozen=True)
class NoiseFloor:
    """How far two trainings of one partition lie apart in min-F1, in points: over so many pairs, on average, in 19 of 20, and at most."""

    pairs: int
    mean: float
    most: float
    largest: float


def noise_floor(rows: Iterable[Row]) -> NoiseFloor | None:
    """Differences of min-F1 between trainings of the same partition by the same LLM: other seeds, or equal partitions trained separately.

    A result that was taken over from an equal partition is no second training; one of undertrained or constant networks says nothing of
    what others would differ by. None where there is no pair.
    """
    trainings: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        for run in row.runs:
            if run.result.doubt:
                continue
            trainings[(*run.place, run.divided.key, run.llm)].append(run.result.panel.min_f1.mean)
    apart = [abs(a - b) for scores in trainings.values() for a, b in combinations(scores, 2)]
    return NoiseFloor(len(apart), mean(apart), float(np.quantile(apart, 0.95)), max(apart)) if apart else None


@dataclass(frozen=True)
class Report:
    """Everything that the page is made from.

    Attributes:
        usual: what conf/ ships of the settings in which some runs differ from it, and `experiment`, if it is one that is meant.
        series: models that have labels at several steps of their training, each a `sections.labelled.Series`.
        degrees: how memorized the sequences of models are, each a `sections.degrees.Degrees`.
        left_out: folders of runs that could not be read → why.
        pair: the two taxonomies of the flow, as `flows.word.asked` reads them. flows: each a `flows.table.Flow`.
        by: what rows are ranked by, a column of `tables.RANKED`.
        style: how figures are drawn, one of `STYLES`.
        text: whether the text of sequences may stand on the page, also of a corpus that is not the embedded one.
    """

    root: Path
    out: Path
    runs: list[NamedRun]
    rows: list[Row]
    tables: dict[str, pl.DataFrame]
    usual: dict[str, str]
    states: pl.DataFrame
    left_out: dict[str, str]
    pair: tuple[str, str]
    series: tuple[Any, ...] = ()
    by: str = "min_f1"
    degrees: tuple[Any, ...] = ()
    flows: tuple[Any, ...] = ()
    style: str = "ours"
    text: bool = False

    @cached_property
    def benchmark(self) -> list[Row]:
        """The rows that the ranking shows."""
        return benchmark(self.rows)

    @cached_property
    def models(self) -> list[str]:
        """The language models, small ones first."""
        return models_of(self.runs)

    @cached_property
    def noises(self) -> dict[str, NoiseFloor]:
        """How far trainings of one partition lie apart, for each compat that has such, the one with the most rows first."""
        number = Counter(row.first.settings["compat"] for row in self.rows)
        floors = {name: noise_floor([row for row in self.rows if row.first.settings["compat"] == name]) for name, _ in number.most_common()}
        return {name: noise for name, noise in floors.items() if noise is not None}

    @cached_property
    def noise(self) -> NoiseFloor | None:
        """The noise floor of most rows."""
        return next(iter(self.noises.values()), None)

    @cached_property
    def commands(self) -> Commands:
        """What is typed to get rows, and what the page lacks."""
        return Commands(self.root)

    @cached_property
    def best(self) -> NamedRun:
        """A run of the setting that the ranking begins with."""
        label = self.ranked()["label"][0]
        return next(row.first for row in self.benchmark if row.label == label)

    def drawn(self, name: str, draw: Callable[[Path], Any], title: str, caption: str) -> Picture:
        """Draw a figure and put it on the page."""
        path = self.out / "figures" / name
        draw(path)
        return picture(path.with_name(f"{name}.png"), title, caption, f"{title}. {caption}", f"figures/{name}.pdf")

    @cached_property
    def rankings(self) -> dict[str | None, pl.DataFrame]:
        """The ranking of each language model, and that over all of them (None)."""
        return {llm: self.ranking_of(llm) for llm in (None, *self.models)}

    def ranked(self, llm: str | None = None) -> pl.DataFrame:
        """The ranking with what the page puts beside the names, over all models or of one."""
        return self.rankings[llm]

    def ranking_of(self, llm: str | None) -> pl.DataFrame:
        """The same, computed."""
        table = ranking(self.benchmark, llm, self.by)
        if not table.height:
            return table
        every, by_label = ", ".join(self.models), {row.label: row for row in self.benchmark}
        rows = [by_label[label] for label in table["label"]]
        several = len({run.settings["corpus"]["name"] for run in self.runs}) > 1
        lacking = pl.when(pl.lit(llm is None) & (pl.col("llms") != every)).then(pl.format("only {}", "llms"))
        corpora = pl.when(several).then(pl.format("corpus {}", "corpus"))
        runs = pl.when(pl.col("runs") == 1).then(pl.lit("one run")).otherwise(pl.format("{} runs", "runs"))
        networks = pl.Series([sum(len(run.result.members) for run in (row.runs if llm is None else row.of(llm))) for row in rows])
        many = pl.format("over trainings and samples, ± {} over CNNs", RANGE[2])
        over = pl.when(networks > 1).then(many).otherwise(pl.lit("over samples, of the only CNN"))
        other = pl.when(pl.col("compat") != "none").then(pl.format("compat={}", "compat"))
        return table.with_columns(
            interval(),
            pl.format("95 % interval {}–{} {}; {}", *RANGE[:2], over, runs).alias("said"),
            pl.Series("what", [row.first.thresholds_said for row in rows]),
            pl.Series("command", [self.commands.of_row(row) for row in rows]),
            only=lacking,
            corpus_shown=corpora,
            compat_shown=other,
        )

    def best_of_families(self) -> pl.DataFrame:
        """The first row of the ranking of each family: the very first is the best setting everywhere on the page."""
        return self.ranked().unique("family", keep="first", maintain_order=True)
