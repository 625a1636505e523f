"""What a transfer leaves: the content of `transfer.json`, as types. Scores are in percent, differences in points of min-F1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from memgrid.results.result import Pair, PanelScores

PANEL = "panel"  # the networks, among what is transferred


@dataclass(frozen=True)
class SourceRun:
    """The run whose networks are tried.

    Attributes:
        folder: below `<root>/runs` where it lies in the same root, else whole. name: of the run, such as `toy@step2900 · rasy · seed 0`.
        llm, revision, corpus, taxonomy, seed: of its settings; revision is empty without one.
        layers: of its language model.
    """

    folder: str
    name: str
    llm: str
    revision: str
    corpus: str
    taxonomy: str
    seed: int
    layers: int


@dataclass(frozen=True)
class Transferred:
    """What one classifier of the source scores here, and what the run's own of the same kind scores on the same samples.

    Attributes:
        scores: of the source's classifier on this run's samples. own: of the run's own, fitted on its own train samples.
    """

    scores: PanelScores
    own: PanelScores

    @property
    def ratio(self) -> float | None:
        """The source's min-F1 as a share of the run's own, in percent; None where that is 0."""
        own = self.own.min_f1.mean
        return 100 * self.scores.min_f1.mean / own if own else None


@dataclass(frozen=True)
class Difference:
    """The source's min-F1 less the run's own, in points, with its 95 % interval over samples and networks.

    Attributes:
        chance: how probable so large a difference is, in either direction, between networks that would do equally well.
        adjusted: the same by Holm over the sources.
    """

    points: float
    low: float
    high: float
    chance: float
    adjusted: float


@dataclass(frozen=True)
class Transfer:
    """What came of one source.

    Attributes:
        samples: how many samples of each class it was tried on. known: how many of each were left out, because it was trained on them or
            on near-duplicates of them. Both in the order of the run's classes.
        classifiers: by name, `panel` first, then probes (`linear-mean`) and baselines (`memgrid.train.baselines`).
        without: what is not among them → why.
        chance: how probable so high a min-F1 of the panel is if labels are permuted among the samples; adjusted: by Holm over the sources.
        pairs: how well the panel tells each two classes apart.
        remark: what else is other than in the source, such as its thresholds; empty where nothing is.
    """

    source: SourceRun
    samples: list[int]
    known: list[int]
    classifiers: dict[str, Transferred]
    without: dict[str, str]
    chance: float
    adjusted: float
    difference: Difference
    pairs: list[Pair]
    remark: str = ""

    @property
    def panel(self) -> Transferred:
        """The networks."""
        return self.classifiers[PANEL]

    def best(self, probes: bool) -> tuple[str, Transferred] | None:
        """The linear probe, or what needs no attention, that scores most here, with its name; None where there is none."""
        some = {name: one for name, one in self.classifiers.items() if name != PANEL and name.startswith("linear-") == probes}
        return max(some.items(), key=lambda entry: entry[1].scores.min_f1.mean, default=None)


@dataclass(frozen=True)
class TransferRecord:
    """What a transfer was made with and what it found: the content of `transfer.json`.

    Attributes:
        settings: of the stage. inputs: a digest of the results of the run and of its sources.
        classes: their titles, in the order of the run's taxonomy. layers: of the run's language model.
        permutations: how many times labels were permuted.
        passed_over: finished runs that a pattern matches and that cannot be tried here → why.
        memgrid: the version that wrote it.
    """

    settings: dict[str, Any]
    inputs: str
    classes: list[str]
    layers: int
    permutations: int
    transfers: list[Transfer]
    passed_over: dict[str, str] = field(default_factory=dict)
    memgrid: str = ""
