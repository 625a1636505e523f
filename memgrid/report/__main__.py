"""`python -m memgrid.report [root=...]`: tables, figures and one page for all finished runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.commands import HELP, Command, explained, key, nearest, parsed, start
from memgrid.io.display import PlainConsole, visible
from memgrid.report.facts import STYLES, Report
from memgrid.report.flows.word import PAIR, pair_of
from memgrid.report.report import gather, write_report
from memgrid.report.sections.doubts import doubt_text, null_text
from memgrid.report.tables import RANKED, ranking

# Columns of the table in the terminal, narrow enough for 80 characters; the files have them all.
SHOWN = {
    "label": "setting",
    "runs": "runs",
    "min_f1": "min-F1",
    "spread": "±",
    "interval": "95 % interval",
    "worst_pair": "worst pair",
    "shuffled_min_f1": "shuffled",
    "confidence_min_f1": "confidence",
}
ROWS = 30  # in the terminal
WIDE = 110


def column_of(word: str) -> str:
    """What a ranking may be sorted by; UserError if that is another thing."""
    if word not in RANKED:
        raise UserError(f"sort={word} is nothing that a ranking is sorted by: use {' or '.join(f'sort={name}' for name in RANKED)}")
    return word


def style_of(word: str) -> str:
    """How figures may be drawn; UserError if that is another thing."""
    if word not in STYLES:
        raise UserError(
            f"style={word} is no way to draw figures: use {' or '.join(f'style={name}' for name in STYLES)}{nearest(word, STYLES)}"
        )
    return word


def yes_or_no(word: str) -> bool:
    """Whether text may stand on the page; UserError if that is neither said nor denied."""
    if word not in ("true", "false"):
        raise UserError(f"text={word} is neither true nor false: text=true puts the text of the shown sequences on the page")
    return word == "true"


@dataclass(frozen=True)
class Words:
    """What `memgrid report` understands."""

    root: Path = key("<folder>", "where runs are kept", Path(RunConfig().root), Path)
    out: Path | None = key("<folder>", "where the report is written; <root>/report if nothing is said", None, Path)
    sort: str = key("min_f1|worst_pair", "what the best setting is: by its worst F1, or by its worst pair of classes", "min_f1", column_of)
    flow: tuple[str, str] = key(
        "<taxonomy>,<taxonomy>",
        "the two whose classes are compared, each at the runs' thresholds or at those after @, such as prashanth@delta=5",
        PAIR,
        pair_of,
    )
    style: str = key(
        "ours|paper",
        "ours: Δ maps with a scale for each class; paper: classes side by side on one, and all confusion matrices",
        "ours",
        style_of,
    )
    text: bool = key("true|false", "whether the page shows the text of sequences; that of the embedded corpus it shows", False, yes_or_no)


COMMAND = Command(
    "report",
    "Writes tables, figures and one page for all finished runs below a folder, and prints the ranking.",
    Words,
    {
        "report": "of all runs below memgrid-runs",
        "report root=/scratch/runs out=page flow=rasy,recite": "of others, to a folder of its own",
        "report flow=prashanth@delta=5,rasy": "with the paper's Figure 2: the flow from δ = 5",
    },
    subject="the report",
)


def ranking_table(report: Report, width: int) -> Table:
    """The first rows of the ranking, for a terminal of so many characters; a narrow one has no room for the interval."""
    columns = {name: heading for name, heading in SHOWN.items() if width >= WIDE or name != "interval"}
    table = ranking(report.benchmark, by=report.by)
    table = table.with_columns(
        pl.when(pl.col("doubt") == "").then("label").otherwise(pl.format("{} ({})", "label", "doubt")).alias("label")
    )
    interval = pl.format("{} to {}", pl.col("low").round(1), pl.col("high").round(1))
    shown = Table(
        title=Text(f"{len(report.runs)} finished run{'s' * (len(report.runs) > 1)} below {report.root}", "table.title"),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name, heading in columns.items():
        shown.add_column(heading, justify="left" if name == "label" else "right", overflow="fold")
    for row in table.with_columns(interval=interval).head(ROWS).select(*columns).iter_rows(named=True):
        shown.add_row(
            *("–" if value is None else f"{value:.1f}" if isinstance(value, float) else Text(visible(str(value))) for value in row.values())
        )
    return shown


def remarks(report: Report) -> list[str]:
    """What there is to say below the ranking in the terminal."""
    shown, out = report.benchmark, report.out
    lines = []
    if len(shown) > ROWS:
        lines.append(f"and {len(shown) - ROWS} more rows in {out}/ranking.csv")
    if len(shown) < len(report.rows):
        lines.append(f"{len(report.rows) - len(shown)} rows of the sweep over ρ are in {out}/rho.csv")
    table = ranking(shown, by=report.by)
    lines += [*doubt_text(table), *null_text(table)]
    if noise := report.noise:
        lines.append(f"Trainings of the same partition differ by {noise.mean:.1f} points on average, {noise.largest:.1f} at most.")
    return [*lines, f"Written to {out}: index.html, runs.csv and runs.md and other tables, figures/"]


def main(arguments: list[str]) -> None:
    """Write the report, print the ranking, and say where everything is."""
    if HELP & set(arguments):
        print(explained(COMMAND))
        return
    words = parsed(COMMAND, arguments)
    report = gather(words.root, words.out or words.root / "report", words.flow, words.sort, words.style, words.text)
    write_report(report)
    console = PlainConsole()
    console.print(ranking_table(report, console.width))
    for line in remarks(report):
        console.print(line, style="dim", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    start(main)
