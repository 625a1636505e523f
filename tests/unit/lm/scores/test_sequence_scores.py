"""Scores of sequences by hand, from logits."""

import numpy as np
import pytest
import torch
from scores_by_hand import by_hand

from memgrid.lm.scores import places
from memgrid.lm.scores.scores import scores_of


@pytest.mark.parametrize("k", [1, 5, 11])
def test_scores_by_hand_token_by_token(k):
    """Every token of the suffix counts, the first one too, and none of the prefix does; the prefix's own likelihood ends before it."""
    length, words = 12, 7
    random = np.random.default_rng(k)
    inputs = random.integers(0, words, (1, length))
    logits = random.normal(size=(1, length, words)).astype(np.float32)
    logits[0, np.arange(length - 1), inputs[0, 1:]] = 5  # what comes next is the most probable, everywhere
    chances = np.log(np.exp(logits[0, :-1]) / np.exp(logits[0, :-1]).sum(-1, keepdims=True))[np.arange(length - 1), inputs[0, 1:]]
    made = scores_of(torch.from_numpy(logits), torch.from_numpy(inputs), k)
    assert made.memorized.tolist() == [True]
    np.testing.assert_allclose(made.suffix_logprob, chances[k - 1 :].mean(), rtol=1e-5)
    np.testing.assert_allclose(made.suffix_probability, np.exp(chances[k - 1 :]).mean(), rtol=1e-5)
    np.testing.assert_allclose(made.prefix_logprob, chances[: k - 1].mean() if k > 1 else 0, rtol=1e-5)
    for place in range(1, length):  # the token there becomes one that is not expected
        other = logits.copy()
        other[0, place - 1, (inputs[0, place] + 1) % words] = 9
        assert scores_of(torch.from_numpy(other), torch.from_numpy(inputs), k).memorized.tolist() == [place < k]


@pytest.mark.parametrize("length", [2, 3, 12, 64])
@pytest.mark.parametrize("at_once", [1, 40, 2**21])
def test_how_probable_every_token_is_by_hand(length, at_once, monkeypatch):
    """With one token too, and however few places are looked at together."""
    monkeypatch.setattr(places, "AT_ONCE", at_once)
    random = np.random.default_rng(length)
    logits, tokens = 3 * random.normal(size=(4, length, 19)), random.integers(0, 19, (4, length))
    made = scores_of(torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(tokens), 1, by_token=True)
    expected = [by_hand(*row) for row in zip(logits, tokens, strict=True)]
    assert (made.logprob.dtype, made.logprob.shape, made.min_k_plus.dtype) == (np.float16, (4, length), np.float32)
    assert np.isnan(made.logprob[:, 0]).all()
    np.testing.assert_allclose(made.logprob[:, 1:], [row[0] for row in expected], rtol=1e-3)
    np.testing.assert_allclose(made.min_k_plus, [row[1] for row in expected], rtol=1e-4, atol=1e-5)


def test_where_all_tokens_are_equally_probable_none_stands_out():
    tokens = torch.zeros((2, 9), dtype=torch.int64)
    made = scores_of(torch.full((2, 9, 50_000), 3.7), tokens, 4, by_token=True)
    np.testing.assert_allclose(made.logprob[:, 1:], -np.log(50_000), rtol=1e-3)
    np.testing.assert_allclose(made.min_k_plus, 0, atol=0.01)
    certain = torch.full((2, 9, 50), -1e30)
    certain[..., 0] = 0
    np.testing.assert_array_equal(scores_of(certain, tokens, 4, by_token=True).min_k_plus, 0)


def test_what_has_no_probability_leaves_the_others_theirs():
    """Tokens that a model never says are no part of its mean; one that is read all the same counts as the least that can be told."""
    random = np.random.default_rng(0)
    logits, tokens = random.normal(size=(3, 8, 11)).astype(np.float32), random.integers(0, 11, (3, 8))
    never = np.concatenate([logits, np.full((3, 8, 5), -np.inf, np.float32)], -1)
    made = scores_of(torch.from_numpy(never), torch.from_numpy(tokens), 4, by_token=True)
    expected = [by_hand(*row) for row in zip(logits.astype(float), tokens, strict=True)]
    np.testing.assert_allclose(made.min_k_plus, [row[1] for row in expected], rtol=1e-4)
    tokens[:, 3] = 15
    read = scores_of(torch.from_numpy(never), torch.from_numpy(tokens), 4, by_token=True)
    np.testing.assert_array_equal(read.logprob[:, 3], np.float16(places.NEVER))
    assert np.isfinite(read.min_k_plus).all()
