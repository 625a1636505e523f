"""Samples with names: every audited one, what the attack says of it, and what each predictor said early."""

from __future__ import annotations

import numpy as np
import polars as pl

from memgrid.audit.attack.evaluation import DIRECTIONS, Evidence
from memgrid.audit.data.population import KINDS, Population


def sample_table(population: Population, identifiers: np.ndarray, evidence: Evidence, moment: str, eta: float) -> pl.DataFrame:
    """A row for every audited sample, the most memorized first.

    Columns: id int64, kind, label and truth int64, members (how many models have seen it), lambda (the mean Λ under these), lambda_others
    (under the others), memorized (the share of its members' models in which Λ ≥ `eta`), and each predictor, the mean over its members'
    models at `moment`; NaN where there is none.

    Args:
        identifiers: int64 (N,), as `memgrid.audit.data.dataset.Dataset` has them.
    """
    audited = np.flatnonzero(np.isfinite(evidence.ratio).any(0))
    members, ratio = evidence.members[:, audited], evidence.ratio[:, audited]
    columns = {
        "id": identifiers[audited],
        "kind": [KINDS[kind] for kind in evidence.kind[audited]],
        "label": population.labels[audited],
        "truth": population.truth[audited],
        "members": members.sum(0),
        "lambda": mean_of(ratio, members),
        "lambda_others": mean_of(ratio, ~members),
        "memorized": mean_of((ratio >= eta).astype(float), members & np.isfinite(ratio)),
        **{name: mean_of(evidence.predictors[moment, name][:, audited], members) for name in DIRECTIONS},
    }
    order = np.argsort(-columns["lambda"], kind="stable")
    return pl.DataFrame({name: np.asarray(values)[order] for name, values in columns.items()})


def mean_of(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The mean over models of what is chosen and known, float64 (samples,); NaN where nothing is."""
    known = chosen & np.isfinite(values)
    count = known.sum(0)
    total = np.where(known, values, 0).sum(0, dtype=np.float64)
    mean: np.ndarray = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean
