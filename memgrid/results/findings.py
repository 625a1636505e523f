"""What a result says: the table of a run in the terminal, and sentences about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from memgrid.config.schema import RunConfig
from memgrid.results.records import LATER, is_done, mark_path, read_mark
from memgrid.taxonomy import Thresholds


def said(run: RunConfig, folder: Path) -> list[str]:
    """What the stages that the run asks for found, in sentences; nothing of those that are not done."""
    marks = {stage: read_mark(mark_path(run, folder, stage)) for stage in LATER if stage in run.stages and is_done(run, folder, stage)}
    lines = []
    if mark := marks.get("localize"):
        lines += [where_it_decides(mark), *randomised(mark)]
    if mark := marks.get("intervene"):
        lines += sentences(mark)
    return lines


def where_it_decides(mark: dict[str, Any]) -> str:
    """The most decisive layer of every class."""
    parts = [f"{one['class']} in layer {one['layer']} of {one['layers']} ({one['layer_share']:.0f} %)" for one in mark["classes"]]
    return f"Most of Δ ({mark['method']}, {mark['samples']}) lies for {', '.join(parts)}."


def randomised(mark: dict[str, Any]) -> list[str]:
    """What became of the maps when the networks got random weights; nothing where that was not tested."""
    if not mark["sanity"]:
        return []
    delta, decisive = (last_correlation(mark["sanity"], which) for which in ("delta", "decisiveness"))
    return [
        f"Networks with random weights in all layers give maps that correlate with these by {decisive:.2f} (D, by the networks alone) and "
        f"by {delta:.2f} (Δ, which keeps the attention); 1 would say that the maps are not about the networks."
    ]


def last_correlation(sanity: dict[str, Any], which: str) -> float:
    """The mean over classes of the correlation when all layers are random."""
    return float(np.mean([found[which][max(found[which], key=int)] for found in sanity.values()]))


def mean_curves(sanity: dict[str, Any]) -> dict[str, dict[int, float]]:
    """The randomisation test's curves, means over classes, under the names that its figure shows."""
    named = {"delta": "Δ, which keeps the attention", "decisiveness": "D, by the networks alone"}
    every = {which: [found[which] for found in sanity.values()] for which in named}
    return {
        name: {int(layers): float(np.mean([curve[layers] for curve in every[which]])) for layers in every[which][0]}
        for which, name in named.items()
    }


def sentences(mark: dict[str, Any]) -> list[str]:
    """What an intervention found, two sentences a class."""
    return [f"{one[key]}." for one in mark["verdict"] for key in ("sentence", "attended_sentence") if one[key]]


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
    parts = (settings["llm"]["name"], settings["taxonomy"]["name"], Thresholds.of(settings).text(), f"seed {settings['seed']}")
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
