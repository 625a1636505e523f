"""Which runs and which of their sequences the page opens, and what everything that was asked says of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from memgrid.report.facts import Report
from memgrid.report.read import read_or_told
from memgrid.report.rows import NamedRun

RUNS = 3
PANEL = "the panel"


@dataclass(frozen=True, eq=False)
class Judged:
    """What everything that was asked says of a run's eval sequences.

    Attributes:
        ids: int64 (n,). labels: int64 (n,), places of their classes.
        sources: who says so: `PANEL`, the mean over the networks, then these one by one, then what they are compared with.
        networks: how many of the sources are single networks.
        probabilities: float64 (sources, n, classes).
    """

    ids: np.ndarray
    labels: np.ndarray
    sources: tuple[str, ...]
    networks: int
    probabilities: np.ndarray

    @property
    def said(self) -> np.ndarray:
        """The class with the most, int64 (sources, n)."""
        return self.probabilities.argmax(-1)

    def rows(self, kept: np.ndarray) -> Judged:
        """Some of the sequences."""
        return Judged(self.ids[kept], self.labels[kept], self.sources, self.networks, self.probabilities[:, kept])

    def order(self) -> np.ndarray:
        """The rows, int64 (n,), those to be shown first: by turns one of every cell of the panel's confusion matrix, the surest first."""
        said = self.said[0]
        sure = self.probabilities[0, np.arange(len(said)), said]
        cells = self.labels * self.probabilities.shape[-1] + said
        ranks = np.empty(len(said), int)
        for cell in np.unique(cells):
            rows = np.flatnonzero(cells == cell)
            ranks[rows[np.lexsort((self.ids[rows], -sure[rows]))]] = np.arange(len(rows))
        return np.lexsort((cells, ranks))


def judged(run: NamedRun) -> Judged | None:
    """A run's predictions beside those of its baselines, as far as it left such; None where the former are missing or of no use."""
    if not run.folder.predictions.is_file():
        return None
    panel = read_or_told(partial(run.folder.table, run.folder.predictions))
    others = read_or_told(partial(run.folder.table, run.folder.baselines)) if run.folder.baselines.is_file() else None
    if panel is None:
        return None
    known = others is not None and panel["sequence_id"].equals(others["sequence_id"])
    compared = list(others.columns[2:]) if others is not None and known else []
    try:
        networks = arrays(panel, run.result.members, len(run.result.classes))
        beside = arrays(others, compared, len(run.result.classes)) if others is not None else []
    except pl.exceptions.PolarsError:
        return None
    ids, labels = panel["sequence_id"].to_numpy().astype(np.int64), panel["label"].to_numpy().astype(np.int64)
    sources = (PANEL, *run.result.members, *compared)
    return Judged(ids, labels, sources, len(networks), np.stack([np.mean(networks, axis=0), *networks, *beside]))


def arrays(table: pl.DataFrame, names: list[str], classes: int) -> list[np.ndarray]:
    """Columns of lists of probabilities, each float64 (n, classes)."""
    return [table[name].list.to_array(classes).to_numpy().astype(np.float64) for name in names]


def chosen_runs(report: Report) -> list[tuple[NamedRun, Judged]]:
    """The runs whose sequences can be opened, at most `RUNS`: the best, the best that has Δ maps, and the best of each further model."""
    chosen: list[tuple[NamedRun, Judged]] = []
    wishes: list[Callable[[NamedRun], bool]] = [lambda _: True, located, *(partial(is_of, llm) for llm in report.models)]
    for wanted in wishes:
        if len(chosen) == RUNS or any(wanted(run) for run, _ in chosen):
            continue
        for run in filter(wanted, best_first(report)):
            if (found := judged(run)) is not None:
                chosen.append((run, found))
                break
    return chosen


def located(run: NamedRun) -> bool:
    """Whether a run has Δ maps."""
    return bool(run.folder.methods())


def is_of(llm: str, run: NamedRun) -> bool:
    """Whether a run is of a language model."""
    return run.llm == llm


def best_first(report: Report) -> Iterator[NamedRun]:
    """The runs of the ranking, row by row in its order, and the best of each row first."""
    by_label = {row.label: row for row in report.benchmark}
    for label in report.ranked()["label"]:
        yield from sorted(by_label[label].runs, key=lambda run: -run.result.panel.min_f1.mean)
