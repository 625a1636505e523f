"""The result of an audit in the terminal and in sentences, which the page repeats."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from memgrid.audit.report.figures import PREDICTOR_NAMES
from memgrid.audit.result import AuditResult, OperatingPoint, table
from memgrid.results.audit_folder import AttackFolder

NOMINAL = 1 / (1 + math.exp(4))  # the share with a calibrated Λ ≥ 4 where nothing is memorized


def summary(result: AuditResult) -> dict[str, float]:
    """What a wandb run of the audit shows: areas, and the attack's own."""
    areas = {
        f"auc/{'ood' if row.eta is None else format(row.eta, 'g')}/{row.moment}/{row.predictor}": row.auc
        for row in result.predictions
        if row.auc is not None
    }
    return {**areas, "attack_auc": result.attack[0].auc, "accuracy": result.accuracy}


def areas_table(result: AuditResult) -> pl.DataFrame:
    """A row per predictor, a column per question: the area under the ROC curve at the moment of comparison."""
    rows = table(result.predictions).filter(pl.col("moment") == result.moment)
    wide = rows.pivot("question", index="predictor", values=result.area, maintain_order=True)
    return wide.with_columns(pl.col("predictor").replace(PREDICTOR_NAMES))


def print_result(result: AuditResult, folder: AttackFolder, console: Console) -> None:
    """The areas at the trigger, what they say, and where everything lies."""
    chosen = result.settings
    title = f"{chosen['dataset']['name']} · {chosen['model']['name']} · {chosen['canary']['name']} canaries"
    shown = Table(title=f"{title} · AUC at the {result.moment}", title_justify="left")
    areas = areas_table(result)
    for name in areas.columns:
        shown.add_column(name, justify="left" if name == "predictor" else "right")
    for row in areas.iter_rows():
        shown.add_row(*(entry if isinstance(entry, str) else "–" if entry is None else f"{entry:.2f}" for entry in row))
    console.print()
    console.print(shown)
    for sentence in sentences(result):
        console.print(sentence, highlight=False)
    console.print(f"Everything is in {folder.path}, the page in {folder.page}", style="dim", highlight=False, soft_wrap=True, markup=False)


def sentences(result: AuditResult) -> list[str]:
    """What the numbers say, in plain words."""
    return [trigger_sentence(result), *prediction_sentences(result), *attack_sentences(result)]


def trigger_sentence(result: AuditResult) -> str:
    """When the trigger fired, or that it did not."""
    fired, models = [step for step in result.triggers if step], len(result.triggers)
    if fired:
        return f"The trigger fired in {len(fired)} of {models} models, after {np.median(fired):.0f} of {result.steps} steps (median)."
    return (
        f"The trigger fired in none of {models} models, so all is said of the end: raise predictors.share, lower "
        "predictors.window, or train longer."
    )


def prediction_sentences(result: AuditResult) -> list[str]:
    """For each question that could be asked which predictor is best, and what PSMI < 0 finds."""
    lines, area = [], result.area
    asked = table(result.predictions).filter((pl.col("moment") == result.moment) & pl.col(area).is_not_null())
    for (name,), rows in asked.group_by("question", maintain_order=True):
        question = str(name)
        first, *rest = rows.sort(area, descending=True).iter_rows(named=True)
        close = [PREDICTOR_NAMES[row["predictor"]] for row in rest if first[area] - row[area] < (first["auc_std"] or 0)]
        beside = f" ({', '.join(close)} within one deviation of models)" if close else ""
        few = first["models"] < len(result.triggers) / 2 and first["positives_in_all"] >= 0
        if few:
            beside += f", in {first['models']} of {len(result.triggers)} models: few, with {first['positives_in_all']} positives in all"
        lines.append(
            f"{question[0].upper()}{question[1:]}: {PREDICTOR_NAMES[first['predictor']]} predicts best, AUC {first[area]:.2f}{beside}; "
            f"PSMI < 0 {operating(result.operating_point(question))}."
        )
    return lines


def operating(point: OperatingPoint) -> str:
    """What PSMI < 0 finds, without a threshold that anybody chose."""
    return "cannot be asked" if point.tpr is None else f"finds {point.tpr:.0%} of them and {point.fpr:.0%} of the others"


def attack_sentences(result: AuditResult) -> list[str]:
    """How well the attack itself does, and what it would find where there is nothing."""
    scores = result.attack[0]
    rates = ", ".join(f"{share:.0%} at {100 * float(rate):g} %" for rate, share in scores.tpr.items())
    nothing = "" if result.null_auc is None else f" (where nothing is memorized it would be {result.null_auc:.2f})"
    calibrated = bool(result.settings["attack"].get("calibrated"))
    expected = f"where {NOMINAL:.2%} are expected" if calibrated else "by chance"
    others = f"{scores.others_at_4:.2%} of those that a model has not seen reach it too, {expected}"
    return [
        f"The attack itself tells members from others with AUC {scores.auc:.2f}{nothing}; true positives at false positives: {rates}.",
        f"{scores.memorized_at_4:.0%} of audited members have Λ ≥ 4; {others}.",
    ]
