"""What attention adds to what needs none, how hard negatives change it, and how scores grow with samples: tables from finished runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.names import CAME_LATER
from memgrid.metrics import bootstrap, middle
from memgrid.report.rows import Cell, NamedRun, flattened, taxonomy_of
from memgrid.report.tables import mean, reference, score_row
from memgrid.results.folder import ANSWERS

# What needs no attention → how it is called in a sentence.
NAMES = {
    "tokens": "a bag of the tokens",
    "overlap": "the overlap of prefix and suffix",
    "confidence": "the model's own confidence",
    "likelihood": "the likelihood of the prefix",
    "together": "all of these baselines together",
}
SIZES = ("select.train_per_class", "select.min_train_per_class")
HARD = tuple(f"select.{key}" for key in CAME_LATER["select"])
READ = {"continuation": "own words", "suffix": "true suffix"}
ROUNDS = 1000  # of the bootstrap
ADDS, NOTHING, WORSE = "adds", "nothing seen", "worse"


@dataclass(frozen=True)
class Answers:
    """What was said of a run's eval samples.

    Attributes:
        labels: int64 (n,).
        panel: float64 (members, n, classes).
        others: float64 (n, classes) by baseline.
    """

    labels: np.ndarray
    panel: np.ndarray
    others: dict[str, np.ndarray]


def read_answers(run: NamedRun) -> Answers | None:
    """A run's predictions and those of its baselines; None where an older version left none, or a file is damaged."""
    folder, classes = Path(run.metrics["folder"]), len(run.metrics["classes"])
    try:
        panel, others = (pl.read_parquet(folder / name) for name in ("predictions.parquet", ANSWERS))
        found = {name: others[name].list.to_array(classes).to_numpy() for name in NAMES if name in others.columns}
        members = np.stack([panel[name].list.to_array(classes).to_numpy() for name in run.metrics["members"]])
    except (OSError, pl.exceptions.PolarsError):
        return None
    same = panel["sequence_id"].equals(others["sequence_id"]) and bool(found)
    return Answers(panel["label"].to_numpy().astype(np.int64), members, found) if same else None


def right(probabilities: np.ndarray, labels: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    """Who is right on the samples of two classes, asked which of the two it is: float64 (..., n) of 0, 1, and 0.5 for a tie."""
    inside = np.isin(labels, pair)
    mine, other = (probabilities[..., inside, at] for at in pair)
    lead = np.where(labels[inside] == pair[0], mine - other, other - mine)
    return (np.sign(lead) + 1) / 2


def paired_interval(difference: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the mean difference per sample, float64 (n,), when samples are drawn again."""
    low, high = middle(bootstrap(lambda drawn: difference[drawn].mean(1), len(difference), ROUNDS, seed=0))
    return float(low), float(high)


def added(rows: Iterable[Cell]) -> pl.DataFrame:
    """A row per cell and pair of its classes: accuracy in percent of the panel and of the best without attention, and their difference.

    Columns: setting, pair, runs, attention, best (a key of `NAMES`), without, difference, low, high (95 %, paired over eval samples; means
    over runs), verdict, meaning (a sentence), and the accuracy of each baseline. Cells whose runs have no answers on disk are left out.
    The best is chosen on the same samples: that is to attention's disadvantage.
    """
    made = []
    for cell in rows:
        known = [(run, answers) for run in cell.runs if (answers := read_answers(run)) is not None]
        titles = cell.first.metrics["classes"]
        for pair in combinations(range(len(titles)), 2) if known else ():
            made.append({"setting": cell.label, "pair": f"{titles[pair[0]]} or {titles[pair[1]]}", **compared(cell, known, pair)})
    return pl.DataFrame(made, infer_schema_length=None)


def compared(cell: Cell, known: Sequence[tuple[NamedRun, Answers]], pair: tuple[int, int]) -> dict[str, Any]:
    """One pair of classes, over the runs of a cell."""
    panels: list[np.ndarray] = []
    others: dict[str, list[np.ndarray]] = {}
    shared = [name for name in NAMES if all(name in answers.others for _, answers in known)]
    for run, answers in known:
        # Equal partitions may have their classes in another order.
        place = np.array(run.divided.order)[np.argsort(cell.first.divided.order)]
        here = (int(place[pair[0]]), int(place[pair[1]]))
        panels.append(right(answers.panel, answers.labels, here).mean(0))
        for name in shared:
            others.setdefault(name, []).append(right(answers.others[name], answers.labels, here))
    accuracy = {name: 100 * mean(one.mean() for one in found) for name, found in others.items()}
    best = max(accuracy, key=lambda name: accuracy[name])
    attention = 100 * mean(one.mean() for one in panels)
    intervals = [paired_interval(panel - other) for panel, other in zip(panels, others[best], strict=True)]
    low, high = (100 * mean(side) for side in zip(*intervals, strict=True))
    row = {"runs": len(known), "attention": attention, "best": best, "without": accuracy[best], "difference": attention - accuracy[best]}
    row |= {"low": low, "high": high, "verdict": ADDS if low > 0 else WORSE if high < 0 else NOTHING}
    return {**row, "meaning": sentence(row), **{name: accuracy.get(name) for name in NAMES}}


def sentence(row: dict[str, Any]) -> str:
    """What a pair's numbers say."""
    best, size = NAMES[row["best"]], abs(row["difference"])
    low, high = row["low"], row["high"]
    if row["verdict"] == ADDS:
        return f"attention adds {size:.1f} points ({low:.1f} to {high:.1f}) to {best}"
    if row["verdict"] == WORSE:
        return f"attention is worse than {best} by {size:.1f} points ({-high:.1f} to {-low:.1f})"
    return f"attention adds nothing that can be seen to {best} ({row['difference']:+.1f} points, {low:.1f} to {high:.1f})"


def alike(cell: Cell, but_for: Sequence[str]) -> str:
    """Equal for cells whose settings differ in `but_for` at most."""
    settings = flattened(cell.first.settings)
    place = cell.first.place[:2]
    return json.dumps([*place, cell.first.cell[-1], {key: value for key, value in sorted(settings.items()) if key not in but_for}])


def grouped(rows: Iterable[Cell], but_for: Sequence[str]) -> list[list[Cell]]:
    """Cells that differ only in these settings, where there are several."""
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in rows:
        groups[alike(cell, but_for)].append(cell)
    return [group for group in groups.values() if len(group) > 1]


def negatives(rows: Iterable[Cell]) -> pl.DataFrame:
    """Cells with hard negatives and, before them, those with ordinary ones that are otherwise alike.

    Columns: group (equal for cells that belong together), setting, drawn (any or matched), read (own words or true suffix), train, runs,
    min_f1, low, high, and of the class of what is not memorized: its name, its F1, the share called right, and which class it is most
    often mistaken for (`called`, `mistaken`).
    """
    made = []
    for index, group in enumerate(grouped(rows, HARD)):
        ranked = sorted(group, key=lambda cell: tuple(map(hardness, CAME_LATER["select"].items(), [cell] * len(HARD))))
        for cell in ranked:
            drawn_as, read_as = (cell.first.settings["select"].get(key, usual) for key, usual in CAME_LATER["select"].items())
            negative = taxonomy_of(json.dumps(cell.first.settings["taxonomy"]["classes"])).non_memorized
            if negative is not None:
                row = {"group": index, "setting": cell.setting, "drawn": drawn_as, "read": READ[read_as], "runs": len(cell.runs)}
                made.append({**row, "train": train_samples(cell), **score_row(cell.runs), **mistakes(cell, negative)})
    names = ("group", "setting", "drawn", "read", "train", "runs", "min_f1", "low", "high", "negative", "f1", "kept", "called", "mistaken")
    return pl.DataFrame(made, infer_schema_length=None).select(names) if made else pl.DataFrame()


def hardness(setting: tuple[str, str], cell: Cell) -> bool:
    """Whether a cell has another value than the usual one."""
    key, usual = setting
    return bool(cell.first.settings["select"].get(key, usual) != usual)


def train_samples(cell: Cell) -> int:
    """Samples per class, of the run that has fewest."""
    return min(run.metrics["samples"]["train"] for run in cell.runs)


def mistakes(cell: Cell, negative: int) -> dict[str, Any]:
    """How a class fares: F1, share called right, and the class it is most often mistaken for, with that share; in percent."""
    counts, titles = cell.confusion(cell.runs), cell.first.metrics["classes"]
    shares = 100 * counts[negative] / max(1, counts[negative].sum())
    others = [index for index in range(len(titles)) if index != negative]
    called = max(others, key=lambda index: shares[index])
    f1 = 200 * counts[negative, negative] / max(1, counts[negative].sum() + counts[:, negative].sum())
    row = {"negative": titles[negative], "f1": float(f1), "kept": float(shares[negative])}
    return {**row, "called": titles[called], "mistaken": float(shares[called])}


def learning(rows: Iterable[Cell]) -> pl.DataFrame:
    """A row per number of train samples per class, of cells that differ in nothing else; empty where there are none.

    Columns: setting, train, eval, runs, min_f1, low, high, and beside it the min-F1 of what needs no attention (`together`, `confidence`)
    and of the better linear probe (`probe`).
    """
    made = []
    for group in grouped(rows, SIZES):
        for cell in sorted(group, key=train_samples):
            place = {"setting": curve_name(cell), "train": train_samples(cell), "eval": cell.first.metrics["samples"]["eval"]}
            others = {name: reference(cell.runs, name) for name in ("together", "confidence", "probe")}
            made.append({**place, "runs": len(cell.runs), **score_row(cell.runs), **others})
    names = ("setting", "train", "eval", "runs", "min_f1", "low", "high", "together", "confidence", "probe")
    floats = dict.fromkeys(names[-3:], pl.Float64)
    return pl.DataFrame(made, infer_schema_length=None, schema_overrides=floats).select(names) if made else pl.DataFrame()


def curve_name(cell: Cell) -> str:
    """The label of a cell without the settings that its curve is over."""
    parts = cell.label.split(" · ")
    variant = ", ".join(part for part in cell.first.variant.split(", ") if part and not part.startswith(SIZES))
    return " · ".join(filter(None, [*(part for part in parts if part != cell.first.variant), variant]))
