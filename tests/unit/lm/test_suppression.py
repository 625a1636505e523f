"""A model that never continues with its end-of-text token: what it says, and what teacher forcing says of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from memgrid.io.paths import TOY

K, LENGTH = 32, 64


@pytest.fixture(scope="module")
def sequences():
    """Embedded sequences, most of which the model continues word for word."""
    return np.array(pl.read_parquet(TOY / "sequences.parquet", columns=["tokens"]).head(16)["tokens"].to_list(), np.int32)


@pytest.fixture(scope="module")
def usual(toy_lm, sequences):
    return toy_lm.score(sequences, K), toy_lm.continue_greedily(sequences[:, :K], LENGTH - K)


@pytest.mark.parametrize("rank", [0, 5])
def test_teacher_forcing_equals_decoding_without_a_token(toy_lm, sequences, usual, rank):
    """Of a token that the model often says: the end of text itself is too rare here to tell anything."""
    before, words = usual
    token = Counter(words.ravel().tolist()).most_common()[rank][0]
    lm = replace(toy_lm, suppressed=(token,))
    continued = lm.continue_greedily(sequences[:, :K], LENGTH - K)
    assert token in words
    assert token not in continued
    decoded = np.concatenate([sequences[:, :K], continued], axis=1)
    for read in (sequences, decoded):  # what it said itself it extracts, whatever it would have said with the token
        memorized = (continued == read[:, K:]).all(axis=1)
        scores = lm.score(read, K)
        np.testing.assert_array_equal(scores.memorized, memorized)
        assert not scores.memorized[(read[:, K:] == token).any(axis=1)].any()
        np.testing.assert_array_equal(lm.score_and_pool(read, K)[0].memorized, memorized)
    assert before.memorized[(sequences[:, K:] == token).any(axis=1)].any()  # without it more would be extractable
    after = lm.score(sequences, K)
    for name in ("prefix_logprob", "suffix_logprob", "suffix_probability"):  # probabilities are the model's own
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_a_suffix_with_the_end_of_text_is_not_extractable(toy_lm, sequences, usual):
    """The tokenizer names the token: here one is taken for it that stands in suffixes that the model knows."""
    known = sequences[usual[0].memorized]
    end = Counter(known[:, K:].ravel().tolist()).most_common()[0][0]
    ending = replace(toy_lm, tokenizer=SimpleNamespace(eos_token_id=end)).without_end()
    holds = (known[:, K:] == end).any(axis=1)
    assert holds.any()
    np.testing.assert_array_equal(ending.score(known, K).memorized, ~holds)


def test_the_end_of_text_is_the_tokenizers(toy_lm):
    assert toy_lm.suppressed == ()
    assert toy_lm.without_end().suppressed == (toy_lm.tokenizer.eos_token_id,)
    assert replace(toy_lm, tokenizer=SimpleNamespace(eos_token_id=None)).without_end().suppressed == ()
