"""The cells of all confusion matrices, one record each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import polars as pl

from memgrid.report.rows import Row, models_of
from memgrid.report.tables import ALL

OURS, PAPERS = "ours", "paper"  # of the column `sum`
SCHEMA = {
    **{"setting": pl.String, "classes": pl.Int64, "taxonomy": pl.String, "delta": pl.Int64, "rho": pl.Float64, "rouge": pl.String},
    **{"llm": pl.String, "sum": pl.String, "true": pl.String, "predicted": pl.String, "count": pl.Int64, "share": pl.Float64},
}


def confusions_table(rows: Sequence[Row]) -> pl.DataFrame:
    """A record per true and predicted class of every row, sum and LLM: the count, and its share of the true class in percent.

    The sum is `ours`, the last epoch of all CNNs and seeds, or `paper`, its last three epochs; `llm` is one of the models, or `all` where
    there are several.
    δ, ρ and rouge are null where the taxonomy does not depend on them.
    """
    models = models_of(run for row in rows for run in row.runs)
    records = [record for row in rows for record in cells(row, [*models, *([ALL] if len(models) > 1 else [])])]
    return pl.DataFrame(records, schema=SCHEMA, orient="row")


def cells(row: Row, llms: Iterable[str]) -> list[tuple[object, ...]]:
    """The records of one row."""
    titles, divided = row.first.result.classes, row.first.divided
    names = (row.label, len(titles), row.first.settings["taxonomy"]["name"], divided.delta, divided.rho, divided.rouge)
    records: list[tuple[object, ...]] = []
    for llm, which in product(llms, (OURS, PAPERS)):
        if not (runs := row.of(None if llm == ALL else llm)):
            continue
        counts = row.confusion(runs, paper=which == PAPERS)
        for (true, predicted), count in np.ndenumerate(counts):
            share = 100 * count / max(1, counts[true].sum())
            records.append((*names, llm, which, titles[true], titles[predicted], int(count), share))
    return records
