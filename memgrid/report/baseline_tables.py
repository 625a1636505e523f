"""What attention adds to what needs none, how hard negatives change it, and how scores grow with samples: tables from finished runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.names import CAME_LATER
from memgrid.metrics import bootstrap, middle
from memgrid.report.read import read_or_told
from memgrid.report.rows import NamedRun, Row, flattened
from memgrid.report.tables import REFERENCES, mean, reference_min_f1, score_row
from memgrid.results.folder import BASELINES
from memgrid.taxonomy import Taxonomy

SIZES = ("select.train_per_class", "select.min_train_per_class")
HARD = tuple(f"select.{key}" for key in CAME_LATER["select"])
READ = {"continuation": "own words", "suffix": "true suffix"}
ROUNDS, SEED = 1000, 0  # of the bootstrap
ADDS, NOTHING, WORSE = "adds", "nothing seen", "worse"
BESIDE = ("together", "confidence", "probe")  # references beside a learning curve
NEGATIVES = (
    *("group", "setting", "drawn", "read", "train", "runs", "min_f1", "low", "high"),
    *("negative", "f1", "kept", "called", "mistaken"),
)
LEARNING = pl.Schema(
    {
        **{"setting": pl.String, "train": pl.Int64, "eval": pl.Int64, "runs": pl.Int64},
        **dict.fromkeys(("min_f1", "low", "high", *BESIDE), pl.Float64),
    }
)


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
    classes = len(run.result.classes)
    files = (run.folder.predictions, run.folder.baselines)
    if not all(path.exists() for path in files):
        return None
    panel, others = (read_or_told(partial(run.folder.table, path)) for path in files)
    if panel is None or others is None:
        return None
    try:
        baselines = {name: others[name].list.to_array(classes).to_numpy() for name in BASELINES if name in others.columns}
        members = np.stack([panel[name].list.to_array(classes).to_numpy() for name in run.result.members])
    except pl.exceptions.PolarsError:
        return None
    same = panel["sequence_id"].equals(others["sequence_id"]) and bool(baselines)
    return Answers(panel["label"].to_numpy().astype(np.int64), members, baselines) if same else None


def right(probabilities: np.ndarray, labels: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    """Who is right on the samples of two classes, asked which of the two it is: float64 (..., n) of 0, 1, and 0.5 for a tie."""
    inside = np.isin(labels, pair)
    mine, other = (probabilities[..., inside, at] for at in pair)
    lead = np.where(labels[inside] == pair[0], mine - other, other - mine)
    return (np.sign(lead) + 1) / 2


def paired_interval(difference: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the mean difference per sample, float64 (n,), when samples are drawn again."""
    low, high = middle(bootstrap(lambda drawn: difference[drawn].mean(1), len(difference), ROUNDS, seed=SEED))
    return float(low), float(high)


def added(rows: Iterable[Row]) -> pl.DataFrame:
    """A record per row and pair of its classes: accuracy in percent of the panel and of the best without attention, and their difference.

    Columns: setting, pair, runs, attention, best (of `BASELINES`), without, difference, low, high (95 %, paired over eval samples; means
    over runs), verdict, meaning (a sentence), and the accuracy of each baseline. Rows whose runs have no answers on disk are left out.
    The best is chosen on the same samples: that is to attention's disadvantage.
    """
    records: list[dict[str, Any]] = []
    for row in rows:
        answered = [(run, answers) for run in row.runs if (answers := read_answers(run)) is not None]
        titles = row.first.result.classes
        for first, second in combinations(range(len(titles)), 2) if answered else ():
            comparison = compare(row, answered, (first, second))
            records.append({"setting": row.label, "pair": f"{titles[first]} or {titles[second]}", **comparison.columns()})
    return pl.DataFrame(records, infer_schema_length=None)


@dataclass(frozen=True)
class Comparison:
    """Attention against what needs none, on the samples of two classes; accuracies and differences in percent, means over runs.

    Attributes:
        attention: the accuracy of the CNNs. baselines: of each baseline that all runs have.
        low, high: the 95 % interval of the difference from the best baseline, paired over eval samples.
    """

    runs: int
    attention: float
    baselines: dict[str, float]
    low: float
    high: float

    @property
    def best(self) -> str:
        """The baseline with the highest accuracy."""
        return highest(self.baselines)

    @property
    def without(self) -> float:
        """The accuracy of the best baseline."""
        return self.baselines[self.best]

    @property
    def difference(self) -> float:
        """By how many points attention is better than the best baseline."""
        return self.attention - self.without

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        return ADDS if self.low > 0 else WORSE if self.high < 0 else NOTHING

    @property
    def meaning(self) -> str:
        """The same as a sentence."""
        best, size = REFERENCES[self.best].phrase, abs(self.difference)
        if self.verdict == ADDS:
            return f"attention adds {size:.1f} points ({self.low:.1f} to {self.high:.1f}) to {best}"
        if self.verdict == WORSE:
            return f"attention is worse than {best} by {size:.1f} points ({-self.high:.1f} to {-self.low:.1f})"
        return f"attention adds nothing that can be seen to {best} ({self.difference:+.1f} points, {self.low:.1f} to {self.high:.1f})"

    def columns(self) -> dict[str, Any]:
        """As columns of the table; a baseline that is not known is None."""
        names = ("runs", "attention", "best", "without", "difference", "low", "high", "verdict", "meaning")
        columns: dict[str, Any] = {name: getattr(self, name) for name in names}
        return {**columns, **{name: self.baselines.get(name) for name in BASELINES}}


def highest(accuracies: dict[str, float]) -> str:
    """The first name with the highest accuracy."""
    return max(accuracies, key=lambda name: accuracies[name])


def compare(row: Row, answered: Sequence[tuple[NamedRun, Answers]], pair: tuple[int, int]) -> Comparison:
    """One pair of classes, over the runs of a row that have answers."""
    panels: list[np.ndarray] = []
    others: dict[str, list[np.ndarray]] = {name: [] for name in BASELINES if all(name in answers.others for _, answers in answered)}
    for run, answers in answered:
        # Equal partitions may have their classes in another order.
        place = np.array(run.divided.order)[np.argsort(row.first.divided.order)]
        here = (int(place[pair[0]]), int(place[pair[1]]))
        panels.append(right(answers.panel, answers.labels, here).mean(0))
        for name, hits in others.items():
            hits.append(right(answers.others[name], answers.labels, here))
    accuracies = {name: 100 * mean(by_sample.mean() for by_sample in hits) for name, hits in others.items()}
    best = others[highest(accuracies)]
    intervals = [paired_interval(panel - baseline) for panel, baseline in zip(panels, best, strict=True)]
    low, high = (100 * mean(side) for side in zip(*intervals, strict=True))
    return Comparison(len(answered), 100 * mean(panel.mean() for panel in panels), accuracies, low, high)


def alike(row: Row, but_for: Sequence[str]) -> str:
    """Equal for rows whose settings differ in `but_for` at most."""
    settings = flattened(row.first.settings)
    place = row.first.place[:2]
    return json.dumps([*place, row.first.row_key[-1], {key: value for key, value in sorted(settings.items()) if key not in but_for}])


def grouped(rows: Iterable[Row], but_for: Sequence[str]) -> list[list[Row]]:
    """Rows that differ only in these settings, where there are several."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[alike(row, but_for)].append(row)
    return [group for group in groups.values() if len(group) > 1]


def negatives(rows: Iterable[Row]) -> pl.DataFrame:
    """Rows with hard negatives and, before them, those with ordinary ones that are otherwise alike.

    Columns: group (equal for rows that belong together), setting, drawn (any or matched), read (own words or true suffix), train, runs,
    min_f1, low, high, and of the class of what is not memorized: its name, its F1, the share called right, and which class it is most
    often mistaken for (`called`, `mistaken`).
    """
    records: list[dict[str, Any]] = []
    for index, group in enumerate(grouped(rows, HARD)):
        for row in sorted(group, key=hardness):
            drawn_as, read_as = (row.first.settings["select"].get(key, usual) for key, usual in CAME_LATER["select"].items())
            negative = Taxonomy.of(row.setting, row.first.settings["taxonomy"]["classes"]).non_memorized
            if negative is not None:
                names = {"group": index, "setting": row.setting, "drawn": drawn_as, "read": READ[read_as], "runs": len(row.runs)}
                scores = score_row(row.runs)
                records.append({**names, "train": train_samples(row), **scores, **asdict(class_mistakes(row, negative))})
    return pl.DataFrame(records, infer_schema_length=None).select(NEGATIVES) if records else pl.DataFrame()


def hardness(row: Row) -> tuple[bool, ...]:
    """For each setting of `HARD`, whether a row has another value than the usual one."""
    selection = row.first.settings["select"]
    return tuple(selection.get(key, usual) != usual for key, usual in CAME_LATER["select"].items())


def train_samples(row: Row) -> int:
    """Samples per class, of the run that has fewest."""
    return min(run.result.samples.train for run in row.runs)


@dataclass(frozen=True)
class ClassMistakes:
    """How the class of what is not memorized fares: its name, its F1 and the share called right, both in percent.

    And the class that it is most often mistaken for, with that share in percent.
    """

    negative: str
    f1: float
    kept: float
    called: str
    mistaken: float


def class_mistakes(row: Row, negative: int) -> ClassMistakes:
    """How a class of a row fares, over all its runs."""
    counts, titles = row.confusion(row.runs), row.first.result.classes
    shares = 100 * counts[negative] / max(1, counts[negative].sum())
    others = [index for index in range(len(titles)) if index != negative]
    called = max(others, key=lambda index: shares[index])
    f1 = 200 * counts[negative, negative] / max(1, counts[negative].sum() + counts[:, negative].sum())
    return ClassMistakes(titles[negative], float(f1), float(shares[negative]), titles[called], float(shares[called]))


def learning(rows: Iterable[Row]) -> pl.DataFrame:
    """A row per number of train samples per class, of rows that differ in nothing else; empty where there are none.

    Columns: setting, train, eval, runs, min_f1, low, high, and beside it the min-F1 of what needs no attention (`together`, `confidence`)
    and of the better linear probe (`probe`).
    """
    records: list[tuple[Any, ...]] = []
    for group in grouped(rows, SIZES):
        for row in sorted(group, key=train_samples):
            others = [reference_min_f1(row.runs, name) for name in BESIDE]
            scores = score_row(row.runs)
            place = curve_name(row), train_samples(row), row.first.result.samples.eval, len(row.runs)
            records.append((*place, *(scores[name] for name in ("min_f1", "low", "high")), *others))
    return pl.DataFrame(records, schema=LEARNING, orient="row") if records else pl.DataFrame()


def curve_name(row: Row) -> str:
    """The label of a row without the settings that its curve is over."""
    parts = row.label.split(" · ")
    variant = ", ".join(part for part in row.first.variant.split(", ") if part and not part.startswith(SIZES))
    return " · ".join(filter(None, [*(part for part in parts if part != row.first.variant), variant]))
