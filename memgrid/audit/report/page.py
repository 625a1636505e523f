"""What an audit found: a table in the terminal, and a page with tables and figures in the audit's folder."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from memgrid import __version__
from memgrid.audit import figures
from memgrid.audit.config import AuditConfig
from memgrid.audit.evaluation import Evidence, asked_of
from memgrid.audit.figures import MOMENT_NAMES, NAMES
from memgrid.audit.shadow.population import OF
from memgrid.errors import UserError
from memgrid.report import page
from memgrid.report.tables import write_markdown

FEW = 16  # models: with fewer, a ratio that leaves one out is visibly biased
SHARES = {"auc", "auc_std", "tpr", "fpr", "memorized_at_4", "others_at_4"}  # columns from 0 to 1, beside tpr_at_…
KINDS = {"all audited": "all audited", **figures.KIND_NAMES}


def summary(metrics: dict[str, Any]) -> dict[str, float]:
    """What a wandb run of the audit shows: areas, and the attack's own."""
    rows = [row for row in metrics["predictions"] if row["auc"] is not None]
    found = {
        f"auc/{'ood' if row['eta'] is None else format(row['eta'], 'g')}/{row['moment']}/{row['predictor']}": row["auc"] for row in rows
    }
    return {**found, "attack_auc": metrics["attack"][0]["auc"], "accuracy": metrics["accuracy"]}


def moment(triggers: list[int]) -> str:
    """When predictors are judged: at the trigger, or at the end if it fired in no model."""
    return "trigger" if any(triggers) else "end"


def areas_table(metrics: dict[str, Any], when: str) -> pl.DataFrame:
    """A row per predictor, a column per question: the area under the ROC curve at a moment."""
    rows = pl.DataFrame(metrics["predictions"], infer_schema_length=None).filter(pl.col("moment") == when)
    wide = rows.pivot("question", index="predictor", values="auc", maintain_order=True)
    return wide.with_columns(pl.col("predictor").replace(NAMES))


def print_result(metrics: dict[str, Any], folder: Path, console: Console) -> None:
    """The areas at the trigger, what they say, and where everything lies."""
    chosen, when = metrics["settings"], moment(metrics["triggers"])
    what = f"{chosen['dataset']['name']} · {chosen['model']['name']} · {chosen['canary']['name']} canaries"
    table = Table(title=f"{what} · AUC at the {when}", title_justify="left")
    areas = areas_table(metrics, when)
    for name in areas.columns:
        table.add_column(name, justify="left" if name == "predictor" else "right")
    for row in areas.iter_rows():
        table.add_row(*(cell if isinstance(cell, str) else "–" if cell is None else f"{cell:.2f}" for cell in row))
    console.print()
    console.print(table)
    for sentence in sentences(metrics):
        console.print(sentence, highlight=False)
    console.print(
        f"Everything is in {folder}, the page in {folder / 'report' / 'index.html'}", style="dim", highlight=False, soft_wrap=True
    )


def sentences(metrics: dict[str, Any]) -> list[str]:
    """What the numbers say, in plain words."""
    fired = [step for step in metrics["triggers"] if step]
    whole, models = metrics["steps"], len(metrics["triggers"])
    told = [
        f"The trigger fired in {len(fired)} of {models} models, after {np.median(fired):.0f} of {whole} steps (median)."
        if fired
        else f"The trigger fired in none of {models} models, so all is said of the end: raise predictors.share, lower "
        "predictors.window, or train longer."
    ]
    best = pl.DataFrame(metrics["predictions"], infer_schema_length=None).filter(
        (pl.col("moment") == moment(metrics["triggers"])) & pl.col("auc").is_not_null()
    )
    for (name,), rows in best.group_by("question", maintain_order=True):
        asked = str(name)
        first, *rest = rows.sort("auc", descending=True).iter_rows(named=True)
        close = [NAMES[row["predictor"]] for row in rest if first["auc"] - row["auc"] < first["auc_std"]]
        beside = f" ({', '.join(close)} within one deviation of models)" if close else ""
        told.append(
            f"{asked[0].upper()}{asked[1:]}: {NAMES[first['predictor']]} predicts best, AUC {first['auc']:.2f}{beside}; "
            f"PSMI < 0 {operating(metrics, asked)}."
        )
    whole_attack = metrics["attack"][0]
    rates = ", ".join(
        f"{whole_attack[key]:.0%} at {100 * float(key.removeprefix('tpr_at_')):g} %" for key in whole_attack if key.startswith("tpr_at_")
    )
    told.append(
        f"The attack itself tells members from others with AUC {whole_attack['auc']:.2f}; true positives at false positives: {rates}."
    )
    others = f"{whole_attack['others_at_4']:.2%} of those that a model has not seen reach it too, by chance"
    return [*told, f"{whole_attack['memorized_at_4']:.0%} of audited members have Λ ≥ 4; {others}."]


def operating(metrics: dict[str, Any], name: str) -> str:
    """What PSMI < 0 finds, without a threshold that anybody chose."""
    (row,) = (row for row in metrics["below_zero"] if row["question"] == name)
    return f"finds {row['tpr']:.0%} of them and {row['fpr']:.0%} of the others" if row["models"] else "cannot be asked"


def write_report(run: AuditConfig, metrics: dict[str, Any], seen: Evidence, folder: Path) -> None:
    """Write tables, figures and the page into `<folder>/report`.

    Raises:
        UserError: it cannot be written to.
    """
    out = folder / "report"
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        made = sections(run, metrics, seen, out)
        when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        footer = f"Written on {when} by memgrid {__version__} from {folder}: python -m memgrid.audit, with the settings in its metrics.json"
        title = f"memgrid audit: {run.dataset.name}, {run.model.name}"
        subtitle = "Which training samples does a classifier memorize? Predicted early from one model, and checked against shadow models."
        (out / "index.html").write_text(page.render(title, subtitle, made, footer))
    except OSError as error:
        raise UserError(f"{out} cannot be written to ({error.strerror}): make room, or use another root") from None


def sections(run: AuditConfig, metrics: dict[str, Any], seen: Evidence, out: Path) -> list[page.Section]:
    """The parts of the page; figures and tables are written beside it."""
    asked = asked_of(seen, run.attack.eta)
    every = pl.DataFrame(metrics["predictions"], infer_schema_length=None).with_columns(
        pl.col("predictor").replace(NAMES), pl.col("moment").replace(MOMENT_NAMES)
    )
    attack = pl.DataFrame(metrics["attack"]).with_columns(pl.col("samples").replace(KINDS))
    zero = pl.DataFrame(metrics["below_zero"], infer_schema_length=None)
    for name, table in (("predictions", every), ("attack", attack), ("below-zero", zero)):
        table.write_csv(out / f"{name}.csv")
        write_markdown(in_percent(table), out / f"{name}.md")
    fired = moment(metrics["triggers"])
    rates = {f"tpr_at_{rate:g}": f"TPR at {100 * rate:g} % FPR" for rate in run.attack.fpr}
    at_once = list(dict.fromkeys((asked[0], asked[-1])))
    kinds = ", ".join(figures.KIND_NAMES[name] for name in OF[run.canary.name])

    def drawn(key: str, title: str, make: Callable[[Path], None], heading: str, caption: str) -> page.Section:
        """A section that is one figure."""
        return page.Section(key, title, [], [draw(out, key, make, heading, caption)])

    curve = draw(out, "attack", lambda path: figures.draw_attack(seen, path), "ROC curve", "By kind of sample.")
    return [
        page.Section("result", "What was predicted", introduction(run, metrics), predictor_tables(every, zero, fired, rates)),
        drawn(
            "rocs",
            "ROC curves",
            lambda path: figures.draw_rocs(seen, asked, fired, path),
            "ROC curves",
            f"At the {fired}, means over models, one panel for each question.",
        ),
        drawn(
            "eta",
            "How much memorization",
            lambda path: figures.draw_areas(seen, fired, path),
            "AUC against η",
            "The higher η, the rarer and the stronger is what counts as memorized. Bands: one deviation over models.",
        ),
        drawn(
            "moments",
            "When it can be predicted",
            lambda path: figures.draw_moments(seen, at_once, path),
            "AUC before, at and after the trigger",
            "Bars: one deviation over models.",
        ),
        drawn(
            "kinds",
            "Canaries",
            lambda path: figures.draw_kinds(seen, run.attack.eta, fired, path),
            "Distributions by kind",
            f"Canaries: {kinds}. At the left PSMI of members, at the right Λ of audited members; dotted: PSMI = 0, and the values of η.",
        ),
        attack_section(attack, rates, run.shadows, curve),
    ]


def introduction(run: AuditConfig, metrics: dict[str, Any]) -> list[str]:
    """What was done, and what came out."""
    kinds = "canaries" if run.membership.name == "canaries" else "samples"
    return [
        f"{run.shadows} models were trained on {metrics['data']['name']}, {metrics['data']['samples']} samples, and "
        f"{metrics['audited']} {kinds} are audited: each is in half of the models. They reach {metrics['train_accuracy']:.1%} "
        f"on what they are trained on, and {metrics['accuracy']:.1%} on held-out samples.",
        *sentences(metrics),
    ]


def predictor_tables(every: pl.DataFrame, zero: pl.DataFrame, when: str, rates: dict[str, str]) -> list[page.Part]:
    """How well each predictor did at a moment, and PSMI < 0.

    Args:
        rates: column and heading of each true-positive rate.
    """
    return [
        page.listing(
            shares(every.filter(pl.col("moment") == MOMENT_NAMES[when])),
            {"predictor": "predictor", "auc": "AUC (%)", "auc_std": "±", **rates, "positives": "positives", "models": "models"},
            f"Predictors at the {when}",
            "Means over models in which both answers occur; ± is one deviation over them. Positives: the mean number in a model.",
            "predictions",
            group="question",
            best="auc",
        ),
        page.listing(
            shares(zero),
            {"question": "question", "tpr": "TPR (%)", "fpr": "FPR (%)", "models": "models"},
            "PSMI < 0",
            f"At the {when}. An operating point that needs no tuning: how many of the samples asked for it finds, and of the others.",
            "below-zero",
        ),
    ]


def attack_section(attack: pl.DataFrame, rates: dict[str, str], models: int, curve: page.Picture) -> page.Section:
    """How well the attack itself does with so many models; `rates` as in `predictor_tables`."""
    headings = {
        "samples": "samples",
        "number": "number",
        "auc": "AUC (%)",
        **rates,
        "median_ratio": "median Λ",
        "memorized_at_4": "Λ ≥ 4 (%)",
        "others_at_4": "others with Λ ≥ 4 (%)",
    }
    table = page.listing(
        shares(attack),
        headings,
        "Members told from others",
        "Over all models and audited samples; median Λ and Λ ≥ 4 are of members. That others reach Λ ≥ 4 is noise, and "
        "the more so the fewer models there are.",
        "attack",
    )
    told = "Memorization is measured by the likelihood ratio attack, leaving out the model that is looked at."
    if models < FEW:
        told += (
            f" That takes a member's own model from the side of members: with as few as {models} models Λ leans towards others, and an AUC "
            "a little below 50 % means nothing."
        )
    return page.Section("attack", "The attack", [told], [table, curve])


def share_names(table: pl.DataFrame) -> list[str]:
    """The columns that hold shares from 0 to 1."""
    return [name for name in table.columns if name in SHARES or name.startswith("tpr_at_")]


def shares(table: pl.DataFrame) -> pl.DataFrame:
    """The table with its shares in percent."""
    return table.with_columns(pl.col(name) * 100 for name in share_names(table))


def in_percent(table: pl.DataFrame) -> pl.DataFrame:
    """The same for a reader without the page's headings: their names say so."""
    return shares(table).rename({name: f"{name} (%)" for name in share_names(table)})


def draw(out: Path, name: str, make: Callable[[Path], None], title: str, caption: str) -> page.Picture:
    """Draw a figure beside the page, and put it there."""
    make(out / "figures" / name)
    return page.picture(out / "figures" / f"{name}.png", title, caption, f"{title}. {caption}", f"figures/{name}.pdf")
