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
from memgrid.results.records import LATER, InterveneRecord, LocalizeRecord, RandomizationCurves, readable
from memgrid.results.result import Estimate, PanelScores, ProbeTest, RunResult
from memgrid.results.transfers import sentences as transfer_sentences
from memgrid.taxonomy.thresholds import Thresholds

APART = 0.05  # the chance, at most, that any two classes of a run that are alike are called told apart


def stage_sentences(run: RunConfig, folder: RunFolder) -> list[str]:
    """What the stages that the run asks for found, in sentences; nothing of those that are not done."""
    done = {stage for stage in LATER if stage in run.stages and folder.is_done(run, stage)}
    lines = []
    if "localize" in done and (located := folder.localize_record(run.localize.method)):
        lines += [where_it_decides(located), *randomization_sentences(located)]
    if "intervene" in done and (intervened := folder.intervene_record()):
        lines += sentences(intervened)
    if "transfer" in done and (transferred := folder.transfer_record()):
        lines += transfer_sentences.sentences(transferred)
    return lines


def of_later_stages(folder: RunFolder) -> list[str]:
    """What all stages after training found, whatever their settings; nothing of what cannot be read."""
    lines = []
    for localization in folder.localize_records():
        lines += [where_it_decides(localization), *randomization_sentences(localization)]
    intervention, transfer = readable(folder.intervene_record), readable(folder.transfer_record)
    lines += [] if intervention is None else sentences(intervention)
    return lines + ([] if transfer is None else transfer_sentences.sentences(transfer))


def where_it_decides(record: LocalizeRecord) -> str:
    """The most decisive layer of every class."""
    parts = [f"{regions.title} in layer {regions.layer} of {regions.layers} ({regions.layer_share:.0f} %)" for regions in record.classes]
    where = f"Most of Δ ({record.method}, {record.samples}) lies for {', '.join(parts)}."
    known = [f"{regions.shared:.0f} % for {regions.title}" for regions in record.classes if regions.shared is not None]
    return f"{where} Of their most decisive 3 % of positions two networks share {', '.join(known)} (3 % by chance)." if known else where


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
    """What an intervention found: dose by dose, and where it was on heads or layers, at equal damage."""
    return [*by_dose(record), *(f"{text}." for one in record.selectivity if one.beyond_positions for text in one.sentences)]


def by_dose(record: InterveneRecord) -> list[str]:
    """Of positions, for each class a sentence for every control, and what follows."""
    return [f"{text}." for verdict in record.verdicts for text in verdict.sentences]


def conclusions(record: InterveneRecord) -> list[str]:
    """The last of these, of each class."""
    return [f"{verdict.sentences[-1]}." for verdict in record.verdicts]


def result_table(result: RunResult) -> Table:
    """A row per class and one for min-F1: the panel with spread and interval, and beside it the two controls."""
    counts = result.samples
    table = Table(
        title=f"{describe(result.settings)}   ({counts.train} + {counts.eval} samples per class)",
        title_justify="left",
        collapse_padding=True,
    )
    for column in (
        "class",
        f"F1, mean of {plural(len(result.members), 'CNN')}",
        "± CNNs",
        "95 % interval",
        "worst pair",
        "shuffled labels",
        "confidence alone",
    ):
        table.add_column(column, justify="left" if column == "class" else "right", no_wrap=column == "worst pair")
    controls = result.control, result.confidence
    for index, title in enumerate(result.classes):
        table.add_row(
            Text(title),
            *score_texts(result.panel.f1[index]),
            pair_text(result, index),
            *(mean_f1_text(scores, index) for scores in controls),
        )
    table.add_section()
    table.add_row(
        f"min-F1, {result.doubt}" if result.doubt else "min-F1",
        *score_texts(result.panel.min_f1),
        pair_text(result),
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
    return f"{score.mean:.1f}", f"{score.std:.1f}", f"{score.low:.1f}–{score.high:.1f}"


def pair_text(result: RunResult, place: int | None = None) -> str:
    """The class that one is told apart from least, with the balanced accuracy, or that of the worst pair; a dash where that is not known.

    Such as `Recall 86.3`, and in a second line `(p = .21)` where the two are not told apart.
    """
    pair = result.worst_pair(place)
    if pair is None:
        return "–"
    other = "" if place is None else f"{result.classes[pair.second if pair.first == place else pair.first]} "
    doubtful = f"\n(p = {pair.adjusted:.2f})" if pair.adjusted > APART else ""
    return f"{other}{pair.accuracy:.1f}{doubtful}"


def mean_f1_text(scores: PanelScores | None, index: int | None = None) -> str:
    """The mean F1 of a class under a control, or its min-F1; a dash where the control was not run."""
    if scores is None:
        return "–"
    return f"{(scores.min_f1 if index is None else scores.f1[index]).mean:.1f}"


def doubts(result: RunResult) -> list[str]:
    """What is wrong with the training itself, so that scores say less than they seem to; nothing of results that do not know."""
    lines, number, epochs = [], len(result.training), result.settings["cnn"]["epochs"]
    if one := result.of_one_answer:
        gives = f"{one} of {plural(number, 'network')} {'gives' if one == 1 else 'give'}"
        lines.append(f"NOT TRAINED: {gives} the same answer to every sample, so a score of it says nothing of the classes.")
    if behind := result.behind:
        worst = max(behind, key=lambda member: member.train_loss)
        have = f"{len(behind)} of {plural(number, 'network')} {'has' if len(behind) == 1 else 'have'}"
        loss = f"a training loss of {worst.train_loss:.2f} after {plural(epochs, 'epoch')}, where a linear probe has {worst.probe_loss:.2f}"
        lines.append(f"UNDERTRAINED: {have} not learned what they could ({loss} on others): use more cnn.epochs.")
    return lines


def verdicts(result: RunResult) -> list[str]:
    """What the numbers allow to say, in plain words: which classes are told apart, whether by chance, and attention against confidence."""
    lines = [*doubts(result), *told_apart(result)]
    if test := result.probe_test:
        lines.append(seen_by_probe(test))
    if result.confidence:
        size, side = points_between(result.panel, result.confidence)
        lines.append(f"The min-F1 from attention is {size} points {side} that from the model's own confidence alone.")
    if together := result.baselines.get("together"):
        size, side = points_between(result.panel, together)
        lines.append(f"It is {size} points {side} that from all that needs no attention together.")
    return lines


def told_apart(result: RunResult) -> list[str]:
    """Which classes are told apart from every other one, and of those that are not, from which they are told apart least.

    The chance that any two classes which are alike are called told apart is 5 % at most, over all pairs of the run.
    """
    if not result.pairs:
        return []
    apart, not_apart = [], []
    for place, title in enumerate(result.classes):
        alike = [pair for pair in result.pairs if place in (pair.first, pair.second) and pair.adjusted > APART]
        if alike:
            names = [result.classes[pair.second if pair.first == place else pair.first] for pair in alike]
            not_apart.append(f"{title} (from {', '.join(names)})")
        else:
            apart.append(title)
    lines = [f"Told apart from each other class: {', '.join(apart)}."] if apart else []
    return [*lines, f"NOT told apart from each other class: {', '.join(not_apart)}."] if not_apart else lines


def is_told_apart(result: RunResult) -> bool:
    """Whether each class is told apart from each other."""
    return bool(result.pairs) and all(pair.adjusted <= APART for pair in result.pairs)


def seen_by_probe(test: ProbeTest) -> str:
    """Whether attention says anything of the classes."""
    numbers = (
        f"right for {test.accuracy:.1f} %, and for {test.permuted:.1f} % where labels are permuted "
        f"(p = {test.chance:.3g}, {test.permutations} permutations)"
    )
    if test.chance <= APART:
        return f"Attention says something of the classes: a linear classifier is {numbers}."
    return f"NOTHING of the classes is seen in attention by a linear classifier: it is {numbers}."


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
