"""The page of an audit: its tables and figures, each as a file beside it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from memgrid.audit.attack.evaluation import POOLED, Evidence, asked_of
from memgrid.audit.config import AuditConfig
from memgrid.audit.context import Audit
from memgrid.audit.data.population import CANARIES
from memgrid.audit.report import figures
from memgrid.audit.report.companion import companion
from memgrid.audit.report.figures import MOMENT_NAMES, PREDICTOR_NAMES
from memgrid.audit.report.findings import areas_table, attack_sentences, p_text, prediction_sentences, trigger_sentence
from memgrid.audit.report.names import protocol_section, samples_section
from memgrid.audit.report.words import define, meanings, words_section
from memgrid.audit.result import TPR, AuditResult, table
from memgrid.errors import UserError
from memgrid.io.display import csv_text
from memgrid.io.files import reason, write_text
from memgrid.io.paths import VERSION
from memgrid.report import page
from memgrid.report.shell.render import render
from memgrid.results.audit_folder import AttackFolder

# Columns that are shares from 0 to 1 and are shown in percent, beside tpr_at_…. Areas (AUC) stay from 0 to 1, as everybody tells them.
SHARES = {
    *("tpr", "fpr", "accuracy", "global_accuracy", "memorized_at_4", "memorized_low", "memorized_high"),
    *("others_at_4", "others_low", "others_high", "published_memorized_at_4", "published_others_at_4"),
}
PREDICTOR_COLUMNS = {"predictor": "predictor", "auc": "AUC", "auc_std": "±", "auc_pooled": "pooled"}
FILES = ("predictions", "attack", "below-zero", "samples")
DOUBT = (
    "p says how likely so large a difference from the best predictor would be between two that are equally good; it is corrected for all "
    "pairs of predictors, since any might have come out best. Intervals are over other models and other samples."
)
BESIDE = {"auc_interval": "95 % interval", "p_interval": "p"}
SAMPLE_NAMES = {"all audited": "all audited", **figures.KIND_NAMES}


@dataclass(frozen=True)
class Tables:
    """The rows of a result as a page shows them, with names for people."""

    predictions: pl.DataFrame
    attack: pl.DataFrame
    below_zero: pl.DataFrame

    @classmethod
    def of(cls, result: AuditResult) -> Tables:
        """The tables of a result."""
        names = (pl.col("predictor").replace(PREDICTOR_NAMES), pl.col("moment").replace(MOMENT_NAMES))
        attack = table(result.attack).with_columns(pl.col("samples").replace(SAMPLE_NAMES))
        return cls(table(result.predictions).with_columns(*names), attack, table(result.below_zero))

    def write(self, folder: AttackFolder) -> None:
        """Leave each as CSV, and as Markdown in percent."""
        for name, rows in (("predictions", self.predictions), ("attack", self.attack), ("below-zero", self.below_zero)):
            write_text(csv_text(rows), folder.table(name, "csv"))
            page.write_markdown(in_percent(rows), folder.table(name, "md"))


def write_report(audit: Audit, result: AuditResult, evidence: Evidence) -> None:
    """Write tables, figures and the page.

    Raises:
        UserError: the folder cannot be written to.
    """
    run, folder = audit.run, audit.attack_folder
    try:
        folder.figures.mkdir(parents=True, exist_ok=True)
        tables = Tables.of(result)
        tables.write(folder)
        parts, words = sections(audit, result, tables, evidence), meanings(run)
        define(parts, words)
        parts.append(words_section(words))
        when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        footer = (
            f"Written on {when} by memgrid {VERSION} from {folder.path}: python -m memgrid.audit, "
            f"with the settings in its {folder.metrics.name}"
        )
        title = f"memgrid audit: {run.dataset.name}, {run.model.name}"
        subtitle = "Which training samples does a classifier memorize? Predicted early from one model, and checked against shadow models."
        files = {name: folder.table(name, "csv").read_text(encoding="utf-8") for name in FILES}
        write_text(render(title, subtitle, parts, footer, files), folder.page)
    except OSError as error:
        raise UserError(f"{folder.report} cannot be written to ({reason(error)}): make room, or use another root") from None


def sections(audit: Audit, result: AuditResult, tables: Tables, evidence: Evidence) -> list[page.Section]:
    """The parts of the page; figures are drawn beside it."""
    run, folder = audit.run, audit.attack_folder
    rates = {f"{TPR}{rate:g}": f"TPR at {100 * rate:g} % FPR (%)" for rate in run.attack.fpr}
    early = "What predicts it early" if result.moment == "trigger" else "What predicts it"
    predicted = [areas_list(result), *predictor_tables(tables, result.moment, rates, result.area)]
    return [
        attack_section(tables.attack, rates, run, result, attack_curve(evidence, folder)),
        samples_section(audit, result, evidence),
        page.Section("predictors", early, [DOUBT], predicted, [*prediction_sentences(result), trigger_sentence(result)]),
        *figure_sections(run, result, evidence, folder),
        protocol_section(result.settings),
    ]


def outside(result: AuditResult) -> dict[str, float]:
    """Of each predictor the area for canaries out of domain; empty where there are none."""
    rows = [row for row in result.predictions if row.eta is None and row.moment == result.moment]
    areas = {row.predictor: getattr(row, result.area) for row in rows}
    return {name: area for name, area in areas.items() if area is not None}


def thin_lines(run: AuditConfig, result: AuditResult) -> tuple[dict[str, float], str]:
    """Areas for canaries out of domain, of this audit or of the one beside it, and what is said of them; empty where there are none."""
    if lines := outside(result):
        return lines, " Thin lines: for canaries out of domain."
    if (beside := companion(run)) and (lines := outside(beside)):
        return lines, " Thin lines: for canaries out of domain, of the audit beside this one."
    return {}, ""


def figure_sections(run: AuditConfig, result: AuditResult, evidence: Evidence, folder: AttackFolder) -> list[page.Section]:
    """The parts that are one figure each."""
    moment, (lines, thin) = result.moment, thin_lines(run, result)
    spread = "All models as one." if run.attack.average == POOLED else "Bands: one deviation over models."
    curve = "all models as one" if run.attack.average == POOLED else "means over models"
    asked = asked_of(evidence, run.attack.eta)
    first_and_last = list(dict.fromkeys((asked[0], asked[-1])))
    kinds = ", ".join(figures.KIND_NAMES[name] for name in CANARIES[run.canary.name])
    rows: list[tuple[str, str, Callable[[Path], None], str, str]] = [
        (
            "rocs",
            "ROC curves",
            lambda path: figures.draw_rocs(evidence, asked, moment, path),
            "ROC curves",
            f"At the {moment}, {curve}, one panel for each question. The cross: PSMI < 0, a threshold that nobody has chosen.",
        ),
        (
            "eta",
            "Memorization by degree",
            lambda path: figures.draw_areas(evidence, moment, lines, path),
            "AUC against η",
            f"The higher η, the rarer and the stronger is what counts as memorized. {spread}{thin}",
        ),
        (
            "moments",
            "When it can be predicted",
            lambda path: figures.draw_moments(evidence, first_and_last, path),
            "AUC before, at and after the trigger",
            "Bars: one deviation over models.",
        ),
        (
            "kinds",
            "Canaries",
            lambda path: figures.draw_kinds(evidence, run.attack.eta, moment, path),
            "Distributions by kind",
            f"Canaries: {kinds}. At the left PSMI of members, at the right Λ of audited members; dotted: PSMI = 0, and the values of η.",
        ),
    ]
    return [page.Section(key, title, [], [draw(folder, key, make, heading, caption)]) for key, title, make, heading, caption in rows]


def attack_curve(evidence: Evidence, folder: AttackFolder) -> page.Picture:
    """The attack's own ROC curve."""
    return draw(folder, "attack", lambda path: figures.draw_attack(evidence, path), "ROC curve", "By kind of sample.")


def areas_list(result: AuditResult) -> page.Listing:
    """The areas that the terminal shows."""
    areas = areas_table(result)
    names = {name: name if name == "predictor" else f"auc_{place}" for place, name in enumerate(areas.columns)}
    headings = {column: name for name, column in names.items()}
    caption = f"Area under the ROC curve at the {result.moment}, of each predictor for each question."
    return page.listing(areas.rename(names), headings, "How well memorization is predicted: AUC", caption, "predictions")


def introduction(run: AuditConfig, result: AuditResult) -> str:
    """What was done."""
    kinds = "canaries" if run.membership.name == "canaries" else "samples"
    return (
        f"{run.shadows} shadow models were trained on {result.data.name}, {result.data.samples} samples, and {result.audited} {kinds} are "
        f"audited: each is in the training data of half of the models. They reach {100 * result.train_accuracy:.1f} % on what they are "
        f"trained on, and {100 * result.accuracy:.1f} % on held-out samples. In parentheses behind numbers: 95 % intervals."
    )


def predictor_tables(tables: Tables, moment: str, rates: dict[str, str], area: str) -> list[page.Part]:
    """How well each predictor did at a moment, and PSMI < 0.

    Args:
        rates: column and heading of each true-positive rate. area: the column by which the best is known.
    """
    return [
        page.listing(
            with_doubt(shares(tables.predictions.filter(pl.col("moment") == MOMENT_NAMES[moment]))),
            PREDICTOR_COLUMNS | BESIDE | rates | {"positives_in_all": "positives", "models": "models"},
            f"Predictors at the {moment}",
            "AUC: the mean over models in which both answers occur, ± one deviation; pooled: one curve over all models. p: of being as "
            "good as the best. TPR at a given FPR; positives: how many samples in all models together are what the question asks for. "
            "Those called pixels know no network.",
            "predictions",
            group="question",
            best=area,
        ),
        page.listing(
            shares(tables.below_zero),
            {"question": "question", "tpr": "TPR (%)", "fpr": "FPR (%)", "models": "models"},
            "PSMI < 0",
            f"At the {moment}. An operating point that needs no tuning: how many of the samples asked for it finds, and of the others.",
            "below-zero",
        ),
    ]


def attack_section(attack: pl.DataFrame, rates: dict[str, str], run: AuditConfig, result: AuditResult, curve: page.Picture) -> page.Section:
    """How well the attack itself does; `rates` as in `predictor_tables`."""
    headings = {
        "samples": "samples",
        "number": "number",
        "auc": "AUC",
        "auc_interval": "95 % interval",
        **rates,
        "median_ratio": "median Λ",
        "memorized_at_4": "Λ ≥ 4 (%)",
        "others_at_4": "others with Λ ≥ 4 (%)",
        "published_others_at_4": "others with ratio ≥ 4 (%)",
        "accuracy": "accuracy (%)",
        "global_auc": "one threshold: AUC",
    }
    listing = page.listing(
        with_doubt(shares(attack)),
        headings,
        "Members told from others",
        "Over all models and audited samples; median Λ and Λ ≥ 4 are of members. Accuracy: where whatever lies above the median is called "
        "a member. One threshold: on the score itself, without shadow models.",
        "attack",
    )
    paragraphs = ["Memorization is measured by the likelihood ratio attack, leaving out the model that is looked at."]
    if result.settings["attack"].get("calibrated"):
        paragraphs.append(
            "Λ is calibrated: among samples that nothing tells apart a share of 1 / (1 + e^η) reaches Λ ≥ η (1.8 % at 4), whatever the "
            "number of models. The likelihood ratio itself, as it is published, does not keep to one share: its column stands beside."
        )
    if result.null_auc is not None:
        paragraphs.append(
            f"Leaving out a model takes it from its own side: where nothing is memorized, the attack's AUC would be {result.null_auc:.2f}."
        )
    return page.Section(
        "attack", "How much is memorized", paragraphs, [listing, curve], [introduction(run, result), *attack_sentences(result)]
    )


def with_doubt(rows: pl.DataFrame) -> pl.DataFrame:
    """The table with the intervals of its areas, such as `0.87–0.91`, and p, such as `0.03`, as text; empty where there is none."""
    ends = [pl.col(f"auc_{end}").cast(pl.Float64).map_elements("{:.2f}".format, pl.String) for end in ("low", "high")]
    rows = rows.with_columns(pl.format("{}–{}", *ends).alias("auc_interval"))
    if "p_beaten" not in rows.columns:
        return rows
    p = pl.col("p_beaten").cast(pl.Float64).map_elements(lambda p: p_text(p).removeprefix("= ").replace(" ", "\u00a0"), pl.String)
    return rows.with_columns(p_interval=p)


def share_names(rows: pl.DataFrame) -> list[str]:
    """The columns that hold shares from 0 to 1."""
    return [name for name in rows.columns if name in SHARES or name.startswith(TPR)]


def shares(rows: pl.DataFrame) -> pl.DataFrame:
    """The table with its shares in percent."""
    return rows.with_columns(pl.col(name) * 100 for name in share_names(rows))


def in_percent(rows: pl.DataFrame) -> pl.DataFrame:
    """The same for a reader without the page's headings: their names say so."""
    return shares(rows).rename({name: f"{name} (%)" for name in share_names(rows)})


def draw(folder: AttackFolder, name: str, make: Callable[[Path], None], title: str, caption: str) -> page.Picture:
    """Draw a figure beside the page, and put it there."""
    path = folder.figures / name
    make(path)
    return page.picture(path.with_suffix(".png"), title, caption, f"{title}. {caption}", f"{folder.figures.name}/{name}.pdf")
