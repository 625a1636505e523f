"""Heads and layers as units: their doses, their masks, and draws that are alike."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memgrid.intervene.positions import COUNTED, candidates, choices
from memgrid.intervene.trials import Trial
from memgrid.intervene.units import ALIKE_HEADS, Units, alike_heads, doses, switchable

LAYERS, HEADS, LENGTH, K = 3, 8, 10, 4


def units_of(seed=0, unit="heads", replace="renormalise", queries="suffix"):
    random = np.random.default_rng(seed)
    shape = (LAYERS, HEADS) if unit == "heads" else (LAYERS,)
    importance = {way: random.normal(size=shape) for way in ("attribution", "ablation")}
    importance["delta"] = random.random(shape)
    alike = alike_heads(random.random((LAYERS, HEADS))) if unit == "heads" else np.zeros(LAYERS, int)
    attention = np.tril(random.random((*shape, LENGTH, LENGTH)))
    allowed = switchable(candidates(LAYERS, LENGTH, K, queries), replace)
    return Units(unit, 1, importance, alike, attention / attention.sum(-1, keepdims=True), allowed)


def test_doses():
    assert doses(48, None) == [1, 2, 3, 6, 12, 24]
    assert doses(6, None) == [1, 2, 3]
    assert doses(1, None) == doses(2, None) == [1]
    assert doses(6, [3, 1, 3, 6, 12]) == [1, 3, 6]


@given(st.integers(1, 2000))
def test_doses_begin_with_one_and_end_with_half(total):
    made = doses(total, None)
    assert made[0] == 1
    assert made[-1] == max(1, round(total / 2))
    assert made == sorted(set(made))


@pytest.mark.parametrize("queries", ["suffix", "all"])
@pytest.mark.parametrize("replace", ["zero", "mean"])
def test_the_diagonal_goes_too_where_a_row_need_not_keep_a_key(replace, queries):
    among = candidates(LAYERS, LENGTH, K, queries)
    assert switchable(among, "renormalise") is among
    made = switchable(among, replace)
    first = 0 if queries == "all" else K - 1
    rows = made.any(-1)
    assert rows[0].tolist() == [first <= query < LENGTH - 1 for query in range(LENGTH)]
    assert not rows[-1, : K - 1].any()
    lower = np.tri(LENGTH, dtype=bool)
    assert (made == (lower & rows[:, :, None])).all()


def test_heads_that_are_alike_are_of_one_layer_and_neighbours_by_the_length_of_their_outputs():
    norm = np.array([[5.0, 1, 2, 6, 3, 8, 7, 4], [1, 1, 1, 1, 1, 1, 1, 1]])
    made = alike_heads(norm).reshape(2, 8)
    assert sorted(set(made[0]) | set(made[1])) == [0, 1, 2, 3]
    assert set(norm[0][made[0] == made[0, 1]]) == {1, 2, 3, 4}
    assert np.bincount(made.ravel()).tolist() == [ALIKE_HEADS] * 4
    assert alike_heads(np.ones((2, 3))).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("unit", ["heads", "layers"])
@pytest.mark.parametrize("way", ["attribution", "ablation", "delta"])
def test_the_first_of_a_way_are_those_of_which_most_is_lost(unit, way):
    units = units_of(unit=unit)
    worth = units.importance[way]
    for number in (1, 2, worth.size):
        chosen = units.chosen(Trial(1, 100 * number / worth.size, way, None, unit))
        assert chosen.sum() == number
        assert worth[chosen].min() >= worth[~chosen].max(initial=-np.inf)


@pytest.mark.parametrize("seed", range(5))
def test_draws_have_as_many_of_each_stratum_and_grow_with_the_dose(seed):
    units, before = units_of(seed), np.zeros((LAYERS, HEADS), bool)
    for number in (1, 3, 6, 12, 24):
        percent = 100 * number / 24
        drawn, first = (units.chosen(Trial(1, percent, way, draw, "heads")) for way, draw in (("random", seed), ("attribution", None)))
        for stratum in np.unique(units.alike):
            mine = (units.alike == stratum).reshape(drawn.shape)
            assert drawn[mine].sum() == first[mine].sum()
        assert (drawn | ~before).all()
        before = drawn
    assert len({units.chosen(Trial(1, 25.0, "random", draw, "heads")).tobytes() for draw in range(20)}) > 5


@pytest.mark.parametrize("replace", ["renormalise", "zero"])
def test_all_heads_are_all_layers(replace):
    heads, layers = (units_of(unit=unit, replace=replace) for unit in ("heads", "layers"))
    every = [units.mask(Trial(1, 100.0, "all", None, units.unit)) for units in (heads, layers)]
    assert (every[0] == every[1][:, None]).all()
    assert (every[1] == layers.allowed).all()
    assert not heads.mask(Trial(1, 0.0, "none", None, "heads")).any()
    alone = heads.mask(Trial(1, 100 / 24, "alone:13", None, "heads"))
    assert np.argwhere(alone.any((2, 3))).tolist() == [[1, 5]]
    assert (alone[1, 5] == heads.allowed[1]).all()
    assert np.argwhere(layers.mask(Trial(1, 100 / 3, "alone:2", None, "layers")).any((1, 2))).tolist() == [[2]]


def test_what_is_told_of_a_mask():
    units = units_of()
    trial = Trial(1, 12.5, "delta", None, "heads")
    told = units.describe(trial, units.mask(trial))
    chosen, delta = units.chosen(trial), units.importance["delta"]
    first = units.chosen(Trial(1, 12.5, "attribution", None, "heads"))
    assert told["units"] == 3
    assert told["overlap"] == (chosen & first).sum() / 3
    assert told["decisive"] == pytest.approx(delta[chosen].sum() / delta.sum())
    assert told["choices"] == choices(chosen, units.every, units.alike)
    rows = sum(units.allowed[layer].any(-1).sum() for layer in range(LAYERS)) * HEADS
    by_hand = sum(units.attention[layer, head][units.allowed[layer]].sum() for layer, head in np.argwhere(chosen))
    assert told["removed"] == pytest.approx(by_hand / rows)
    nothing = units.describe(Trial(1, 0.0, "none", None, "heads"), units.mask(Trial(1, 0.0, "none", None, "heads")))
    assert nothing == {"units": 0, "choices": 1, "overlap": 0.0, "decisive": 0.0, "removed": 0.0}


def test_choices_are_the_masks_that_can_be_drawn():
    alike, among = np.array([0, 0, 0, 1, 1]), np.ones(5, bool)
    for taken in range(6):
        for places in combinations(range(5), taken):
            mask = np.isin(np.arange(5), places)
            wanted = [mask[alike == stratum].sum() for stratum in (0, 1)]
            drawn = [other for other in combinations(range(5), taken) if sum(place < 3 for place in other) == wanted[0]]
            assert choices(mask, among, alike) == len(drawn)
    many = np.zeros(400, int)
    assert choices(np.arange(400) < 200, np.ones(400, bool), many) == COUNTED


def test_rows_name_layers_and_heads_from_one_on():
    rows = units_of().rows()
    assert len(rows) == 24
    assert (rows[13]["layer"], rows[13]["head"], rows[13]["unit"]) == (2, 6, "heads")
    assert rows[13]["ablation"] == units_of().importance["ablation"][1, 5]
    assert [(row["layer"], row["head"]) for row in units_of(unit="layers").rows()] == [(1, None), (2, None), (3, None)]
