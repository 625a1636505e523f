"""What is expected at each place, against a plain computation in float64; and that nothing depends on who is beside."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from memgrid.lm.scores import places
from memgrid.lm.scores.places import FLAT, NEVER, Sampling, look_at, parts

NUMBERS = ("given", "best", "standing", "sampled")


def plainly(logits, tokens, suppressed=(), temperature=1.0, top_k=None):
    """The same in float64, one place at a time."""
    found = {name: np.zeros(tokens.shape) for name in NUMBERS} | {"right": np.zeros(tokens.shape, bool)}
    for place in np.ndindex(tokens.shape):
        here, token = logits[place].astype(np.float64), tokens[place]
        every = log_softmax(here)
        allowed = [word for word in range(len(here)) if word not in suppressed]
        top = max(allowed, key=lambda word: (here[word], -word))  # the first one of ties
        possible = np.isfinite(every)
        chances, shown = np.exp(every[possible]), every[possible]
        mean = (chances * shown).sum()
        deviation = np.sqrt((chances * (shown - mean) ** 2).sum())
        given = max(every[token], NEVER)
        found["given"][place], found["best"][place], found["right"][place] = given, every[top], top == token
        found["standing"][place] = (given - mean) / max(deviation, FLAT)
        kept = here >= np.sort(here)[::-1][min(top_k or len(here), len(here)) - 1]
        drawn = log_softmax(np.where(kept, here / temperature, -np.inf))
        found["sampled"][place] = drawn[token]
    return found


def close(made, expected):
    assert made.right.tolist() == expected["right"].tolist()
    for name in NUMBERS:
        numbers = getattr(made, name)
        assert (numbers.dtype, numbers.shape) == (torch.float32, made.right.shape)
        # Deviations near FLAT magnify what float32 rounds.
        np.testing.assert_allclose(numbers, expected[name], rtol=2e-4 if name == "standing" else 1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("seed", range(60))
def test_any_logits_say_what_a_plain_computation_says(seed, monkeypatch):
    """Of any shape and precision, flat or sure, far from zero, with ties and with tokens that are never said; however many at once."""
    rng = np.random.default_rng(seed)
    shape = (rng.integers(1, 6), rng.integers(1, 10), rng.integers(2, 200))
    logits = rng.choice([0.01, 1, 4, 25]) * rng.normal(size=shape) + rng.choice([0, -100, 1000])
    if rng.random() < 0.4:
        logits = np.round(logits)  # ties
    if rng.random() < 0.4:
        never = rng.random(shape) < 0.3
        never[..., rng.integers(shape[-1])] = False
        logits[never] = -np.inf
    dtype = (torch.float32, torch.float32, torch.float16, torch.bfloat16)[seed % 4]
    given = torch.from_numpy(logits).to(dtype)
    tokens = rng.integers(0, shape[-1], shape[:2])
    tokens[rng.random(shape[:2]) < 0.3] = 0
    monkeypatch.setattr(places, "AT_ONCE", int(rng.choice([1, 30, 700, 2**20])))
    suppressed = tuple(rng.choice(shape[-1], rng.integers(0, min(3, shape[-1])), replace=False).tolist())
    temperature, top_k = float(rng.choice([0.3, 1, 2])), [None, 1, 2, 3, 1000][rng.integers(5)]
    made = look_at(given.clone(), torch.from_numpy(tokens), suppressed, Sampling(temperature, top_k))
    close(made, plainly(given.float().numpy(), tokens, suppressed, temperature, top_k))


@pytest.mark.parametrize("gap", [1, 4, 8, 12, 16, 19])
@pytest.mark.parametrize("offset", [0, -100, 900])
def test_a_very_sure_model_loses_no_digits(gap, offset):
    """However near to 1 the most probable token is, how far the others lie below the mean keeps its digits."""
    logits = np.full((1, 4, 40), offset - gap - 6, np.float32)
    logits[..., 3], logits[..., 5] = offset, offset - gap
    tokens = np.array([[3, 5, 7, 3]])
    made, expected = look_at(torch.from_numpy(logits.copy()), torch.from_numpy(tokens)), plainly(logits, tokens)
    assert expected["standing"][0, 1] < -0.2
    np.testing.assert_allclose(made.standing, expected["standing"], rtol=1e-4)
    np.testing.assert_allclose(made.given, expected["given"], rtol=1e-6, atol=2e-7)
    assert made.given.max() <= 0


@pytest.mark.parametrize("shape", [(7, 5, 11), (6, 1, 300), (5, 9, 64)])
@pytest.mark.parametrize("at_once", [1, 64, 500, 2000, 2**20])
def test_numbers_do_not_depend_on_who_is_beside_bit_for_bit(shape, at_once, monkeypatch):
    """Not on the sequences of the batch, of which one has tokens that are never said, nor on the place in it."""
    monkeypatch.setattr(places, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(5 * rng.normal(size=shape).astype(np.float32))
    logits[2, :, 1:4] = -torch.inf
    tokens = torch.from_numpy(rng.integers(0, shape[-1], shape[:2]))
    order = torch.from_numpy(rng.permutation(shape[0]))
    for sampling in (Sampling(), Sampling(0.7), Sampling(1, 3)):
        whole, turned = look_at(logits.clone(), tokens, (1,), sampling), look_at(logits[order], tokens[order], (1,), sampling)
        for name in (*NUMBERS, "right"):
            alone = torch.cat(
                [getattr(look_at(logits[row, None].clone(), tokens[row, None], (1,), sampling), name) for row in range(shape[0])]
            )
            assert torch.equal(getattr(whole, name), alone), name
            assert torch.equal(getattr(whole, name)[order], getattr(turned, name)), name


@pytest.mark.parametrize("shape", [(1, 1, 7), (4, 6, 7), (3, 50, 2), (5, 3, 1000)])
@pytest.mark.parametrize("at_once", [1, 13, 100, 2**20])
def test_parts_are_every_place_once_and_no_more_than_may_be_looked_at(shape, at_once, monkeypatch):
    monkeypatch.setattr(places, "AT_ONCE", at_once)
    seen, sizes = np.zeros(shape[:2], int), []
    for part in parts(torch.zeros(shape)):
        seen[part] += 1
        sizes.append(np.zeros(shape[:2])[part].shape)
    assert (seen == 1).all()
    assert all(rows * some <= max(1, at_once // shape[2]) for rows, some in sizes)
    assert all(rows <= sizes[0][0] and some <= sizes[0][1] for rows, some in sizes)  # room for the first is room for all


def test_sampling_is_plain_only_without_any_change():
    assert Sampling().is_plain
    assert not any(sampling.is_plain for sampling in (Sampling(0.5), Sampling(1, 5), Sampling(2, 1)))
