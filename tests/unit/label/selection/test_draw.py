import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.config.schema import SelectConfig
from memgrid.label.selection.draw import LOTS, SPARED, Draw, coins, draw, most, of_the_corpus, ranks, reserved, settled, share, spared


@st.composite
def lots(draw):
    """Lots of two to four classes, lowest first; near-duplicates have one lot, so that a class can hang on a few large groups."""
    drawn = np.random.default_rng(draw(st.integers(0, 2**32)))
    classes = []
    for _ in range(draw(st.integers(2, 4))):
        groups = drawn.integers(0, LOTS, draw(st.integers(1, 60)), dtype=np.uint32)
        classes.append(np.sort(drawn.choice(groups, draw(st.integers(0, 120)))))
    return classes


CONFIGS = st.builds(
    SelectConfig,
    train_per_class=st.integers(1, 300),
    eval_per_class=st.integers(1, 300),
    min_train_per_class=st.integers(1, 40),
    min_eval_per_class=st.integers(1, 20),
)


@settings(max_examples=300)
@given(lots(), CONFIGS)
def test_evaluation_is_served_first_and_training_keeps_its_least(classes, config):
    bound = reserved(classes, config)
    kept = [int(np.searchsorted(own, bound)) for own in classes]
    wanted = max(0, min(spared(len(own), config) for own in classes))
    bears = min(most(own, config) for own in classes)
    for own, number in zip(classes, kept, strict=True):
        if len(own) >= config.min_train_per_class:
            assert len(own) - number >= config.min_train_per_class
        if bound < bears:  # nobody had to be spared
            assert number >= wanted
    assert bound >= min(of_the_corpus(config), bears)
    # No lower bound would do: the last lot below it is needed, or the share of the corpus.
    if bound > of_the_corpus(config):
        assert min(int(np.searchsorted(own, bound - 1)) for own in classes) < wanted or bound == bears


@settings(max_examples=200)
@given(st.integers(0, 100_000), CONFIGS)
def test_what_a_class_spares(samples, config):
    kept = spared(samples, config)
    assert kept <= config.eval_per_class
    assert kept <= max(samples * max(share(config), SPARED), samples - config.min_train_per_class)
    if samples >= config.min_train_per_class + min(config.min_eval_per_class, config.eval_per_class):
        assert kept >= min(config.min_eval_per_class, config.eval_per_class)
    assert kept <= spared(samples + 1, config)


@pytest.mark.parametrize(("train", "samples", "evaluated"), [(5000, 1136, 160), (5000, 300, 100), (500, 300, 100), (500, 70, 20)])
def test_much_to_train_on_leaves_a_small_class_enough_to_evaluate_on(train, samples, evaluated):
    config = SelectConfig(train_per_class=train)
    apart = np.sort(np.random.default_rng(0).choice(LOTS, samples, replace=False)).astype(np.uint32)
    plenty = np.sort(np.random.default_rng(1).choice(LOTS, 50_000, replace=False)).astype(np.uint32)
    assert np.searchsorted(apart, reserved([apart, plenty], config)) == evaluated


def test_coins_are_fair_independent_and_of_the_tokens_alone():
    tokens = np.random.default_rng(0).integers(0, 50, (4000, 16), dtype=np.int32)
    tossed = {seed: coins(tokens, seed) for seed in range(4)}
    for heads in tossed.values():
        assert abs(heads.mean() - 0.5) < 0.03
    for a, b in itertools.combinations(tossed.values(), 2):
        assert abs((a == b).mean() - 0.5) < 0.03
    order = np.random.default_rng(1).permutation(len(tokens))
    np.testing.assert_array_equal(coins(tokens[order].astype(np.int64), 2), tossed[2][order])
    np.testing.assert_array_equal(coins(tokens[:1].repeat(3, 0), 0), tossed[0][:1].repeat(3))


@pytest.mark.parametrize("leak_free", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 255])
def test_the_order_the_lots_and_the_coins_say_nothing_of_each_other(leak_free, seed):
    tokens = np.random.default_rng(0).integers(0, 50, (4000, 16), dtype=np.int32)
    drawn = draw(np.arange(4000), tokens, SelectConfig(leak_free=leak_free), seed)
    first, low = np.arange(4000) < 2000, drawn.lots < LOTS // 2
    heads = coins(tokens, seed)[drawn.rows]
    for one, other in itertools.combinations((first, low, heads), 2):
        assert abs(one.mean() - 0.5) < 0.03
        assert abs((one == other).mean() - 0.5) < 0.03


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=60))
def test_ranks_are_those_of_a_plain_loop(rows):
    duplicates, memorized = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    among = duplicates[memorized]
    expected = [((among < one).sum() + (among == one).sum() / 2) / max(1, len(among)) for one in duplicates]
    np.testing.assert_allclose(ranks(duplicates, memorized), expected)
    if memorized.any():  # a half is a half, but for those that have as many as the median
        median = np.sort(among)[len(among) // 2]
        above = (ranks(duplicates, memorized)[memorized] > 0.5).sum()
        assert abs(above - len(among) / 2) <= (among == median).sum() / 2 + 1


def test_what_was_drawn_is_told_by_class_without_the_undecided():
    drawn = Draw(np.array([4, 0, 2, 3, 1]), np.array([7, 5, 9, 2, 6], np.uint32))
    classes = np.array([1, -1, 0, 1, 1], np.int8)
    assert [own.tolist() for own in drawn.by_class(classes, 3)] == [[9], [2, 5, 7], []]
    assert drawn.counts(classes, 3) == [1, 3, 0]


@pytest.mark.parametrize(("shared", "lots"), [(32, 1), (31, 2)])
def test_half_a_sequence_in_common_is_one_lot(shared, lots):
    tokens = np.arange(128).reshape(2, 64)
    tokens[1, 20 : 20 + shared] = tokens[0, 5 : 5 + shared]
    assert len(set(draw(np.arange(2), tokens, SelectConfig(), 0).lots)) == lots


def test_a_seed_draws_the_same_in_every_version():
    tokens = np.arange(40, dtype=np.int32).reshape(5, 8)
    drawn, loose = (draw(np.arange(5) + 10, tokens, SelectConfig(leak_free=leak_free), 3) for leak_free in (True, False))
    assert drawn.rows.tolist() == [4, 0, 1, 2, 3]
    assert drawn.lots.tolist() == [2732179781, 1443560001, 2206691137, 1741068341, 1209434236]
    assert loose.rows.tolist() == [3, 1, 2, 4, 0]
    assert loose.lots.tolist() == [2093567903, 4093933533, 50018411, 806356514, 2038613974]
    assert coins(tokens, 3).tolist() == [True, False, False, True, False]


EIGHTH = LOTS // 8


@pytest.mark.parametrize(
    ("numbers", "classes", "bound"),
    [
        ((3, 1, 1, 1), [[0, 1, 7], [3, 4, 5]], 3 * EIGHTH + 1),  # a lot is needed of the second, beyond the quarter of the corpus
        ((3, 1, 1, 1), [[0, 1, 7], [3, 3, 3]], 3 * EIGHTH),  # which has to keep one, so that it gives none
        ((3, 1, 1, 1), [[0, 1, 7], [1, 4, 5]], 2 * EIGHTH),  # the quarter is enough for all
        ((3, 1, 3, 1), [[1, 2, 3], [5, 6, 7]], EIGHTH),  # nobody can spare any of the first's
        ((3, 1, 3, 1), [[1, 2], [5, 6, 7]], 2 * EIGHTH),  # who has too few to train on hinders no one
        ((3, 0, 1, 1), [[0, 1, 2], [3, 4, 5]], 0),  # nothing is evaluated on
    ],
)
def test_the_bound_by_hand(numbers, classes, bound):
    lots = [np.array(own, np.uint32) * np.uint32(EIGHTH) for own in classes]
    assert reserved(lots, SelectConfig(*numbers)) == bound


def test_of_a_class_that_has_just_what_training_needs_nothing_is_spared():
    own = np.array([5, 6, 7], np.uint32)
    assert [most(own, SelectConfig(min_train_per_class=least)) for least in (1, 2, 3, 4)] == [7, 6, 5, LOTS]


@pytest.mark.parametrize(
    ("numbers", "classes", "hanging", "answer"),
    [
        # One of each is evaluated on. The second needs no higher bound than the first and bears it: whatever comes in addition.
        ((1, 2, 2, 1), [[4, 7], [4, 7]], [1], True),
        # The first bears no bound above 1 yet, and the second needs one of 4: both may change.
        ((1, 1, 1, 1), [[0, 1, 7], [4, 7]], [0, 1], False),
        # The second can spare nothing, and will not.
        ((3, 1, 1, 1), [[6], []], [0], True),
    ],
)
def test_the_bound_is_settled_by_hand(numbers, classes, hanging, answer):
    lots = [np.array(own, np.uint32) * np.uint32(EIGHTH) for own in classes]
    assert settled(lots, hanging, SelectConfig(*numbers)) == answer


SMALL = st.lists(st.integers(0, 7), max_size=5)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(SMALL, SMALL, st.booleans()), min_size=1, max_size=3),
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.just(1)),
)
def test_a_settled_bound_stays_whatever_becomes_of_the_undecided(classes, numbers):
    config, hanging = SelectConfig(*numbers), [label for label, (_, _, is_open) in enumerate(classes) if is_open]
    known = [np.sort(np.array(own, np.uint32)) * np.uint32(EIGHTH) for own, _, _ in classes]
    if settled(known, hanging, config):
        more = [own + extra if is_open else own for own, extra, is_open in classes]
        assert reserved([np.sort(np.array(own, np.uint32)) * np.uint32(EIGHTH) for own in more], config) == reserved(known, config)
