"""Reports, from the disk alone: a run's result in the terminal, and `python -m memgrid.report [root=...]` for all finished runs."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memgrid import __version__
from memgrid.cause_tables import intervened, interventions_table, localized, localized_table
from memgrid.cells import Cell, NamedRun, cells, models_of, named, variants
from memgrid.comparison import added, learning, negatives
from memgrid.results import read_runs, some_runs, warn_left_out
from memgrid.schema import RunConfig, UserError
from memgrid.tables import (
    confusions_table,
    controls,
    members_table,
    protocols,
    ranking,
    rho_table,
    runs_table,
    sizes_table,
    write_markdown,
)

if TYPE_CHECKING:
    from memgrid.sections import Report

__all__ = ["describe", "main", "print_result", "result_table", "runs_table", "verdicts", "write_markdown", "write_report"]

# Columns of the table in the terminal, narrow enough for 80 characters; the files have them all.
SHOWN = {
    "label": "setting",
    "runs": "runs",
    "min_f1": "min-F1",
    "spread": "±",
    "interval": "95 % interval",
    "mean_f1": "mean",
    "shuffled_min_f1": "shuffled",
    "confidence_min_f1": "confidence",
}
ROWS = 30  # in the terminal
WIDE = 110
PAIR = ("prashanth", "rasy")
KNOWN = ("root=", "out=", "flow=")


def result_table(metrics: dict[str, Any]) -> Table:
    """A row per class and one for min-F1: the panel with spread and interval, and beside it the two controls."""
    per_class = metrics["samples"]
    table = Table(
        title=f"{describe(metrics['settings'])}   ({per_class['train']} + {per_class['eval']} samples per class)", title_justify="left"
    )
    for column in (
        "class",
        f"F1, mean of {len(metrics['members'])} CNNs",
        "± CNNs",
        "95 % interval",
        "shuffled labels",
        "confidence alone",
    ):
        table.add_column(column, justify="left" if column == "class" else "right")
    panel, control, confidence = metrics["panel"], metrics["control"], metrics["confidence"]
    for index, title in enumerate(metrics["classes"]):
        table.add_row(escape(title), *score_cells(panel["f1"][index]), *(mean_of(one, "f1", index) for one in (control, confidence)))
    table.add_section()
    table.add_row("min-F1", *score_cells(panel["min_f1"]), *(mean_of(one, "min_f1") for one in (control, confidence)), style="bold")
    return table


def describe(settings: dict[str, Any]) -> str:
    """Such as `toy · rasy · δ=50 ρ=0.5 (both) · seed 0`."""
    thresholds = [] if settings["delta"] is None else [f"δ={settings['delta']}"]
    thresholds += [] if settings["rho"] is None else [f"ρ={settings['rho']:g} ({settings['rouge']})"]
    parts = (settings["llm"]["name"], settings["taxonomy"]["name"], " ".join(thresholds), f"seed {settings['seed']}")
    return " · ".join(part for part in parts if part)


def score_cells(entry: dict[str, float]) -> tuple[str, str, str]:
    """Mean, spread over members and interval of one score, in percent."""
    return f"{entry['mean']:.1f}", f"{entry['std']:.1f}", f"{entry['low']:.1f} to {entry['high']:.1f}"


def mean_of(entries: dict[str, Any], score: str, index: int | None = None) -> str:
    """The mean of a control's score, or a dash where the control was not run."""
    if not entries:
        return "–"
    entry = entries[score] if index is None else entries[score][index]
    return f"{entry['mean']:.1f}"


def verdicts(metrics: dict[str, Any]) -> list[str]:
    """What the numbers allow to say, in plain words: per class against the shuffled control, and attention against confidence."""
    sentences = []
    panel, control, confidence = metrics["panel"], metrics["control"], metrics["confidence"]
    told: list[str] = []
    not_told: list[str] = []
    # Whoever always answers one class gets this F1 on it: a control that collapsed onto another class would be too easy to beat.
    one_answer = 200 / (len(metrics["classes"]) + 1)
    for index, title in enumerate(metrics["classes"]):
        bar = max(one_answer, control["f1"][index]["mean"]) if control else one_answer
        (told if panel["f1"][index]["low"] > bar else not_told).append(title)
    if told:
        sentences.append(f"Told apart better than by chance and by the shuffled control: {', '.join(told)}.")
    if not_told:
        sentences.append(f"NOT told apart better than by chance or the shuffled control: {', '.join(not_told)}.")
    if confidence:
        difference = panel["min_f1"]["mean"] - confidence["min_f1"]["mean"]
        where = "above" if difference > 0 else "below"
        sentences.append(f"The min-F1 from attention is {abs(difference):.1f} points {where} that from the model's own confidence alone.")
    if (together := metrics.get("baselines", {}).get("together")) is not None:
        difference = panel["min_f1"]["mean"] - together["min_f1"]["mean"]
        where = "above" if difference > 0 else "below"
        sentences.append(f"It is {abs(difference):.1f} points {where} that from all that needs no attention together.")
    return sentences


def print_result(metrics: dict[str, Any], folder: Path, console: Console) -> None:
    """The table, what it says, and where everything lies."""
    console.print()
    console.print(result_table(metrics))
    for sentence in verdicts(metrics):
        console.print(sentence, style="bold" if sentence.startswith("NOT") else None, highlight=False)
    console.print(f"Everything is in {folder}", style="dim", highlight=False, soft_wrap=True)


def parse(arguments: list[str]) -> tuple[Path, Path, tuple[str, str]]:
    """The root, the folder to write to, and the two taxonomies of the flow.

    Raises:
        UserError: an argument is unknown or malformed.
    """
    if unknown := [argument for argument in arguments if not argument.startswith(KNOWN)]:
        raise UserError(f"the report knows only root=<folder>, out=<folder> and flow=<taxonomy>,<taxonomy>, not {' '.join(unknown)}")
    given = dict(argument.split("=", 1) for argument in arguments)
    pair = tuple(given.get("flow", ",".join(PAIR)).split(","))
    if len(pair) != 2:
        raise UserError(f"flow={given['flow']} does not name two taxonomies: write them with a comma, such as flow={','.join(PAIR)}")
    root = Path(given.get("root", RunConfig().root))
    return root, Path(given.get("out", root / "report")), pair


def make_tables(runs: list[NamedRun], rows: list[Cell], states: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """All tables by the stem of their files."""
    models = models_of(runs)
    return {
        "runs": runs_table(runs),
        "ranking": ranking(rows),
        **{f"ranking-{llm}": ranking(rows, llm) for llm in models if len(models) > 1},
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
    }


def write_tables(tables: dict[str, pl.DataFrame], out: Path) -> None:
    """Every table as CSV and Markdown; what an earlier report wrote of one that is empty now is removed."""
    for name, table in tables.items():
        if table.height:
            table.write_csv(out / f"{name}.csv")
            write_markdown(table, out / f"{name}.md")
        else:
            for suffix in (".csv", ".md"):
                (out / f"{name}{suffix}").unlink(missing_ok=True)


def gather(root: Path, out: Path, pair: tuple[str, str]) -> Report:
    """Read all finished runs below `root` and make their tables; warns of runs that cannot be read.

    Raises:
        UserError: there is no finished run, or a taxonomy of the flow is unknown.
    """
    from memgrid.evidence import taxonomy_named  # draws: a run that prints its result can do without
    from memgrid.sections import Report
    from memgrid.status import states

    found, left_out = read_runs(root)
    warn_left_out(left_out)
    runs = named(some_runs(found, left_out, root))
    for name in pair:
        taxonomy_named(name, runs)
    rows, known = cells(runs), states(root)
    return Report(root, out, runs, rows, make_tables(runs, rows, known), variants(found)[1], known, left_out, pair)


def write_report(report: Report) -> None:
    """Write tables, figures and the page into the report's folder.

    Raises:
        UserError: it cannot be written to.
    """
    from memgrid import causality, contrast, evidence, page, sections

    out = report.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_tables(report.tables, out)
        *before, last = evidence.of_what_they_rest_on(report)
        made = [*sections.of_scores(report), *contrast.of_contrasts(report), *before, *causality.of_causes(report), last]
        title = f"memgrid: {', '.join(report.models)}"
        subtitle = "How do language models reproduce their training text? What CNNs can tell from attention alone."
        when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        footer = (
            f"Written on {when} by memgrid {__version__} from the runs below {report.root}: python -m memgrid.report root={report.root}"
        )
        (out / "index.html").write_text(page.render(title, subtitle, made, footer))
    except OSError as error:
        raise UserError(f"out={out} cannot be written to ({error.strerror}): choose another folder with out=<path>") from None


def ranking_table(report: Report, width: int) -> Table:
    """The first rows of the ranking, for a terminal of so many characters; a narrow one has no room for the interval."""
    columns = {name: heading for name, heading in SHOWN.items() if width >= WIDE or name != "interval"}
    tested = report.tables["controls"].select(pl.col("setting").alias("label"), "shuffled_min_f1", "confidence_min_f1")
    table = ranking(report.benchmark).join(tested, on="label", how="left", maintain_order="left")
    interval = pl.format("{} to {}", pl.col("low").round(1), pl.col("high").round(1))
    shown = Table(
        title=f"{len(report.runs)} finished run{'s' * (len(report.runs) > 1)} below {escape(str(report.root))}",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name, heading in columns.items():
        shown.add_column(heading, justify="left" if name == "label" else "right", overflow="fold")
    for row in table.with_columns(interval=interval).head(ROWS).select(*columns).iter_rows(named=True):
        shown.add_row(
            *("–" if value is None else f"{value:.1f}" if isinstance(value, float) else escape(str(value)) for value in row.values())
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
    if noise := report.noise:
        lines.append(f"Trainings of the same partition differ by {noise.mean:.1f} points on average, {noise.largest:.1f} at most.")
    return [*lines, f"Written to {out}: index.html, runs.csv and runs.md and other tables, figures/"]


def main(arguments: list[str]) -> None:
    """Write the report, print the ranking, and say where everything is."""
    report = gather(*parse(arguments))
    write_report(report)
    console = Console()
    console.print(ranking_table(report, console.width))
    for line in remarks(report):
        console.print(line, style="dim", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"memgrid: {error}")
