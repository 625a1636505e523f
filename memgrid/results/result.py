"""The result of a run as a type, and how it becomes `metrics.json` and comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from memgrid.errors import UserError
from memgrid.results.boundary import decode, encode, parse, writer
from memgrid.taxonomy.rules import rule_of

NAME, AGAIN = "metrics.json", "run it again with force=true"
BY_CLASS = ("precision", "recall", "f1")
# A network whose last training loss is above what a linear probe reaches on samples that it was not fitted on, by more than this share of a
# guess's loss, has not learned yet what can be learned: it sees all that the probe sees. Where there is nothing to learn, the probe is no
# better than a guess, and no network that guesses is behind it.
BEHIND = 0.05


@dataclass(frozen=True)
class Estimate:
    """A score in percent: its mean over the networks, its standard deviation over them, and a 95 % interval.

    The interval is one over trainings and eval samples: see `memgrid.metrics.intervals`. In results that do not know `pairs` it is over
    eval samples alone.
    """

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class PanelScores:
    """The scores of a panel, or of a single classifier: per class in the order of the classes, and over all of them."""

    precision: list[Estimate]
    recall: list[Estimate]
    f1: list[Estimate]
    min_f1: Estimate
    mean_f1: Estimate
    accuracy: Estimate

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> PanelScores:
        """From the plain numbers that `memgrid.metrics.intervals.panel_scores` gives."""
        by_class: dict[str, Any] = {name: [Estimate(**score) for score in summary[name]] for name in BY_CLASS}
        overall: dict[str, Any] = {name: Estimate(**summary[name]) for name in ("min_f1", "mean_f1", "accuracy")}
        return cls(**by_class, **overall)

    def in_order(self, place: Sequence[int]) -> PanelScores:
        """The same with the classes in another order: class c comes from where `place[c]` says."""
        by_class: dict[str, Any] = {name: [getattr(self, name)[index] for index in place] for name in BY_CLASS}
        return replace(self, **by_class)


@dataclass(frozen=True)
class PaperProtocol:
    """The paper's score, in percent: confusion matrices summed over the last three epochs and the panel, then scored once.

    `mean_eval_loss` is in the paper's convention: the sum of batch means divided by the number of samples.
    """

    precision: list[float]
    recall: list[float]
    f1: list[float]
    min_f1: float
    mean_f1: float
    accuracy: float
    confusion: list[list[int]]
    mean_eval_loss: float

    def in_order(self, place: Sequence[int]) -> PaperProtocol:
        """The same with the classes in another order: class c comes from where `place[c]` says."""
        by_class: dict[str, Any] = {name: [getattr(self, name)[index] for index in place] for name in BY_CLASS}
        return replace(self, **by_class, confusion=matrix_in_order(self.confusion, place))


@dataclass(frozen=True)
class MemberEpoch:
    """What one network was like after one epoch: a row of `epochs.parquet`.

    Losses are mean cross-entropies per sample, in nats; `confusion` counts eval samples, rows are true classes.
    """

    epoch: int
    member: str
    train_loss: float
    eval_loss: float
    confusion: list[list[int]]

    def in_order(self, place: Sequence[int]) -> MemberEpoch:
        """The same with the classes in another order: class c comes from where `place[c]` says."""
        return replace(self, confusion=matrix_in_order(self.confusion, place))


@dataclass(frozen=True)
class Origin:
    """Fingerprints of the corpus and the language model that a run was made from."""

    corpus: str
    llm: str


@dataclass(frozen=True)
class SampleCounts:
    """Samples per class on each side."""

    train: int
    eval: int


@dataclass(frozen=True)
class MemberTraining:
    """How far one network came.

    Losses are in nats per training sample: its own in the last epoch, and that of a linear probe on the same maps, which has no epochs, on
    samples that the probe was not fitted on.
    `answers`: how many of the classes it gives to any eval sample.
    """

    train_loss: float
    probe_loss: float
    answers: int


@dataclass(frozen=True)
class Pair:
    """How well two classes are told apart on the eval samples of both; see `memgrid.metrics.pairs`.

    Attributes:
        first, second: their places among the classes.
        accuracy: balanced, in percent, of the panel's mean probabilities when asked which of the two it is; a guess has 50.
        chance: how probable so much is if labels are permuted among these samples. adjusted: the same by Holm over all pairs of the run.
    """

    first: int
    second: int
    accuracy: float
    chance: float
    adjusted: float


@dataclass(frozen=True)
class ProbeTest:
    """Whether attention says anything of the classes: a linear classifier against the same one fitted on permuted labels.

    Attributes:
        accuracy: of the classifier on the eval side, in percent. permuted: the mean over permutations.
        permutations: their number. chance: the share of all these fits that reach `accuracy`, its own among them.
    """

    accuracy: float
    permuted: float
    permutations: int
    chance: float


@dataclass(frozen=True)
class RunResult:
    """What a finished run found: the content of `metrics.json`. Scores are in percent, classes in the order of the run's taxonomy.

    Attributes:
        settings: those that decided the result, as `config.names.settings` gives them.
        classes: their titles.
        partition: equal for runs whose training would be the same.
        same_as: the run, below `<root>/runs`, whose training this one took over; None for a training of its own.
        samples: per class. members: names of the panel's networks.
        eval_loss: mean cross-entropy per sample in the last epoch, in nats.
        panel: the panel on the eval samples, last epoch. members_min_f1: the min-F1 of each network.
        paper_protocol: the same trainings scored as in the paper.
        confusion: counts of the last epoch, summed over the panel; rows are true classes.
        control: the same training on shuffled labels; None where it was not run.
        confidence: a small tree that sees the model's confidence alone; None where that is not known.
        order: the place of each class in the order of the partition, which equal partitions share. origin: what it was made from. None in
            results that are older than these.
        baselines, probes: what needs no attention, and linear probes of attention; None or absent where one could not be fitted.
        training: of each network. pairs: how well each two classes are told apart. probe_test: whether attention says anything of them, by
            the probe of the first pooling. Empty or None in results that are older than these.
        memgrid: the version that wrote it; empty before versions were noted.
    """

    settings: dict[str, Any]
    classes: list[str]
    partition: str
    same_as: str | None
    samples: SampleCounts
    members: list[str]
    eval_loss: float
    panel: PanelScores
    members_min_f1: list[float]
    paper_protocol: PaperProtocol
    confusion: list[list[int]]
    control: PanelScores | None
    confidence: PanelScores | None
    order: list[int] | None = None
    origin: Origin | None = None
    baselines: dict[str, PanelScores | None] = field(default_factory=dict)
    probes: dict[str, PanelScores | None] = field(default_factory=dict)
    training: list[MemberTraining] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    probe_test: ProbeTest | None = None
    memgrid: str = ""

    @property
    def of_one_answer(self) -> int:
        """How many networks give the same answer to every eval sample: what they score says nothing of the classes."""
        return sum(member.answers < 2 for member in self.training)

    @property
    def behind(self) -> list[MemberTraining]:
        """The networks that were trained for too few epochs; see `BEHIND`."""
        slack = BEHIND * math.log(len(self.classes))
        return [member for member in self.training if member.answers > 1 and not member.train_loss <= member.probe_loss + slack]

    @property
    def doubt(self) -> str:
        """Why its scores are none of what the classes are like, in a word or two: `constant`, `undertrained`, or empty."""
        return "constant" if self.of_one_answer else "undertrained" if self.behind else ""

    def worst_pair(self, place: int | None = None) -> Pair | None:
        """The two classes that are told apart least, of all or of those with the class at a place; None where that is not known."""
        mine = [pair for pair in self.pairs if place is None or place in (pair.first, pair.second)]
        return min(mine, key=lambda pair: (pair.accuracy, -pair.adjusted), default=None)

    def in_order(self, place: Sequence[int]) -> RunResult:
        """The same with the classes in another order, but for `classes` and `order`, which say what the order is."""

        def moved(scores: PanelScores | None) -> PanelScores | None:
            return None if scores is None else scores.in_order(place)

        return replace(
            self,
            panel=self.panel.in_order(place),
            paper_protocol=self.paper_protocol.in_order(place),
            confusion=matrix_in_order(self.confusion, place),
            control=moved(self.control),
            confidence=moved(self.confidence),
            baselines={name: moved(scores) for name, scores in self.baselines.items()},
            probes={name: moved(scores) for name, scores in self.probes.items()},
            pairs=pairs_in_order(self.pairs, place),
        )


def matrix_in_order(matrix: list[list[int]], place: Sequence[int]) -> list[list[int]]:
    """A confusion matrix with its classes in another order: class c comes from where `place[c]` says."""
    return [[matrix[row][column] for column in place] for row in place]


def pairs_in_order(pairs: Sequence[Pair], place: Sequence[int]) -> list[Pair]:
    """The same pairs with the classes in another order: class c comes from where `place[c]` says."""
    new = {old: c for c, old in enumerate(place)}
    moved = ((sorted((new[pair.first], new[pair.second])), pair) for pair in pairs)
    return [replace(pair, first=first, second=second) for (first, second), pair in sorted(moved, key=lambda entry: entry[0])]


def to_json(result: RunResult) -> dict[str, Any]:
    """The content of `metrics.json`."""
    return encode(result)


def from_json(text: bytes | str) -> RunResult:
    """The result that a `metrics.json` holds.

    Raises:
        UserError: it is damaged, or another version wrote what this one cannot read. The sentence has no subject: it follows on the name of
            the file or the folder.
    """
    plain = parse(text, NAME, AGAIN)
    for name in ("control", "confidence"):
        if plain.get(name) == {}:  # so older versions said that there is none
            plain[name] = None
    result = decode(RunResult, plain, NAME, AGAIN)
    taxonomy = result.settings.get("taxonomy")
    classes = taxonomy.get("classes") if isinstance(taxonomy, dict) else None
    if not isinstance(classes, dict) or "compat" not in result.settings:
        lack = "settings.compat" if "compat" not in result.settings else "settings.taxonomy.classes"
        raise UserError(f"{writer(plain)} wrote it (its {NAME} has no {lack}): {AGAIN}")
    thresholds = taxonomy.get("thresholds", {}) if isinstance(taxonomy, dict) else {}
    for rule in (rule for rules in classes.values() for rule in (rules if isinstance(rules, list) else [rules])):
        try:
            rule_of(rule, thresholds)
        except (ValueError, TypeError):
            raise UserError(f"{writer(plain)} wrote it (its taxonomy has the rule {rule}): use that version") from None
    return result
