"""Bit-equality of pooled maps with eager attention, and of teacher forcing with decoding, on real and on tiny random models."""

import numpy as np
import pytest
import torch
from models_maker import ARCHITECTURES, SMALL, eager_pools, random_model
from scores_by_hand import by_hand
from settings_maker import composed
from transformers import AutoConfig, AutoModelForCausalLM

from memgrid.config.schema import LLMConfig
from memgrid.errors import UserError
from memgrid.io.paths import CONF, TOY
from memgrid.lm import hooks, model
from memgrid.lm.load import identify, load_language_model
from memgrid.lm.pooling import AttentionRecorder
from memgrid.lm.scores.scores import scores_of


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("length", [64, 33])
def test_pooled_maps_equal_eager_attention_bit_for_bit(kind, length):
    lm = random_model(kind)
    tokens = np.random.default_rng(0).integers(0, 2048, (5, length))
    made, expected = lm.pooled_maps(tokens), eager_pools(lm, tokens)
    for pool in ("mean", "max"):
        np.testing.assert_array_equal(made[pool], expected[pool])


def test_pooled_maps_of_the_embedded_model(toy_lm):
    tokens = np.random.default_rng(1).integers(0, 2048, (7, 64))
    tokens[0] = 0  # a sequence of nothing but the end-of-text token
    made, expected = toy_lm.pooled_maps(tokens), eager_pools(toy_lm, tokens)
    for pool in ("mean", "max"):
        np.testing.assert_array_equal(made[pool], expected[pool])
        assert made[pool].shape == (7, 2080, 6)


def test_the_attention_function_is_put_back(toy_lm):
    toy_lm.pooled_maps(np.zeros((1, 8), np.int64))
    assert toy_lm.model.config._attn_implementation == "sdpa"


def test_teacher_forcing_equals_decoding_on_a_random_model():
    lm = random_model("llama")
    prefix = np.random.default_rng(2).integers(0, 2048, (16, 32))
    continuation = lm.continue_greedily(prefix, 32)
    assert continuation.shape == (16, 32)
    made = lm.score(np.concatenate([prefix, continuation], 1), 32)
    assert made.memorized.all()
    np.testing.assert_allclose(made.confidence, made.suffix_probability, rtol=1e-4)
    changed = continuation.copy()
    changed[:, 17] = (changed[:, 17] + 1) % 2048
    assert not lm.score(np.concatenate([prefix, changed], 1), 32).memorized.any()


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits_of_a_few_sequences_at_a_time_are_those_of_all(kind, monkeypatch):
    """Of six, three at a time: four would fit, but do not divide them. The body reads once, where the head asks it."""
    monkeypatch.setattr(hooks, "LOGITS", 4 * 20 * 2048)
    lm, sizes, read = random_model(kind), [], []
    tokens = np.random.default_rng(0).integers(0, 2048, (6, 20))
    monkeypatch.setattr(model, "scores_of", lambda logits, *args, **kwargs: sizes.append(len(logits)) or scores_of(logits, *args, **kwargs))
    handle = next(module for name, module in lm.model.named_modules() if name.endswith("0")).register_forward_hook(
        lambda *_: read.append(1)
    )
    scores, _ = lm.score_and_pool(tokens, 9)
    handle.remove()
    assert sizes == [3, 3]
    assert len(read) == (3 if kind == "opt" else 1)  # its head asks a part of the body
    with torch.inference_mode():
        whole = scores_of(lm.model(torch.from_numpy(tokens)).logits, torch.from_numpy(tokens), 9, by_token=True)
    for name in ("confidence", "prefix_logprob", "suffix_logprob", "suffix_probability", "min_k", "min_k_plus"):
        np.testing.assert_allclose(getattr(scores, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores.logprob, whole.logprob, rtol=2e-3)
    assert "forward" not in vars(lm.model.base_model)


def test_every_token_is_as_probable_as_a_plain_pass_says(toy_lm):
    tokens = np.random.default_rng(3).integers(0, 2048, (5, 64))
    scores, _ = toy_lm.score_and_pool(tokens, 32)
    with torch.inference_mode():
        logits = toy_lm.model(torch.from_numpy(tokens)).logits.double()
    expected = logits[:, :-1].log_softmax(-1).gather(-1, torch.from_numpy(tokens)[:, 1:, None])[..., 0].numpy()
    np.testing.assert_allclose(scores.logprob[:, 1:], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scores.logprob[:, 1:32].mean(1, dtype=float), scores.prefix_logprob, rtol=1e-3)
    np.testing.assert_allclose(scores.min_k_plus, [by_hand(*row)[1] for row in zip(logits.numpy(), tokens, strict=True)], rtol=1e-3)
    assert toy_lm.score(tokens, 32).logprob is None  # labelling a corpus does without


def test_the_end_of_text_token_does_not_stop_decoding(toy_lm):
    continuation = toy_lm.continue_greedily(np.zeros((3, 32), np.int64), 32)
    assert continuation.shape == (3, 32)


@pytest.mark.parametrize("k", [1, 16, 63])
def test_scores_of_any_prefix_length(toy_lm, k):
    made = toy_lm.score(np.random.default_rng(0).integers(0, 2048, (3, 64)), k)
    assert np.isfinite(made.confidence).all()
    assert np.isfinite(made.prefix_logprob).all()


def test_half_precision_overflow_is_not_recorded():
    recorder = AttentionRecorder(1, 4, 1)
    broken = torch.softmax(torch.zeros(1, 2, 4, 4), -1)
    broken[0, 0, 2, 1] = float("nan")
    with pytest.raises(FloatingPointError, match="layer 0"):
        recorder.record(0, broken)
    with pytest.raises(FloatingPointError, match="sum to 1"):
        recorder.record(0, torch.full((1, 2, 4, 4), 0.3))


def test_large_scores_in_float16_make_neither_nan_nor_leaks():
    lm = random_model("gpt_neox", "float16")
    with torch.no_grad():
        for name, parameter in lm.model.named_parameters():
            if "query_key_value" in name:
                parameter.mul_(300)
    maps = lm.pooled_maps(np.random.default_rng(0).integers(0, 2048, (4, 64)))
    assert np.isfinite(maps["max"].astype(np.float32)).all()


def test_identity_without_loading():
    toy = identify(LLMConfig(name="toy", path=None))
    assert (toy.layers, toy.vocabulary) == (6, 2048)
    assert toy == load_language_model(LLMConfig(name="toy", path=None)).identity
    assert identify(LLMConfig(name="toy", path=None, dtype="bfloat16")).fingerprint != toy.fingerprint
    tiny = {"model_type": "gpt2", **SMALL}
    assert identify(LLMConfig(name="r", path=None, random=tiny)) != identify(
        LLMConfig(name="r", path=None, random={**tiny, "num_hidden_layers": 2})
    )


def test_the_language_part_of_a_composite_model_counts():
    text = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
    made = identify(LLMConfig(name="seeing", path=None, random={"model_type": "gemma3", "text_config": text}))
    assert (made.layers, made.vocabulary) == (3, 2048)


PYTHIA = {f"pythia-{size}{kind}" for size in ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b") for kind in ("", "-deduped")}


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "llm").glob("*.yaml")) or ["none"])
def test_every_model_of_the_configuration_composes(name):
    given = ["llm.name=hf", "llm.path=someone/something"] if name == "hf" else []
    llm = composed(f"llm={name}", *given).llm
    assert llm.name == name
    if name in PYTHIA:
        size, *deduped = name.removeprefix("pythia-").split("-")
        assert (llm.path, llm.dtype, llm.revision) == (f"EleutherAI/{name}-v0", "float16", None)
        assert llm.semantic_filters == f"{'deduped' if deduped else 'duped'}_{size}"
    else:
        assert llm.semantic_filters is None


def test_all_sizes_of_pythia_are_there():
    assert {path.stem for path in (CONF / "llm").glob("pythia-*.yaml")} == PYTHIA


def test_models_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="neither a folder nor a model"):
        identify(LLMConfig(name="x", path="someone/no-such-model"))
    with pytest.raises(UserError, match="holds no model"):
        identify(LLMConfig(name="x", path=str(tmp_path)))


def test_a_saved_model_loads_by_path(tmp_path):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_neox", **SMALL))
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((TOY / name).read_bytes())
    lm = load_language_model(LLMConfig(name="mine", path=str(tmp_path)))
    assert lm.identity.layers == 3
    assert lm.detokenize(np.array([[300, 301]])) == [lm.tokenizer.decode([300, 301])]


def test_a_model_can_be_spread_over_devices(toy_lm):
    spread = load_language_model(LLMConfig(name="toy", path=None, device_map="auto"))
    tokens = np.random.default_rng(0).integers(0, 2048, (2, 64))
    for pool, maps in toy_lm.pooled_maps(tokens).items():
        np.testing.assert_array_equal(spread.pooled_maps(tokens)[pool], maps)


def test_one_pass_gives_scores_and_maps(toy_lm):
    tokens = np.random.default_rng(0).integers(0, 2048, (4, 64))
    scores, maps = toy_lm.score_and_pool(tokens, 32)
    np.testing.assert_allclose(scores.confidence, toy_lm.score(tokens, 32).confidence, rtol=1e-4)
    for pool, expected in toy_lm.pooled_maps(tokens).items():
        np.testing.assert_array_equal(maps[pool], expected)
