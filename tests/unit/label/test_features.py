"""What features are computed by, against plain loops: how near a continuation comes, another model, and steps of a training."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from labels_maker import few, reader

from memgrid.corpus.corpus import Corpus
from memgrid.label.features import columns_of_pass, label_memorized, label_near, onset_columns, reference_columns
from memgrid.lm.model import LanguageModel, ModelIdentity
from memgrid.lm.scores.scores import zlib_bytes
from memgrid.taxonomy.columns import DEGREES, KNOWN, RANGES


def edit_distance(one, other):
    """The least number of tokens to be changed, put in or left out, by the plain dynamic programme."""
    before = list(range(len(other) + 1))
    for row, token in enumerate(one, 1):
        here = [row]
        for column, wanted in enumerate(other, 1):
            here.append(min(before[column] + 1, here[-1] + 1, before[column - 1] + (token != wanted)))
        before = here
    return before[-1]


@dataclass(frozen=True)
class Speaker(LanguageModel):
    """A model that continues prefixes, whose first token is their number, with what it is told to."""

    said: np.ndarray | None = None

    def continue_greedily(self, prefix, steps):
        return self.said[prefix[:, 0]][:, :steps]


def speaker(said):
    return Speaker(None, ModelIdentity("speaker", "main", "speaker", 2, 10), None, None, batch_tokens=60, said=said)


@pytest.mark.parametrize("words", [2, 5, 400])
@pytest.mark.parametrize("length", [1, 7, 20])
def test_how_near_a_continuation_comes(words, length):
    """Random suffixes, continued with random tokens, with themselves, moved by a token, with a few changed or with one left out."""
    rng = np.random.default_rng(words + length)
    suffix = rng.integers(0, words, (60, length)).astype(np.int32)
    said = suffix.copy()
    said[:12] = rng.integers(0, words, (12, length))
    said[12:24] = np.roll(suffix[12:24], 1, axis=1)
    changed = rng.random((12, length)) < 0.2
    said[24:36][changed] = rng.integers(0, words, changed.sum())
    said[36:48, length // 2 :] = np.roll(suffix[36:48, length // 2 :], -1, axis=1)
    tokens = np.concatenate([np.arange(60)[:, None], rng.integers(0, words, (60, 2)), suffix], 1).astype(np.int32)
    corpus, memorized = Corpus("few", np.arange(60), tokens, 3, None), (said == suffix).all(1)
    made = label_near(corpus, speaker(said), memorized, slice(None))
    assert made["near"].tolist() == [edit_distance(*pair) for pair in zip(said.tolist(), suffix.tolist(), strict=True)]
    shares = [sum(a == b for a, b in zip(*pair, strict=True)) / length for pair in zip(said, suffix, strict=True)]
    np.testing.assert_allclose(made["right_share"], shares, rtol=1e-6)
    assert (made["near"].dtype, made["right_share"].dtype) == (np.int16, np.float32)
    np.testing.assert_array_equal(made["near"] == 0, memorized)
    np.testing.assert_array_equal(made["right_share"] == 1, memorized)
    part = label_near(corpus, speaker(said), memorized, slice(7, 31))
    assert all(part[name].tolist() == made[name][7:31].tolist() for name in made)


def test_of_what_is_memorized_the_model_is_not_asked():
    corpus = few(4)
    made = label_near(corpus, speaker(np.full((4, 3), 7)), np.array([True, False, True, False]), slice(None))
    assert made["near"].tolist() == [0, 3, 0, 3]
    assert made["right_share"].tolist() == [1, 0, 1, 0]
    everything = label_near(corpus, speaker(None), np.ones(4, bool), slice(None))
    assert everything["near"].tolist() == [0] * 4


def test_how_near_real_continuations_come(embedded, judged, toy_lm):
    """Every third of a hundred sequences of all kinds."""
    some = Corpus("some", embedded.sequence_id[::3], embedded.tokens[::3], embedded.k, None)
    memorized = judged[0][::3]
    made, said = label_near(some, toy_lm, memorized, slice(None)), toy_lm.continue_greedily(some.prefix, some.suffix.shape[1])
    assert made["near"].tolist() == [edit_distance(*pair) for pair in zip(said.tolist(), some.suffix.tolist(), strict=True)]
    np.testing.assert_allclose(made["right_share"], (said == some.suffix).mean(1), rtol=1e-6)
    np.testing.assert_array_equal(made["near"] == 0, memorized)
    assert len(set(made["near"].tolist())) > 5
    assert (made["near"] <= np.round(32 * (1 - made["right_share"]))).all()  # changing each wrong token is one way
    assert (made["near"] < np.round(32 * (1 - made["right_share"]))).any()  # and not always the shortest


def test_columns_of_a_pass():
    corpus, model = few(5), reader("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "b", "ccc", "d", "e")
    made = columns_of_pass(label_memorized(corpus, model), corpus.tokens, model)
    assert set(made) == {*KNOWN, *DEGREES}
    assert made["extraction_strength"].tolist() == [0] * 5  # no prefix gives the rest: Reader says their length
    texts = [model.texts[row] for row in range(5)]
    np.testing.assert_allclose(made["zlib_ratio"], -8 * np.arange(5) / zlib_bytes(texts), rtol=1e-6)
    assert {name: column.dtype.name for name, column in made.items() if name in DEGREES} == {
        "p_extract": "float64",
        "shortest_prefix": "int16",
        "extraction_strength": "float32",
        "min_k": "float32",
        "min_k_plus": "float32",
        "zlib_ratio": "float32",
    }


def test_real_columns_lie_in_their_ranges(embedded, toy_lm):
    corpus = Corpus("some", embedded.sequence_id[::3], embedded.tokens[::3], embedded.k, None)
    made = columns_of_pass(label_memorized(corpus, toy_lm), corpus.tokens, toy_lm)
    for name in (*KNOWN, *DEGREES):
        low, high = RANGES.get(name, (-np.inf, np.inf))
        assert (low <= made[name]).all(), name
        assert (made[name] <= high).all(), name
    np.testing.assert_allclose(made["extraction_strength"], 1 - made["shortest_prefix"] / 64, rtol=1e-6)
    np.testing.assert_array_equal(made["memorized"], made["shortest_prefix"] <= 32)
    texts = toy_lm.detokenize(corpus.tokens)
    total = 31 * made["prefix_logprob"].astype(float) + 32 * made["suffix_logprob"]
    np.testing.assert_allclose(made["zlib_ratio"], total / zlib_bytes(texts), rtol=1e-4)
    np.testing.assert_allclose(made["p_extract"], np.exp(32 * made["suffix_logprob"].astype(float)), rtol=1e-3, atol=1e-12)


def test_columns_of_a_reference():
    rng = np.random.default_rng(0)
    own, other = (pl.DataFrame({name: rng.normal(size=6).astype(np.float32) for name in (*KNOWN, *DEGREES)}) for _ in range(2))
    made = reference_columns(own, other)
    assert list(made) == [*(f"reference_{name}" for name in (*KNOWN, *DEGREES)), "counterfactual"]
    for name in (*KNOWN, *DEGREES):
        assert made[f"reference_{name}"].tolist() == other[name].to_list()
    assert made["counterfactual"].tolist() == (own["suffix_logprob"].to_numpy() - other["suffix_logprob"].to_numpy()).tolist()
    assert made["counterfactual"].dtype == np.float32
    assert set(reference_columns(own, own)["counterfactual"].tolist()) == {0.0}


@pytest.mark.parametrize(
    ("history", "onset"),
    [
        ("000", np.inf),
        ("111", 10.0),
        ("001", 40.0),
        ("011", 25.0),
        ("101", 40.0),  # what was forgotten in between counts from when it came back
        ("110", np.inf),
        ("010", np.inf),
        ("100", np.inf),
    ],
)
def test_from_which_step_on_a_sequence_is_memorized(history, onset):
    memorized = np.array([[sign == "1"] for sign in history])
    assert onset_columns(memorized, np.array([10.0, 25, 40]))["onset"].tolist() == [onset]


@pytest.mark.parametrize("steps", [[np.inf], [7.0], [0.0, 3, np.inf], [1.0, 2, 5, 100, 5000, np.inf]])
def test_onsets_of_any_histories(steps):
    """With a model that names no step of its own, too: from then on is infinite, as never is."""
    memorized = np.random.default_rng(len(steps)).random((len(steps), 300)) < 0.6
    made = onset_columns(memorized, np.array(steps))["onset"]
    assert (made.dtype, made.shape) == (np.float64, (300,))
    for history, onset in zip(memorized.T, made, strict=True):
        assert onset == next((step for place, step in enumerate(steps) if history[place:].all()), np.inf)
