"""All confusion matrices on pages: by number of classes, as the paper's Figures 5 and 7-12, and over the values of ρ of a sweep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from memgrid.io.display import plural
from memgrid.metrics.scores import scores
from memgrid.report.confusions.figure import Matrix, draw_matrices, on_a_page
from memgrid.report.facts import PAPER, Report
from memgrid.report.page import Fold, Part, Picture
from memgrid.report.rows import Row, setting_name
from memgrid.report.tables import sweeps
from memgrid.taxonomy.thresholds import ROUGE_NAMES, ROUGES

SHOWN = 6  # pages of matrices on the page; as many are drawn, since each takes half a second
PAPERS = 60  # that are drawn in the paper's style, which has six, of 54 matrices; those that are not shown are files
SUM = "counts of the last three epochs of all CNNs, seeds and models, summed as in the paper"


@dataclass(frozen=True)
class Sheet:
    """A page of matrices: the stem of its files, what is written above it, which page of its kind it is, and its matrices."""

    name: str
    heading: str
    number: int
    matrices: Sequence[Matrix]


def sheets_by_classes(rows: Sequence[Row]) -> Iterator[Sheet]:
    """The rows in their order, those with many classes first."""
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[len(row.first.result.classes)].append(row)
    for classes in sorted(groups, reverse=True):
        matrices = [matrix_of(row, row.label) for row in groups[classes]]
        yield from sheets(f"confusions-{classes}-classes", f"{classes} classes", matrices, on_a_page(classes))


def sheets_over_rho(rows: Sequence[Row]) -> Iterator[Sheet]:
    """The sweeps over ρ: a sheet, or several, for each ROUGE that ρ is applied to, in the order of ρ."""
    number = 0
    for swept in sweeps(rows):
        name = setting_name(swept[0].first.settings, swept[0].first.divided, rho=False)
        for rouge in ROUGES:
            own = sorted((row for row in swept if row.first.divided.rouge == rouge), key=lambda row: row.first.divided.rho or 0)
            if len(own) > 1:
                number += 1
                matrices = [matrix_of(row, f"ρ = {row.first.divided.rho:g}") for row in own]
                heading = f"{name}, ρ applied to {ROUGE_NAMES[rouge]}"
                yield from sheets(f"confusions-rho-{number}", heading, matrices, on_a_page(len(own[0].first.result.classes)))


def matrix_of(row: Row, name: str) -> Matrix:
    """A row's matrix with the paper's sum, and its score."""
    counts = row.confusion(row.runs, paper=True)
    return Matrix(name, f"min-F1 {scores(counts)['min_f1']:.1f}", counts, row.first.result.classes)


def sheets(name: str, heading: str, matrices: Sequence[Matrix], each: int) -> Iterator[Sheet]:
    """Matrices on as many pages as they need."""
    pages = [matrices[at : at + each] for at in range(0, len(matrices), each)]
    for number, page in enumerate(pages, 1):
        which = f", page {number} of {len(pages)}" if len(pages) > 1 else ""
        yield Sheet(f"{name}-{number}", f"{heading}{which}", number, page)


def pages(report: Report) -> tuple[list[Part], list[str]]:
    """All matrices for the section on confusion, folded away, and what there is to say of them; draws the pages.

    Where not all are drawn, the first page of each kind comes before second ones.
    """
    order = {label: place for place, label in enumerate(report.ranked()["label"])}
    rows = sorted(report.benchmark, key=lambda row: order[row.label])
    kinds = {"All settings, summed as in the paper": list(sheets_by_classes(rows)), "Over ρ": list(sheets_over_rho(report.rows))}
    every = sorted((sheet for made in kinds.values() for sheet in made), key=lambda sheet: sheet.number)
    drawn = every[: PAPERS if report.style == PAPER else SHOWN]
    shown = {sheet.name: picture_of(report, sheet) for sheet in drawn[:SHOWN]}
    for sheet in drawn[SHOWN:]:
        draw_matrices(sheet.matrices, f"{sheet.heading}: {SUM}", report.out / "figures" / sheet.name)
    parts: list[Part] = [
        Fold(title, figures) for title, made in kinds.items() if (figures := [shown[sheet.name] for sheet in made if sheet.name in shown])
    ]
    text = [f"{plural(len(drawn) - SHOWN, 'page')} more of matrices: confusions-* in figures/."] if len(drawn) > SHOWN else []
    if rest := len(every) - len(drawn):
        more = "" if report.style == PAPER else f" style={PAPER} draws them,"
        text.append(f"{plural(rest, 'page')} more of matrices, not drawn:{more} confusions.csv has their cells.")
    return parts, text


def picture_of(report: Report, sheet: Sheet) -> Picture:
    """A page of matrices, drawn."""
    caption = f"{SUM[0].upper()}{SUM[1:]}. Rows are true classes, columns predicted ones; Σ and the grey numbers are sums."
    return report.drawn(sheet.name, partial(draw_matrices, sheet.matrices, f"{sheet.heading}: {SUM}"), sheet.heading, caption)
