"""What a masked model is asked to read, and how often; and how far a model may look past a mask that it is proved by."""

from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from models_maker import CACHE, random_model

from memgrid.errors import UserError
from memgrid.intervene.attention.masking import PositionMask, masked_attention, prove_masking
from memgrid.intervene.attention.reader import MaskedReader

LENGTH, K = 20, 9


@pytest.fixture(scope="module")
def lm():
    return random_model("llama")


def some_tokens(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 2048, (count, LENGTH))


def some_mask(seed=0, first=K - 1):
    """Random positions below the diagonal, of queries from `first` on; it has one of that query."""
    off = (np.random.default_rng(seed).random((3, LENGTH, LENGTH)) < 0.3) & np.tri(LENGTH, k=-1, dtype=bool)
    off[:, :first], off[0, first, 0] = False, True
    return PositionMask(off)


@contextmanager
def watched(lm):
    """What the model's body is given inside, and what it makes of it."""
    seen = []
    hook = lm.model.base_model.register_forward_hook(lambda _, __, given, made: seen.append((given, made)), with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def shapes(seen):
    return [tuple(given["input_ids"].shape) for given, _ in seen]


WAYS = {
    "whole": lambda lm: MaskedReader(lm, some_tokens(), K, False).read(some_mask()),
    "suffix": lambda lm: MaskedReader(lm, some_tokens(), K, True).read(some_mask()),
    "as far as right": lambda lm: MaskedReader(lm, some_tokens(), K, True).extractable(some_mask()),
    "proof": prove_masking,
}


@pytest.mark.parametrize("way", WAYS)
def test_no_token_is_ever_taken_for_padding(lm, way):
    """The model is told to look at everything that it has read, and never left to guess."""
    with watched(lm) as seen:
        WAYS[way](lm)
    for given, _ in seen:
        before = given[CACHE].get_seq_length() - given["input_ids"].shape[1] if given.get(CACHE) else 0
        assert torch.equal(given["attention_mask"], torch.ones(len(given["input_ids"]), before + given["input_ids"].shape[1]).long())


@pytest.mark.parametrize("way", ["whole", "proof"])
def test_no_keys_and_values_are_kept_where_nothing_reads_on(lm, way):
    with watched(lm) as seen:
        WAYS[way](lm)
    assert seen
    assert all(getattr(made, CACHE) is None for _, made in seen)


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("k", [2, 5, K])
def test_a_prefix_is_read_once_and_then_only_what_a_mask_can_change(k, keeps):
    """Whether or not the model's configuration would have it keep anything."""
    lm = random_model("llama")
    lm.model.config.use_cache = keeps
    reader = MaskedReader(lm, some_tokens(), k, True)
    with watched(lm) as seen:
        for seed in range(3):
            reader.read(some_mask(seed))
        reader.read(some_mask(1))  # is known
    assert shapes(seen) == [(3, k - 1), *[(3, LENGTH - k)] * 3]


def test_a_model_that_heeds_keys_and_values_only_where_it_is_told_to_reads_the_same():
    lm, tokens, mask = random_model("llama"), some_tokens(), some_mask()
    lm.model.config.use_cache = False
    nothing = PositionMask(np.zeros((3, LENGTH, LENGTH), bool))
    tokens[1, K:] = lm.continue_greedily(tokens[1:2, :K], LENGTH - K)
    expected = MaskedReader(lm, tokens, K, True).read(mask)

    def forget(_, given, named):
        return given, named if named.get("use_cache") else {**named, CACHE: None}

    hook = lm.model.base_model.register_forward_pre_hook(forget, with_kwargs=True)
    try:
        for made, own in zip(MaskedReader(lm, tokens, K, True).read(mask), expected, strict=True):
            np.testing.assert_array_equal(made, own)
        assert MaskedReader(lm, tokens, K, True).extractable(nothing).tolist() == [False, True, False]
    finally:
        hook.remove()


def test_keys_and_values_are_asked_for_by_the_name_that_the_model_has(monkeypatch):
    """As another version of transformers calls them than the one that is installed."""
    lm, tokens, mask = random_model("llama"), some_tokens(), some_mask()
    expected, forward = MaskedReader(lm, tokens, K, True).read(mask), lm.model.forward

    def in_later_words(input_ids, attention_mask, use_cache, cache=None, **others):
        return forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache, **{CACHE: cache}, **others)

    def in_earlier_words(input_ids, attention_mask, use_cache, past_key_values=None, **others):
        return forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache, **{CACHE: past_key_values}, **others)

    name, renamed = ("past_key_values", in_earlier_words) if CACHE == "cache" else ("cache", in_later_words)
    monkeypatch.setattr(lm.model, "forward", renamed)
    hook = lm.model.base_model.register_forward_hook(lambda _, __, made: setattr(made, name, getattr(made, CACHE)))
    try:
        for made, own in zip(MaskedReader(lm, tokens, K, True).read(mask), expected, strict=True):
            np.testing.assert_array_equal(made, own)
    finally:
        hook.remove()


def test_a_sequence_is_read_only_until_it_differs(lm):
    tokens, nothing = some_tokens(), PositionMask(np.zeros((3, LENGTH, LENGTH), bool))
    tokens[1, K:] = lm.continue_greedily(tokens[1:2, :K], LENGTH - K)
    reader = MaskedReader(lm, tokens, K, True)
    with watched(lm) as seen, mock.patch("memgrid.intervene.attention.reader.PIECE", 4):
        assert reader.extractable(nothing).tolist() == [False, True, False]
        assert shapes(seen) == [(3, K - 1), (3, 4), (1, 4), (1, 3)]
        assert MaskedReader(lm, tokens[[0, 2]], K, True).extractable(nothing).tolist() == [False, False]
        assert shapes(seen)[4:] == [(2, K - 1), (2, 4)]
        reader.read(nothing)
        assert reader.extractable(nothing).tolist() == [False, True, False]
        assert len(seen) == 7  # what was read is known


def test_as_many_sequences_are_read_at_once_as_the_tokens_allow(lm):
    few = replace(lm, batch_tokens=44)
    with watched(few) as seen:
        MaskedReader(few, some_tokens(5), K, False).read(some_mask())
        MaskedReader(few, some_tokens(5), K, True).read(some_mask())
    whole, prefix, suffix = LENGTH - 1, K - 1, LENGTH - K
    assert shapes(seen) == [(2, whole), (2, whole), (1, whole), (4, prefix), (4, suffix), (1, prefix), (1, suffix)]


def test_only_what_predicts_the_suffix_goes_through_the_head(lm):
    widths = []
    hook = lm.model.lm_head.register_forward_hook(lambda _, given, __: widths.append(given[0].shape[1]))
    try:
        for suffix_only in (False, True):
            MaskedReader(lm, some_tokens(), K, suffix_only).read(some_mask())
    finally:
        hook.remove()
    assert widths == [LENGTH - K] * 2


# Of two sequences: keys and values of three layers, two heads, the tokens before K - 1, eight numbers of four bytes.
BYTES = 2 * 2 * 3 * 2 * (K - 1) * 8 * 4


@pytest.mark.parametrize(("limit", "kept"), [(2 * BYTES, 2), (2 * BYTES - 1, 1), (BYTES, 1), (BYTES - 1, 0), (0, 0)])
def test_as_many_prefixes_are_kept_as_the_memory_allows(lm, limit, kept):
    few = replace(lm, batch_tokens=2 * (LENGTH - K))
    reader = MaskedReader(few, some_tokens(4), K, True)
    with mock.patch("memgrid.intervene.attention.reader.PREFIX_BYTES", limit), watched(few) as seen:
        for seed in range(2):
            reader.read(some_mask(seed))
    assert shapes(seen).count((2, K - 1)) == 2 + (2 - kept)


def test_a_reader_of_suffixes_takes_masks_from_the_last_token_of_the_prefix_on(lm):
    MaskedReader(lm, some_tokens(), K, True).read(some_mask(first=K - 1))
    with pytest.raises(ValueError, match="keeps its prefixes"):
        MaskedReader(lm, some_tokens(), K, True).read(some_mask(first=K - 2))


def test_attention_with_an_argument_that_nobody_knows_is_refused(lm):
    query = torch.zeros(1, 2, 3, 4)
    with pytest.raises(UserError, match="Identity computes attention with position_bias"):
        masked_attention(torch.nn.Identity(), query, query, query, None, position_bias=query)


def proved_with_a_leak(lm, share):
    """Prove a model of which one number of the last state knows the first token, by a share of what the tokens before change at most."""
    inputs = torch.stack([torch.arange(1, 9), torch.arange(9, 17)])
    inputs[:, -1] = 1
    with torch.inference_mode():
        first, second = lm.model.base_model(input_ids=inputs, use_cache=False)[0][:, -1]
    leak = share * (first - second).abs().max().item() / 8

    def tell(_, __, given, made):
        made.last_hidden_state[:, -1, 0] += leak * given["input_ids"][:, 0]

    hook = lm.model.base_model.register_forward_hook(tell, with_kwargs=True)
    try:
        prove_masking(lm)
    finally:
        hook.remove()


def test_a_model_may_look_past_the_mask_by_a_hundredth_of_what_it_sees(lm):
    proved_with_a_leak(lm, 0.008)
    for share in (0.0125, 0.9):
        with pytest.raises(UserError, match="a token still depends on tokens that it cannot look at"):
            proved_with_a_leak(lm, share)


def test_a_model_that_says_the_same_of_all_tokens_proves_nothing():
    lm = random_model("llama")
    with torch.no_grad():
        for weights in lm.model.parameters():
            weights.zero_()
    with pytest.raises(UserError, match="cannot be switched off"):
        prove_masking(lm)


def test_a_mask_behind_other_tokens_by_hand():
    """They are seen as ever, and see as ever."""
    off = np.zeros((2, 3, 3), bool)
    off[1, 2, [0, 1]] = off[1, 1, 0] = True
    moved = PositionMask(off).behind(2)
    assert moved.layers[0] is None
    assert moved.layers[1].int().tolist() == [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0]]
    assert (moved.first_query, PositionMask(off).first_query) == (3, 1)
    assert PositionMask(off[:1]).first_query == 3  # of no query at all: behind the last
