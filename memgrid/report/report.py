"""A report on all finished runs below a root, from the disk alone: tables, figures and one page."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from memgrid.io.display import csv_text
from memgrid.io.files import write_text
from memgrid.io.paths import VERSION
from memgrid.report.baseline_tables import added, learning, negatives
from memgrid.report.cause_tables import intervened, interventions_table, localized, localized_table, ways_table
from memgrid.report.confusions.table import confusions_table
from memgrid.report.flows.sides import side_of
from memgrid.report.flows.table import every_flow, flow_table
from memgrid.report.read import read_runs, some_runs, warn_left_out
from memgrid.report.rows import NamedRun, Row, models_of, named, ranking_rows
from memgrid.report.settings.variants import variants
from memgrid.report.tables import (
    controls,
    members_table,
    protocols,
    ranking,
    rho_table,
    runs_table,
    sizes_table,
)
from memgrid.report.transfers.table import transferred, transfers_table
from memgrid.results.folder import prepare_folder

if TYPE_CHECKING:
    from memgrid.report.facts import Report


def make_tables(runs: list[NamedRun], rows: list[Row], states: pl.DataFrame, by: str = "min_f1") -> dict[str, pl.DataFrame]:
    """All tables by the stem of their files."""
    models = models_of(runs)
    return {
        "runs": runs_table(runs),
        "ranking": ranking(rows, by=by),
        **{f"ranking-{llm}": ranking(rows, llm, by) for llm in models if len(models) > 1},
        "sizes": sizes_table(rows),
        "rho": rho_table(rows),
        "confusions": confusions_table(rows),
        "protocols": protocols(rows),
        "controls": controls(rows),
        "added": added(rows),
        "negatives": negatives(rows),
        "learning": learning(rows),
        "members": members_table(rows),
        "states": states,
        "localized": localized_table(localized(runs)),
        "interventions": interventions_table(intervened(runs)),
        "ways": ways_table(intervened(runs)),
        "transfers": transfers_table(transferred(runs)),
    }


def write_tables(tables: dict[str, pl.DataFrame], out: Path) -> None:
    """Every table as CSV and Markdown; what an earlier report wrote of one that is empty now is removed."""
    from memgrid.report.page import write_markdown  # imports what draws

    for name, table in tables.items():
        if table.height:
            write_text(csv_text(table), out / f"{name}.csv")
            write_markdown(table, out / f"{name}.md")
        else:
            for suffix in (".csv", ".md"):
                (out / f"{name}{suffix}").unlink(missing_ok=True)


def gather(root: Path, out: Path, pair: tuple[str, str], by: str = "min_f1", style: str = "ours", text: bool = False) -> Report:
    """Read all finished runs below `root` and make their tables; warns of runs that cannot be read.

    Raises:
        UserError: there is no finished run, or a taxonomy of the flow is unknown or does not read a threshold that is given.
    """
    from memgrid.report.facts import Report
    from memgrid.report.sections import checkpoints, degrees, labelled
    from memgrid.results.states import states

    finished, left_out = read_runs(root)
    warn_left_out(left_out)
    runs = named(some_runs(finished, left_out, root))
    flows = every_flow(root, runs, pair)
    rows, run_states = ranking_rows(runs), states(root)
    usual = variants([run.settings for run in finished])[1]
    side = side_of(pair[1], runs)
    series, memorized = labelled.every_series(root, runs, side), list(degrees.every_degrees(root, runs, side))
    tables = make_tables(runs, rows, run_states, by) | checkpoints.tables(series, runs) | degrees.tables(memorized)
    tables["flow"] = flow_table(flows, pair)
    return Report(
        root, out, runs, rows, tables, usual, run_states, left_out, pair, tuple(series), by, tuple(memorized), tuple(flows), style, text
    )


def write_report(report: Report) -> None:
    """Write tables, figures and the page into the report's folder.

    Raises:
        UserError: it cannot be written to.
    """
    from memgrid.report.epochs import section as epochs
    from memgrid.report.flows import section as flow
    from memgrid.report.sections import baselines, causes, checkpoints, checks, degrees, scores
    from memgrid.report.shell.render import render
    from memgrid.report.transfers import section as transfers
    from memgrid.report.viewer import section as viewer

    out = report.out
    prepare_folder(str(out), "out")
    write_tables(report.tables, out)
    *before, missing = checks.sections(report)
    first = [*scores.sections(report), viewer.section(report), epochs.section(report), *baselines.sections(report)]
    after = [transfers.section(report), degrees.section(report), checkpoints.section(report)]
    parts = [*first, flow.section(report), *before, *causes.sections(report), *after, missing]
    title = f"memgrid: {', '.join(report.models)}"
    subtitle = "How do language models reproduce their training text? What CNNs can tell from attention alone."
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    footer = f"Written on {when} by memgrid {VERSION} from the runs below {report.root}: python -m memgrid.report root={report.root}"
    files = {name: csv_text(table) for name, table in report.tables.items() if table.height}
    write_text(render(title, subtitle, parts, footer, files, partial(report.commands.fill, report.best)), out / "index.html")
