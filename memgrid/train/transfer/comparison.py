"""Whether what was fitted on one run is right on another: against chance, and against what was fitted on the other run itself.

Both questions are asked of min-F1, the mean over networks. Near-duplicates are answered alike: for the first they are one sample, and for
the second they are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr

from memgrid.metrics.intervals import SIDE, panel_scores, quantile, resampled_confusions
from memgrid.metrics.pairs import holm, pair_scores
from memgrid.metrics.resampling import group_counts
from memgrid.metrics.scores import class_scores, confusion_matrix
from memgrid.results.result import Pair, PanelScores
from memgrid.results.transfers.record import PANEL, Difference, SourceRun, Transfer, Transferred

PERMUTATIONS, ROUNDS = 999, 1000


def min_f1(confusion: np.ndarray) -> np.ndarray:
    """In percent, float64 (...), from int (..., classes, classes)."""
    return class_scores(confusion)["f1"].min(-1)  # type: ignore[no-any-return]


def chance(labels: np.ndarray, predicted: np.ndarray, classes: int, groups: np.ndarray, seed: int) -> float:
    """How probable so high a min-F1 is if labels have nothing to do with answers: labels are permuted, one-sided.

    Of near-duplicates of one class only the first is counted, so that what is permuted can change places.

    Args:
        labels: int (n,). predicted: int (members, n). groups: int (n,), equal for near-duplicates.
    """
    _, first = np.unique(np.stack([labels, groups]), axis=1, return_index=True)
    random, alone, answers = np.random.default_rng(seed), labels[first], predicted[:, first]
    orders = np.stack([alone, *(random.permutation(alone) for _ in range(PERMUTATIONS))])
    reached = np.mean([min_f1(confusion_matrix(orders, member[None], classes)) for member in answers], axis=0)
    # Equal numbers of right answers are equal scores, but for the last bits of a mean.
    return float((reached[0] - 1e-9 <= reached).mean())


@dataclass(frozen=True)
class Gap:
    """Min-F1 of others less that of the run's own networks, in points: its 95 % interval, and p for there being none, two-sided."""

    points: float
    low: float
    high: float
    chance: float


def gap(labels: np.ndarray, others: np.ndarray, own: np.ndarray, classes: int, groups: np.ndarray, seed: int) -> Gap:
    """Whether two panels do equally well on the samples of one run.

    The variance is that of the difference when samples are drawn again, the same for both panels, and what the members of either differ by
    beyond what few samples make of equal networks, as in `memgrid.metrics.intervals`; the test is Student's.

    Args:
        labels: int (n,). others, own: int (members, n), of as many members as each has. groups: int (n,), equal for near-duplicates.
    """
    counts, sides = group_counts(groups, ROUNDS, seed), []
    for predicted in (others, own):
        value = min_f1(confusion_matrix(labels, predicted, classes))
        sides.append((value, min_f1(resampled_confusions(labels, predicted, classes, counts))))
    points = float(sides[0][0].mean() - sides[1][0].mean())
    parts = [training_variance(*side) for side in sides]
    variance = float((sides[0][1].mean(1) - sides[1][1].mean(1)).var()) + sum(part for part, _ in parts)
    if variance == 0:  # the same answers
        return Gap(points, points, points, float(points == 0))
    # Few members may differ by little where trainings differ by much: the degrees of freedom are those of their number, and not estimated.
    freedom = float(sum(free for _, free in parts)) or np.inf
    spread = float(np.sqrt(variance))
    reach = float(quantile(SIDE, freedom)) * spread
    p = 2 * float(stdtr(min(freedom, 1e9), -abs(points) / spread))
    return Gap(points, points - reach, points + reach, p)


def training_variance(value: np.ndarray, again: np.ndarray) -> tuple[float, int]:
    """What training makes members differ by, as a variance of their mean, and its degrees of freedom; both 0 of one member.

    Args:
        value: float (members,), of each. again: float (rounds, members), in each resample.
    """
    members = len(value)
    if members == 1:
        return 0.0, 0
    of_samples = (again - value).var(1, ddof=1).mean()
    return max(float(value.var(ddof=1) - of_samples), 0.0) / members, members - 1


@dataclass(frozen=True, eq=False)
class Asked:
    """The eval samples of a run that a source is asked about.

    Attributes:
        labels: int (n,), places of their classes in the run's taxonomy. groups: int (n,), equal for near-duplicates.
        place: of each class, where the run's own networks see it, int (classes,): scores are made in that order, as the run's own were.
        seed: of the run.
    """

    labels: np.ndarray
    groups: np.ndarray
    place: np.ndarray
    seed: int

    def some(self, chosen: np.ndarray) -> Asked:
        """Only those that are chosen, by bool (n,)."""
        return replace(self, labels=self.labels[chosen], groups=self.groups[chosen])

    def counts(self) -> list[int]:
        """How many there are of each class."""
        return np.bincount(self.labels, minlength=len(self.place)).tolist()  # type: ignore[no-any-return]

    def predicted(self, probabilities: np.ndarray) -> np.ndarray:
        """The class of most probability, as networks see classes: int (members, n), from float (members, n, classes) or (n, classes)."""
        several = probabilities if probabilities.ndim == 3 else probabilities[None]
        return several[..., np.argsort(self.place)].argmax(-1)  # type: ignore[no-any-return]

    def scores(self, probabilities: np.ndarray) -> PanelScores:
        """The scores of a panel or of one classifier, in the order of the run's classes."""
        labels, classes = self.place[self.labels], len(self.place)
        made = panel_scores(labels, self.predicted(probabilities), classes, self.seed, groups=self.groups)
        return PanelScores.of(made).in_order(self.place.tolist())


def transfer_of(
    source: SourceRun,
    asked: Asked,
    known: Sequence[int],
    theirs: dict[str, np.ndarray],
    own: dict[str, np.ndarray],
    without: dict[str, str],
    remark: str,
) -> Transfer:
    """What came of one source; p-values are those of this source alone until `corrected`.

    Args:
        known: how many samples of each class were left out. theirs, own: probabilities of the samples by what was fitted on the source, and
            by what was fitted on the run itself, float (members, n, classes) of the panel, else (n, classes), in the order of the classes.
    """
    classes, labels = len(asked.place), asked.place[asked.labels]
    both = asked.predicted(theirs[PANEL]), asked.predicted(own[PANEL])
    found = gap(labels, *both, classes, asked.groups, asked.seed)
    return Transfer(
        source=source,
        samples=asked.counts(),
        known=list(known),
        classifiers={name: Transferred(asked.scores(said), asked.scores(own[name])) for name, said in theirs.items() if name in own},
        without=without,
        chance=(p := chance(labels, both[0], classes, asked.groups, asked.seed)),
        adjusted=p,
        difference=Difference(found.points, found.low, found.high, found.chance, found.chance),
        pairs=[Pair(**pair) for pair in pair_scores(asked.labels, theirs[PANEL].mean(0), asked.groups)],
        remark=remark,
    )


def corrected(transfers: Sequence[Transfer]) -> list[Transfer]:
    """The same with p-values by Holm over all sources, each question for itself."""
    chances = holm([one.chance for one in transfers])
    gaps = holm([one.difference.chance for one in transfers])
    return [
        replace(one, adjusted=p, difference=replace(one.difference, adjusted=of_gap))
        for one, p, of_gap in zip(transfers, chances, gaps, strict=True)
    ]
