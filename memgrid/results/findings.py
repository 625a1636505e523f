"""What a result says: the table of a run in the terminal, and sentences about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memgrid.config.names import called
from memgrid.config.schema import RunConfig
from memgrid.io.display import plural
from memgrid.results.folder import RunFolder
from memgrid.results.records import InterveneRecord, LocalizeRecord, RandomizationCurves
from memgrid.results.result import Estimate, PanelScores, RunResult
from memgrid.taxonomy import Thresholds


def stage_sentences(run: RunConfig, folder: RunFolder) -> list[str]:
    """What the stages that the run asks for found, in sentences; nothing of those that are not done."""
    done = {stage for stage in ("localize", "intervene") if stage in run.stages and folder.is_done(run, stage)}
    lines = []
    if "localize" in done and (located := folder.localize_record(run.localize.method)):
        lines += [where_it_decides(located), *randomization_sentences(located)]
    if "intervene" in done and (intervened := folder.intervene_record()):
        lines += sentences(intervened)
    return lines


def where_it_decides(record: LocalizeRecord) -> str:
    """The most decisive layer of every class."""
    parts = [f"{regions.title} in layer {regions.layer} of {regions.layers} ({regions.layer_share:.0f} %)" for regions in record.classes]
    return f"Most of Δ ({record.method}, {record.samples}) lies for {', '.join(parts)}."


def randomization_sentences(record: LocalizeRecord) -> list[str]:
    """What became of the maps when the networks got random weights; nothing where that was not tested."""
    curves = record.randomization_test
    if not curves:
        return []
    return [
        f"Networks with random weights in all layers give maps that correlate with these by {last_correlation(curves, 'decisiveness'):.2f} "
        f"(D, by the networks alone) and by {last_correlation(curves, 'decision_map'):.2f} (Δ, which keeps the attention); 1 would say "
        "that the maps are not about the networks."
    ]


def last_correlation(curves: Mapping[str, RandomizationCurves], which: str) -> float:
    """The mean over classes of the correlation when all layers are random; `which`: decision_map or decisiveness."""
    by_class: list[dict[int, float]] = [getattr(of_class, which) for of_class in curves.values()]
    return float(np.mean([curve[max(curve)] for curve in by_class]))


def mean_curves(curves: Mapping[str, RandomizationCurves]) -> dict[str, dict[int, float]]:
    """The randomization test's curves, means over classes, under the names that its figure shows."""
    by_name = {
        "Δ, which keeps the attention": [of_class.decision_map for of_class in curves.values()],
        "D, by the networks alone": [of_class.decisiveness for of_class in curves.values()],
    }
    return {
        name: {layers: float(np.mean([curve[layers] for curve in by_class])) for layers in by_class[0]}
        for name, by_class in by_name.items()
    }


def sentences(record: InterveneRecord) -> list[str]:
    """What an intervention found, two sentences a class."""
    return [f"{text}." for verdict in record.verdicts for text in (verdict.sentence, verdict.attended_sentence) if text]


def result_table(result: RunResult) -> Table:
    """A row per class and one for min-F1: the panel with spread and interval, and beside it the two controls."""
    counts = result.samples
    table = Table(title=f"{describe(result.settings)}   ({counts.train} + {counts.eval} samples per class)", title_justify="left")
    for column in (
        "class",
        f"F1, mean of {plural(len(result.members), 'CNN')}",
        "± CNNs",
        "95 % interval",
        "shuffled labels",
        "confidence alone",
    ):
        table.add_column(column, justify="left" if column == "class" else "right")
    controls = result.control, result.confidence
    for index, title in enumerate(result.classes):
        table.add_row(Text(title), *score_texts(result.panel.f1[index]), *(mean_f1_text(scores, index) for scores in controls))
    table.add_section()
    table.add_row(
        f"min-F1, {result.doubt}" if result.doubt else "min-F1",
        *score_texts(result.panel.min_f1),
        *(mean_f1_text(scores) for scores in controls),
        style="bold",
    )
    return table


def describe(settings: dict[str, Any]) -> str:
    """Such as `toy · rasy · δ=50 ρ=0.5 (both) · seed 0`."""
    parts = (called(settings["llm"]), settings["taxonomy"]["name"], Thresholds.of(settings).text(), f"seed {settings['seed']}")
    return " · ".join(part for part in parts if part)


def score_texts(score: Estimate) -> tuple[str, str, str]:
    """Mean, spread over members and interval of one score, in percent."""
    return f"{score.mean:.1f}", f"{score.std:.1f}", f"{score.low:.1f} to {score.high:.1f}"


def mean_f1_text(scores: PanelScores | None, index: int | None = None) -> str:
    """The mean F1 of a class under a control, or its min-F1; a dash where the control was not run."""
    if scores is None:
        return "–"
    return f"{(scores.min_f1 if index is None else scores.f1[index]).mean:.1f}"


def doubts(result: RunResult) -> list[str]:
    """What is wrong with the training itself, so that scores say less than they seem to; nothing of results that do not know."""
    lines, number, epochs = [], len(result.training), result.settings["cnn"]["epochs"]
    if one := result.of_one_answer:
        lines.append(
            f"NOT TRAINED: {one} of {number} networks give the same answer to every sample: what they score is none of the classes."
        )
    if behind := result.behind:
        worst = max(behind, key=lambda member: member.train_loss)
        loss = f"a training loss of {worst.train_loss:.2f} after {epochs} epochs, where a linear probe has {worst.probe_loss:.2f} on others"
        lines.append(f"UNDERTRAINED: {len(behind)} of {number} networks have not learned what they could ({loss}): use more cnn.epochs.")
    return lines


def verdicts(result: RunResult) -> list[str]:
    """What the numbers allow to say, in plain words: per class against the shuffled control, and attention against confidence."""
    lines = doubts(result)
    apart: list[str] = []
    not_apart: list[str] = []
    # Whoever always answers one class gets this F1 on it: a control that collapsed onto another class would be too easy to beat.
    one_answer = 200 / (len(result.classes) + 1)
    for index, title in enumerate(result.classes):
        bar = max(one_answer, result.control.f1[index].mean) if result.control else one_answer
        (apart if result.panel.f1[index].low > bar else not_apart).append(title)
    if apart:
        lines.append(f"Told apart better than by chance{' and by the shuffled control' * bool(result.control)}: {', '.join(apart)}.")
    if not_apart:
        lines.append(f"NOT told apart better than by chance{' or the shuffled control' * bool(result.control)}: {', '.join(not_apart)}.")
    if result.confidence:
        size, side = points_between(result.panel, result.confidence)
        lines.append(f"The min-F1 from attention is {size} points {side} that from the model's own confidence alone.")
    if together := result.baselines.get("together"):
        size, side = points_between(result.panel, together)
        lines.append(f"It is {size} points {side} that from all that needs no attention together.")
    return lines


def points_between(panel: PanelScores, other: PanelScores) -> tuple[str, str]:
    """By how many points of min-F1 a panel is above or below another."""
    difference = panel.min_f1.mean - other.min_f1.mean
    return f"{abs(difference):.1f}", "above" if difference > 0 else "below"


def print_result(result: RunResult, folder: RunFolder, console: Console) -> None:
    """The table, what it says, and where everything lies."""
    console.print()
    console.print(result_table(result))
    for sentence in verdicts(result):
        console.print(sentence, style="bold" if sentence.startswith(("NOT", "UNDERTRAINED")) else None, highlight=False, markup=False)
    console.print(f"Everything is in {folder.path}", style="dim", highlight=False, soft_wrap=True, markup=False)
