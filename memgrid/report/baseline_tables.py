"""What attention adds to what needs none, how hard negatives change it, and how scores grow with samples: tables from finished runs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from memgrid.config.names import CAME_LATER
from memgrid.metrics import stacking
from memgrid.metrics.pairs import leads, right
from memgrid.metrics.resampling import mean_interval
from memgrid.report.read import Answers, read_answers
from memgrid.report.rows import NamedRun, Row
from memgrid.report.settings.variants import flattened
from memgrid.report.tables import REFERENCES, mean, reference_min_f1, score_row
from memgrid.results.folder import BASELINES
from memgrid.taxonomy.taxonomy import Taxonomy

SIZES = ("select.train_per_class", "select.min_train_per_class")
HARD = tuple(f"select.{key}" for key in CAME_LATER["select"])
READ = {"continuation": "own words", "suffix": "true suffix"}
SEED, FLOOR = 0, 1e-3
EVERY = "every"  # all baselines at once
ADDS, NOTHING = "adds", "nothing seen"
BETTER, ALIKE, WORSE = "better", "not seen to differ", "worse"
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


def added(rows: Iterable[Row]) -> pl.DataFrame:
    """A record per row and pair of its classes: what attention adds to what needs none, and how good it is instead of that.

    Columns: setting, pair, runs, verdict, meaning (a sentence), then for `EVERY` baseline together and for each by itself the nats per
    sample by which the log-loss falls when attention is seen, too (`adds_<name>`, with `_low` and `_high`, 95 %); and for attention instead
    of the best baseline accuracies in percent (attention, best, without, that of each baseline), their difference with low and high, and
    `instead`, what that says. Means over runs; intervals are paired over eval samples. Rows whose runs have no answers on disk are left
    out. The best baseline is chosen on the same samples: that is to attention's disadvantage.
    """
    records: list[dict[str, Any]] = []
    for row in rows:
        answered = [(run, answers) for run in row.runs if (answers := read_answers(run)) is not None]
        titles = row.first.result.classes
        for pair in combinations(range(len(titles)), 2) if answered else ():
            names = {"setting": row.label, "pair": f"{titles[pair[0]]} or {titles[pair[1]]}"}
            records.append({**names, **compared(row, answered, pair).columns()})
    return pl.DataFrame(records, infer_schema_length=None)


@dataclass(frozen=True)
class Gain:
    """A mean over samples and runs, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, gains: Sequence[np.ndarray], groups: Sequence[np.ndarray]) -> Gain:
        """From what each sample gained in each run; resamples are of groups of samples, the ends are means over runs."""
        low, high = (mean(side) for side in zip(*(mean_interval(gain, own) for gain, own in zip(gains, groups, strict=True)), strict=True))
        return cls(mean(gain.mean() for gain in gains), low, high)


@dataclass(frozen=True)
class Comparison:
    """Attention against what needs none, on the samples of two classes.

    Attributes:
        adds: by `EVERY` and each baseline that all runs have, in nats per sample.
        attention: the accuracy of the CNNs, in percent. baselines: of each baseline.
        instead: the difference from the best baseline, in points.
    """

    runs: int
    adds: dict[str, Gain]
    attention: float
    baselines: dict[str, float]
    instead: Gain

    @property
    def best(self) -> str:
        """The baseline with the highest accuracy."""
        return highest(self.baselines)

    @property
    def verdict(self) -> str:
        """What the interval allows to say of what attention adds to all that needs none."""
        return ADDS if self.adds[EVERY].low > stacking.GAIN else NOTHING

    @property
    def meaning(self) -> str:
        """The same as a sentence, and what attention is instead of the best baseline."""
        gain, other = self.adds[EVERY], REFERENCES[self.best].phrase
        numbers = f"{gain.mean:+.3f} nats per sample, {gain.low:+.3f} to {gain.high:+.3f}"
        first = (
            "attention adds to all that needs none"
            if self.verdict == ADDS
            else "nothing is seen that attention adds to all that needs none"
        )
        alone = f"{self.attention:.1f} % right against {self.baselines[self.best]:.1f} by {other}"
        return f"{first} ({numbers}); instead of it, it is {self.alone} ({alone})"

    @property
    def alone(self) -> str:
        """What attention is instead of the best baseline."""
        return BETTER if self.instead.low > 0 else WORSE if self.instead.high < 0 else ALIKE

    def columns(self) -> dict[str, Any]:
        """As columns of the table; a baseline that is not known is None."""
        columns: dict[str, Any] = {"runs": self.runs, "verdict": self.verdict, "meaning": self.meaning}
        for name in (EVERY, *BASELINES):
            gain = self.adds.get(name)
            columns[f"adds_{name}"] = None if gain is None else gain.mean
            columns |= {f"adds_{name}_{end}": None if gain is None else getattr(gain, end) for end in ("low", "high")}
        columns |= {"attention": self.attention, "best": self.best, "without": self.baselines[self.best]}
        columns |= {"difference": self.instead.mean, "low": self.instead.low, "high": self.instead.high, "instead": self.alone}
        return {**columns, **{name: self.baselines.get(name) for name in BASELINES}}


def highest(accuracies: dict[str, float]) -> str:
    """The first name with the highest accuracy."""
    return max(accuracies, key=lambda name: accuracies[name])


def compared(row: Row, answered: Sequence[tuple[NamedRun, Answers]], pair: tuple[int, int]) -> Comparison:
    """One pair of classes, over the runs of a row that have answers."""
    names = [name for name in BASELINES if all(name in answers.others for _, answers in answered)]
    gains: dict[str, list[np.ndarray]] = {name: [] for name in (EVERY, *names)}
    panels: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    others: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for run, answers in answered:
        # Equal partitions may have their classes in another order.
        place = np.array(run.divided.order)[np.argsort(row.first.divided.order)]
        here = (int(place[pair[0]]), int(place[pair[1]]))
        panels.append(right(*leads(answers.labels, answers.panel, here)).mean(0))
        groups.append(answers.groups[np.isin(answers.labels, here)])
        for name, hits in others.items():
            hits.append(right(*leads(answers.labels, answers.others[name], here)))
        for name, gain in gained(answers, names, here).items():
            gains[name].append(gain)
    accuracies = {name: 100 * mean(by_sample.mean() for by_sample in hits) for name, hits in others.items()}
    best = others[highest(accuracies)]
    instead = Gain.of([100 * (panel - baseline) for panel, baseline in zip(panels, best, strict=True)], groups)
    adds = {name: Gain.of(gain, groups) for name, gain in gains.items()}
    return Comparison(len(answered), adds, 100 * mean(panel.mean() for panel in panels), accuracies, instead)


def gained(answers: Answers, names: list[str], pair: tuple[int, int]) -> dict[str, np.ndarray]:
    """By how many nats each sample of two classes gains when attention is seen beside a baseline, float64 (n,), and beside all at once."""
    inside = np.isin(answers.labels, pair)
    first, groups = answers.labels[inside] == pair[0], answers.groups[inside]
    odds = {name: log_odds(answers.others[name][inside], pair) for name in names}
    attention = log_odds(answers.panel.mean(0)[inside], pair)
    alone, together = np.stack(list(odds.values()))[..., None], np.stack(list(odds.values()), 1)
    each, every = (stacking.added(first, stacking.both_ways(others), attention, SEED, groups) for others in (alone, together))
    return {EVERY: every, **dict(zip(names, each, strict=True))}


def log_odds(probabilities: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    """The log-odds of the first of two classes against the second, float64 (n,); no probability counts as less than `FLOOR`."""
    mine, other = (np.log(np.maximum(probabilities[:, at].astype(float), FLOOR)) for at in pair)
    return mine - other


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
            negative = Taxonomy.written(row.first.settings["taxonomy"]).non_memorized
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
