"""Cases: every way in which rules can tell sequences apart; a taxonomy is a function of these alone.

Columns that a rule compares count as independent of each other and of the features of the named rules, but for `WHOLE`: that a class is
empty since two columns hang together, only the data show.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import polars as pl

from memgrid.taxonomy.columns import GROUP_OF, RANGES, TRUTHS, WHOLE
from memgrid.taxonomy.rules import Comparison, Value
from memgrid.taxonomy.thresholds import Thresholds

MOST_CASES = 2**20
CASE_THRESHOLDS = Thresholds(delta=0, rho=0.5, rouge="both")
NAMES = ("memorized", "is_repeating", "is_incrementing", "duplicates", "rouge_l", "rouge_3", "is_code")
SHARED = ("memorized", "is_code")  # features of named rules that stay themselves where a comparison reads them
OTHER = "\0"  # a word that no rule names


def all_cases(apart: bool = False) -> pl.DataFrame:
    """A row for every way in which named rules can tell sequences apart.

    Not memorized, or memorized with each answer of the four features; with `apart` the features are those of what is not memorized, too,
    for rules that do not ask for it.
    """
    answers = itertools.product((True, False), repeat=4)
    rows = [(True, template, template, int(many), float(high), float(high), code) for many, template, high, code in answers]
    none = [(False, *row[1:]) for row in (rows if apart else rows[-1:])]
    return pl.DataFrame([*none, *rows], schema=list(NAMES), orient="row")


CASES = all_cases()
NULL_CASES = pl.DataFrame(
    [(heads, float(upper)) for heads, upper in itertools.product((True, False), repeat=2)], schema=["heads", "rank"], orient="row"
)


def case_column(name: str) -> pl.Expr:
    """Where the cases keep a column that a rule compares: beside the features of the named rules, which may be of the same name."""
    return pl.col(name if name in SHARED else f"={name}")


def cases_of(comparisons: Sequence[Comparison]) -> pl.DataFrame:
    """The cases of rules that compare columns.

    Raises:
        ValueError: there are too many, or a column is compared with values of different kinds.
    """
    table = all_cases(apart=True)
    for column in sorted({comparison.column for comparison in comparisons}):  # whatever the order in which rules stand
        mine = [comparison for comparison in comparisons if comparison.column == column]
        values = representatives(column, mine)
        if column in SHARED:
            continue
        table = table.join(pl.DataFrame({f"={column}": values}), how="cross")
        if column in WHOLE:
            table = table.filter(pl.col("memorized") == (pl.col(f"={column}") == WHOLE[column]))
        if table.height > MOST_CASES:
            raise ValueError(f"compares columns with too many values: more than {MOST_CASES} cases would have to be told apart")
    return table


def representatives(column: str, comparisons: Sequence[Comparison]) -> list[Value]:
    """A value of a column for every way in which comparisons can come out."""
    values = [comparison.against(CASE_THRESHOLDS) for comparison in comparisons]
    kinds = {bool if isinstance(value, bool) else str if isinstance(value, str) else float for value in values}
    wanted = kinds if column not in GROUP_OF else {bool} if column in TRUTHS else {float}
    if len(kinds) > 1 or kinds != wanted:
        shown = " and ".join(repr(value) if isinstance(value, bool | str) else f"{value:g}" for value in values)
        raise ValueError(f"compares column {column!r} with {shown}: use values of the kind that it has")
    if kinds == {bool}:
        return [True, False]
    if kinds == {str}:
        return [*sorted({str(value) for value in values}), OTHER]
    return numbers(column, comparisons, [float(value) for value in values])


def numbers(column: str, comparisons: Sequence[Comparison], values: list[float]) -> list[Value]:
    """On, between, below and above the values, within what the column can be; of those that nothing tells apart, the first."""
    low, high = RANGES.get(column, (-float("inf"), float("inf")))
    edges = sorted({*values, *([WHOLE[column]] if column in WHOLE else [])})
    between = [(one + other) / 2 for one, other in itertools.pairwise(edges)]
    every = [value for value in sorted({edges[0] - 1, *edges, *between, edges[-1] + 1, *ends(low, high)}) if low <= value <= high]
    found: dict[tuple[Any, ...], float] = {}
    answers = pl.DataFrame({"value": every}).select(
        *(comparison.holds(pl.col("value"), CASE_THRESHOLDS).alias(str(place)) for place, comparison in enumerate(comparisons)),
        (pl.col("value") == WHOLE.get(column, 0.0)).alias("whole") if column in WHOLE else pl.lit(False).alias("whole"),
    )
    for value, answer in zip(every, answers.rows(), strict=True):
        found.setdefault(answer, value)
    return list(found.values())


def ends(low: float, high: float) -> list[float]:
    """The finite ones of two limits."""
    return [limit for limit in (low, high) if abs(limit) != float("inf")]
