"""What the report's page says of checkpoints: what a model memorizes at which step of its training, and whether classes can be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from memgrid.io.display import plural
from memgrid.metrics.intervals import over_runs
from memgrid.metrics.onset import SHARES, History, class_rows, flows, step_rows
from memgrid.report.facts import Report
from memgrid.report.figures.curves import Curve, Panel, draw_over_steps
from memgrid.report.figures.flow import MOST_COLUMNS, draw_step_flow, shown_steps
from memgrid.report.page import Fold, Part, Section, listing
from memgrid.report.rows import NamedRun
from memgrid.report.sections.labelled import Series
from memgrid.report.settings.variants import CHECKPOINT

SHOWN = 4  # models whose figures are on the page
CURVES = 8  # settings whose min-F1 is drawn
NAMES = {"llm": pl.String, "corpus": pl.String, "taxonomy": pl.String}
SCORES = {
    **{"llm": pl.String, "corpus": pl.String, "setting": pl.String, "step": pl.Int64, "checkpoint": pl.String},
    **{"runs": pl.Int64, "min_f1": pl.Float64, "low": pl.Float64, "high": pl.Float64, "train": pl.Int64},
}
WAY = ": those of the embedded one come from this command, those of your own model from llm.revision=step1000,step2000"
FILL = ("-m", "experiment=checkpoints")


def tables(series: Sequence[Series], runs: Sequence[NamedRun]) -> dict[str, pl.DataFrame]:
    """By the stem of their files: what is memorized at each step (`steps`), when each class is (`onset`), min-F1 (`steps-min-f1`)."""
    return {
        "steps": stacked(series, step_rows),
        "onset": stacked(series, class_rows),
        "steps-min-f1": scores_over_steps(series, runs),
    }


def stacked(series: Sequence[Series], rows: Any) -> pl.DataFrame:
    """The rows of every history below each other, after the model, the corpus and the taxonomy."""
    parts = [
        rows(each.history).select(
            *(pl.lit(value).alias(name) for name, value in zip(NAMES, (each.llm, each.corpus, each.taxonomy), strict=True)), pl.all()
        )
        for each in series
        if each.history is not None
    ]
    return pl.concat(parts, how="vertical_relaxed") if parts else pl.DataFrame()


def scores_over_steps(series: Sequence[Series], runs: Sequence[NamedRun]) -> pl.DataFrame:
    """A row per setting and step that was run: the min-F1, mean over seeds, and the mean of its intervals; `train` samples per class."""
    records: list[tuple[Any, ...]] = []
    for each in series:
        place = {fingerprint: at for at, fingerprint in enumerate(each.fingerprints)}
        groups: dict[tuple[str, int], dict[Any, NamedRun]] = defaultdict(dict)
        for run in runs:
            origin = run.result.origin
            if origin is not None and origin.llm in place and (run.llm, run.settings["corpus"]["name"]) == (each.llm, each.corpus):
                groups[curve_name(run), place[origin.llm]].setdefault(run.training, run)
        for (name, at), found in sorted(groups.items(), key=lambda item: item[0]):
            assert each.history is not None
            panels = [run.result.panel.min_f1 for run in found.values()]
            scores = over_runs(*([getattr(panel, key) for panel in panels] for key in ("mean", "low", "high")))
            train = min(run.result.samples.train for run in found.values())
            records.append((each.llm, each.corpus, name, each.history.steps[at], each.history.names[at], len(found), *scores, train))
    return pl.DataFrame(records, schema=SCORES, orient="row") if records else pl.DataFrame()


def curve_name(run: NamedRun) -> str:
    """A run's setting with what sets it apart, but for its checkpoint."""
    variant = [part for part in run.variant.split(", ") if part and not part.startswith(tuple(f"{key}=" for key in CHECKPOINT))]
    compat = run.settings["compat"]
    return " · ".join([run.setting, *([f"compat={compat}"] if compat != "none" else []), *variant])


def section(report: Report) -> Section:
    """When a model memorizes what: onsets, what is forgotten, the flow of classes, and min-F1 over steps."""
    title, text = "What is memorized when", list[str]()
    every: tuple[Series, ...] = report.series
    if not every:
        return Section("checkpoints", title, [f"No model has labels at two steps of its training{WAY}."], fill=FILL)
    parts, found = list[Part](), list[str]()
    shown = [each for each in every if each.history is not None][:SHOWN]
    for each in every:
        name = f"{each.llm} on {each.corpus}: " if len(every) > 1 else ""
        text += [f"{name}{sentence}" for sentence in each.notes]
        if each.history is None:
            text.append(f"{each.llm} on {each.corpus} has fewer than two steps that can be compared.")
    for number, each in enumerate(shown):
        assert each.history is not None
        text += (said := sentences(each, each.history, len(every) > 1))
        found += said
        parts += figures_of(report, each, each.history, f"-{number + 1}" if number else "")
    if shown:
        text.append(
            "Known are only the steps that were run: between two of them a sequence may have been memorized and forgotten again without a "
            "trace, and what is memorized at the first step may have been long before. So each step stands for the interval since the one "
            "before it."
        )
        parts.append(Fold("The numbers of every step", [numbers_of(report)]))
    if shown and not report.tables["steps-min-f1"].height:
        text.append("No run of these checkpoints is finished, so that there is no min-F1 over steps: add extract and train to stages.")
    return Section("checkpoints", title, text, parts, found)


def sentences(series: Series, history: History, several: bool) -> list[str]:
    """What a history says, in two sentences."""
    rows = {row["class"]: row for row in class_rows(history).iter_rows(named=True)}
    whole, steps = rows.pop("all"), history.steps
    name = f"{series.llm} on {series.corpus}: " if several else ""
    lines = [
        f"{name}{plural(len(steps), 'step')} from {steps[0]:,} to {steps[-1]:,}. Of {plural(history.classes.shape[1], 'sequence')}, "
        f"{whole['ever']:,} are memorized at some step that was run, {whole['last']:,} at the last; {whole['forgotten']:,} "
        f"({(whole['forgotten_share'] or 0):.1f} %) are forgotten again, and {whole['interrupted']:,} were forgotten in between."
    ]
    when = [f"{title} {row[f'onset_{0.5:.0%}']}" for title, row in rows.items() if row["last"]]
    if when:
        lines.append(f"{name}Half of what is memorized in the end is memorized for good (step): {'; '.join(when)}.")
    return lines


def figures_of(report: Report, series: Series, history: History, suffix: str) -> list[Part]:
    """The figures of one model, and the table of its classes."""
    rows, where = step_rows(history), f"{series.llm} on {series.corpus}"
    present = [title for title in history.titles if rows.filter(pl.col("class") == title)["memorized"].max()]
    if not present:
        return []
    panels = [
        Panel("memorized (% of all sequences)", curves_of(rows, "share", present), least=0),
        Panel("memorized for good (%)", curves_of(rows, "held", present), -3, 103),
    ]
    caption = (
        f"{where}, classes of {series.taxonomy}. On the left, how many of all sequences are memorized at each step. On the right, of the "
        "sequences that are memorized at the last step, the share that is memorized at this one and at every later one. A dot is a step "
        "that was run; lines only guide the eye."
    )
    parts: list[Part] = [report.drawn(f"onset{suffix}", partial(draw_over_steps, panels), f"When classes are memorized: {where}", caption)]
    parts.append(flow_of(report, where, history, suffix))
    table = report.tables["steps-min-f1"]
    own = table.filter((pl.col("llm") == series.llm) & (pl.col("corpus") == series.corpus)) if table.height else table
    if own.height:
        parts.append(min_f1_of(report, where, own, suffix))
    columns = {"class": "class", "ever": "ever memorized", "last": "at the last step", "forgotten": "forgotten again"}
    columns |= {"forgotten_share": "%", "interrupted": "interrupted", "interrupted_share": "% "}
    columns |= {f"onset_{share:.0%}": f"{share:.0%} by step" for share in SHARES}
    caption = (
        "A sequence's class is that of the last step at which it is memorized. Forgotten again: memorized at some step, not at the last. "
        "Interrupted: memorized at the last step, and forgotten at some step before. The last columns: between which steps that were run a "
        "quarter, half and nine tenths of what is memorized at the last step were memorized for good."
    )
    parts.append(listing(class_rows(history), columns, f"Onset and forgetting by class: {where}", caption, "onset"))
    return parts


def curves_of(rows: pl.DataFrame, column: str, titles: Sequence[str]) -> list[Curve]:
    """A column over the steps, a curve per class."""
    own = [(title, rows.filter(pl.col("class") == title)) for title in titles]
    return [Curve(title, table["step"].to_list(), table[column].to_list()) for title, table in own]


def flow_of(report: Report, where: str, history: History, suffix: str) -> Part:
    """The flow of classes between the steps that have room."""
    places = shown_steps(len(history.steps))
    some = History(
        tuple(history.steps[at] for at in places), tuple(history.names[at] for at in places), history.classes[places], history.titles
    )
    counts, titles = flows(some), [*some.titles, "not memorized"]
    kept = np.flatnonzero([any(matrix[at].any() or matrix[:, at].any() for matrix in counts) for at in range(len(titles))])
    kept = np.union1d(kept, [len(titles) - 1])  # its colour is the last one's
    matrices = [matrix[np.ix_(kept, kept)] for matrix in counts]
    left_out = f" {len(places)} of the {len(history.steps)} steps are shown." if len(history.steps) > MOST_COLUMNS else ""
    caption = (
        f"The {matrices[0].sum():,} sequences of {where} that are memorized at one of these steps at least: in which class each is at each "
        f"step, and where it goes until the next.{left_out}"
    )
    draw = partial(draw_step_flow, some.steps, matrices, [titles[at] for at in kept])
    return report.drawn(f"step-flow{suffix}", draw, f"From step to step: {where}", caption)


def min_f1_of(report: Report, where: str, table: pl.DataFrame, suffix: str) -> Part:
    """How well classes can be told apart at each step."""
    steps = table.group_by("setting", maintain_order=True).len()["len"]
    names = table["setting"].unique(maintain_order=True).to_list()[:CURVES]
    curves = []
    for name in names:
        own = table.filter(pl.col("setting") == name)
        curves.append(Curve(name, *(own[column].to_list() for column in ("step", "min_f1", "low", "high"))))
    least = f" The first {CURVES} of {len(steps)} settings." if len(steps) > CURVES else ""
    caption = (
        f"Min-F1 of the CNNs on {where} at each step whose run is finished, with the 95 % interval. Where a class has "
        "too few sequences there is no run. Each step has samples of its own, as many of each class as its smallest has: see "
        f"steps-min-f1.csv.{least}"
    )
    return report.drawn(
        f"steps-min-f1{suffix}", partial(draw_over_steps, [Panel("min-F1 (%)", curves)]), f"Min-F1 over steps: {where}", caption
    )


def numbers_of(report: Report) -> Any:
    """Every step of every model, all classes together, with the min-F1 where there is one."""
    table = report.tables["steps"].filter(pl.col("class") == "all")
    columns = {
        "step": "step",
        "checkpoint": "checkpoint",
        "memorized": "memorized",
        "share": "% of all",
        "new": "new",
        "forgotten": "forgotten",
    }
    columns |= {"forgotten_share": "% of before", "onset": "onset"}
    place = pl.format("{} on {}", "llm", "corpus").alias("place")
    caption = (
        "New: not memorized at the step before. Forgotten: memorized at the step before and not any more. Onset: memorized from this step "
        "on at every later one. By class: steps.csv."
    )
    return listing(table.with_columns(place), columns, "Every step", caption, "steps", "place")
