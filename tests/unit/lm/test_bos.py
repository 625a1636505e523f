"""A model that reads every sequence after its BOS token, against the same passes done by hand."""

import numpy as np
import pytest
import torch

from memgrid.lm.model import after_bos, identity_after_bos
from memgrid.lm.pooling import attention_of
from memgrid.lm.scores.scores import scores_of
from memgrid.lm.triangle import Triangle, without_first

BOS = 7


@pytest.fixture(scope="module")
def lm(toy_lm):
    return after_bos(toy_lm, identity_after_bos(toy_lm.identity, BOS), BOS)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, 400, (3, 20)).astype(np.uint16)


def read(lm, tokens):
    """Logits and attention of BOS and the tokens, eager."""
    inputs = torch.from_numpy(np.concatenate([np.full((len(tokens), 1), BOS), tokens], axis=1).astype(np.int64))
    with torch.inference_mode(), attention_of(lm.model, "eager"):
        return inputs, lm.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), output_attentions=True)


def test_maps_are_those_of_the_sequence_and_lack_what_bos_is_given(lm, tokens):
    _, answer = read(lm, tokens)
    triangle, maps = Triangle(20), lm.pooled_maps(tokens)
    for layer, weights in enumerate(answer.attentions):
        for name, pooled in (("mean", weights.mean(1)), ("max", weights.amax(1))):
            expected = pooled[:, 1:, 1:].flatten(1).numpy()[:, triangle.flat]
            np.testing.assert_allclose(maps[name][:, :, layer], expected, atol=1e-3)
        rows = np.zeros((3, 20))
        np.add.at(rows.T, np.tril_indices(20)[0], maps["mean"][:, :, layer].astype(np.float64).T)
        np.testing.assert_allclose(1 - rows, weights.mean(1)[:, 1:, 0], atol=4e-3)
    scores, again = lm.score_and_pool(tokens, 10)
    for name in maps:
        np.testing.assert_array_equal(maps[name], again[name])
    assert scores.memorized.shape == (3,)
    inputs, answer = read(lm, tokens)
    logprob = answer.logits[:, :-1].log_softmax(-1).gather(-1, inputs[:, 1:, None])[..., 0]
    np.testing.assert_allclose(scores.logprob, logprob, rtol=2e-3)  # of the first token, too
    np.testing.assert_allclose(scores.min_k_plus, scores_of(answer.logits, inputs, 11, by_token=True).min_k_plus, rtol=1e-3)


def test_scores_are_those_after_bos(lm, tokens):
    inputs, answer = read(lm, tokens)
    expected, made = scores_of(answer.logits, inputs, 11), lm.score(tokens, 10)
    for name in ("confidence", "prefix_logprob", "suffix_logprob"):
        np.testing.assert_allclose(getattr(made, name), getattr(expected, name), atol=1e-4)
    logprob = answer.logits[:, :-1].log_softmax(-1).gather(-1, inputs[:, 1:, None])[..., 0]
    np.testing.assert_allclose(made.prefix_logprob, logprob[:, :10].mean(1), atol=1e-4)
    np.testing.assert_allclose(made.suffix_logprob, logprob[:, 10:].mean(1), atol=1e-4)


def test_a_continuation_is_one_after_bos_and_memorized_is_what_it_equals(lm, toy_lm, tokens):
    continued = lm.continue_greedily(tokens[:, :10], 10)
    expected = toy_lm.continue_greedily(np.insert(tokens[:, :10].astype(np.int64), 0, BOS, axis=1), 10)
    np.testing.assert_array_equal(continued, expected)
    assert continued.shape == (3, 10)
    assert lm.score(np.concatenate([tokens[:, :10], continued], axis=1), 10).memorized.all()


def test_the_identity_is_another_for_another_token(toy_lm):
    prints = {toy_lm.identity.fingerprint, *(identity_after_bos(toy_lm.identity, bos).fingerprint for bos in (0, 1))}
    assert len(prints) == 3
    assert len({len(one) for one in prints}) == 1


@pytest.mark.parametrize("length", [1, 2, 9])
def test_the_first_row_and_column_are_left_out(length):
    whole = np.arange((length + 1) ** 2).reshape(length + 1, length + 1)
    packed = whole[np.tril_indices(length + 1)][None, :, None]
    np.testing.assert_array_equal(without_first({"a": packed}, length)["a"][0, :, 0], whole[1:, 1:][np.tril_indices(length)])
