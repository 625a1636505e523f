import numpy as np
import polars as pl
import pytest

from memgrid.metrics.agreement import ROUGES, agreement, agreement_rows


def answers(*cells):
    """Two answers with so many no-no, no-yes, yes-no and yes-yes."""
    pairs = [pair for pair, number in zip([(0, 0), (0, 1), (1, 0), (1, 1)], cells, strict=True) for _ in range(number)]
    return (np.array(side, bool) for side in zip(*pairs, strict=True))


def test_kappa_by_hand():
    """Of the textbook's fifty grants: 20 yes of both, 15 no of both; by chance a half would agree."""
    found = agreement(*answers(15, 10, 5, 20))
    assert (found.sequences, found.first, found.second, found.both) == (50, 25, 30, 20)
    assert found.same == pytest.approx(70)
    assert found.kappa == pytest.approx((0.7 - 0.5) / 0.5)
    assert found.low < found.kappa < found.high


@pytest.mark.parametrize(
    ("cells", "kappa"), [((5, 0, 0, 5), 1), ((0, 5, 5, 0), -1), ((4, 4, 4, 4), 0), ((6, 0, 0, 0), None), ((3, 3, 0, 0), None)]
)
def test_the_ends(cells, kappa):
    found = agreement(*answers(*cells))
    assert found.kappa == (kappa if kappa is None else pytest.approx(kappa, abs=1e-12))
    assert (found.low is None) == (kappa is None)


def test_of_no_sequence_nothing_is_known():
    found = agreement(np.zeros(0, bool), np.zeros(0, bool))
    assert (found.sequences, found.same, found.kappa) == (0, None, None)


def test_the_interval_covers():
    """Over 300 samples of 200 sequences with a known kappa: at least nine in ten intervals have it."""
    rng, cells = np.random.default_rng(0), np.array([0.4, 0.15, 0.1, 0.35])
    first, second = cells[2:].sum(), cells[[1, 3]].sum()
    expected = first * second + (1 - first) * (1 - second)
    true = (cells[0] + cells[3] - expected) / (1 - expected)
    found = [agreement(*answers(*rng.multinomial(200, cells)), seed=number) for number in range(300)]
    assert np.mean([each.low <= true <= each.high for each in found]) > 0.9


def test_strata_by_hand():
    """Everything that is memorized stands in one of templates and the bins of ROUGE, whichever of the two scores is the higher."""
    rng = np.random.default_rng(1)
    features = pl.DataFrame(
        {
            **{name: rng.random(500) < 0.5 for name in ("memorized", "is_repeating", "is_incrementing", "reference_memorized")},
            **{name: rng.choice([0, 0.29, 0.3, 0.5, 0.7, 0.99, 1.0], 500) for name in ("rouge_l", "rouge_3")},
            "counterfactual": rng.normal(size=500),
        }
    )
    guess = rng.random(500) < 0.5
    table = agreement_rows(features, guess)
    memorized = features["memorized"].sum()
    counts = dict(zip(table["stratum"], table["sequences"], strict=True))
    assert counts["all"] == counts["templates"] + counts["no templates"] == memorized
    assert sum(number for name, number in counts.items() if "ROUGE" in name) == counts["no templates"]
    assert table.height == 3 + len(ROUGES)
    here = features.with_columns(guess=pl.Series(guess)).filter("memorized", ~(pl.col("is_repeating") | pl.col("is_incrementing")))
    here = here.filter(pl.max_horizontal("rouge_l", "rouge_3") >= 0.7)
    row = table.row(-1, named=True)
    assert (row["sequences"], row["first"], row["second"]) == (here.height, here["guess"].sum(), here["reference_memorized"].sum())
    assert row["both"] == (here["guess"] & here["reference_memorized"]).sum()
    assert row["counterfactual"] == pytest.approx(here["counterfactual"].median())
