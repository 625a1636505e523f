"""How well memorization is predicted: ROC curves, areas, and what is found at low rates of false alarms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import roc_curve

from memgrid.audit.attack.baselines import BASELINES
from memgrid.audit.attack.intervals import Measured, area, beaten, mean_area, pooled_area, share
from memgrid.audit.data.population import KINDS, is_out_of_domain
from memgrid.audit.result import AttackScores, OperatingPoint, Prediction, Rates
from memgrid.audit.shadow.predictors import PREDICTORS

GRID = np.linspace(0, 1, 201)  # false-positive rates at which curves of several models are averaged
ETAS = np.arange(1, 10.5, 0.5)
OOD = "ood"  # instead of an η: is the sample an OOD canary?
DIRECTIONS = PREDICTORS | BASELINES  # name → whether high values predict memorization
POOLED = "pooled"  # one curve over all models; otherwise each model has its own, and their mean is told
Pair = tuple[np.ndarray, np.ndarray]  # answers, bool (n,), and values, float (n,)


@dataclass(frozen=True)
class Evidence:
    """Everything an audit's results are computed from.

    members: bool (K, N). kind: uint8 (N,), an index into KINDS. ratio: float64 (K, N), Λ; NaN for samples that are not audited.
    predictors: moment and name → float32 (K, N), NaN where there is none.
    likelihood: float64 (K, N), the likelihood ratio itself, which Λ is where it is not calibrated.
    scores: float64 (K, N), the statistic in the first view, for an attack that knows nothing of single samples.
    average: `models` or `pooled`.
    """

    members: np.ndarray
    kind: np.ndarray
    ratio: np.ndarray
    predictors: dict[tuple[str, str], np.ndarray]
    likelihood: np.ndarray
    scores: np.ndarray
    average: str = "models"


def question(eta: float | str) -> str:
    """A question in words."""
    return "is an OOD canary" if isinstance(eta, str) else f"Λ ≥ {eta:g}"


def asked_of(evidence: Evidence, etas: list[float]) -> list[float | str]:
    """Every η, and, where there are such, whether a sample is an OOD canary."""
    return [*etas, *((OOD,) if is_out_of_domain(evidence.kind).any() else ())]


def questions(evidence: Evidence, eta: float | str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For every model: its number, the members that are asked about, bool (N,), and the answers, bool (N,).

    An η asks of audited members whether Λ ≥ η. OOD asks of members whether they are OOD canaries; mislabelled ones, which are
    memorized for another reason, are not asked about.
    """
    for number, members in enumerate(evidence.members):
        if isinstance(eta, str):
            yield number, members & (evidence.kind != KINDS.index("label_noise")), is_out_of_domain(evidence.kind)
        else:
            yield number, members & np.isfinite(evidence.ratio[number]), evidence.ratio[number] >= eta


def all_scores(evidence: Evidence, eta: float | str, moment: str, name: str) -> Iterator[Pair]:
    """Of every model: answers, bool (n,), and the predictor, turned so that high values predict memorization, float (n,)."""
    values = evidence.predictors[moment, name] * (1 if DIRECTIONS[name] else -1)
    for number, asked, answers in questions(evidence, eta):
        if np.isfinite(values[number][asked]).all():  # the trigger may not have fired
            yield answers[asked], values[number][asked]


def scores_of(evidence: Evidence, eta: float | str, moment: str, name: str) -> Iterator[Pair]:
    """The same of the models in which both answers occur."""
    return (pair for pair in all_scores(evidence, eta, moment, name) if has_both(pair[0]))


def has_both(answers: np.ndarray) -> bool:
    """Whether some are true and some are not."""
    return bool(answers.any() and not answers.all())


def pooled(pairs: Sequence[Pair]) -> list[Pair]:
    """All models as one, if both answers occur at all."""
    if not pairs or not has_both(answers := np.concatenate([pair[0] for pair in pairs])):
        return []
    return [(answers, np.concatenate([pair[1] for pair in pairs]))]


def curves_of(evidence: Evidence, eta: float | str, moment: str, name: str) -> list[Pair]:
    """What curves are drawn of: every model with both answers, or all models as one."""
    if evidence.average == POOLED:
        return pooled(list(all_scores(evidence, eta, moment, name)))
    return list(scores_of(evidence, eta, moment, name))


def areas(evidence: Evidence, eta: float | str, moment: str, name: str) -> np.ndarray:
    """The area under the ROC curve, of every model for itself, or of all as one, float64 (models,) or (1,)."""
    return np.array([area(answers, values) for answers, values in curves_of(evidence, eta, moment, name)])


def measured(evidence: Evidence, eta: float | str, moment: str, name: str) -> Measured | None:
    """The area that is told, as `average` says, with what it hangs on; None where no model could be asked."""
    values = evidence.predictors[moment, name] * (1 if DIRECTIONS[name] else -1)
    every = [
        (number, asked, answers[asked], values[number][asked])
        for number, asked, answers in questions(evidence, eta)
        if np.isfinite(values[number][asked]).all()
    ]
    if evidence.average != POOLED:
        every = [model for model in every if has_both(model[2])]
        return mean_area(every, values.shape) if every else None
    if not (together := pooled([(answers, own) for _, _, answers, own in every])):
        return None
    asked = np.zeros(values.shape, bool)
    for number, own, *_ in every:
        asked[number] = own
    return pooled_area(asked, *together[0])


def mean_roc(evidence: Evidence, eta: float | str, moment: str, name: str) -> np.ndarray | None:
    """True-positive rates at GRID, the mean over models, float64 (201,); None where the question cannot be asked."""
    curves = [np.interp(GRID, *roc_curve(answers, values)[:2]) for answers, values in curves_of(evidence, eta, moment, name)]
    return np.mean(curves, 0) if curves else None


def true_positive_rates(answers: np.ndarray, values: np.ndarray, rates: list[float]) -> np.ndarray:
    """For each rate the share of positives above the lowest threshold at which at most `rate` of the negatives are, float64 (rates,)."""
    false, true, _ = roc_curve(answers, values, drop_intermediate=False)
    shares: np.ndarray = true[np.searchsorted(false, rates, side="right") - 1]
    return shares


def by_rate(rates: list[float], shares: Sequence[float | None] | np.ndarray) -> Rates:
    """True-positive rates under the false-positive rates that they belong to."""
    return {f"{rate:g}": None if share is None else float(share) for rate, share in zip(rates, shares, strict=True)}


def predictions(evidence: Evidence, etas: list[float], rates: list[float]) -> list[Prediction]:
    """A row for every question, moment and predictor: area, and what is found at low false-positive rates."""
    rows = []
    for eta in asked_of(evidence, etas):
        both = [answers[asked] for _, asked, answers in questions(evidence, eta)]
        positives = [int(answers.sum()) for answers in both if has_both(answers)]
        for moment, name in evidence.predictors:
            every = list(all_scores(evidence, eta, moment, name))
            own = [pair for pair in every if has_both(pair[0])]
            together = pooled(every)
            areas_of = np.array([area(*pair) for pair in own])
            pairs = together if evidence.average == POOLED else own
            shares = np.mean([true_positive_rates(*pair, rates) for pair in pairs], 0) if pairs else [None] * len(rates)
            rows.append(
                Prediction(
                    question=question(eta),
                    eta=None if isinstance(eta, str) else eta,
                    moment=moment,
                    predictor=name,
                    auc=float(areas_of.mean()) if own else None,
                    auc_std=float(areas_of.std()) if own else None,
                    tpr=by_rate(rates, shares),
                    models=len(own),
                    positives=float(np.mean(positives)) if positives else 0.0,
                    auc_pooled=area(*together[0]) if together else None,
                    positives_in_all=int(sum(answers.sum() for answers, _ in every)),
                )
            )
    return with_intervals(evidence, rows)


def with_intervals(evidence: Evidence, rows: Sequence[Prediction]) -> list[Prediction]:
    """The rows with the interval of each area that is told, and p of it being as high as the highest of its question and moment."""
    found, told = {(row.question, row.moment): list[Measured]() for row in rows}, list[Prediction]()
    known = [measured(evidence, OOD if row.eta is None else row.eta, row.moment, row.predictor) for row in rows]
    for row, one in zip(rows, known, strict=True):
        if one is not None:
            found[row.question, row.moment].append(one)
    p = {key: iter(beaten(ones)) for key, ones in found.items() if ones}
    for row, one in zip(rows, known, strict=True):
        if one is None:
            told.append(row)
            continue
        low, high = one.interval() or (None, None)
        told.append(replace(row, auc_low=low, auc_high=high, p_beaten=next(p[row.question, row.moment])))
    return told


def below_zero(evidence: Evidence, etas: list[float], moment: str) -> list[OperatingPoint]:
    """PSMI < 0 as an operating point that nobody has tuned: true- and false-positive rate for every question, as `average` says."""
    rows = []
    for eta in asked_of(evidence, etas):
        pairs = curves_of(evidence, eta, moment, "psmi")
        rates = [((values[answers] > 0).mean(), (values[~answers] > 0).mean()) for answers, values in pairs]
        true, false = np.mean(rates, 0).tolist() if rates else (None, None)
        rows.append(OperatingPoint(question(eta), true, false, len(list(scores_of(evidence, eta, moment, "psmi")))))
    return rows


def balanced_accuracy(members: np.ndarray, values: np.ndarray) -> float:
    """The share of right answers where whatever lies above the median of all is called a member; half of all are members."""
    return float(((values > np.quantile(values, 0.5, method="lower")) == members).mean())


def attack_scores(evidence: Evidence, rates: list[float]) -> list[AttackScores]:
    """The attack itself, over all models and audited samples and for each kind of sample: area, and what it finds at low rates.

    Areas and rates are those of the likelihood ratio, since an attacker cannot know on which side to calibrate.
    """
    rows = []
    kind, every = evidence.kind, np.ones(len(evidence.kind), bool)
    for name, chosen in (("all audited", every), *((KINDS[at], kind == at) for at in np.unique(kind))):
        asked = chosen & np.isfinite(evidence.ratio)
        members, ratio, likelihood, scores = (
            array[asked] for array in (evidence.members, evidence.ratio, evidence.likelihood, evidence.scores)
        )
        if not len(members):
            continue
        rows.append(
            AttackScores(
                samples=name,
                number=int((np.isfinite(evidence.ratio).any(0) & chosen).sum()),
                auc=area(members, likelihood),
                **attack_intervals(evidence, asked),
                tpr=by_rate(rates, true_positive_rates(members, likelihood, rates)),
                median_ratio=float(np.median(ratio[members])),
                memorized_at_4=float((ratio[members] >= 4).mean()),
                others_at_4=float((ratio[~members] >= 4).mean()),
                accuracy=balanced_accuracy(members, likelihood),
                published_memorized_at_4=float((likelihood[members] >= 4).mean()),
                published_others_at_4=float((likelihood[~members] >= 4).mean()),
                global_auc=area(members, scores),
                global_accuracy=balanced_accuracy(members, scores),
            )
        )
    return rows


def attack_intervals(evidence: Evidence, asked: np.ndarray) -> dict[str, float | None]:
    """The intervals of the attack's area and of the shares with Λ ≥ 4, of members and of others; `asked` is bool (models, samples)."""
    reached = evidence.ratio >= 4
    numbers = {
        "auc": pooled_area(asked, evidence.members[asked], evidence.likelihood[asked]),
        "memorized": share(asked & evidence.members, reached),
        "others": share(asked & ~evidence.members, reached),
    }
    ends = {name: one.interval() or (None, None) for name, one in numbers.items()}
    return {f"{name}_{end}": value for name, both in ends.items() for end, value in zip(("low", "high"), both, strict=True)}
