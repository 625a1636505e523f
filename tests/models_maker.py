"""Small models with random weights of many architectures, the slow way to pool their attention, and folders that no model comes from."""

import inspect
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaForCausalLM

from memgrid.config.schema import LLMConfig
from memgrid.io.paths import TOY
from memgrid.lm.load import load_language_model
from memgrid.lm.pooling import attention_of

SMALL = {"vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
# What transformers calls keys and values that are kept: since 5.24, and before.
CACHE = "cache" if "cache" in inspect.signature(LlamaForCausalLM.forward).parameters else "past_key_values"


ARCHITECTURES = {
    "gpt_neox": {},
    "llama": {"num_key_value_heads": 2},  # grouped-query attention
    "qwen2": {"num_key_value_heads": 2},
    "gpt2": {"n_inner": 64},
    "olmo": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
}


def random_model(kind: str, dtype: str = "float32"):
    shape = {**SMALL, **ARCHITECTURES[kind]}
    return load_language_model(LLMConfig(name=kind, path=None, dtype=dtype, random={"model_type": kind, **shape}))


def five_words():
    """A model that knows five tokens and prefers some of them: all its continuations can be enumerated."""
    shape = {**SMALL, **ARCHITECTURES["llama"], "vocab_size": 5, "num_hidden_layers": 1}
    lm = load_language_model(LLMConfig(name="five", path=None, random={"model_type": "llama", **shape}))
    with torch.no_grad():
        lm.model.lm_head.weight.mul_(20)
    return lm


def outspoken(**shape):
    """A small model of random weights, so large that it looks somewhere and says something: a hundred times as fast as the embedded one."""
    wide = {"vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    wide |= {"model_type": "gpt_neox", "initializer_range": 0.3}
    return load_language_model(LLMConfig(name="tiny", path=None, random=wide | shape))


def half_its_own_words(lm, rows, k=32, length=64):
    """Random tokens int32 (rows, length), half of the rows end as the model would end them, and which these are."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, lm.model.config.vocab_size, (rows, length), dtype=np.int32)
    known = rng.permutation(rows)[: rows // 2]
    tokens[known, k:] = lm.continue_greedily(tokens[known, :k], length - k)
    return tokens, np.sort(known)


def eager_pools(lm, tokens):
    """The same maps the expensive way: all heads of all layers, from transformers' eager attention."""
    rows, columns = np.tril_indices(tokens.shape[1])
    with torch.inference_mode(), attention_of(lm.model, "eager"):
        attentions = lm.model(input_ids=torch.from_numpy(tokens.astype(np.int64)), output_attentions=True, use_cache=False).attentions
    stacked = {"mean": [a.float().mean(1) for a in attentions], "max": [a.float().amax(1) for a in attentions]}
    return {pool: torch.stack(layers, -1)[:, rows, columns].half().numpy() for pool, layers in stacked.items()}


# Folders as users have them, each made from a whole one: a small model in safetensors with the embedded tokenizer.

WORKS: dict = {}  # name: what changes a copy of the whole folder into it
REFUSED: dict = {}  # the same, with words of the sentence that refuses it
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{7:064x}\nsize 5068\n"


def works(change):
    """A folder that must load."""
    WORKS[change.__name__] = change
    return change


def refused(words):
    """A folder of which the sentence that refuses it must hold these words."""

    def register(change):
        REFUSED[change.__name__] = (change, words)
        return change

    return register


def whole_folder(folder, **settings):
    """A GPT-NeoX of three layers in safetensors, with the embedded model's tokenizer."""
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**{"model_type": "gpt_neox", **SMALL, **settings})).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((TOY / name).read_bytes())


def configure(folder, **changes):
    """Other entries in config.json; None takes one away."""
    content = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def weights_of(folder):
    return {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}


def save(folder, weights):
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def to_bin(folder, weights=None, parts=1, **options):
    """The same model in PyTorch's format, in one file or in several."""
    weights = weights_of(folder) if weights is None else weights
    (folder / "model.safetensors").unlink()
    if parts == 1:
        torch.save(weights, folder / "pytorch_model.bin", **options)
        return
    names = [f"pytorch_model-{part + 1:05}-of-{parts:05}.bin" for part in range(parts)]
    places = {key: names[number % parts] for number, key in enumerate(weights)}
    for name in names:
        torch.save({key: weights[key] for key in weights if places[key] == name}, folder / name, **options)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


@works
def in_one_bin(folder):
    to_bin(folder)


@works
def in_bin_parts(folder):
    to_bin(folder, parts=3)


@works
def in_bin_of_old_torch(folder):
    to_bin(folder, _use_new_zipfile_serialization=False)


@works
def in_bin_parts_with_the_masks_that_early_versions_saved(folder):
    weights = weights_of(folder)
    for layer in range(SMALL["num_hidden_layers"]):
        attention = f"gpt_neox.layers.{layer}.attention"
        weights[f"{attention}.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
        weights[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        weights[f"{attention}.rotary_emb.inv_freq"] = torch.ones(4)
    to_bin(folder, weights, parts=2)


@works
def in_safetensors_parts(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


@works
def in_safetensors_with_a_broken_bin_beside(folder):
    (folder / "pytorch_model.bin").write_bytes(b"half")


@works
def in_bin_with_the_index_of_safetensors_that_are_not_there(folder):
    (folder / "model.safetensors.index.json").write_text(
        '{"metadata": {}, "weight_map": {"gpt_neox.embed_in.weight": "model-1.safetensors"}}'
    )
    to_bin(folder)


@works
def code_of_its_own_that_is_not_needed(folder):
    configure(folder, auto_map={"AutoModelForCausalLM": "modeling.Net"})


@works
def settings_of_generation_that_cannot_be_read(folder):
    (folder / "generation_config.json").write_text("{")


@refused("cannot be loaded from .* because it brings code of its own, which memgrid does not run")
def code_of_its_own(folder):
    configure(folder, model_type="net", auto_map={"AutoConfig": "configuration.Net", "AutoModelForCausalLM": "modeling.Net"})


@refused("pytorch_model.bin holds more than weights, which memgrid does not run: ask its owners for safetensors")
def code_among_the_weights(folder):
    to_bin(folder, {**weights_of(folder), "step": Path})


@refused("holds something else than tensors by name: save the model with save_pretrained")
def a_checkpoint_of_a_trainer(folder):
    to_bin(folder, {"state_dict": weights_of(folder), "step": 7})


@refused("model.safetensors is only git-lfs's pointer to the file: run `git lfs pull` in")
def pointer_for_weights(folder):
    (folder / "model.safetensors").write_text(POINTER)


@refused("pytorch_model-00002-of-00003.bin is only git-lfs's pointer")
def pointer_for_a_part(folder):
    to_bin(folder, parts=3)
    (folder / "pytorch_model-00002-of-00003.bin").write_text(POINTER)


@refused("tokenizer.json is only git-lfs's pointer")
def pointer_for_the_tokenizer(folder):
    (folder / "tokenizer.json").write_text(POINTER)


@refused("config.json is only git-lfs's pointer")
def pointer_for_the_configuration(folder):
    (folder / "config.json").write_text(POINTER)


@refused("model.safetensors is not whole .*: get it anew")
def half_of_the_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


@refused("pytorch_model-00001-of-00002.bin is not whole .*: get it anew")
def half_of_a_part(folder):
    to_bin(folder, parts=2)
    path = folder / "pytorch_model-00001-of-00002.bin"
    path.write_bytes(path.read_bytes()[:50_000])


@refused("pytorch_model.bin is not whole|pytorch_model.bin' is not|because transformers")
def half_of_an_old_bin(folder):
    to_bin(folder, _use_new_zipfile_serialization=False)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:50_000])


@refused("model.safetensors is empty: get it anew")
def an_empty_file(folder):
    (folder / "model.safetensors").write_bytes(b"")


@refused("lacks 1 of its weight files, such as pytorch_model-00002-of-00003.bin: get them")
def a_part_is_missing(folder):
    to_bin(folder, parts=3)
    (folder / "pytorch_model-00002-of-00003.bin").unlink()


@refused("index.json is no list of weight files: get it anew")
def a_broken_index(folder):
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": ')


@refused("index.json is no list of weight files: get it anew")
def an_index_that_leads_out(folder):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {"a": "../outside.safetensors"}}')


@refused("holds no model: memgrid needs config.json and either model.safetensors or pytorch_model.bin")
def no_weights(folder):
    (folder / "model.safetensors").unlink()


@refused("holds no model")
def weights_for_other_frameworks(folder):
    (folder / "model.safetensors").rename(folder / "tf_model.h5")


@refused("holds no model")
def no_configuration(folder):
    (folder / "config.json").unlink()


@refused("config.json is no JSON with a model_type: get it anew")
def half_a_configuration(folder):
    (folder / "config.json").write_text('{"model_type": "gpt_neox"')


@refused("config.json is no JSON with a model_type")
def a_configuration_in_other_bytes(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")


@refused("config.json is no JSON with a model_type")
def a_configuration_without_type(folder):
    configure(folder, model_type=None)


@refused("because transformers .* says .*model type `hf_olmo`.*: choose a model that this version knows")
def an_unknown_type(folder):
    configure(folder, model_type="hf_olmo")


@refused("because transformers .* says .*: choose a model that this version knows")
def a_number_that_is_a_word(folder):
    configure(folder, hidden_size="many")


@refused("because transformers .* says .*: choose a model that this version knows")
def a_translator(folder):
    AutoModelForSeq2SeqLM.from_config(
        AutoConfig.for_model("t5", vocab_size=2048, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    ).save_pretrained(folder)


@refused(r"is quantized \(bitsandbytes\), which memgrid does not read: choose the gpt_neox that it was made of")
def quantized_by_bitsandbytes(folder):
    configure(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


@refused(r"is quantized \(gptq\)")
def quantized_by_gptq(folder):
    configure(folder, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})


@refused(r"is quantized \(a method of its own\)")
def quantized_by_nobody_knows_what(folder):
    configure(folder, quantization_config="a method of its own")


@refused("is changed by an adapter or by weights in other files: merge them")
def an_adapter_beside_it(folder):
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "someone/else"}')


@refused("is changed by an adapter or by weights in other files")
def weights_under_another_name(folder):
    configure(folder, transformers_weights="other.safetensors")


@refused(r"have 2 of other shapes, such as \S+ with \[2048, 32\] for \[2112, 32\]")
def another_vocabulary(folder):
    configure(folder, vocab_size=2112)


@refused("as they lack 24 of its tensors, such as gpt_neox.layers.3.attention.dense.bias: put the config.json there")
def more_layers_than_the_file(folder):
    configure(folder, num_hidden_layers=5, layer_types=None)


@refused(r"which describes [\d,]{13,} numbers where they are [\d,]+: put the config.json there that they were saved with")
def the_configuration_of_a_model_that_fits_into_no_memory(folder):
    configure(folder, hidden_size=2**16, intermediate_size=2**18, num_attention_heads=2**9, num_hidden_layers=48, layer_types=None)


@refused("as they have 12 that it has no place for, such as gpt_neox.layers.2.attention.dense.bias")
def fewer_layers_than_the_file(folder):
    configure(folder, num_hidden_layers=2, layer_types=None)


@refused("as they lack 40 of its tensors, .* and have 40 that it has no place for, such as module.embed_out.weight")
def names_with_a_prefix(folder):
    save(folder, {f"module.{name}": tensor for name, tensor in weights_of(folder).items()})


@refused("as they lack 1 of its tensors, such as (embed_out|lm_head).weight")
def the_body_without_its_head(folder):
    save(folder, {name: tensor for name, tensor in weights_of(folder).items() if name != "embed_out.weight"})


@refused("as they lack 1 of its tensors, such as gpt_neox.layers.1.mlp.dense_h_to_4h.bias")
def one_number_series_is_missing(folder):
    weights = weights_of(folder)
    del weights["gpt_neox.layers.1.mlp.dense_h_to_4h.bias"]
    to_bin(folder, weights)


@refused("as they have 1 that it has no place for, such as gpt_neox.layers.1.attention.query_key_value.lora_A")
def one_tensor_too_many(folder):
    save(folder, {**weights_of(folder), "gpt_neox.layers.1.attention.query_key_value.lora_A": torch.ones(4, 32)})


@refused("weights that do not fit its config.json, as they lack")
def the_configuration_of_another_model(folder):
    configure(folder, model_type="llama", layer_types=None)


@refused("has numbers that are not finite in 1 of its 40 tensors, such as gpt_neox.embed_in.weight: get its files anew")
def a_row_that_is_not_a_number(folder):
    weights = weights_of(folder)
    weights["gpt_neox.embed_in.weight"][2047] = torch.nan  # of a token that perhaps no sequence has
    save(folder, weights)


@refused("has numbers that are not finite in 1 of its 40 tensors, such as gpt_neox.layers.2.mlp.dense_4h_to_h.bias")
def an_infinite_number(folder):
    weights = weights_of(folder)
    weights["gpt_neox.layers.2.mlp.dense_4h_to_h.bias"][3] = -torch.inf
    to_bin(folder, weights, parts=2)


@refused(r"\(GPTNeoXForCausalLM\) computes numbers that are not finite in llm.dtype=float32: ")
def numbers_that_grow_too_large(folder):
    weights = weights_of(folder)
    weights["embed_out.weight"] *= 1e30
    weights["gpt_neox.final_layer_norm.weight"] *= 1e30
    save(folder, weights)


@refused("knows only 32 positions, but sequences have 64 tokens: lower corpus.length")
def too_few_positions(folder):
    configure(folder, max_position_embeddings=32)


@refused("is not causal .*: choose one that reads from left to right")
def a_model_that_looks_ahead(folder):
    whole_folder(folder, model_type="bert")


@refused("has no tokenizer in .*: put its tokenizer.json there")
def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


@refused("the tokenizer in .* cannot be read because transformers .*, or get its files anew")
def half_a_tokenizer(folder):
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text()[:500])


@refused("MambaForCausalLM")
def a_model_without_attention(folder):
    whole_folder(folder, model_type="mamba", state_size=4, num_attention_heads=None)
