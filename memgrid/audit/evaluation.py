"""How well memorization is predicted: ROC curves, areas, and what is found at low rates of false alarms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc, roc_curve

from memgrid.audit.result import AttackScores, OperatingPoint, Prediction, Rates
from memgrid.audit.shadow.population import KINDS
from memgrid.audit.shadow.predictors import PREDICTORS

GRID = np.linspace(0, 1, 201)  # false-positive rates at which curves of several models are averaged
ETAS = np.arange(1, 10.5, 0.5)
OOD = "ood"  # instead of an η: is the sample an OOD canary?


@dataclass(frozen=True)
class Evidence:
    """Everything an audit's results are computed from.

    members: bool (K, N). kind: uint8 (N,), an index into KINDS. ratio: float64 (K, N), Λ; NaN for samples that are not audited.
    predictors: moment and name → float32 (K, N), NaN where there is none.
    """

    members: np.ndarray
    kind: np.ndarray
    ratio: np.ndarray
    predictors: dict[tuple[str, str], np.ndarray]


def question(eta: float | str) -> str:
    """A question in words."""
    return "is an OOD canary" if isinstance(eta, str) else f"Λ ≥ {eta:g}"


def asked_of(evidence: Evidence, etas: list[float]) -> list[float | str]:
    """Every η, and, where there are such, whether a sample is an OOD canary."""
    return [*etas, *((OOD,) if (evidence.kind == KINDS.index("ood")).any() else ())]


def questions(evidence: Evidence, eta: float | str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For every model where both answers occur: its number, the members that are asked about, bool (N,), and the answers, bool (N,).

    An η asks of audited members whether Λ ≥ η. OOD asks of members whether they are OOD canaries; mislabelled ones, which are
    memorized for another reason, are not asked about.
    """
    for number, members in enumerate(evidence.members):
        if isinstance(eta, str):
            asked, answers = members & (evidence.kind != KINDS.index("label_noise")), evidence.kind == KINDS.index("ood")
        else:
            asked, answers = members & np.isfinite(evidence.ratio[number]), evidence.ratio[number] >= eta
        if answers[asked].any() and not answers[asked].all():
            yield number, asked, answers


def scores_of(evidence: Evidence, eta: float | str, moment: str, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of every model: answers, bool (n,), and the predictor, turned so that high values predict memorization, float (n,)."""
    values = evidence.predictors[moment, name] * (1 if PREDICTORS[name] else -1)
    for number, asked, answers in questions(evidence, eta):
        if np.isfinite(values[number][asked]).all():  # the trigger may not have fired
            yield answers[asked], values[number][asked]


def area_below(answers: np.ndarray, values: np.ndarray) -> float:
    """The area under the ROC curve, which `roc_auc_score` gives too, after three times as long a look at its arguments."""
    return float(auc(*roc_curve(answers, values)[:2]))


def areas(evidence: Evidence, eta: float | str, moment: str, name: str) -> np.ndarray:
    """The area under the ROC curve, of every model for itself, float64 (models,)."""
    return np.array([area_below(answers, values) for answers, values in scores_of(evidence, eta, moment, name)])


def mean_roc(evidence: Evidence, eta: float | str, moment: str, name: str) -> np.ndarray | None:
    """True-positive rates at GRID, the mean over models, float64 (201,); None where the question cannot be asked."""
    curves = [np.interp(GRID, *roc_curve(answers, values)[:2]) for answers, values in scores_of(evidence, eta, moment, name)]
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
        positives = [int(answers[asked].sum()) for _, asked, answers in questions(evidence, eta)]
        for moment, name in evidence.predictors:
            pairs = list(scores_of(evidence, eta, moment, name))
            area = np.array([area_below(*pair) for pair in pairs])
            shares = np.mean([true_positive_rates(*pair, rates) for pair in pairs], 0) if pairs else [None] * len(rates)
            rows.append(
                Prediction(
                    question=question(eta),
                    eta=None if isinstance(eta, str) else eta,
                    moment=moment,
                    predictor=name,
                    auc=float(area.mean()) if pairs else None,
                    auc_std=float(area.std()) if pairs else None,
                    tpr=by_rate(rates, shares),
                    models=len(pairs),
                    positives=float(np.mean(positives)) if positives else 0.0,
                )
            )
    return rows


def below_zero(evidence: Evidence, etas: list[float], moment: str) -> list[OperatingPoint]:
    """PSMI < 0 as an operating point that nobody has tuned: true- and false-positive rate for every question, means over models."""
    rows = []
    for eta in asked_of(evidence, etas):
        pairs = list(scores_of(evidence, eta, moment, "psmi"))
        rates = [((values[answers] > 0).mean(), (values[~answers] > 0).mean()) for answers, values in pairs]
        true, false = np.mean(rates, 0).tolist() if rates else (None, None)
        rows.append(OperatingPoint(question(eta), true, false, len(pairs)))
    return rows


def attack_scores(evidence: Evidence, rates: list[float]) -> list[AttackScores]:
    """The attack itself, over all models and audited samples and for each kind of sample: area, and what it finds at low rates."""
    rows = []
    kind, every = evidence.kind, np.ones(len(evidence.kind), bool)
    for name, chosen in (("all audited", every), *((KINDS[at], kind == at) for at in np.unique(kind))):
        asked = chosen & np.isfinite(evidence.ratio)
        members, ratio = evidence.members[asked], evidence.ratio[asked]
        if not len(members):
            continue
        rows.append(
            AttackScores(
                samples=name,
                number=int((np.isfinite(evidence.ratio).any(0) & chosen).sum()),
                auc=area_below(members, ratio),
                tpr=by_rate(rates, true_positive_rates(members, ratio, rates)),
                median_ratio=float(np.median(ratio[members])),
                memorized_at_4=float((ratio[members] >= 4).mean()),
                others_at_4=float((ratio[~members] >= 4).mean()),
            )
        )
    return rows
