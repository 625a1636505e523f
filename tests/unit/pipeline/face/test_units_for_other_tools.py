"""Functions on attention patterns: whoever calls them at a layer's pattern reads what memgrid reads under the same mask."""

import numpy as np
import pytest
import torch
from conftest import refusal
from models_maker import CACHE, random_model
from plain_hooks import hooked, read_hooked

from memgrid.intervene.attention.masking import PositionMask, masking
from memgrid.intervene.positions import Regions, candidates
from memgrid.intervene.trials import Trial
from memgrid.intervene.units import Units, switchable
from memgrid.pipeline.face.hooks import first_positions, switches

LAYERS, HEADS, LENGTH, K = 3, 4, 20, 9


@pytest.fixture(scope="module", params=["gpt_neox", "llama"])  # a llama's heads share keys and values
def lm(request):
    made = random_model(request.param)
    with torch.no_grad():  # attention that matters
        for parameter in made.model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    return made


def some_tokens(length=LENGTH):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 2048, (3, length)))


def off_of(unit, replace, queries):
    """The positions that a trial of the experiment masks."""
    random, among = np.random.default_rng(1), candidates(LAYERS, LENGTH, K, queries)
    if unit == "positions":
        maps = np.tril(random.random((2, LAYERS, LENGTH, LENGTH)))
        return Regions(maps, 1, ["A", "B"], maps[0], among).mask(Trial(1, 20.0, "target"))
    shape = (LAYERS, HEADS) if unit == "heads" else (LAYERS,)
    importance = {way: random.random(shape) for way in ("attribution", "ablation", "delta")}
    attention = np.broadcast_to(np.zeros(()), (*shape, LENGTH, LENGTH))
    units = Units(unit, 1, importance, np.zeros(np.prod(shape), int), attention, switchable(among, replace))
    return units.mask(Trial(1, 100 * 2 / units.every.size, "ablation", None, unit))


def read(lm, tokens, mask):
    with torch.inference_mode(), masking(lm.model, mask):
        return lm.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits


@pytest.mark.parametrize("queries", ["suffix", "all"])
@pytest.mark.parametrize("replace", ["renormalise", "zero"])
@pytest.mark.parametrize("unit", ["positions", "heads", "layers"])
def test_hooks_at_the_pattern_are_the_mask(lm, unit, replace, queries):
    tokens, mask = some_tokens(), PositionMask(off_of(unit, replace, queries), None, replace)
    expected, hooks = read(lm, tokens, mask), switches(mask)
    assert (read(lm, tokens, None) - expected).abs().max() > 0.1
    torch.testing.assert_close(read_hooked(lm.model, tokens, hooks), expected, atol=1e-4, rtol=0)
    assert [name for name, _ in hooks] == [f"blocks.{function.layer}.attn.hook_pattern" for _, function in hooks]
    assert len(hooks) == (2 if unit == "layers" else sum(layer is not None for layer in mask.layers))


@pytest.mark.parametrize("replace", ["renormalise", "zero"])
def test_only_the_most_attentive_heads_and_behind_bos(lm, replace):
    tokens, mask = some_tokens(LENGTH + 1), PositionMask(off_of("positions", replace, "all"), 2, replace).behind(1)
    torch.testing.assert_close(read_hooked(lm.model, tokens, switches(mask)), read(lm, tokens, mask), atol=1e-4, rtol=0)


def test_token_by_token_and_of_fewer_tokens(lm):
    """With keys and values kept, the queries are the last ones; the beginning of a sequence is read as in the whole."""
    tokens, mask = some_tokens(), PositionMask(off_of("positions", "renormalise", "all"))
    whole = read(lm, tokens, mask)
    torch.testing.assert_close(read_hooked(lm.model, tokens[:, :11], switches(mask)), whole[:, :11], atol=1e-4, rtol=0)
    with torch.inference_mode(), hooked(lm.model, switches(mask)):
        kept = {CACHE: getattr(lm.model(input_ids=tokens[:, :11], use_cache=True), CACHE)}
        step = lm.model(input_ids=tokens[:, 11:12], attention_mask=torch.ones(3, 12), use_cache=True, **kept).logits
    torch.testing.assert_close(step[:, 0], whole[:, 11], atol=1e-4, rtol=0)


def test_no_hooks_change_no_bit(lm):
    nothing = PositionMask(np.zeros((LAYERS, LENGTH, LENGTH), bool))
    assert switches(nothing) == []
    first = np.zeros((LAYERS, LENGTH, LENGTH), bool)
    first[1, 5, 2] = True
    ((_, function),) = switches(PositionMask(first))
    pattern = torch.rand(2, HEADS, LENGTH, LENGTH).tril().softmax(-1)
    before = pattern.clone()
    made = function(pattern)
    assert torch.equal(pattern, before)
    changed = torch.zeros(LENGTH, dtype=torch.bool)
    changed[5] = True
    assert torch.equal(made[:, :, ~changed], before[:, :, ~changed])
    assert (made[:, :, 5, 2] == 0).all()
    torch.testing.assert_close(made.sum(-1), torch.ones(2, HEADS, LENGTH))


def test_where_nothing_is_left_a_token_sees_itself_and_gradients_stay_numbers():
    off = np.zeros((1, 3, 3), bool)
    off[0, 2, :2] = True
    ((_, function),) = switches(PositionMask(off))
    pattern = torch.tensor([[[[1.0, 0, 0], [0.5, 0.5, 0], [0.25, 0.75, 0]]]], requires_grad=True)
    made = function(pattern)
    assert made[0, 0].tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]]
    made.square().sum().backward()
    assert pattern.grad.isfinite().all()
    half = torch.tensor([[[[0.0, 1.0, 0.0]]]], dtype=torch.float16)  # the last query alone
    assert function(half)[0, 0].tolist() == [[0, 0, 1]]


def test_other_sequences_and_other_models_are_refused():
    ((_, function), *_) = switches(PositionMask(off_of("heads", "renormalise", "suffix")))
    assert "the run's sequences have 20 tokens, and this one has 21" in refusal(function, torch.zeros(1, HEADS, 21, 21))
    assert "model has 4 heads, and this one has 8" in refusal(function, torch.zeros(1, 8, LENGTH, LENGTH))


def test_the_first_positions_are_the_target_of_the_trials():
    maps = np.tril(np.random.default_rng(2).integers(0, 3, (2, LAYERS, LENGTH, LENGTH))) / 2  # many are equal
    among = candidates(LAYERS, LENGTH, K, "all")
    for label in (0, 1):
        for percent in (0.01, 3, 40, 100):
            order, mask = first_positions(maps[label], label, "target", None, percent, among)
            assert (mask == Regions(maps, label, ["A", "B"], maps[0], among).target(percent)).all()
            assert (np.diff(maps[label].ravel()[order]) <= 0).all()
            assert len(order) == mask.sum()
