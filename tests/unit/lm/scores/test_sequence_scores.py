"""Scores of sequences by hand, from logits."""

import zlib
from dataclasses import fields

import numpy as np
import pytest
import torch
from scores_by_hand import by_hand

from memgrid.lm.scores import places
from memgrid.lm.scores.places import Sampling
from memgrid.lm.scores.scores import Scores, joined, least, scores_of, shortest, zlib_bytes


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
    np.testing.assert_allclose(made.min_k, [row[2] for row in expected], rtol=1e-5)
    np.testing.assert_allclose(made.total_logprob, [row[0].sum() for row in expected], rtol=1e-5)
    np.testing.assert_allclose(made.p_extract, [np.exp(row[0].sum()) for row in expected], rtol=1e-4)


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


def expecting(tokens, right, words=7):
    """Logits that expect each token after the first where `right` says so, and another one elsewhere."""
    logits = np.zeros((*tokens.shape, words), np.float32)
    wanted = np.where(right, tokens[:, 1:], (tokens[:, 1:] + 1) % words)
    np.put_along_axis(logits[:, :-1], wanted[..., None], 3, -1)
    return torch.from_numpy(logits)


@pytest.mark.parametrize(
    ("right", "least_prefix"),
    [
        ("0000", 5),  # nothing: no prefix gives the rest
        ("1111", 1),
        ("1110", 5),  # only the last one is wrong
        ("0111", 2),
        ("1101", 4),
        ("0001", 4),
        ("1", 1),
        ("0", 2),
    ],
)
def test_shortest_prefixes(right, least_prefix):
    given = np.array([[sign == "1" for sign in right]])
    assert shortest(torch.from_numpy(given)).tolist() == [least_prefix]
    tokens = np.zeros((1, len(right) + 1), np.int64)
    for k in range(1, len(right) + 1):
        made = scores_of(expecting(tokens, given), torch.from_numpy(tokens), k)
        assert made.shortest_prefix.tolist() == [least_prefix]
        assert made.memorized.tolist() == [least_prefix <= k]


@pytest.mark.parametrize("length", [2, 3, 8, 40])
def test_memorized_is_a_shortest_prefix_of_at_most_k(length):
    rng = np.random.default_rng(length)
    tokens, right = rng.integers(0, 7, (50, length)), rng.random((50, length - 1)) < rng.random((50, 1)) ** 0.2
    right[:2], right[2] = True, False
    by_hand_too = [next((j for j in range(1, length) if row[j - 1 :].all()), length) for row in right]
    for k in {1, 2, length // 2, length - 1} - {length}:
        made = scores_of(expecting(tokens, right), torch.from_numpy(tokens), k)
        assert made.shortest_prefix.dtype == np.int16
        np.testing.assert_array_equal(made.shortest_prefix, by_hand_too)
        np.testing.assert_array_equal(made.memorized, made.shortest_prefix <= k)
        greedy = scores_of(expecting(tokens, right), torch.from_numpy(tokens), k, sampling=Sampling(0.5, 1))
        np.testing.assert_array_equal(greedy.p_extract, made.memorized)


@pytest.mark.parametrize("count", [1, 4, 5, 9, 10, 63])
def test_the_least_fifth_or_one(count):
    numbers = torch.from_numpy(np.random.default_rng(count).normal(size=(6, count)))
    expected = np.sort(numbers.numpy(), 1)[:, : max(1, count // 5)].mean(1)
    np.testing.assert_allclose(least(numbers), expected, rtol=1e-12)


def test_scores_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    logits, tokens = torch.from_numpy(rng.normal(size=(7, 9, 11)).astype(np.float32)), torch.from_numpy(rng.integers(0, 11, (7, 9)))
    for by_token in (False, True):
        whole = scores_of(logits, tokens, 4, by_token=by_token)
        parts = joined([scores_of(logits[rows], tokens[rows], 4, by_token=by_token) for rows in (slice(3), slice(3, 4), slice(4, 7))])
        some = whole.of(np.array([5, 0]))
        for name in (field.name for field in fields(Scores)):
            if getattr(whole, name) is None:
                assert getattr(parts, name) is None is getattr(some, name)
                continue
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)
            np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[[5, 0]], err_msg=name)


def test_what_zlib_makes_of_a_text():
    """Of its UTF-8, and of what is none: tokens can end within a character."""
    made = zlib_bytes(["", "a" * 500, "ähnlich", "half \udcc3"])
    assert made.dtype == np.float32
    assert made.tolist()[:3] == [len(zlib.compress(text.encode())) for text in ("", "a" * 500, "ähnlich")]
    assert made[1] < 30
    assert made[3] > 8
