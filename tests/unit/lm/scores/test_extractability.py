"""The probability of a suffix, and the shortest prefix that gives it, against enumeration, sampling and decoding themselves."""

import itertools
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from conftest import NIGHT
from models_maker import five_words, outspoken
from scipy.stats import binom
from transformers import GenerationConfig

from memgrid.io.paths import TOY
from memgrid.lm.model import after_bos, identity_after_bos
from memgrid.lm.scores.places import Sampling
from memgrid.taxonomy.columns import DEGREES

PREFIX, WORDS = (3, 0, 1, 4), 5
SAMPLED, FALSE_ALARM = 4000, 1e-4


@pytest.fixture(scope="module")
def lm():
    return five_words()


def every(length):
    """All sequences of the prefix and some suffix of that length."""
    suffixes = np.array(list(itertools.product(range(WORDS), repeat=length)))
    return np.concatenate([np.tile(PREFIX, (len(suffixes), 1)), suffixes], 1)


def extracted(lm, tokens, sampling):
    return replace(lm, sampling=sampling).score(tokens, len(PREFIX))


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
@pytest.mark.parametrize("top_k", [None, 1, 2, 3, 5, 9])
@pytest.mark.parametrize("length", [3, 4])
def test_one_of_all_suffixes_is_drawn(lm, length, top_k, temperature):
    made = extracted(lm, every(length), Sampling(temperature, top_k))
    assert made.p_extract.dtype == np.float64
    np.testing.assert_allclose(made.p_extract.sum(), 1, rtol=1e-5)
    assert (made.p_extract > 0).sum() == min(top_k or WORDS, WORDS) ** length
    likeliest = made.p_extract.argmax() if top_k == 1 else None
    assert likeliest is None or made.memorized.nonzero()[0].tolist() == [likeliest]


def test_by_greedy_drawing_it_is_one_just_where_memorized(lm):
    made = extracted(lm, every(4), Sampling(0.5, 1))
    assert made.p_extract.tolist() == made.memorized.astype(float).tolist()
    assert made.memorized.sum() == 1


def test_plain_drawing_is_the_product_of_what_the_model_expects(lm):
    tokens = every(3)
    made = extracted(lm, tokens, Sampling())
    with torch.inference_mode():
        chances = lm.model(torch.from_numpy(tokens)).logits.double().softmax(-1)[:, len(PREFIX) - 1 : -1]
    expected = chances.gather(-1, torch.from_numpy(tokens)[:, len(PREFIX) :, None])[..., 0].prod(-1)
    np.testing.assert_allclose(made.p_extract, expected, rtol=1e-5)
    np.testing.assert_allclose(made.p_extract, np.exp(3.0 * made.suffix_logprob), rtol=1e-5)
    np.testing.assert_allclose(extracted(lm, tokens, Sampling(1, WORDS)).p_extract, made.p_extract, rtol=1e-5)


SETTINGS = [Sampling(), Sampling(0.5), Sampling(2, 3), Sampling(1, 2), Sampling(0.5, 9)]


@pytest.mark.parametrize("sampling", SETTINGS)
def test_suffixes_are_drawn_as_often_as_it_says(lm, sampling):
    """By transformers, from the same model: the number of each of all suffixes lies in its binomial interval."""
    drawing = GenerationConfig(
        do_sample=True,
        temperature=float(sampling.temperature),
        top_k=sampling.top_k or 0,
        max_new_tokens=3,
        num_return_sequences=SAMPLED,
        eos_token_id=None,
        pad_token_id=0,
    )
    lm.model.generation_config.eos_token_id = None
    prefix = torch.tensor([PREFIX])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = lm.model.generate(prefix, attention_mask=torch.ones_like(prefix), generation_config=drawing)[:, len(PREFIX) :].numpy()
    tokens = every(3)
    places = (drawn * WORDS ** np.arange(2, -1, -1)).sum(1)
    counted = np.bincount(places, minlength=len(tokens))
    level = FALSE_ALARM / (2 * len(tokens) * len(SETTINGS))
    chance = np.clip(extracted(lm, tokens, sampling).p_extract, 0, 1)
    low, high = binom.ppf(level, SAMPLED, chance), binom.isf(level, SAMPLED, chance)
    assert ((low <= counted) & (counted <= high)).all()
    assert (high - low)[chance > 0.05].max() < 0.1 * SAMPLED  # the interval tells something


def test_a_prefix_of_any_length_gives_the_same_tokens_the_same_chance(lm):
    """The chance of a sequence's end is what the chances of longer ends have in common: p(ab) = p(a) p(b after a)."""
    tokens = every(3)
    whole, after = (replace(lm, sampling=Sampling(0.5, 3)).score(tokens, k).p_extract for k in (4, 5))
    first = replace(lm, sampling=Sampling(0.5, 3)).score(tokens[:, :5], 4).p_extract
    np.testing.assert_allclose(whole, first * after, rtol=1e-5)


# Real greedy decoding, by night from every length of the prefix.

LENGTHS = tuple(range(1, 64)) if NIGHT else (1, 2, 5, 9, 16, 27, 32, 40, 52, 58, 61, 62, 63)


@pytest.fixture(scope="module")
def tokens():
    """Sequences of the embedded corpus, of all kinds."""
    table = pl.read_parquet(TOY / "sequences.parquet").sample(200 if NIGHT else 20, seed=0)
    return np.array(table["tokens"].to_list(), np.int32)


def its_own_words(lm):
    """Random tokens, four rows of which go on as the model would from each of the lengths on, and some nowhere."""
    tokens = np.random.default_rng(0).integers(0, 512, (4 * len(LENGTHS) + 8, 64), dtype=np.int32)
    for place, start in enumerate(LENGTHS):
        rows = slice(4 * place, 4 * place + 4)
        tokens[rows, start:] = lm.continue_greedily(tokens[rows, :start], 64 - start)
    return tokens


def refuted_by_decoding(lm, tokens, shortest, lengths=LENGTHS):
    """The lengths of prefixes, and the sequences, at which greedy decoding does otherwise than the shortest prefix says."""
    length, found = tokens.shape[1], []
    for prefix in lengths:
        for start in range(0, len(tokens), 100):
            part = tokens[start : start + 100]
            gives = (lm.continue_greedily(part[:, :prefix], length - prefix) == part[:, prefix:]).all(1)
            found += [(prefix, start + row) for row in np.flatnonzero(gives != (shortest[start : start + 100] <= prefix))]
    return found


def test_the_shortest_prefix_is_the_one_from_which_decoding_gives_the_rest():
    lm = outspoken()
    tokens = its_own_words(lm)
    made = lm.score(tokens, 32)
    assert refuted_by_decoding(lm, tokens, made.shortest_prefix) == []
    assert made.shortest_prefix.dtype == np.int16
    assert len(set(made.shortest_prefix.tolist())) > 0.8 * len(LENGTHS)
    np.testing.assert_array_equal(made.memorized, made.shortest_prefix <= 32)


def test_of_the_embedded_model_too(toy_lm, tokens):
    made = toy_lm.score(tokens, 32)
    assert refuted_by_decoding(toy_lm, tokens, made.shortest_prefix, LENGTHS if NIGHT else (1, 2, 5, 16, 32, 61, 63)) == []
    assert len(set(made.shortest_prefix.tolist())) > 5
    np.testing.assert_array_equal(made.memorized, made.shortest_prefix <= 32)


def test_after_bos_too():
    """Of the sequence's own tokens, of which there is one at least."""
    usual = outspoken()
    lm = after_bos(usual, identity_after_bos(usual.identity, 7), 7)
    tokens = its_own_words(lm)
    made = lm.score(tokens, 32)
    assert refuted_by_decoding(lm, tokens, made.shortest_prefix) == []
    assert refuted_by_decoding(lm, tokens, usual.score(tokens, 32).shortest_prefix, [32]) != []
    np.testing.assert_array_equal(made.memorized, made.shortest_prefix <= 32)


@pytest.mark.parametrize("k", [1, 2, 31, 63])
def test_memorized_is_a_prefix_that_is_long_enough(toy_lm, tokens, k):
    made = toy_lm.score(tokens, k)
    np.testing.assert_array_equal(made.memorized, made.shortest_prefix <= k)


def test_the_degrees_of_a_sequence_do_not_depend_on_k_but_for_what_is_of_the_suffix(toy_lm, tokens):
    one, other = (toy_lm.score(tokens[:8], k) for k in (8, 40))
    for name in (*DEGREES, "total_logprob"):
        if name in ("shortest_prefix", "min_k", "min_k_plus", "total_logprob"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.p_extract <= other.p_extract).all()
