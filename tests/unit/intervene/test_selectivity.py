"""What is said of positions, heads and layers at equal damage: by hand, and how often it is wrong where there is nothing to say."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ways_maker import some_ways

from memgrid.intervene import selectivity, statistics
from memgrid.intervene.selectivity import area_below, pair_chances, selectivities, unit_tests, weights
from memgrid.intervene.statistics import CHOICES
from memgrid.results.boundary import decode, encode
from memgrid.results.findings import sentences
from memgrid.results.records import HEADS, LAYERS, LIMIT, POSITIONS, RANDOM, WAYS, InterveneRecord, WayArea


def test_the_area_by_hand():
    limit = LIMIT
    straight = area_below(np.array([[0, 2 * limit]]), np.array([[1.0, 0.0]]))
    assert straight == pytest.approx([0.75])  # from 1 to a half
    at_once = area_below(np.array([[0, 0.0, 5.0]]), np.array([[1.0, 0.25, 0.0]]))
    assert at_once == pytest.approx([0.25 - 0.25 * limit / 5 / 2])
    short = area_below(np.array([[0, limit / 2]]), np.array([[1.0, 0.5]]))
    assert short == pytest.approx([0.625])  # it stays where it is
    # More damage and more text: nobody would pay that.
    worse = area_below(np.array([[0, limit / 2, limit]]), np.array([[1.0, 0.0, 0.8]]))
    assert worse == pytest.approx([0.25])
    assert math.exp(limit) == pytest.approx(2)


@settings(max_examples=50)
@given(arrays(float, (3, 4), elements=st.floats(0, 3)), arrays(float, (3, 4), elements=st.floats(0, 1)), st.randoms())
def test_an_area_is_a_mean_share_that_no_order_of_the_doses_changes(damage, share, order):
    damage, share = np.insert(damage, 0, 0, 1), np.insert(share, 0, 1, 1)
    made = area_below(damage, share)
    assert (made >= share.min(1) - 1e-9).all()
    assert (made <= 1 + 1e-9).all()
    turned = list(range(5))
    order.shuffle(turned)
    np.testing.assert_allclose(area_below(damage[:, turned], share[:, turned]), made)
    by_grid = []
    for x, y in zip(damage, share, strict=True):
        places = np.lexsort((y, x))
        lowest = np.minimum.accumulate(y[places])
        grid = (np.arange(20000) + 0.5) * LIMIT / 20000
        by_grid.append(np.interp(grid, x[places] + 1e-12 * np.arange(5), lowest).mean())
    np.testing.assert_allclose(made, by_grid, atol=2e-3)


def test_resamples_begin_with_what_was_measured():
    made = weights(np.random.default_rng(0), 7)
    assert made.shape == (2001, 7)
    np.testing.assert_allclose(made.sum(1), 1)
    assert (made[0] == 1 / 7).all()


def said_apart(table):
    """Which pairs of ways are said to differ."""
    classes = {str(name): rows for (name,), rows in table.group_by("class", maintain_order=True)}
    found = pair_chances({name: selectivity.curves_of(rows) for name, rows in classes.items()})
    return [pair for pair, chance in found.items() if chance <= 0.05]


def test_ways_that_are_alike_are_seldom_said_to_differ(monkeypatch):
    """Over all pairs of all classes in one of twenty runs."""
    monkeypatch.setattr(selectivity, "RESAMPLES", 200)
    wrong = sum(bool(said_apart(some_ways(np.random.default_rng(seed), draws=3))) for seed in range(60))
    assert wrong <= 60 * 0.05 + 2 * math.sqrt(60 * 0.05 * 0.95)


def test_a_way_that_costs_the_class_more_at_the_same_price_is_found():
    random = np.random.default_rng(0)
    table = some_ways(random, draws=3, lost={("A", HEADS, "attribution"): -0.45, ("A", POSITIONS, RANDOM): -0.6})
    assert {pair[0] for pair in said_apart(table)} == {"A"}
    assert all("heads by attribution" in pair for pair in said_apart(table))
    (a, b) = selectivities(table)
    assert next(way.name for way in a.ways if way.way != RANDOM) == "heads by attribution"
    assert a.ways[0].name == "random positions"  # which is no way that somebody chose
    assert a.sentences[0].startswith("A: at equal damage heads by attribution leave least (")
    assert "less than " in a.sentences[0]
    assert "not told apart from" not in a.sentences[0] or "positions by Δ (" in a.sentences[0]
    assert "less than" not in b.sentences[0]
    assert all(0 <= way.low <= way.area <= way.high <= 1 for one in (a, b) for way in one.ways)


def test_choices_that_know_nothing_are_seldom_said_to_know_something():
    """Of each unit in one of twenty runs, over two classes, for either kind of sentence."""
    wrong, runs = dict.fromkeys(("matters", "specific"), 0), 50
    for seed in range(runs):
        table = some_ways(np.random.default_rng(seed), texts=2, samples=25)
        found = unit_tests({str(name): rows for (name,), rows in table.group_by("class", maintain_order=True)})
        for which in wrong:
            for unit in WAYS:
                doses = [dose for tests in found.values() for test in tests if test.unit == unit for dose in test.doses]
                wrong[which] += any(getattr(dose, which) <= 0.05 + 1e-9 for dose in doses)
    assert max(wrong.values()) <= 0.05 * 3 * runs + 2 * math.sqrt(0.05 * 0.95 * 3 * runs)
    assert min(wrong.values()) > 0


def test_what_spares_the_other_classes_is_specific():
    table = some_ways(np.random.default_rng(0), lost={("A", HEADS, "attribution"): -0.4})
    (a, b) = selectivities(table)
    heads = {one.title: next(test for test in one.tests if test.unit == HEADS) for one in (a, b)}
    assert min(dose.specific for dose in heads["A"].doses) <= 0.05
    line = next(line for line in a.sentences if "heads by attribution against" in line)
    assert "more is lost (" in line
    assert "they are specific to the class (" in line
    other = next(line for line in b.sentences if "heads by attribution against" in line)
    assert "nothing is seen (" in other
    assert "cannot be seen to be specific to the class (" in other


def test_what_loses_less_is_told_as_that():
    table = some_ways(np.random.default_rng(0), units=(HEADS,), lost={("A", HEADS, "attribution"): 0.45})
    line = selectivities(table)[0].sentences[-1]
    assert "less is lost (" in line
    assert "are the less specific to the class (" in line


def test_doses_of_which_few_draws_exist_are_not_tested():
    random = np.random.default_rng(0)
    table = some_ways(random, units=(HEADS,))
    few = table.with_columns(choices=pl.when(pl.col("q") == 5).then(CHOICES - 1).otherwise(CHOICES))
    assert set(statistics.tested(few, "attribution")["q"]) == {25.0}
    (a, _) = selectivities(few)
    assert [dose.q for dose in a.tests[0].doses] == [25.0]
    none = table.with_columns(choices=pl.lit(8))
    (a, _) = selectivities(none)
    assert a.tests == []
    assert len(a.sentences) == 1


def test_without_damage_or_other_classes_less_is_said():
    random = np.random.default_rng(0)
    table = some_ways(random, names=("A",), units=(HEADS, LAYERS))
    (unpriced,) = selectivities(table.with_columns(damages=pl.lit(None, pl.List(pl.Float64)), damage=pl.lit(None, pl.Float64)))
    assert unpriced.ways == []
    assert {test.unit for test in unpriced.tests} == {HEADS, LAYERS}
    assert all(
        line.startswith("A, heads by attribution against") or line.startswith("A, layers by ablation") for line in unpriced.sentences
    )
    assert selectivities(table.drop("damages", "unit")) == []
    alone = table.with_columns(others=pl.lit(None, pl.Float64), others_kept=pl.lit(None, pl.List(pl.Boolean)))
    (one,) = selectivities(alone)
    assert all("specific" not in line for line in one.sentences)
    assert all(dose.specific is None and dose.others is None for test in one.tests for dose in test.doses)
    (only,) = selectivities(table.filter(pl.col("masked").is_in(["none", "all", "delta"]) & (pl.col("unit") == HEADS)))
    assert [way.name for way in only.ways] == ["heads by Δ"]
    assert only.sentences == []


def test_a_record_holds_it_all():
    found = selectivities(some_ways(np.random.default_rng(0), draws=9))
    record = InterveneRecord("guided", {}, "", [], selectivity=found)
    assert decode(InterveneRecord, encode(record), "x", "again").selectivity == found
    assert isinstance(found[0].ways[0], WayArea)


def test_how_far_ways_agree_with_switching_heads_off_alone():
    """Rank correlations by hand: of five heads in the same order but for two neighbours, and turned round."""
    alone, near, turned = [1.0, 2.0, 3.0, 4.0, 9.0], [1.0, 3.0, 2.0, 5.0, 6.0], [0.5, 0.4, 0.3, 0.2, 0.1]
    rows = [
        {
            "class": "A",
            "unit": HEADS,
            "layer": 1,
            "head": 1 + head,
            "ablation": alone[head],
            "attribution": near[head],
            "delta": turned[head],
        }
        for head in range(5)
    ]
    units = pl.DataFrame([*rows, {**rows[0], "unit": LAYERS, "head": None, "ablation": 50.0}, {**rows[0], "class": "B"}])
    table = some_ways(np.random.default_rng(0), draws=3)
    a, b = selectivities(table, units)
    correlation = 1 - 6 * (1 + 1) / (5 * 24)
    expected = f"agrees with attribution by a rank correlation of {correlation:.2f}, and with Δ by -1.00"
    assert a.sentences[-1] == f"A: what 5 heads cost when each is switched off alone {expected}"
    assert "rank correlation" not in " ".join(b.sentences)
    assert a.sentences[:-1] == selectivities(table)[0].sentences


@pytest.mark.parametrize(("units", "beyond"), [((POSITIONS,), False), ((HEADS,), True), ((LAYERS,), True), ((POSITIONS, LAYERS), True)])
def test_of_heads_and_layers_is_told_whether_or_not_positions_were_switched_off(units, beyond):
    table = some_ways(np.random.default_rng(0), units=units, draws=9)
    found = selectivities(table)
    assert [one.beyond_positions for one in found] == [beyond] * 2
    told = sentences(InterveneRecord("guided", {}, "", [], selectivity=found))
    assert told == ([f"{line}." for one in found for line in one.sentences] if beyond else [])
    assert all(one.sentences for one in found)
