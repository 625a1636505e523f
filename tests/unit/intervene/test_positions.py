"""What is switched off: candidates, orders, and controls that take as much attention from each layer as the target."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.intervene.positions import ALIKE, COUNTED, Regions, amount, candidates, exchanged, first_of_mass, first_overall, ranked, strata
from memgrid.intervene.statistics import MATCHED
from memgrid.intervene.trials import Trial

LENGTH, K = 16, 8


@pytest.mark.parametrize("queries", ["suffix", "all"])
@pytest.mark.parametrize("k", [1, 5, 11])
def test_candidates_leave_every_row_a_key(queries, k):
    among = candidates(3, 12, k, queries)
    assert not among[:, np.arange(12), np.arange(12)].any()
    assert not np.triu(among).any()
    assert not among[:, -1].any()
    assert not among[-1, : k - 1].any()
    rows = np.flatnonzero(among[0].any(1))
    assert rows.tolist() == list(range(max(1, k - 1) if queries == "suffix" else 1, 11))
    assert all(among[0, row].sum() == row for row in rows)


def test_amounts():
    among = np.ones((1, 10, 10), bool)
    assert [amount(percent, among) for percent in (0.001, 1, 49.6, 100)] == [1, 1, 50, 100]


def some_regions(seed, queries="suffix", layers=3, length=24, k=10):
    """Regions of two classes whose Δ is often 0, and attention of rows that sum to 1."""
    random = np.random.default_rng(seed)
    among = candidates(layers, length, k, queries)
    shape = (layers, length, length)
    delta = (random.random((2, *shape)) ** 6 * (random.random((2, *shape)) < 0.4)).astype(np.float32)
    attention = np.tril(random.random(shape) ** 8 + 1e-4)
    return Regions(delta, 1, ["a", "b"], attention / attention.sum(-1, keepdims=True), among), delta


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), percent=st.sampled_from([0.2, 3.0, 20.0, 45.0, 70.0, 100.0]), queries=st.sampled_from(["suffix", "all"]))
def test_controls_take_as_much_attention_from_each_layer(seed, percent, queries):
    regions, delta = some_regions(seed, queries)
    among, attention = regions.among, regions.attention
    target = regions.mask(Trial(1, percent, "target"))
    assert target.sum() == amount(percent, among)
    assert delta[1][target].min() >= delta[1][among & ~target].max(initial=0)
    wanted = np.where(target, attention, 0).sum((1, 2))
    least, rest = regions.mask(Trial(1, percent, "least")), among & ~target
    for layer in range(3):  # what is left of the rest is no less decisive
        assert delta[1][layer][least[layer]].max(initial=0) <= delta[1][layer][(rest & ~least)[layer]].min(initial=1)
    for masked, order in regions.orders.items():
        made = regions.mask(Trial(1, percent, masked))
        assert not (made & ~among).any()
        for layer in range(3):
            barred = target if masked == "least" else np.zeros_like(target)
            own = [place for place in order if place // attention[0].size == layer and not barred.flat[place]]
            taken = made[layer].sum()
            assert masked[:5] != "other" or (delta["ab".index(masked[-1])][made] > 0).all()
            assert set(np.flatnonzero(made)) >= set(own[:taken])  # the first ones of the order
            gap = abs(attention[layer][made[layer]].sum() - wanted[layer])
            for number in (taken - 1, taken + 1):  # one more or one less would be farther off
                if 0 <= number <= len(own):
                    assert abs(attention.ravel()[own[:number]].sum() - wanted[layer]) >= gap - 1e-12
    for layer in (1, 2, 3):
        part = regions.mask(Trial(1, percent, f"layer:{layer}"))
        np.testing.assert_array_equal(part, target & (np.arange(1, 4) == layer)[:, None, None])
        draw = regions.mask(Trial(1, percent, "random", 0))
        np.testing.assert_array_equal(regions.mask(Trial(1, percent, f"random-layer:{layer}", 0))[layer - 1], draw[layer - 1])


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), queries=st.sampled_from(["suffix", "all"]))
def test_strata_are_of_one_layer_about_one_distance_and_neighbours_in_attention(seed, queries):
    regions, _ = some_regions(seed, queries)
    layer, query, key = np.nonzero(regions.among)
    octave, weight = np.floor(np.log2(query - key)), regions.attention[regions.among]
    alike = strata(regions.attention, regions.among)
    assert set(alike) == set(range(alike.max() + 1))
    spans = {}
    for number in range(alike.max() + 1):
        mine = alike == number
        assert len({*zip(layer[mine], octave[mine], strict=True)}) == 1
        assert mine.sum() < 2 * ALIKE
        spans.setdefault((layer[mine][0], octave[mine][0]), []).append((weight[mine].min(), weight[mine].max(), mine.sum()))
    for parts in spans.values():
        parts.sort()
        assert all(before[1] <= after[0] for before, after in pairwise(parts))  # no stratum reaches into another
        assert max(size for *_, size in parts) - min(size for *_, size in parts) <= 1
        assert len(parts) == max(1, round(sum(size for *_, size in parts) / ALIKE))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), draw=st.integers(0, 99))
def test_draws_have_as_many_of_each_stratum_and_grow_with_the_dose(seed, draw):
    regions, _ = some_regions(seed)
    alike, before = strata(regions.attention, regions.among), None
    for percent in (1.0, 5.0, 30.0, 80.0, 100.0):
        target, made = (regions.mask(Trial(1, percent, *which)) for which in (("target",), ("random", draw)))
        assert not (made & ~regions.among).any()
        for number in range(alike.max() + 1):
            assert made[regions.among][alike == number].sum() == target[regions.among][alike == number].sum()
        assert before is None or not (before & ~made).any()
        before = made
        np.testing.assert_array_equal(made, regions.mask(Trial(1, percent, "random", draw)))


@pytest.mark.parametrize(("positions", "sizes"), [(16, [16]), (23, [23]), (24, [12, 12]), (40, [20, 20]), (41, [13, 14, 14])])
def test_strata_have_about_sixteen_positions(positions, sizes):
    """Of one octave, 16 to 31 tokens back."""
    among, query = np.zeros((1, 64, 64), bool), 60 - np.arange(positions) // 16
    among[0, query, query - 16 - np.arange(positions) % 16] = True
    alike = strata(np.random.default_rng(0).random((1, 64, 64)), among)
    assert sorted(np.bincount(alike)) == sizes


def test_a_draw_takes_every_position_of_a_stratum_as_often():
    among = np.zeros((1, 9, 9), bool)
    among[0, 8, :6] = True
    target = np.zeros_like(among)
    target[0, 8, [0, 4]] = True
    alike = np.array([0, 0, 0, 1, 1, 1])
    often = np.mean([exchanged(target, among, alike, np.random.default_rng(seed))[0, 8, :6] for seed in range(900)], 0)
    np.testing.assert_allclose(often, 1 / 3, atol=0.06)


def test_attention_is_matched_where_it_is_smooth():
    """On attention of many sizes the mean draw has about the target's, though Δ prefers the attended."""
    random = np.random.default_rng(0)
    among = candidates(2, 64, 32, "suffix")
    attention = np.tril(random.random((2, 64, 64)) ** 6 + 1e-4)
    delta = attention * random.random((2, 64, 64))
    regions = Regions(delta[None], 0, ["a"], attention, among)
    for percent in (1.0, 3.0, 10.0, 30.0):
        target = attention[regions.mask(Trial(0, percent, "target"))].sum()
        drawn = np.mean([attention[regions.mask(Trial(0, percent, "random", seed))].sum() for seed in range(20)])
        assert drawn == pytest.approx(target, rel=MATCHED)


def test_seeds_and_classes_draw_differently():
    among = candidates(2, 30, 10, "suffix")
    regions = Regions(np.zeros((2, 2, 30, 30), np.float32), 0, ["a", "b"], np.tril(np.ones((2, 30, 30))), among)
    other = Regions(np.zeros((2, 2, 30, 30), np.float32), 1, ["a", "b"], np.tril(np.ones((2, 30, 30))), among)
    masks = [regions.mask(Trial(0, 5.0, *which)) for which in (("random", 0), ("random", 1), ("target",), ("least",))]
    masks.append(other.mask(Trial(1, 5.0, "random", 0)))
    assert len({mask.tobytes() for mask in masks}) == 5
    described = regions.describe(Trial(0, 5.0, "target"), masks[2])
    assert described == {"units": 37, "choices": COUNTED, "overlap": 1, "decisive": 0, "removed": 37 / among.any(2).sum()}


def test_what_a_mask_takes_by_hand():
    """Δ may be small: what counts is its share."""
    among = candidates(1, 4, 2, "all")
    delta, attention = np.zeros((1, 1, 4, 4)), np.zeros((1, 4, 4))
    delta[0, 0, 2], attention[0, 2], attention[0, 1] = [0.3, 0.1, 0, 0], [0.2, 0.5, 0.3, 0], [0.6, 0.4, 0, 0]
    regions = Regions(delta, 0, ["a"], attention, among)
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 2, :2] = True
    made = regions.describe(Trial(0, 50.0, "target"), mask)
    rows = int(among.any(2).sum())
    assert made == pytest.approx(
        {"units": 2, "choices": 2, "overlap": min(1, amount(50, among) / 2), "decisive": 1.0, "removed": 0.7 / rows}
    )
    nothing = regions.describe(Trial(0, 0.0, "none"), np.zeros_like(mask))
    assert nothing == {"units": 0, "choices": 1, "overlap": 0.0, "decisive": 0.0, "removed": 0.0}


def test_orders_are_of_all_layers_jointly():
    among = candidates(2, 6, 3, "suffix")
    importance = np.zeros((2, 6, 6))
    importance[0] = 1
    assert first_overall(ranked(importance, among, 0), 9, among.shape).sum((1, 2)).tolist() == [9, 0]


def test_the_first_of_an_order_that_have_a_targets_attention():
    attention = np.zeros((2, 3, 3))
    attention[0, 2], attention[1, 2] = [0.5, 0.2, 0.3], [0.9, 0.1, 0.0]
    target = np.zeros((2, 3, 3), bool)
    target[0, 2, 2] = target[1, 2, 0] = True
    order = np.array([15, 16, 7, 6])  # the last rows: of the second layer 0.9 and 0.1, of the first 0.2 and 0.5
    made = first_of_mass(order, attention, target)
    assert np.flatnonzero(made).tolist() == [7, 15]  # 0.2 is nearer to 0.3 than 0.7, and 0.9 is 0.9
    alone = first_of_mass(np.array([6, 7]), attention[:1], target[:1])
    assert np.flatnonzero(alone).tolist() == [6]
    target[0] = False
    assert np.flatnonzero(first_of_mass(order, attention, target)).tolist() == [15]


def test_masks_of_a_class_and_of_another_by_hand():
    """Of three candidates; Δ is far below 1 everywhere."""
    among = candidates(2, 4, 2, "suffix")
    among[1], among[0, 2, 0] = False, False
    assert np.argwhere(among).tolist() == [[0, 1, 0], [0, 2, 1]]
    among[0, 2, 0] = True
    delta, attention = np.zeros((2, 2, 4, 4)), np.zeros((2, 4, 4))
    delta[0, 0, 1, 0], delta[0, 0, 2, 0], delta[1, 0, 2, 1] = 0.2, 0.1, 0.3
    attention[0, 1, 0], attention[0, 2, 0], attention[0, 2, 1] = 0.5, 0.25, 0.5
    regions = Regions(delta, 0, ["a", "b"], attention, among)
    masks = {masked: regions.mask(Trial(0, 34.0, masked)) for masked in ("none", "target", "other:b", "attended")}
    assert {masked: np.argwhere(mask).tolist() for masked, mask in masks.items() if masked != "attended"} == {
        "none": [],
        "target": [[0, 1, 0]],
        "other:b": [[0, 2, 1]],
    }
    assert masks["attended"].sum() == 1
    both = masks["target"] | masks["other:b"]
    assert regions.describe(Trial(0, 34.0, "other:b"), both) == pytest.approx(
        {"units": 2, "choices": 1, "overlap": 0.5, "decisive": 2 / 3, "removed": 0.5}
    )
