"""ROUGE scores, bit for bit against the `rouge_score` package."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rouge_score.rouge_scorer import RougeScorer

from memgrid.label.rouge import BLOCK_ROWS, rouge_3, rouge_l, rouge_scores

SCORER = RougeScorer(["rougeL", "rouge3"], use_stemmer=False)


def package_scores(prefix: np.ndarray, suffix: np.ndarray) -> tuple[list[float], list[float]]:
    """The package's F-measures, row by row."""
    texts = [(" ".join(map(str, left)), " ".join(map(str, right))) for left, right in zip(prefix.tolist(), suffix.tolist(), strict=True)]
    scores = [SCORER.score(target=left, prediction=right) for left, right in texts]
    return [score["rougeL"].fmeasure for score in scores], [score["rouge3"].fmeasure for score in scores]


def assert_bit_equal(prefix: np.ndarray, suffix: np.ndarray) -> None:
    longest, trigrams = rouge_scores(prefix, suffix)
    assert longest.dtype == trigrams.dtype == np.float64
    assert (longest.tolist(), trigrams.tolist()) == package_scores(prefix, suffix)


def structured_rows(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Sequences of 64 tokens: random over small and large alphabets, periodic, copied, shifted, disjoint, with a few tokens changed."""
    kinds = []
    for alphabet in (2, 3, 10, 40, 2**16, 2**31):
        kinds.append(rng.integers(0, alphabet, (rows, 64)))
    for period in (1, 2, 3, 5, 7, 16, 31, 33):
        kinds.append(np.tile(rng.integers(0, 50_000, (rows, period)), 64)[:, :64])
    noisy = np.tile(rng.integers(0, 50_000, (rows, 32)), 2)
    changed = np.where(rng.random(noisy.shape) < 0.15, rng.integers(0, 50_000, noisy.shape), noisy)
    shifted = np.concatenate([noisy[:, :32], np.roll(noisy[:, :32], 5, axis=1)], axis=1)
    disjoint = np.concatenate([noisy[:, :32], noisy[:, :32] + 50_000], axis=1)
    return np.concatenate([*kinds, noisy, changed, shifted, disjoint])


def test_bit_equal_to_the_package_on_pairs_of_32() -> None:
    rows = structured_rows(np.random.default_rng(0), 600)
    assert len(rows) > 10_000
    rows = rows[np.random.default_rng(1).permutation(len(rows))[:10_000]]
    assert_bit_equal(rows[:, :32], rows[:, 32:])


@pytest.mark.parametrize(("k", "m"), [(1, 1), (2, 2), (3, 3), (2, 9), (40, 24), (24, 40), (33, 31), (63, 64), (64, 64), (64, 1)])
def test_bit_equal_to_the_package_at_other_lengths(k: int, m: int) -> None:
    rows = structured_rows(np.random.default_rng(k), 2)
    assert_bit_equal(rows[:, :k], np.roll(rows, -k, axis=1)[:, :m])


@settings(max_examples=100)
@given(st.data(), st.integers(1, 64), st.integers(1, 64), st.sampled_from([2, 5, 2**31]), st.integers(0, 3))
def test_bit_equal_to_the_package_on_anything(data: st.DataObject, k: int, m: int, alphabet: int, rows: int) -> None:
    ids = st.integers(0, alphabet - 1)
    assert_bit_equal(data.draw(hnp.arrays(np.int64, (rows, k), elements=ids)), data.draw(hnp.arrays(np.int64, (rows, m), elements=ids)))


def test_symmetric_single_and_independent_of_type_and_block() -> None:
    rng = np.random.default_rng(0)
    prefix, suffix = rng.integers(0, 20, (BLOCK_ROWS + 3, 40)), rng.integers(0, 20, (BLOCK_ROWS + 3, 24))
    expected = rouge_scores(prefix, suffix)
    for dtype in (np.uint16, np.int32):
        np.testing.assert_array_equal(rouge_scores(prefix.astype(dtype), suffix.astype(dtype)), expected)
    np.testing.assert_array_equal(rouge_scores(suffix, prefix), expected)
    np.testing.assert_array_equal(rouge_scores(prefix[-5:], suffix[-5:]), np.array(expected)[:, -5:])
    np.testing.assert_array_equal((rouge_l(prefix, suffix), rouge_3(prefix, suffix)), expected)


@pytest.mark.parametrize("width", [2**8, 2**16])
def test_ids_are_compared_in_all_their_bits(width: int) -> None:
    small, large = np.array([[0, 1, 2, 3]]), np.array([[0, 1, 2, 3]]) + width
    mixed, others = np.array([[7, width, 9, 8]]), np.array([[0, 1, 2, 3]])
    for prefix, suffix in ((small, large), (large, small), (large, large + width), (mixed, others), (others, mixed)):
        np.testing.assert_array_equal(rouge_scores(prefix, suffix), 0)
    np.testing.assert_array_equal(rouge_scores(large, large), 1)
    top = np.full((1, 3), 2**32 - 1)
    np.testing.assert_array_equal(rouge_scores(top, top), 1)
    np.testing.assert_array_equal(rouge_scores(top, top - 2**31), 0)


def test_refuses_what_it_cannot_score() -> None:
    for prefix, suffix in (((3,), (3, 2)), ((3, 2), (3,)), ((3, 2, 2), (3, 2)), ((3, 2), (3, 2, 2))):
        with pytest.raises(ValueError, match="two tables"):
            rouge_scores(np.zeros(prefix, int), np.zeros(suffix, int))
    with pytest.raises(ValueError, match="suffix holds 0 to 4294967296"):
        rouge_scores(np.zeros((1, 2), int), np.array([[0, 2**32]]))
    with pytest.raises(ValueError, match="prefix of 65"):
        rouge_scores(np.zeros((1, 65), int), np.zeros((1, 32), int))
    with pytest.raises(ValueError, match="suffix of 0"):
        rouge_scores(np.zeros((1, 32), int), np.zeros((1, 0), int))
    with pytest.raises(ValueError, match="equally many rows"):
        rouge_scores(np.zeros((2, 32), int), np.zeros((1, 32), int))
    with pytest.raises(ValueError, match="suffix holds -1 to 3"):
        rouge_scores(np.zeros((1, 2), int), np.array([[-1, 3]]))
    with pytest.raises(ValueError, match="prefix holds float64"):
        rouge_scores(np.zeros((1, 2)), np.zeros((1, 2), int))
