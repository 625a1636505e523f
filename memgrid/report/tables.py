"""Tables of a report, from the rows of its ranking. Scores are in percent; the columns are those of the paper's tables and some more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.derive import PROTOCOLS
from memgrid.metrics.intervals import over_runs
from memgrid.metrics.scores import scores
from memgrid.report.rows import USUAL, NamedRun, Row, models_of, setting_name
from memgrid.results.findings import is_told_apart
from memgrid.results.result import PanelScores, RunResult

ALL = "all"  # in the column llm: over all LLMs


@dataclass(frozen=True)
class Reference:
    """What attention is compared with, as it is called; empty where it does not occur.

    Attributes:
        heading: of a column. phrase: in a sentence.
        legend: in the figure of the controls. curve: in that of the learning curve.
    """

    heading: str
    phrase: str = ""
    legend: str = ""
    curve: str = ""


# Two controls, all of `results.folder.BASELINES`, and the better linear probe, in the order of the columns of the controls.
REFERENCES = {
    "shuffled": Reference("shuffled labels", legend="attention, shuffled labels"),
    "confidence": Reference("confidence", "the model's own confidence", "the model's own confidence alone", "confidence alone"),
    "tokens": Reference("tokens", "a bag of the tokens"),
    "overlap": Reference("overlap", "the overlap of prefix and suffix"),
    "likelihood": Reference("prefix likelihood", "the likelihood of the prefix"),
    "min_k": Reference("Min-K %++", "Min-K %++ of what is decoded"),
    "zlib": Reference("zlib", "the likelihood of what is decoded over its compressed length"),
    "probabilities": Reference("probabilities", "a small network on the probability of each token"),
    "together": Reference("together", "all of these baselines together", "all that needs no attention", "all without attention"),
    "probe": Reference("linear probe", legend="linear probe on attention", curve="attention, linear probe"),
}
BESIDE = {f"{name}_min_f1": pl.Float64 for name in REFERENCES}  # columns of their min-F1
PAIRS = {"worst_pair": pl.Float64, "apart": pl.Int64}
RANKED = {"min_f1": "min-F1", "worst_pair": "their worst pair of classes"}  # what a ranking may be sorted by


def runs_table(runs: Sequence[NamedRun]) -> pl.DataFrame:
    """A row per run, best min-F1 first; `same_as` names the run whose training was this one's too."""
    rows = []
    for run in runs:
        result, settings = run.result, run.settings
        paper = result.paper_protocol
        own = score_row([run])
        rows.append(
            {
                "llm": run.llm,
                "corpus": settings["corpus"]["name"],
                "taxonomy": settings["taxonomy"]["name"],
                **{key: settings[key] for key in ("delta", "rho", "rouge", "seed")},
                "setting": run.setting,
                "family": run.family,
                "compat": settings["compat"],
                "variant": run.variant,
                "cnns": ", ".join(result.members),
                "train": result.samples.train,
                "eval": result.samples.eval,
                "min_f1": own["min_f1"],
                "min_f1_std": result.panel.min_f1.std,
                **{f"min_f1_{side}": own[side] for side in ("low", "high")},
                "mean_f1": own["mean_f1"],
                **{key: own[key] for key in ("min_precision", "mean_precision", "min_recall", "mean_recall", "eval_loss")},
                "shuffled_min_f1": result.control.min_f1.mean if result.control else None,
                "confidence_min_f1": result.confidence.min_f1.mean if result.confidence else None,
                **{"paper_min_f1": paper.min_f1, "paper_mean_f1": paper.mean_f1, "paper_eval_loss": paper.mean_eval_loss},
                "same_as": result.same_as,
                "folder": str(run.folder.path),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None).sort("min_f1", "folder", descending=[True, False])


def ranking(rows: Iterable[Row], llm: str | None = None, by: str = "min_f1") -> pl.DataFrame:
    """A record per row, best first, over all LLMs and seeds or for one LLM; scores as `score_row` and `paper_row` give them.

    Args:
        by: a column of `RANKED`. Chance gives a lower min-F1 the more classes there are, and 50 to the worst pair whatever they are.
    """
    records = []
    for row in rows:
        runs = row.of(llm)
        if not runs:
            continue
        first = row.first
        corpus, compat, variant = first.place
        names = {"setting": row.setting, "also": "; ".join(row.also), "label": row.label, "family": first.family, "doubt": doubt(runs)}
        place = {"corpus": corpus, "compat": compat, "variant": variant}
        many = {
            "classes": len(first.result.classes),
            "llms": ", ".join(models_of(runs)),
            "seeds": len({run.settings["seed"] for run in runs}),
            "runs": len(runs),
            "train": min(run.result.samples.train for run in runs),
            "eval": min(run.result.samples.eval for run in runs),
        }
        beside = {**beside_row(runs), "chance": 100 / len(first.result.classes)}
        records.append({**names, **place, **many, **score_row(runs), **beside, **paper_row(row, runs)})
    if not records:
        return pl.DataFrame()
    table = pl.DataFrame(records, infer_schema_length=None, schema_overrides={**BESIDE, **PAIRS})
    return table.sort(by, "min_f1", "label", descending=[True, True, False], nulls_last=True)


def doubt(runs: Sequence[NamedRun]) -> str:
    """Which of some runs have scores that say less than they seem to, and why, such as `undertrained in 2 of 3 runs`; empty for most."""
    words = Counter(run.result.doubt for run in runs if run.result.doubt)
    return ", ".join(word + ("" if number == len(runs) else f" in {number} of {len(runs)} runs") for word, number in words.items())


def beside_row(runs: Sequence[NamedRun]) -> dict[str, float | None]:
    """The min-F1 of all that attention is compared with."""
    return {f"{name}_min_f1": reference_min_f1(runs, name) for name in REFERENCES}


def score_row(runs: Sequence[NamedRun]) -> dict[str, Any]:
    """Means over runs; `spread`: standard deviation over all CNNs of all runs; `low`, `high`: see `over_runs`.

    `worst_pair`: the mean balanced accuracy of the pair that is told apart least, None where a run does not know it; `apart`: in how many
    runs each class is told apart from each other.
    """
    panels = [run.result.panel for run in runs]
    own = ([getattr(panel.min_f1, key) for panel in panels] for key in ("mean", "low", "high"))
    min_f1, low, high = over_runs(*own)
    pairs = [pair for run in runs if (pair := run.result.worst_pair()) is not None]
    by_class = {
        "precision": [[estimate.mean for estimate in panel.precision] for panel in panels],
        "recall": [[estimate.mean for estimate in panel.recall] for panel in panels],
    }
    columns = {
        "min_f1": min_f1,
        "spread": float(np.std([score for run in runs for score in run.result.members_min_f1])),
        "low": low,
        "high": high,
        "worst_pair": mean(pair.accuracy for pair in pairs) if len(pairs) == len(runs) else None,
        "apart": sum(is_told_apart(run.result) for run in runs) if len(pairs) == len(runs) else None,
        "mean_f1": mean(panel.mean_f1.mean for panel in panels),
    }
    for score, values in by_class.items():
        columns[f"min_{score}"] = mean(map(min, values))
        columns[f"mean_{score}"] = mean(map(mean, values))
    return {**columns, "eval_loss": mean(run.result.eval_loss for run in runs)}


def paper_row(row: Row, runs: Sequence[NamedRun]) -> dict[str, float]:
    """The paper's protocol: the confusion matrices of the last three epochs, all CNNs, sizes and seeds summed, then scored."""
    summed = scores(row.confusion(runs, paper=True))
    columns = {"paper_min_f1": summed["min_f1"], "paper_mean_f1": summed["mean_f1"]}
    for score in ("precision", "recall"):
        columns |= {f"paper_min_{score}": min(summed[score]), f"paper_mean_{score}": mean(summed[score])}
    return {**columns, "paper_eval_loss": mean(run.result.paper_protocol.mean_eval_loss for run in runs)}


def sizes_table(rows: Sequence[Row]) -> pl.DataFrame:
    """The min-F1 of every row, best first, with a column per LLM beside that over all."""
    models = models_of(run for row in rows for run in row.runs)
    table = ranking(rows).select(pl.col("label").alias("setting"), pl.col("min_f1").alias(ALL))
    for llm in models:
        own = ranking(rows, llm).select(pl.col("label").alias("setting"), pl.col("min_f1").alias(llm))
        table = table.join(own, on="setting", how="left", maintain_order="left")
    return table


def sweeps(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that differ only in ρ and the ROUGE that it is applied to, where there are several."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        divided, settings = row.first.divided, row.first.settings
        if divided.rho is not None:
            own = "" if PROTOCOLS[settings["compat"]].shares_trainings else settings["taxonomy"]["name"]
            groups[(*row.first.place, own, divided.cases, divided.delta)].append(row)
    return [swept for swept in groups.values() if len({(row.first.divided.rho, row.first.divided.rouge) for row in swept}) > 1]


def benchmark(rows: Sequence[Row]) -> list[Row]:
    """The rows without the points of a ρ sweep (three or more) beside its usual one: these fill a table of their own."""
    left_out = set()
    for swept in sweeps(rows):
        usual = [row.first.divided.rho == USUAL.rho and row.first.divided.rouge == USUAL.rouge for row in swept]
        if len(swept) > 2 and any(usual):
            left_out |= {row.label for row, is_usual in zip(swept, usual, strict=True) if not is_usual}
    return [row for row in rows if row.label not in left_out]


def rho_table(rows: Sequence[Row]) -> pl.DataFrame:
    """The paper's Table 4: a row per ρ and the ROUGE that it is applied to, of every taxonomy of which several were run.

    Over all LLMs (`llm` is "all") and, where there are several, for each; best min-F1 first. Empty without a sweep.
    """
    records = []
    for swept in sweeps(rows):
        (setting, taxonomy), _ = Counter(
            (setting_name(row.first.settings, row.first.divided, rho=False), row.first.settings["taxonomy"]["name"]) for row in swept
        ).most_common(1)[0]
        corpus, compat, variant = swept[0].first.place
        names = {"setting": setting, "taxonomy": taxonomy, "corpus": corpus, "compat": compat, "variant": variant}
        models = models_of(run for row in swept for run in row.runs)
        for llm, row in product((ALL, *(models if len(models) > 1 else ())), swept):
            runs, divided = row.of(None if llm == ALL else llm), row.first.divided
            if runs:
                applied = {"rouge_l": divided.rouge != "3", "rouge_3": divided.rouge != "l", "rouge": divided.rouge, "rho": divided.rho}
                both = {**score_row(runs), **beside_row(runs), **paper_row(row, runs)}
                records.append({**names, "llm": llm, **applied, "doubt": doubt(runs), "runs": len(runs), **both})
    if not records:
        return pl.DataFrame()
    llms = [ALL, *models_of(run for row in rows for run in row.runs)]
    place = pl.col("llm").replace_strict({llm: index for index, llm in enumerate(llms)}, return_dtype=pl.Int64)
    order = ["setting", "taxonomy", "corpus", "compat", "variant", place, -pl.col("min_f1"), "rho", "rouge"]
    return pl.DataFrame(records, infer_schema_length=None, schema_overrides={**BESIDE, **PAIRS}).sort(order)


def controls(rows: Iterable[Row]) -> pl.DataFrame:
    """Min-F1 from attention beside that of its controls, means over the runs that have them; `chance`: any answer equally often."""
    table = ranking(rows).select(pl.col("label").alias("setting"), "runs", "min_f1", "low", "high", *BESIDE, "chance")
    has_controls = pl.col("shuffled_min_f1").is_not_null() | pl.col("confidence_min_f1").is_not_null()
    return table.filter(has_controls).sort("min_f1", "setting", descending=[True, False])


def reference_min_f1(runs: Sequence[NamedRun], name: str) -> float | None:
    """The min-F1 of what attention is compared with, mean over the runs that have it; None where none has.

    Args:
        name: a key of `REFERENCES`.
    """
    best = []
    for run in runs:
        values = [scores.min_f1.mean for scores in references(run.result, name) if scores is not None]
        best += [max(values)] if values else []
    return mean(best) if best else None


def references(result: RunResult, name: str) -> list[PanelScores | None]:
    """The scores that a run has of a key of `REFERENCES`: of every linear probe, at most one of all others."""
    if name == "probe":
        return list(result.probes.values())
    return [{"shuffled": result.control, "confidence": result.confidence}.get(name, result.baselines.get(name))]


def protocols(rows: Iterable[Row]) -> pl.DataFrame:
    """Our min-F1 (last epoch, mean over CNNs) beside the paper's (three epochs, CNNs and sizes summed, then scored); best first."""
    table = ranking(rows).select(pl.col("label").alias("setting"), "runs", "min_f1", "low", "high", "paper_min_f1")
    return table.with_columns(difference=pl.col("min_f1") - pl.col("paper_min_f1"))


def members_table(rows: Iterable[Row]) -> pl.DataFrame:
    """A record per CNN of every run: setting, llm, seed, member, min_f1."""
    records = [
        (row.label, run.llm, run.settings["seed"], member, score)
        for row in rows
        for run in row.runs
        for member, score in zip(run.result.members, run.result.members_min_f1, strict=True)
    ]
    schema = {"setting": pl.String, "llm": pl.String, "seed": pl.Int64, "member": pl.String, "min_f1": pl.Float64}
    return pl.DataFrame(records, schema=schema, orient="row")


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    return float(np.mean(list(values)))
