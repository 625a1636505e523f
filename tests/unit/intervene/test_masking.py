"""Attention with positions switched off: equal to eager attention where nothing is, and to step-by-step decoding under the same mask."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from architectures import knows_the_interface, proven
from hypothesis import given, settings
from hypothesis import strategies as st
from models_maker import ARCHITECTURES, SMALL, random_model

from memgrid.config.schema import LLMConfig
from memgrid.errors import UserError
from memgrid.intervene.attention.masking import MASK, MASKED, PositionMask, masking, prove_masking
from memgrid.intervene.attention.reader import MaskedReader
from memgrid.lm.hooks import taken_out
from memgrid.lm.load import load_language_model
from memgrid.lm.model import after_bos, identity_after_bos
from memgrid.lm.pooling import POOLED, attention_of, recording

LENGTH, K = 20, 9


def some_tokens(count=3, length=LENGTH, seed=0):
    return np.random.default_rng(seed).integers(0, 2048, (count, length))


def random_mask(layers, length=LENGTH, share=0.3, seed=0, first=1):
    """Random positions below the diagonal, of queries from `first` on."""
    rows = np.arange(length)[:, None] >= first
    return (np.random.default_rng(seed).random((layers, length, length)) < share) & np.tri(length, k=-1, dtype=bool) & rows


class Weights:
    """A recorder that keeps every layer's weights as they are."""

    def __init__(self):
        self.layers = {}

    def record(self, layer, weights, sink=None):
        self.layers[layer] = weights.clone()


def read(lm, tokens, implementation=MASKED, mask=None):
    """Logits and all weights of one pass."""
    inputs, seen = torch.from_numpy(tokens), Weights()
    with torch.inference_mode(), masking(lm.model, mask), attention_of(lm.model, implementation), recording(seen):
        logits = lm.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
    return logits, seen.layers


@pytest.fixture(scope="module")
def grouped():
    return random_model("llama")


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_empty_mask_is_eager_attention_bit_for_bit(kind):
    lm, tokens = random_model(kind), some_tokens()
    nothing = PositionMask(np.zeros((3, LENGTH, LENGTH), bool))
    expected, _ = read(lm, tokens, "eager")
    assert torch.equal(read(lm, tokens, mask=nothing)[0], expected)
    assert torch.equal(read(lm, tokens)[0], expected)
    assert not torch.equal(read(lm, tokens, mask=PositionMask(random_mask(3)))[0], expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_goes_the_way_of_pooled_attention(dtype):
    lm, tokens = random_model("gpt_neox", dtype), some_tokens()
    if dtype == "float16":
        with torch.no_grad():
            for name, parameter in lm.model.named_parameters():
                if "query_key_value" in name:
                    parameter.mul_(300)  # scores far beyond float16
    nothing, some = np.zeros((3, LENGTH, LENGTH), bool), random_mask(3)
    assert torch.equal(read(lm, tokens, mask=PositionMask(nothing))[0], read(lm, tokens, POOLED)[0])
    _, layers = read(lm, tokens, mask=PositionMask(some))
    for layer, weights in layers.items():
        check_weights(weights, some[layer])


def check_weights(weights, off):
    assert (weights[:, :, torch.from_numpy(off)] == 0).all()
    assert (weights[:, :, torch.from_numpy(~np.tri(len(off), dtype=bool))] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5, rtol=0)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.01, 0.5, 0.95, 1.0]))
def test_rows_sum_to_one_and_never_look_ahead(grouped, seed, share):
    off, tokens = random_mask(3, share=share, seed=seed), some_tokens(2, seed=seed)
    logits, layers = read(grouped, tokens, mask=PositionMask(off))
    for layer, weights in layers.items():
        check_weights(weights, off[layer])
    changed = tokens.copy()
    cut = int(np.random.default_rng(seed).integers(1, LENGTH))
    changed[:, cut:] = (changed[:, cut:] + 7) % 2048
    assert torch.equal(read(grouped, changed, mask=PositionMask(off))[0][:, :cut], logits[:, :cut])


def test_masking_equals_renormalising_the_weights(grouped):
    tokens, off = some_tokens(), random_mask(3)
    off[1:] = False  # later layers read what this one changed
    plain, masked = read(grouped, tokens)[1][0], read(grouped, tokens, mask=PositionMask(off))[1][0]
    rest = plain * torch.from_numpy(~off[0])
    torch.testing.assert_close(masked, rest / rest.sum(-1, keepdim=True), atol=1e-6, rtol=1e-4)


def test_what_is_left_counts_however_little_it_was(grouped):
    scores = torch.tensor([[[[0.0, -1e30], [300.0, 0.0]]]])
    PositionMask(np.array([[[False, False], [True, False]]])).switch_off(0, scores)
    assert scores.softmax(-1)[0, 0, 1].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("heads", [1, 3, 4, 9])
def test_only_the_most_attentive_heads(grouped, heads):
    tokens, off = some_tokens(), random_mask(3)
    off[1:] = False
    plain, masked = read(grouped, tokens)[1][0], read(grouped, tokens, mask=PositionMask(off, heads))[1][0]
    for query, key in np.argwhere(off[0]):
        order = plain[:, :, query, key].argsort(1, descending=True)
        assert (masked[:, :, query, key].gather(1, order[:, :heads]) == 0).all()
        assert (masked[:, :, query, key].gather(1, order[:, heads:]) > 0).all()
    torch.testing.assert_close(masked.sum(-1), torch.ones_like(masked[..., 0]))
    if heads >= 4:
        torch.testing.assert_close(masked, read(grouped, tokens, mask=PositionMask(off))[1][0])


def test_a_row_must_keep_a_key():
    off = np.zeros((2, 4, 4), bool)
    off[1, 2] = True
    with pytest.raises(ValueError, match="switches all its keys off"):
        PositionMask(off)
    off[1, 2, 0] = False
    PositionMask(off)


def decoded(lm, prefix, steps, mask):
    """Greedy decoding, one token at a time with a cache of keys and values, as transformers does it."""
    inputs = torch.from_numpy(prefix)
    with torch.inference_mode(), masking(lm.model, mask):
        made = lm.model.generate(
            inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=steps, eos_token_id=None, pad_token_id=0
        )
    return made.numpy()


@pytest.mark.parametrize("heads", [None, 2])
@pytest.mark.parametrize("suffix_only", [True, False])
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "opt"])
def test_teacher_forcing_equals_decoding_under_the_mask(kind, suffix_only, heads):
    lm = random_model(kind)
    with torch.no_grad():  # attention that matters, so that the mask changes what is decoded
        for parameter in lm.model.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    mask = PositionMask(random_mask(3, share=0.5, first=K - 1 if suffix_only else 1), heads)
    prefix = some_tokens(24)[:, :K]
    under_mask, usual = decoded(lm, prefix, LENGTH - K, mask), decoded(lm, prefix, LENGTH - K, None)
    assert (under_mask != usual).any(1).sum() > 5
    assert MaskedReader(lm, under_mask, K, suffix_only).read(mask)[0].all()
    kept = MaskedReader(lm, usual, K, suffix_only).read(mask)[0]
    np.testing.assert_array_equal(kept, (under_mask == usual).all(1))
    mixed = np.concatenate([usual, under_mask])
    for size in (1, 8, LENGTH):  # tokens that are read before the sequences that differ are dropped
        with mock.patch("memgrid.intervene.attention.reader.PIECE", size):
            np.testing.assert_array_equal(MaskedReader(lm, mixed, K, suffix_only).extractable(mask), [*kept, *[True] * len(usual)])


def test_teacher_forcing_equals_decoding_on_the_embedded_model(toy_lm):
    mask = PositionMask(random_mask(6, 64, 0.2, first=31))
    made = decoded(toy_lm, some_tokens(6)[:, :8].repeat(4, 1), 32, mask)
    assert MaskedReader(toy_lm, made, 32, True).read(mask)[0].all()


@pytest.mark.parametrize("kind", [*ARCHITECTURES, "gemma2"])
def test_keeping_the_prefix_changes_nothing(kind):
    if kind == "gemma2":  # its cache forgets what lies outside a window: the reader has to notice
        shape = {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": None}
        lm = load_language_model(LLMConfig(name="sliding", path=None, random={"model_type": kind, **shape}))
    else:
        lm = random_model(kind)
    tokens, mask = some_tokens(), PositionMask(random_mask(3, first=K - 1))
    split, whole = MaskedReader(lm, tokens, K, True), MaskedReader(lm, tokens, K, False)
    for given_ in (mask, PositionMask(np.zeros((3, LENGTH, LENGTH), bool)), mask):
        np.testing.assert_allclose(split.read(given_)[1], whole.read(given_)[1], atol=1e-5)
    assert split.split == (kind != "gemma2")
    np.testing.assert_array_equal(MaskedReader(lm, tokens, K, True).extractable(mask), whole.read(mask)[0])
    logits, _ = read(lm, tokens, mask=mask)
    expected = torch.log_softmax(logits.float(), -1)[:, K - 1 : -1].gather(-1, torch.from_numpy(tokens)[:, K:, None]).mean((1, 2))
    np.testing.assert_allclose(whole.read(mask)[1], expected, atol=1e-5)


@pytest.mark.parametrize("suffix_only", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt_neo"])
def test_a_reader_after_bos_masks_the_sequence_and_never_bos(kind, suffix_only):
    """Against eager attention under an additive mask of its own."""
    plain, bos = proven(kind), 5
    lm = after_bos(plain, identity_after_bos(plain.identity, bos), bos)
    tokens = some_tokens() % lm.identity.vocabulary
    off = np.repeat(random_mask(1, first=K - 1), lm.identity.layers, 0)
    extractable, logprob = MaskedReader(lm, tokens, K, suffix_only).read(PositionMask(off))
    whole, seen = torch.from_numpy(np.insert(tokens, 0, bos, axis=1)), np.tri(LENGTH + 1, dtype=bool)
    seen[1:, 1:] &= ~off[0]
    added = torch.where(torch.from_numpy(seen), 0.0, torch.finfo(torch.float32).min).expand(len(tokens), 1, -1, -1)
    with torch.inference_mode(), attention_of(lm.model, "eager"):
        logits = lm.model(input_ids=whole, attention_mask=added, use_cache=False).logits[:, K:-1]
    expected = logits.log_softmax(-1).gather(-1, whole[:, K + 1 :, None])[..., 0].mean(1)
    np.testing.assert_allclose(logprob, expected, atol=1e-5)
    np.testing.assert_array_equal(extractable, (logits.argmax(-1) == whole[:, K + 1 :]).all(1))
    unmasked = MaskedReader(lm, tokens, K, suffix_only).read(PositionMask(np.zeros_like(off)))[1]
    np.testing.assert_allclose(unmasked, lm.score(tokens, K).suffix_logprob, atol=1e-5)
    assert np.abs(unmasked - logprob).max() > 1e-4


@pytest.mark.parametrize("suffix_only", [False, True])
def test_a_suppressed_token_is_never_what_a_masked_model_says(grouped, suffix_only):
    prefix, nothing = some_tokens()[:, :K], PositionMask(np.zeros((3, LENGTH, LENGTH), bool))
    usual = int(grouped.continue_greedily(prefix, LENGTH - K)[0, 0])
    lm = replace(grouped, suppressed=(usual,))
    made = np.concatenate([prefix, lm.continue_greedily(prefix, LENGTH - K)], axis=1)
    extractable, logprob = MaskedReader(lm, made, K, suffix_only).read(nothing)
    assert extractable.all()
    assert MaskedReader(lm, made, K, suffix_only).extractable(nothing).all()
    assert not MaskedReader(grouped, made, K, suffix_only).read(nothing)[0][0]
    assert not MaskedReader(grouped, made, K, suffix_only).extractable(nothing)[0]
    np.testing.assert_allclose(logprob, grouped.score(made, K).suffix_logprob, atol=1e-5)


def test_prefixes_beyond_the_limit_are_computed_again(grouped):
    tokens, mask = some_tokens(), PositionMask(random_mask(3, first=K - 1))
    with mock.patch("memgrid.intervene.attention.reader.PREFIX_BYTES", 0):
        reader = MaskedReader(grouped, tokens, K, True)
        extractable, logprob = MaskedReader(grouped, tokens, K, True).read(mask)
        for _ in range(2):
            np.testing.assert_array_equal(reader.extractable(mask), extractable)
        np.testing.assert_array_equal(reader.read(mask)[1], logprob)
    assert not reader._prefixes


def test_an_equal_mask_is_not_read_again(grouped):
    reader = MaskedReader(grouped, some_tokens(), K, False)
    with mock.patch.object(MaskedReader, "_logits", autospec=True, side_effect=MaskedReader._logits) as called:
        for _ in range(2):
            reader.read(PositionMask(random_mask(3)))
    assert called.call_count == 1


def test_a_reader_of_suffixes_refuses_masks_of_the_prefix(grouped):
    with pytest.raises(ValueError, match="keeps its prefixes"):
        MaskedReader(grouped, some_tokens(), K, True).read(PositionMask(random_mask(3)))
    with pytest.raises(ValueError, match="keeps its prefixes"):
        MaskedReader(grouped, some_tokens(), K, True).extractable(PositionMask(random_mask(3)))


@pytest.mark.parametrize("k", [1, LENGTH - 1])
def test_any_prefix_length(grouped, k):
    nothing = PositionMask(np.zeros((3, LENGTH, LENGTH), bool))
    made = MaskedReader(grouped, some_tokens(), k, True).read(nothing)[1]
    np.testing.assert_allclose(made, grouped.score(some_tokens(), k).suffix_logprob, atol=1e-5)
    own = np.concatenate([some_tokens()[:, :k], grouped.continue_greedily(some_tokens()[:, :k], LENGTH - k)], axis=1)
    own[1, -1] += 1
    assert MaskedReader(grouped, own, k, True).extractable(nothing).tolist() == [True, False, True]


def test_the_mask_is_proved_and_a_layer_that_looks_past_it_is_refused(grouped, toy_lm):
    for lm in (grouped, toy_lm):
        prove_masking(lm)
    layer = grouped.model.model.layers[1].self_attn
    usual = layer.forward

    def stubborn(*arguments, **named):
        token = MASK.set(None)
        try:
            return usual(*arguments, **named)
        finally:
            MASK.reset(token)

    with mock.patch.object(layer, "forward", stubborn), pytest.raises(UserError, match="cannot be switched off"):
        prove_masking(grouped)


def test_the_attention_function_is_put_back(grouped):
    usual = grouped.model.config._attn_implementation
    with pytest.raises(RuntimeError, match="stop"), masking(grouped.model, PositionMask(random_mask(3))):
        raise RuntimeError("stop")
    assert grouped.model.config._attn_implementation == usual
    assert torch.equal(read(grouped, some_tokens())[0], read(grouped, some_tokens(), "eager")[0])


def test_a_mask_within_a_mask_gives_way_to_the_first_again(grouped):
    outer, inner, tokens = PositionMask(random_mask(3)), PositionMask(random_mask(3, seed=1)), torch.from_numpy(some_tokens())

    def state():
        with torch.inference_mode():
            return grouped.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state

    usual = state()
    with masking(grouped.model, outer):
        expected = state()
        with masking(grouped.model, inner):
            assert not torch.equal(state(), expected)
        assert torch.equal(state(), expected)
        with masking(grouped.model, None):
            assert torch.allclose(state(), usual, atol=1e-5)
        with pytest.raises(RuntimeError, match="stop"), masking(grouped.model, inner):
            raise RuntimeError("stop")
        assert MASK.get() is outer
        assert torch.equal(state(), expected)
    assert MASK.get() is None
    assert torch.equal(state(), usual)


def test_a_mask_is_that_of_its_thread_alone(grouped):
    """Another thread that begins meanwhile has none, and its own does not reach this one."""
    mine, other = PositionMask(random_mask(3)), PositionMask(random_mask(3, seed=1))

    def elsewhere():
        before = MASK.get()
        with masking(another.model, other):
            return before, MASK.get()

    another = random_model("llama")
    with masking(grouped.model, mine), ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result() == (None, other)
        assert MASK.get() is mine


HOOKED = [name for name in ("gpt_neo", "gptj", "falcon", "bloom", "mpt", "codegen", "openai-gpt") if not knows_the_interface(name)]


def read_hooked(lm, tokens, mask):
    """Logits and all weights of one pass of a model with attention of its own."""
    inputs, seen = torch.from_numpy(tokens), Weights()
    with torch.inference_mode(), masking(lm.model, mask, lm.places), recording(seen), taken_out(lm.model, lm.places):
        logits = lm.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
    return logits, seen.layers


@pytest.mark.parametrize("kind", HOOKED)
def test_models_with_attention_of_their_own_heed_the_mask(kind):
    lm, off = proven(kind), random_mask(3, share=0.5)
    assert lm.places
    prove_masking(lm)
    tokens = some_tokens() % 256
    usual, plain = read_hooked(lm, tokens, None)
    assert torch.equal(usual, read_hooked(lm, tokens, PositionMask(np.zeros((3, LENGTH, LENGTH), bool)))[0])
    logits, layers = read_hooked(lm, tokens, PositionMask(off))
    assert not torch.equal(logits, usual)
    for layer, weights in layers.items():
        check_weights(weights, off[layer])
    rest = plain[0] * torch.from_numpy(~off[0])
    torch.testing.assert_close(layers[0], rest / rest.sum(-1, keepdim=True), atol=1e-6, rtol=1e-4)
    two = read_hooked(lm, tokens, PositionMask(off, 2))[1][0]
    for query, key in np.argwhere(off[0]):
        order = plain[0][:, :, query, key].argsort(1, descending=True)
        assert (two[:, :, query, key].gather(1, order[:, :2]) == 0).all()
    assert hook_count(lm.model) == 0


def hook_count(model):
    return sum(len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("kind", ["gpt_neo", "falcon"])
def test_teacher_forcing_equals_decoding_where_attention_is_the_models_own(kind):
    lm = proven(kind)
    mask = PositionMask(random_mask(3, share=0.5, first=K - 1))
    made = some_tokens(12)[:, :K] % 256
    for _ in range(LENGTH - K):  # without a cache: the queries of a layer's mask are those of the whole sequence
        padded = np.concatenate([made, np.zeros((12, LENGTH - made.shape[1]), np.int64)], 1)
        logits, _ = read_hooked(lm, padded, mask)
        made = np.concatenate([made, logits[:, made.shape[1] - 1].argmax(-1, keepdim=True).numpy()], 1)
    reader = MaskedReader(lm, made, K, True)
    assert not reader.split
    assert reader.read(mask)[0].all()
    nothing = reader.read(PositionMask(np.zeros((3, LENGTH, LENGTH), bool)))
    np.testing.assert_allclose(nothing[1], lm.score(made, K).suffix_logprob, atol=1e-4)
    assert not nothing[0].all()


@pytest.mark.parametrize("kind", ["gpt_oss", "gemma2"])
def test_sinks_and_caps_stay_under_the_mask(kind):
    lm, off = proven(kind), random_mask(3)
    assert not lm.places
    prove_masking(lm)
    nothing, tokens = PositionMask(np.zeros((3, LENGTH, LENGTH), bool)), some_tokens() % 256
    assert torch.equal(read(lm, tokens, mask=nothing)[0], read(lm, tokens, "eager")[0])
    plain, masked = read(lm, tokens)[1][0], read(lm, tokens, mask=PositionMask(off))[1][0]
    left = 1 - plain.masked_fill(torch.from_numpy(~off[0]), 0).sum(-1, keepdim=True)  # the sink's part stays, too
    torch.testing.assert_close(masked, plain * torch.from_numpy(~off[0]) / left, atol=1e-4, rtol=1e-3)
    heads = read(lm, tokens, mask=PositionMask(off, 2))[1][0]
    seen = (plain > 0).all(1) & torch.from_numpy(off[0])  # the others lie outside of a window
    assert ((heads == 0).sum(1)[seen] == 2).all()


def test_a_mask_that_leaves_nothing_within_a_window_is_refused():
    lm = proven("mistral", sliding_window=4)
    off = np.zeros((3, LENGTH, LENGTH), bool)
    off[1, 10, 8:11] = True  # the first of the four keys that it sees stays
    read(lm, some_tokens() % 256, mask=PositionMask(off))
    off[1, 10, 7] = True
    with pytest.raises(UserError, match="a mask switches off all that a token can see in layer 1"):
        read(lm, some_tokens() % 256, mask=PositionMask(off))


@pytest.mark.parametrize(
    ("kind", "why"), [("xlm", "MultiHeadAttention takes no mask of queries and keys"), ("zaya", "a token still depends on tokens")]
)
def test_attention_that_cannot_be_switched_off_is_refused_by_name(kind, why):
    with pytest.raises(UserError, match=rf"the attention of llm '{kind}' \(.*\) cannot be switched off: {why}.*leave intervene out"):
        prove_masking(proven(kind))
