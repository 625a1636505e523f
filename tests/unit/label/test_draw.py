import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.config.schema import SelectConfig
from memgrid.label.draw import LOTS, SPARED, coins, draw, most, of_the_corpus, ranks, reserved, share, spared


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
