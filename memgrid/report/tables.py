"""Tables of a report, from cells of finished runs. Scores are in percent; the columns are those of the paper's tables and some more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.io.files import write_text
from memgrid.metrics import confusion_matrix, scores
from memgrid.report.rows import USUAL, Cell, NamedRun, models_of, setting_name
from memgrid.results.folder import BASELINES
from memgrid.taxonomy import NO_CLASS, Taxonomy, Thresholds

ALL = "all"  # in the column llm: over all LLMs
# In the metrics of runs since they have baselines, beside the confidence, which all have.
REFERENCES = (*(name for name in BASELINES if name != "confidence"), "probe")
# How columns of floats are written that are no scores.
DIGITS = {"rho": "g", "q": "g", "eval_loss": ".3f", "paper_eval_loss": ".4f", "sanity_delta": ".2f", "sanity_decisiveness": ".2f"}


def runs_table(runs: Sequence[NamedRun]) -> pl.DataFrame:
    """A row per run, best min-F1 first; `same_as` names the run whose training was this one's too."""
    rows = []
    for run in runs:
        metrics, settings = run.metrics, run.settings
        control, confidence, paper = metrics["control"], metrics["confidence"], metrics["paper_protocol"]
        own = score_row([run])
        rows.append(
            {
                "llm": run.llm,
                "corpus": settings["corpus"]["name"],
                "taxonomy": settings["taxonomy"]["name"],
                "delta": settings["delta"],
                "rho": settings["rho"],
                "rouge": settings["rouge"],
                "seed": settings["seed"],
                "setting": run.setting,
                "family": run.family,
                "compat": settings["compat"],
                "variant": run.variant,
                "cnns": ", ".join(metrics["members"]),
                "train": metrics["samples"]["train"],
                "eval": metrics["samples"]["eval"],
                "min_f1": own["min_f1"],
                "min_f1_std": metrics["panel"]["min_f1"]["std"],
                "min_f1_low": own["low"],
                "min_f1_high": own["high"],
                "mean_f1": own["mean_f1"],
                **{key: own[key] for key in ("min_precision", "mean_precision", "min_recall", "mean_recall", "eval_loss")},
                "shuffled_min_f1": control["min_f1"]["mean"] if control else None,
                "confidence_min_f1": confidence["min_f1"]["mean"] if confidence else None,
                "paper_min_f1": paper["min_f1"],
                "paper_mean_f1": paper["mean_f1"],
                "paper_eval_loss": paper["mean_eval_loss"],
                "same_as": metrics["same_as"],
                "folder": metrics["folder"],
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None).sort("min_f1", "folder", descending=[True, False])


def ranking(rows: Iterable[Cell], llm: str | None = None) -> pl.DataFrame:
    """A row per cell, best min-F1 first, over all LLMs and seeds or for one LLM; scores as `score_row` and `paper_row` give them."""
    made = []
    for cell in rows:
        runs = cell.of(llm)
        if not runs:
            continue
        first = cell.first
        corpus, compat, variant = first.place
        names = {"setting": cell.setting, "also": "; ".join(cell.also), "label": cell.label, "family": first.family}
        place = {"corpus": corpus, "compat": compat, "variant": variant}
        many = {
            "classes": len(first.metrics["classes"]),
            "llms": ", ".join(models_of(runs)),
            "seeds": len({run.settings["seed"] for run in runs}),
            "runs": len(runs),
            "train": min(run.metrics["samples"]["train"] for run in runs),
            "eval": min(run.metrics["samples"]["eval"] for run in runs),
        }
        made.append({**names, **place, **many, **score_row(runs), **paper_row(cell, runs)})
    return pl.DataFrame(made, infer_schema_length=None).sort("min_f1", "label", descending=[True, False]) if made else pl.DataFrame()


def score_row(runs: Sequence[NamedRun]) -> dict[str, float]:
    """Means over runs; `spread`: standard deviation over all CNNs of all runs; `low`, `high`: mean of the runs' 95 % intervals.

    The interval would be narrower if the runs' eval samples were independent; they overlap, so it is not narrowed.
    """
    panels = [run.metrics["panel"] for run in runs]
    row = {
        "min_f1": mean(panel["min_f1"]["mean"] for panel in panels),
        "spread": float(np.std([score for run in runs for score in run.metrics["members_min_f1"]])),
        "low": mean(panel["min_f1"]["low"] for panel in panels),
        "high": mean(panel["min_f1"]["high"] for panel in panels),
        "mean_f1": mean(panel["mean_f1"]["mean"] for panel in panels),
    }
    for score in ("precision", "recall"):
        row[f"min_{score}"] = mean(min(entry["mean"] for entry in panel[score]) for panel in panels)
        row[f"mean_{score}"] = mean(mean(entry["mean"] for entry in panel[score]) for panel in panels)
    return {**row, "eval_loss": mean(run.metrics["eval_loss"] for run in runs)}


def paper_row(cell: Cell, runs: Sequence[NamedRun]) -> dict[str, float]:
    """The paper's protocol: the confusion matrices of the last three epochs, all CNNs, sizes and seeds summed, then scored."""
    found = scores(cell.confusion(runs, paper=True))
    row = {"paper_min_f1": found["min_f1"], "paper_mean_f1": found["mean_f1"]}
    for score in ("precision", "recall"):
        row |= {f"paper_min_{score}": min(found[score]), f"paper_mean_{score}": mean(found[score])}
    return {**row, "paper_eval_loss": mean(run.metrics["paper_protocol"]["mean_eval_loss"] for run in runs)}


def sizes_table(rows: Sequence[Cell]) -> pl.DataFrame:
    """The min-F1 of every cell, best first, with a column per LLM beside that over all."""
    models = models_of(run for cell in rows for run in cell.runs)
    table = ranking(rows).select(pl.col("label").alias("setting"), pl.col("min_f1").alias(ALL))
    for llm in models:
        one = ranking(rows, llm).select(pl.col("label").alias("setting"), pl.col("min_f1").alias(llm))
        table = table.join(one, on="setting", how="left", maintain_order="left")
    return table


def sweeps(rows: Iterable[Cell]) -> list[list[Cell]]:
    """Cells that differ only in ρ and the ROUGE that it is applied to, where there are several."""
    found: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in rows:
        divided, settings = cell.first.divided, cell.first.settings
        if divided.rho is not None:
            own = "" if settings["compat"] == "none" else settings["taxonomy"]["name"]
            found[(*cell.first.place, own, divided.cases, divided.delta)].append(cell)
    return [swept for swept in found.values() if len({(cell.first.divided.rho, cell.first.divided.rouge) for cell in swept}) > 1]


def benchmark(rows: Sequence[Cell]) -> list[Cell]:
    """The cells without the points of a ρ sweep (three or more) beside its usual one: these fill a table of their own."""
    left_out = set()
    for swept in sweeps(rows):
        usual = [cell.first.divided.rho == USUAL.rho and cell.first.divided.rouge == USUAL.rouge for cell in swept]
        if len(swept) > 2 and any(usual):
            left_out |= {cell.label for cell, one in zip(swept, usual, strict=True) if not one}
    return [cell for cell in rows if cell.label not in left_out]


def rho_table(rows: Sequence[Cell]) -> pl.DataFrame:
    """The paper's Table 4: a row per ρ and the ROUGE that it is applied to, of every taxonomy of which several were run.

    Over all LLMs (`llm` is "all") and, where there are several, for each; best min-F1 first. Empty without a sweep.
    """
    made = []
    for swept in sweeps(rows):
        (setting, taxonomy), _ = Counter(
            (setting_name(cell.first.metrics, rho=False), cell.first.settings["taxonomy"]["name"]) for cell in swept
        ).most_common(1)[0]
        corpus, compat, variant = swept[0].first.place
        names = {"setting": setting, "taxonomy": taxonomy, "corpus": corpus, "compat": compat, "variant": variant}
        models = models_of(run for cell in swept for run in cell.runs)
        for llm, cell in product((ALL, *(models if len(models) > 1 else ())), swept):
            runs, divided = cell.of(None if llm == ALL else llm), cell.first.divided
            if runs:
                applied = {"rouge_l": divided.rouge != "3", "rouge_3": divided.rouge != "l", "rouge": divided.rouge, "rho": divided.rho}
                made.append({**names, "llm": llm, **applied, "runs": len(runs), **score_row(runs), **paper_row(cell, runs)})
    if not made:
        return pl.DataFrame()
    known = [ALL, *models_of(run for cell in rows for run in cell.runs)]
    place = pl.col("llm").replace_strict({llm: index for index, llm in enumerate(known)}, return_dtype=pl.Int64)
    order = ["setting", "taxonomy", "corpus", "compat", "variant", place, -pl.col("min_f1"), "rho", "rouge"]
    return pl.DataFrame(made, infer_schema_length=None).sort(order)


def controls(rows: Iterable[Cell]) -> pl.DataFrame:
    """Min-F1 from attention beside that of its controls, means over the runs that have them; `chance`: any answer equally often."""
    made = []
    for cell in rows:
        row: dict[str, Any] = {"setting": cell.label, "runs": len(cell.runs), **score_row(cell.runs)}
        for name, key in (("shuffled", "control"), ("confidence", "confidence")):
            found = [run.metrics[key]["min_f1"]["mean"] for run in cell.runs if run.metrics[key]]
            row |= {f"{name}_min_f1": mean(found) if found else None}
        row |= {f"{name}_min_f1": reference(cell.runs, name) for name in REFERENCES}
        made.append({**row, "chance": 100 / len(cell.first.metrics["classes"])})
    others = ("shuffled_min_f1", "confidence_min_f1", *(f"{name}_min_f1" for name in REFERENCES))
    table = pl.DataFrame(made, infer_schema_length=None, schema_overrides=dict.fromkeys(others, pl.Float64))
    table = table.select("setting", "runs", "min_f1", "low", "high", *others, "chance")
    known = pl.col("shuffled_min_f1").is_not_null() | pl.col("confidence_min_f1").is_not_null()
    return table.filter(known).sort("min_f1", "setting", descending=[True, False])


def reference(runs: Sequence[NamedRun], name: str) -> float | None:
    """The min-F1 of a baseline, or of the better linear probe, mean over the runs that have it; None where none has."""
    found = []
    for run in runs:
        if name == "probe":
            scores = [one["min_f1"]["mean"] for one in run.metrics.get("probes", {}).values()]
            found += [max(scores)] if scores else []
        elif one := run.metrics.get("baselines", {}).get(name):
            found.append(one["min_f1"]["mean"])
    return mean(found) if found else None


def protocols(rows: Iterable[Cell]) -> pl.DataFrame:
    """Our min-F1 (last epoch, mean over CNNs) beside the paper's (three epochs, CNNs and sizes summed, then scored); best first."""
    table = ranking(rows).select(pl.col("label").alias("setting"), "runs", "min_f1", "low", "high", "paper_min_f1")
    return table.with_columns(difference=pl.col("min_f1") - pl.col("paper_min_f1"))


def members_table(rows: Iterable[Cell]) -> pl.DataFrame:
    """A row per CNN of every run: setting, llm, seed, member, min_f1."""
    made = [
        (cell.label, run.llm, run.settings["seed"], member, score)
        for cell in rows
        for run in cell.runs
        for member, score in zip(run.metrics["members"], run.metrics["members_min_f1"], strict=True)
    ]
    schema = {"setting": pl.String, "llm": pl.String, "seed": pl.Int64, "member": pl.String, "min_f1": pl.Float64}
    return pl.DataFrame(made, schema=schema, orient="row")


def confusions_table(rows: Sequence[Cell]) -> pl.DataFrame:
    """A row per true and predicted class of every cell and LLM: counts of the last epoch, summed over CNNs and seeds, and their share."""
    made = []
    for cell in rows:
        titles = cell.first.metrics["classes"]
        for llm in dict.fromkeys(run.llm for run in cell.runs):
            counts = cell.confusion(cell.of(llm))
            for (true, predicted), count in np.ndenumerate(counts):
                share = 100 * count / max(1, counts[true].sum())
                made.append((cell.label, llm, titles[true], titles[predicted], int(count), share))
    schema = {"setting": pl.String, "llm": pl.String, "true": pl.String, "predicted": pl.String, "count": pl.Int64, "share": pl.Float64}
    return pl.DataFrame(made, schema=schema, orient="row")


def flow(features: pl.DataFrame, left: tuple[Taxonomy, Thresholds], right: tuple[Taxonomy, Thresholds]) -> np.ndarray:
    """How many memorized sequences are in each class of one taxonomy and of another, int (left classes, right classes).

    Args:
        features: a row per sequence, with `memorized` and what both taxonomies' rules read. Sequences without a class count nowhere.
    """
    memorized = features.filter("memorized")
    many = [len(taxonomy.classes) for taxonomy, _ in (left, right)]
    classes = [taxonomy.classify(memorized, thresholds).astype(int) for taxonomy, thresholds in (left, right)]
    known = (classes[0] != NO_CLASS) & (classes[1] != NO_CLASS)
    if not known.any():
        return np.zeros(many, int)
    return confusion_matrix(classes[0][known], classes[1][known], max(many))[: many[0], : many[1]]


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    return float(np.mean(list(values)))


def write_markdown(table: pl.DataFrame, path: Path) -> None:
    """The table as Markdown, numbers as `shown` gives them; signs that Markdown would read are escaped."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * table.width]
    for row in table.iter_rows(named=True):
        lines.append("| " + " | ".join(escaped(shown(name, value)) for name, value in row.items()) + " |")
    write_text("\n".join(lines) + "\n", path)


def escaped(text: str) -> str:
    """Text that stays in its cell of a Markdown table, and is no HTML."""
    for sign, instead in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(sign, instead)
    return text


def shown(column: str, value: Any) -> str:
    """A table's value for people: scores with one decimal, losses with three (the paper's with four), nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = DIGITS.get(column, ".1f")
        return f"{value:{digits}}"
    return str(value)
