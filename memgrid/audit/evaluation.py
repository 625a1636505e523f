"""How well memorization is predicted: ROC curves, areas, and what is found at low rates of false alarms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score, roc_curve

from memgrid.audit.shadow.population import KINDS
from memgrid.audit.shadow.predictors import PREDICTORS

GRID = np.linspace(0, 1, 201)  # false-positive rates at which curves of several models are averaged
ETAS = np.arange(1, 10.5, 0.5)
OOD = "ood"  # instead of an η: is the sample an OOD canary?


@dataclass(frozen=True)
class Evidence:
    """Everything an audit's results are computed from.

    members: bool (K, N). kind: uint8 (N,), an index into KINDS. ratio: float64 (K, N), Λ; NaN for samples that are not audited.
    found: moment and predictor → float32 (K, N), NaN where there is none.
    """

    members: np.ndarray
    kind: np.ndarray
    ratio: np.ndarray
    found: dict[tuple[str, str], np.ndarray]


def question(eta: float | str) -> str:
    """A question in words."""
    return "is an OOD canary" if isinstance(eta, str) else f"Λ ≥ {eta:g}"


def asked_of(seen: Evidence, etas: list[float]) -> list[float | str]:
    """Every η, and, where there are such, whether a sample is an OOD canary."""
    return [*etas, *((OOD,) if (seen.kind == KINDS.index("ood")).any() else ())]


def questions(seen: Evidence, eta: float | str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For every model where both answers occur: its number, the members that are asked about, bool (N,), and the answers, bool (N,).

    An η asks of audited members whether Λ ≥ η. OOD asks of members whether they are OOD canaries; mislabelled ones, which are
    memorized for another reason, are not asked about.
    """
    for number, inside in enumerate(seen.members):
        if isinstance(eta, str):
            asked, answers = inside & (seen.kind != KINDS.index("label_noise")), seen.kind == KINDS.index("ood")
        else:
            asked, answers = inside & np.isfinite(seen.ratio[number]), seen.ratio[number] >= eta
        if answers[asked].any() and not answers[asked].all():
            yield number, asked, answers


def scores_of(seen: Evidence, eta: float | str, moment: str, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of every model: answers, bool (n,), and the predictor, turned so that high values predict memorization, float (n,)."""
    values = seen.found[moment, name] * (1 if PREDICTORS[name] else -1)
    for number, asked, answers in questions(seen, eta):
        if np.isfinite(values[number][asked]).all():  # the trigger may not have fired
            yield answers[asked], values[number][asked]


def areas(seen: Evidence, eta: float | str, moment: str, name: str) -> np.ndarray:
    """The area under the ROC curve, of every model for itself, float64 (models,)."""
    return np.array([roc_auc_score(answers, values) for answers, values in scores_of(seen, eta, moment, name)])


def mean_roc(seen: Evidence, eta: float | str, moment: str, name: str) -> np.ndarray | None:
    """True-positive rates at GRID, the mean over models, float64 (201,); None where the question cannot be asked."""
    curves = [np.interp(GRID, *roc_curve(answers, values)[:2]) for answers, values in scores_of(seen, eta, moment, name)]
    return np.mean(curves, 0) if curves else None


def found_at(answers: np.ndarray, values: np.ndarray, rates: list[float]) -> np.ndarray:
    """For each rate the share of positives above the lowest threshold at which at most `rate` of the negatives are, float64 (rates,)."""
    false, true, _ = roc_curve(answers, values, drop_intermediate=False)
    shares: np.ndarray = true[np.searchsorted(false, rates, side="right") - 1]
    return shares


def predictions(seen: Evidence, etas: list[float], rates: list[float]) -> pl.DataFrame:
    """A row for every question, moment and predictor: area (mean and deviation over models), and what is found at low false-positive rates.

    `models`: how many could be asked; `positives`: the mean number of samples that are memorized, or OOD canaries.
    """
    rows: list[dict[str, Any]] = []
    for eta in asked_of(seen, etas):
        positives = [int(answers[asked].sum()) for _, asked, answers in questions(seen, eta)]
        for moment, name in seen.found:
            pairs = list(scores_of(seen, eta, moment, name))
            found = np.array([roc_auc_score(*pair) for pair in pairs])
            shares = np.mean([found_at(*pair, rates) for pair in pairs], 0) if pairs else [None] * len(rates)
            rows.append(
                {
                    "question": question(eta),
                    "eta": None if isinstance(eta, str) else eta,
                    "moment": moment,
                    "predictor": name,
                    "auc": float(found.mean()) if len(found) else None,
                    "auc_std": float(found.std()) if len(found) else None,
                    **{f"tpr_at_{rate:g}": share for rate, share in zip(rates, shares, strict=True)},
                    "models": len(found),
                    "positives": float(np.mean(positives)) if positives else 0.0,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def below_zero(seen: Evidence, etas: list[float], moment: str) -> pl.DataFrame:
    """PSMI < 0 as an operating point that nobody has tuned: true- and false-positive rate for every question, means over models."""
    rows = []
    for eta in asked_of(seen, etas):
        pairs = list(scores_of(seen, eta, moment, "psmi"))
        rates = [((values[answers] > 0).mean(), (values[~answers] > 0).mean()) for answers, values in pairs]
        true, false = np.mean(rates, 0).tolist() if rates else (None, None)
        rows.append({"question": question(eta), "tpr": true, "fpr": false, "models": len(pairs)})
    return pl.DataFrame(rows, infer_schema_length=None)


def attack_table(seen: Evidence, rates: list[float]) -> pl.DataFrame:
    """The attack itself, over all models and audited samples and for each kind of sample: area, and what it finds at low rates."""
    rows = []
    for name, chosen in (("all audited", np.ones(len(seen.kind), bool)), *((KINDS[at], seen.kind == at) for at in np.unique(seen.kind))):
        asked = chosen & np.isfinite(seen.ratio)
        inside, ratio = seen.members[asked], seen.ratio[asked]
        if not len(inside):
            continue
        rows.append(
            {
                "samples": name,
                "number": int((np.isfinite(seen.ratio).any(0) & chosen).sum()),
                "auc": float(roc_auc_score(inside, ratio)),
                **{f"tpr_at_{rate:g}": share for rate, share in zip(rates, found_at(inside, ratio, rates), strict=True)},
                "median_ratio": float(np.median(ratio[inside])),
                "memorized_at_4": float((ratio[inside] >= 4).mean()),
                "others_at_4": float((ratio[~inside] >= 4).mean()),
            }
        )
    return pl.DataFrame(rows)
