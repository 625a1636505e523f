"""From a folder to a model that is proven to be what it says, or to one sentence: folders as users have them, or broken at random."""

import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import NIGHT, refusal
from models_maker import REFUSED, SMALL, WORKS, configure, save, to_bin, weights_of, whole_folder
from safetensors.torch import save_file

from memgrid.config.schema import LLMConfig
from memgrid.errors import UserError
from memgrid.lm.checks import check_size
from memgrid.lm.load import identify, load_language_model
from memgrid.lm.weights import kinship, tensor_digests

MUTATIONS = 60 if NIGHT else 6  # of every file


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    whole_folder(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of a model's folder for a test of its own."""
    return shutil.copytree(whole, tmp_path / "model")


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, 2048, (2, 64))


@pytest.fixture(scope="module")
def scores(whole, tokens):
    return load_language_model(mine(whole)).score(tokens, 32)


def mine(folder, **settings):
    return LLMConfig(name="mine", path=str(folder), **settings)


def made(kind, dtype="float32", **shape):
    return LLMConfig(name=kind, path=None, dtype=dtype, random={"model_type": kind, **SMALL, **shape})


@pytest.mark.parametrize("change", WORKS.values(), ids=WORKS)
def test_a_folder_that_loads_gives_the_same_model(folder, change, tokens, scores):
    change(folder)
    lm = load_language_model(mine(folder))
    np.testing.assert_array_equal(lm.score(tokens, 32).suffix_logprob, scores.suffix_logprob)
    assert lm.identity == identify(mine(folder))


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_a_folder_that_does_not_load_is_refused_in_one_sentence(folder, change, words, capfd):
    change(folder)
    capfd.readouterr()  # a library may speak while the folder is made
    sentence = refusal(load_language_model, mine(folder))
    assert str(folder) in sentence
    assert re.search(words, sentence), sentence
    assert capfd.readouterr() == ("", "")


def test_a_file_that_may_not_be_read(folder, monkeypatch):
    def denied(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("memgrid.lm.load.digest_blocks", denied)
    assert "model.safetensors cannot be read (Permission denied): see to its rights" in refusal(identify, mine(folder))


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce] can't allocate memory")]
)
def test_too_little_memory(folder, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("memgrid.lm.load.stored_model", full)
    assert "it does not fit into memory: choose llm.dtype=float16" in refusal(load_language_model, mine(folder))


def mutate(path, rng):
    """Break a file in one of the ways in which files break."""
    content = bytearray(path.read_bytes())
    place = int(rng.integers(min(len(content), 4096)) if rng.random() < 0.5 else rng.integers(len(content)))
    match rng.integers(4):
        case 0:
            content = content[:place]
        case 1:
            content[place] ^= 1 << int(rng.integers(8))
        case 2:
            content[place : place + 64] = rng.bytes(64)
        case 3:
            content = bytearray(rng.bytes(200))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, "in_safetensors_parts") for name in ("config.json", "tokenizer.json", "model.safetensors.index.json")),
        ("model-*", "in_safetensors_parts"),
        ("pytorch_model-00002-of-00003.bin", "in_bin_parts"),
        ("pytorch_model.bin.index.json", "in_bin_parts"),
        ("pytorch_model.bin", "in_bin_of_old_torch"),
    ],
    ids=lambda given: given if "." in given or "*" in given else "",
)
def test_a_file_broken_at_random_loads_or_is_refused_in_one_sentence(folder, name, change, request):
    (WORKS | {"in_bin_parts": lambda folder: to_bin(folder, parts=3)})[change](folder)
    path = sorted(folder.glob(name))[0]
    content, rng = path.read_bytes(), np.random.default_rng(len(name))
    for _ in range(MUTATIONS):
        path.write_bytes(content)
        mutate(path, rng)
        try:
            load_language_model(mine(folder))
            sentence = ""
        except UserError as error:
            sentence = str(error)
        assert not sentence or str(folder) in sentence
        assert "\n" not in sentence
        assert ". " not in sentence


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_a_model_that_looks_ahead_is_refused(kind):
    assert "not causal" in refusal(load_language_model, made(kind))
    with pytest.raises(UserError):
        load_language_model(made(kind, "bfloat16"))


EXPERTS = {
    "mixtral": {"num_local_experts": 4, "num_key_value_heads": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_key_value_heads": 2, "head_dim": 8},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", EXPERTS)
def test_experts_that_get_other_tokens_are_no_look_ahead(kind, dtype):
    assert load_language_model(made(kind, dtype, **EXPERTS[kind], pad_token_id=0)).identity.layers == 3


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_tied_weights_may_be_saved_once_or_twice(tmp_path, tokens, kind):
    whole_folder(tmp_path, model_type=kind, tie_word_embeddings=True)
    expected = load_language_model(mine(tmp_path)).score(tokens, 32)
    weights = weights_of(tmp_path)
    body = next(name for name in weights if name.endswith(("embed_tokens.weight", "wte.weight")))
    to_bin(tmp_path, {**weights, "lm_head.weight": weights[body]})
    np.testing.assert_array_equal(load_language_model(mine(tmp_path)).score(tokens, 32).suffix_logprob, expected.suffix_logprob)


@pytest.mark.parametrize(
    ("kind", "attention"),
    [("gpt2", "transformer.h.{}.attn"), ("gptj", "transformer.h.{}.attn"), ("gpt_neo", "transformer.h.{}.attn.attention")],
)
def test_masks_among_the_weights_as_the_hub_has_them_are_no_weights_too_many(tmp_path, kind, attention):
    shape = {"num_layers": 3, "attention_types": [[["global"], 3]]} if kind == "gpt_neo" else {"rotary_dim": 4}
    whole_folder(tmp_path, model_type=kind, **shape)
    names = [attention.format(layer) for layer in range(3)]
    masks = {f"{name}.bias": torch.ones(1, 1, 64, 64).tril() for name in names} | {
        f"{name}.masked_bias": torch.tensor(-1e9) for name in names
    }
    to_bin(tmp_path, {**weights_of(tmp_path), **masks})
    sentence = ""
    try:
        load_language_model(mine(tmp_path))
    except UserError as error:
        sentence = str(error)  # perhaps its attention cannot be seen
    assert "no place for" not in sentence


def test_numbers_that_float16_cannot_hold(folder):
    weights = weights_of(folder)
    weights["gpt_neox.layers.0.mlp.dense_h_to_4h.bias"][0] = 1e6
    save(folder, weights)
    assert load_language_model(mine(folder)).identity.layers == 3
    assert "or set llm.dtype=float32 if it is float16 that cannot hold them" in refusal(load_language_model, mine(folder, dtype="float16"))


def test_positions_are_asked_for_the_length_in_use(folder):
    configure(folder, max_position_embeddings=80)
    load_language_model(mine(folder), 80)
    assert "knows only 80 positions, but sequences have 81 tokens" in refusal(load_language_model, mine(folder), 81)


def test_a_models_own_settings_of_generation_change_no_continuation(folder, tokens, whole):
    (folder / "generation_config.json").write_text(
        json.dumps({"repetition_penalty": 9.0, "suppress_tokens": [5], "no_repeat_ngram_size": 1})
    )
    expected = load_language_model(mine(whole)).continue_greedily(tokens[:, :32], 32)
    np.testing.assert_array_equal(load_language_model(mine(folder)).continue_greedily(tokens[:, :32], 32), expected)


# Fingerprints


def test_the_fingerprint_is_that_of_earlier_versions(folder):
    (folder / "extra.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    digest = hashlib.sha256(b"float32" + (folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        content = path.read_bytes()
        digest.update(f"{path.name}{len(content)}".encode())
        for start in range(0, len(content), max(4096, len(content) // 256)):
            digest.update(content[start : start + 4096])
    assert identify(mine(folder)).fingerprint == digest.hexdigest()[:16]


@pytest.mark.parametrize("parts", [1, 3])
def test_the_fingerprint_covers_every_file_that_is_read_and_no_other(folder, parts):
    to_bin(folder, parts=parts)
    usual = identify(mine(folder)).fingerprint
    (folder / "optimizer.bin").write_bytes(b"0")
    (folder / "README.md").write_bytes(b"0")
    assert identify(mine(folder)).fingerprint == usual
    for path in folder.glob("pytorch_model*.bin"):
        content = path.read_bytes()
        place = content.index(torch.load(path, weights_only=True).popitem()[1].numpy().tobytes()[:64])
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert identify(mine(folder)).fingerprint != usual
        path.write_bytes(content)


# Digests of tensors


@pytest.mark.parametrize("change", [change for name, change in WORKS.items() if name.startswith("in_")], ids=lambda change: change.__name__)
def test_equal_weights_have_equal_digests_however_they_lie_on_the_disk(folder, whole, change):
    expected = tensor_digests(whole)
    change(folder)
    assert tensor_digests(folder) == expected
    assert kinship({"step1": expected, "step2": tensor_digests(folder)}) == [
        "step1 and step2 have the same weights: they are one model under 2 names"
    ]


def test_revisions_of_which_one_has_a_file_of_the_other(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    for seed, place in enumerate((folder, other)):
        torch.manual_seed(seed)
        save(place, {name: torch.randn_like(tensor) for name, tensor in weights_of(place).items()})
    assert kinship({"step1": tensor_digests(folder), "step2": tensor_digests(other)}) == []
    for place in (folder, other):
        to_bin(place, parts=3)
    shutil.copy(folder / "pytorch_model-00001-of-00003.bin", other)
    (sentence,) = kinship({"step1": tensor_digests(folder), "step2": tensor_digests(other)})
    assert sentence == "step1 and step2 share 14 of 40 tensors: a weight file of the one may belong to the other"


def test_many_revisions_with_equal_weights_are_told_in_one_sentence():
    same, other = {"a": "1", "b": "2"}, {"a": "3", "b": "4"}
    assert kinship({"step0": same, "step1": same, "step2": other, "step3": same, "main": other}) == [
        "step0, step1 and step3 have the same weights: they are one model under 3 names",
        "step2 and main have the same weights: they are one model under 2 names",
    ]
    assert kinship({}) == kinship({"a": same}) == kinship({"a": {}, "b": {}}) == []


def test_tied_weights_saved_twice_make_no_other_model(tmp_path):
    whole_folder(tmp_path, model_type="llama", tie_word_embeddings=True)
    once = tensor_digests(tmp_path)
    weights = weights_of(tmp_path)
    save(tmp_path, {**weights, "lm_head.weight": weights["model.embed_tokens.weight"].clone()})
    twice = tensor_digests(tmp_path)
    assert len(twice) == len(once) + 1
    assert len(kinship({"a": once, "b": twice})) == len(kinship({"a": twice, "b": once})) == 1


@pytest.mark.parametrize("shape", [(3, 5), (70, 1024), (1,), (0,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_digest_sees_type_shape_and_values(tmp_path, shape, dtype):
    def digest(tensor):
        save(tmp_path, {"a": tensor})
        return tensor_digests(tmp_path).get("a")

    tensor = torch.arange(float(np.prod(shape))).reshape(shape).to(dtype)
    if tensor.numel() < 2:  # nothing that could differ
        assert digest(tensor) is None
        return
    others = [tensor + 1, tensor.flatten(), tensor.to(torch.float64)]
    assert len({digest(each) for each in (tensor, *others)}) == 4
    assert digest(torch.ones(shape)) is None


def test_a_folder_without_weights_has_no_digests(tmp_path):
    assert tensor_digests(tmp_path) == {}


@pytest.mark.parametrize(("held", "fits"), [(10, True), (5, True), (4, False)])
def test_a_model_of_up_to_twice_the_numbers_in_its_files_is_left_to_the_names_of_the_tensors(held, fits, tmp_path):
    save_file({"one": torch.zeros(held)}, tmp_path / "model.safetensors")
    model = torch.nn.Linear(10, 1, bias=False)
    if fits:
        check_size(model, [tmp_path / "model.safetensors"], "llm 'x'")
    else:
        assert "describes 10 numbers where they are 4: " in refusal(check_size, model, [tmp_path / "model.safetensors"], "llm 'x'")
