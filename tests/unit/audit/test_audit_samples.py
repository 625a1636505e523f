"""The table of samples with their names, against a loop."""

import numpy as np
import pytest
from test_audit_evaluation import some_evidence

from memgrid.audit.attack.evaluation import DIRECTIONS, Evidence
from memgrid.audit.attack.samples import mean_of, sample_table
from memgrid.audit.data.population import KINDS, Population


def test_every_audited_sample_has_its_numbers():
    seen = some_evidence()
    labels = np.arange(len(seen.kind)) % 7
    population = Population(np.zeros((len(labels), 1)), labels, labels[::-1].copy(), seen.kind, seen.members)
    identifiers = 1000 + 3 * np.arange(len(labels))
    rows = sample_table(population, identifiers, seen, "trigger", 4.0)
    assert rows.height == (seen.kind > 0).sum()
    known = rows["lambda"].drop_nans().to_list()
    assert known == sorted(known, reverse=True) == rows["lambda"].to_list()[: len(known)]
    for row in rows.iter_rows(named=True):
        at = (row["id"] - 1000) // 3
        members = seen.members[:, at]
        assert (row["kind"], row["label"], row["truth"], row["members"]) == (
            KINDS[seen.kind[at]],
            labels[at],
            labels[::-1][at],
            members.sum(),
        )
        if not members.any():  # nothing is known of it but its name
            assert np.isnan([row[name] for name in ("lambda", "memorized", *DIRECTIONS)]).all()
            continue
        assert row["lambda"] == pytest.approx(seen.ratio[members, at].mean())
        assert row["lambda_others"] == pytest.approx(seen.ratio[~members, at].mean(), nan_ok=True)
        assert row["memorized"] == (seen.ratio[members, at] >= 4).mean()
        for name in DIRECTIONS:
            assert row[name] == pytest.approx(seen.predictors["trigger", name][members, at].astype(float).mean(), rel=1e-12)


def test_where_no_model_knows_there_is_no_mean():
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    np.testing.assert_array_equal(mean_of(values, np.array([[True, True], [False, True]])), [1, np.nan])


def test_eta_itself_is_memorized():
    seen = some_evidence()
    four = Evidence(**{**vars(seen), "ratio": np.where(np.isfinite(seen.ratio), 4.0, np.nan)})
    labels = np.zeros(len(seen.kind), np.int64)
    population = Population(np.zeros((len(labels), 1)), labels, labels, seen.kind, seen.members)
    rows = sample_table(population, np.arange(len(labels)), four, "trigger", 4.0)
    assert set(rows["memorized"].drop_nans()) == {1.0}
