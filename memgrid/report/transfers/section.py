"""What the report's page says of transfers: whether what networks learned is about memorization, or about one model."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl

from memgrid.report.facts import Report
from memgrid.report.page import Part, Picture, Section, listing
from memgrid.report.transfers.figure import draw_transfers
from memgrid.results.transfers.sentences import NOT_SEEN, WITH_LOSS

FILL = ("-m", "experiment=transfer")
SHOWN, LARGEST = 3, 24  # sets of classes with a figure; runs in one
HEADINGS = {"ratio": "networks", "probe": "linear probe", "together": "without attention"}
COLUMNS = {
    **{"trained_on": "fitted on", "tried_on": "tried on", "samples": "samples", "left_out": "left out"},
    **{"min_f1": "min-F1", "interval": "95 % interval", "p": "p", "own": "own", "ratio": "% of own"},
    **{"points": "points", "points_interval": "95 % interval ", "points_p": "p ", "probe": "linear probe", "probe_own": "own "},
    **{"best_name": "best without attention", "best": "its min-F1", "best_own": "own  "},
}


def section(report: Report) -> Section:
    """Whether networks of one run tell the classes of another apart; a section that has nothing to show says which command fills it."""
    title, table = "Does it transfer?", report.tables["transfers"]
    if not table.height:
        return Section("transfer", title, ["No run was tried with the networks of another."], fill=FILL)
    text = [
        "Networks that were trained on one run answer on the eval samples of another, of those that they were not trained on; beside them, "
        "linear probes and what needs no attention, fitted on the same train samples. If what they learned is a signature of "
        "memorization, and not of one model, little is lost."
    ]
    parts, found = list[Part](), list[str]()
    groups = table.group_by("classes", maintain_order=True)
    for number, (_, part) in enumerate(groups, 1):
        classes = part["classes"][0]
        found.append(f"{classes}: {summary(part)}")
        if number <= SHOWN:
            parts.append(matrix(report, classes, part, number))
    caption = (
        "Scores and shares in percent. Left out: samples that the source was trained on, and near-duplicates of these; “own” is scored on "
        "the same samples, by what was fitted on the run that is tried on. The first p is of min-F1 against permuted labels, the second of "
        "its difference in points from the run's own networks, two-sided; both are Holm's, over all sources of one run."
    )
    parts.append(listing(for_people(table), COLUMNS, "Transfers", caption, "transfers", "classes"))
    return Section("transfer", title, [*text, *found], parts, found)


def summary(table: pl.DataFrame) -> str:
    """How many transfers are more than chance, and how many of these lose something, in a sentence."""
    seen = table.filter(pl.col("verdict") != NOT_SEEN)
    lost = seen.filter(pl.col("verdict") == WITH_LOSS)
    ratios = table["ratio"].drop_nulls().to_numpy()
    share = f", the median {np.median(ratios):.0f} % of the run's own min-F1" if len(ratios) > 1 else ""
    return (
        f"of {table.height} transfers {seen.height} are more than chance, and {lost.height} of these score less than the run's own networks"
        f"{share}."
    )


def matrix(report: Report, classes: str, table: pl.DataFrame, number: int) -> Picture:
    """The heat maps of all runs with the same classes."""
    names = sorted({*table["trained_on"], *table["tried_on"]})[:LARGEST]
    at = {name: place for place, name in enumerate(names)}
    shares = {heading: np.full((len(names), len(names)), np.nan) for heading in HEADINGS.values()}
    unseen = np.zeros((len(names), len(names)), bool)
    for row in table.iter_rows(named=True):
        if (first := at.get(row["trained_on"])) is None or (second := at.get(row["tried_on"])) is None:
            continue
        unseen[first, second] = row["verdict"] == NOT_SEEN
        for column, heading in HEADINGS.items():
            share = row["ratio"] if column == "ratio" else of_own(row[column], row[f"{column}_own"])
            shares[heading][first, second] = np.nan if share is None else share / 100
    for values in shares.values():
        np.fill_diagonal(values, np.where(np.isnan(np.diag(values)), 1.0, np.diag(values)))
    caption = (
        f"{classes}: min-F1 of what was fitted on one run (rows) and tried on another (columns), as a share of what the other's own "
        "reaches on the same samples, 100 on the diagonal by definition. In brackets: not more than chance. “Without "
        "attention” is all that needs none together."
    )
    name = "transfers" if number == 1 else f"transfers-{number}"
    return report.drawn(name, partial(draw_transfers, shares, names, unseen), "What is left where it is tried", caption)


def of_own(score: float | None, own: float | None) -> float | None:
    """A score as a share of the run's own, in percent; None where one is not known."""
    return None if score is None or not own else 100 * score / own


def for_people(table: pl.DataFrame) -> pl.DataFrame:
    """The table with intervals and p-values as texts."""

    def p(name: str) -> pl.Expr:
        """Such as `0.013`, or `< 0.001`."""
        small = pl.col(name) < 0.001
        return pl.when(small).then(pl.lit("< 0.001")).otherwise(pl.col(name).round(3).cast(pl.String)).alias(name)

    def between(low: str, high: str, name: str) -> pl.Expr:
        """Such as `61.2 to 74.0`."""
        return pl.format("{} to {}", pl.col(low).round(1), pl.col(high).round(1)).alias(name)

    ends = between("low", "high", "interval"), between("points_low", "points_high", "points_interval")
    return table.with_columns(*ends, p("p"), p("points_p"))
