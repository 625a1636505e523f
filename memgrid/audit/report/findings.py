"""The result of an audit in the terminal and in sentences, which the page repeats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from memgrid.audit.report.figures import PREDICTOR_NAMES
from memgrid.audit.result import AuditResult, OperatingPoint, table
from memgrid.io.display import plural
from memgrid.results.audit_folder import AttackFolder

CLEAR = 0.05  # a predictor with a lower p is worse than the best
NAMED = 3  # predictors in a sentence
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
    if result.attack[0].auc_low is not None:
        console.print("In parentheses: 95 % intervals over other models and samples.", style="dim", highlight=False)
    console.print(f"Everything is in {folder.path}, the page in {folder.page}", style="dim", highlight=False, soft_wrap=True, markup=False)


def sentences(result: AuditResult) -> list[str]:
    """What the numbers say, in plain words: how much is memorized, how well one model tells early what, and when that is."""
    return [*attack_sentences(result), *prediction_sentences(result), trigger_sentence(result)]


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
        few = first["models"] < len(result.triggers) / 2 and first["positives_in_all"] >= 0
        said = [f"AUC {first[area]:.2f}{between(first['auc_low'], first['auc_high'], '.2f')}"]
        if few:
            said.append(
                f"in {first['models']} of {len(result.triggers)} models: few, with {plural(first['positives_in_all'], 'positive')} in all"
            )
        beside = alike(rest)
        lines.append(
            f"{question[0].upper()}{question[1:]}: {PREDICTOR_NAMES[first['predictor']]} predicts best, {', '.join(said)}{beside}. "
            f"PSMI < 0 {operating(result.operating_point(question))}."
        )
    return lines


def alike(rows: list[dict[str, Any]]) -> str:
    """Than which of the other predictors the best is not clearly better, or than how many, where a sentence has no room for all."""
    if any(row["p_beaten"] is None for row in rows):
        return "; whether it is better than the others was not tested"
    rows = [row for row in rows if row["p_beaten"] >= CLEAR]
    if not rows:
        return ""
    names = [f"{PREDICTOR_NAMES[row['predictor']]} (p {p_text(row['p_beaten'])})" for row in rows]
    if len(names) > NAMED:
        return f"; not clearly better than {len(names)} others (p from {min(row['p_beaten'] for row in rows):.2g} on)"
    return f"; not clearly better than {', '.join(names)}"


def between(low: float | None, high: float | None, form: str, factor: float = 1) -> str:
    """An interval after a number, such as ` (0.87 to 0.91)`; nothing where it is not known."""
    return "" if low is None or high is None else f" ({factor * low:{form}} to {factor * high:{form}})"


def p_text(p: float) -> str:
    """Such as `= 0.03`, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def operating(point: OperatingPoint) -> str:
    """What PSMI < 0 finds, without a threshold that anybody chose."""
    if point.tpr is None or point.fpr is None:
        return "cannot be asked"
    return f"finds {100 * point.tpr:.0f} % of them and {100 * point.fpr:.0f} % of the others"


def attack_sentences(result: AuditResult) -> list[str]:
    """How much is memorized, what the attack would find where there is nothing, and how well it does."""
    scores = result.attack[0]
    rates = ", ".join(f"{100 * (share or 0):.0f} % at {100 * float(rate):g} %" for rate, share in scores.tpr.items())
    nothing = "" if result.null_auc is None else f", where it would be {result.null_auc:.2f} if nothing were memorized"
    calibrated = bool(result.settings["attack"].get("calibrated"))
    expected = f"where {100 * NOMINAL:.2f} % are expected" if calibrated else "by chance"
    members = f"{100 * scores.memorized_at_4:.0f} %{between(scores.memorized_low, scores.memorized_high, '.0f', 100)}"
    others = f"{100 * scores.others_at_4:.2f} %{between(scores.others_low, scores.others_high, '.2f', 100)}"
    return [
        f"{members} of audited members have Λ ≥ 4; {others} of those that a model has not seen reach it too, {expected}.",
        f"The attack itself tells members from others with AUC {scores.auc:.2f}{between(scores.auc_low, scores.auc_high, '.2f')}{nothing}; "
        f"true positives at false positives: {rates}.",
    ]
