"""Every causal language model that transformers offers, tiny and random: `python tests/architectures.py` tries all of them in three dtypes.

It prints the table of docs/models.md. `tiny(MODEL_TYPE)` is what `llm.random` takes: the default configuration with all sizes made small.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Iterable
from unittest import mock

import numpy as np
import torch
import transformers
from models_maker import eager_pools
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from memgrid.errors import UserError
from memgrid.intervene.attention.masking import prove_masking
from memgrid.lm.model import LanguageModel, ModelIdentity
from memgrid.lm.proof import TOLERANCE, prove_pooling

NAMES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
DTYPES = ("float32", "bfloat16", "float16")
LAYERS = 3
# What the proof finds between our maps and a model's own on a CPU, where it allows for more: nothing, or what eager attention rounds.
CLOSER = {torch.float32: 0.0, torch.float16: 0.0, torch.bfloat16: 2**-9}
# Sizes by the names that configurations use. Windows and chunks are shorter than the 64 tokens that are read.
SIZES = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 256),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "word_embed_proj_dim", "dim_model", "emb_dim", "lru_width"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layers", "n_layer", "decoder_layers", "encoder_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads", "decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dim_ff", "dff", "d_inner"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size", "ffn_hidden_size"), 32),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 128),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "zero_expert_num"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "num_key_value_heads", "index_topk_heads"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace", "num_nextn_predict_layers"), 1),
    **dict.fromkeys(("head_dim", "v_head_dim", "dim_head", "hidden_size_per_layer_input", "laurel_rank", "index_head_dim", "d_head"), 8),
    **dict.fromkeys(("sliding_window", "attention_chunk_size", "window_size", "attention_window_size", "kv_lora_rank", "q_lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "index_n_heads"), 4),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    "initializer_range": 0.3,  # attention that is far from even
    **{"is_decoder": True, "causal": True},  # BERT, XLM and their kin read both ways otherwise
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "rotary_pct": 0.5, "index_topk": 12},
}
# Model types of which a model of text alone, or of these sizes, cannot be made.
NOT_MADE = {
    "blt": "reads bytes in patches of its own",
    "dots3_note": "as dots3_note_text",
    "gemma3n": "as gemma3n_text; its part that sees needs timm",
    "gemma4_assistant": "drafts for another model, whose states it reads",
    "gemma4_unified_assistant": "drafts for another model, whose states it reads",
    "musicgen": "several text models in one",
    "musicgen_melody": "several text models in one",
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8}
FULL, SLIDING = "full_attention", "sliding_attention"
# What else a class wants.
EXTRA: dict[str, dict] = {
    "bailing_hybrid": {"num_expert_group": 1, "num_experts_per_token": 2, "layer_group_size": 3},
    "bamba": MAMBA,
    "blt": {"encoder_hash_byte_group_vocab": 256},
    "cohere_compass_text": {
        "layer_types": [SLIDING, SLIDING, FULL],
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in (SLIDING, FULL)},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v4": {"o_groups": 2, "o_lora_rank": 8, "layer_types": [SLIDING, "compressed_sparse_attention", SLIDING]},
    "dots3_note_text": {"num_key_value_heads": 4, "head_dim": 8, "per_layer_config": {}, "shared_experts_intermediate_size": 32},
    "gemma3n_text": {"num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0] * LAYERS, "layer_types": [SLIDING, SLIDING, FULL]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1], [["global"], 1]]},
    "granitemoehybrid": {**MAMBA, "layer_types": ["mamba", "attention", "mamba"]},
    "inkling_text": {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8, "sliding_window_size": 16},
    "inkling2_text": {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8, "sliding_window_size": 16},
    "kimi_linear": {"num_experts_per_token": 2, "linear_head_dim": 8, "linear_num_heads": 4},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8},
    "minimax_m3_vl_text": {
        "layer_types": [FULL, "minimax_m3_sparse", FULL],
        "dense_intermediate_size": 64,
        "shared_intermediate_size": 32,
        "index_block_size": 8,
        "index_topk_blocks": 3,
    },
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 8, "moe_shared_expert_intermediate_size": 32},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "roc_bert": {"pronunciation_embed_dim": 8, "shape_embed_dim": 8, "shape_vocab_size": 256},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 6, "attn_layer_period": 2, "attn_layer_offset": 1, "attention_hidden_size": 64, "mamba_dt_rank": 4},
    "zamba2": {"layer_types": ["mamba", "hybrid", "mamba"], "hybrid_layer_ids": [1], "num_mem_blocks": 1},
    "zaya": {"num_experts_per_tok": 1},
}


def tiny(name: str) -> dict:
    """The small configuration of a model type, as `llm.random` takes it."""
    default = CONFIG_MAPPING[name]()
    parts = {key: part for key in default.sub_configs if isinstance(part := getattr(default, key, None), transformers.PreTrainedConfig)}
    text = default.get_text_config()
    made = {key: {**small(part), **(EXTRA.get(name, {}) if part is text else {})} for key, part in parts.items()}
    return {"model_type": name, **small(default), **made, **(EXTRA.get(name, {}) if text is default else {})}


def small(config: transformers.PreTrainedConfig) -> dict:
    """What of a configuration is a size that we make small."""
    known = config.to_dict()
    latent = {"num_key_value_heads": 4, "head_dim": 4} if known.get("kv_lora_rank") else {}  # one key for each query; the part that turns
    return {key: value for key, value in (SIZES | latent).items() if key in known}


def made(name: str, dtype: str = "float32", **changes: object) -> LanguageModel:
    """A tiny model with random weights, of which nothing is proven."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{**tiny(name), **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    text = config.get_text_config()
    return LanguageModel(None, ModelIdentity(name, "", "", text.num_hidden_layers, text.vocab_size), model, model.device, 4096)


def knows_the_interface(name: str) -> bool:
    """Whether the file that the model is written in names the attention interface of transformers."""
    module = inspect.getmodule(MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[name]])
    return "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(module)


def proven(name: str, dtype: str = "float32", **changes: object) -> LanguageModel:
    """A tiny model with random weights, of which is known how it is pooled."""
    lm = made(name, dtype, **changes)
    prove_pooling(lm)
    return lm


def outcome(name: str, dtype: str) -> tuple[str, bool]:
    """How a tiny model's attention is pooled at 64 tokens, or why it is not; and whether it can be switched off.

    Raises:
        AssertionError: the maps are not those of the model's own eager attention.
    """
    if name in NOT_MADE:
        return NOT_MADE[name], False
    try:
        with mock.patch.dict(TOLERANCE, CLOSER):
            lm = proven(name, dtype)
    except UserError as error:
        return one_sentence(error, name).split(" cannot be pooled: ")[1], False
    compare_with_eager(lm)
    way = "hooks" if lm.places else "interface"
    try:
        prove_masking(lm)
    except UserError as error:
        return way, not one_sentence(error, name)
    return way, True


def one_sentence(error: UserError, name: str) -> str:
    """What a refusal says, which is one sentence that names the model."""
    said = str(error)
    if "\n" in said or ". " in said or not said.startswith(f"the attention of llm {name!r}"):
        raise AssertionError(said)
    return said


def compare_with_eager(lm: LanguageModel) -> None:
    """Mean and maximum over heads are those of all heads that the model reports: bit for bit, or rounded by it to bfloat16.

    In float16 eager attention is another computation, whose scores are rounded: then the first layer is compared, and roughly. In later
    ones a mixture of experts may have read another expert.
    """
    tokens = np.random.default_rng(1).integers(0, lm.identity.vocabulary, (3, 64))
    made, expected = lm.pooled_maps(tokens), eager_pools(lm, tokens)
    with_head = lm.score_and_pool(tokens, 32)[1]
    for pool in ("mean", "max"):
        np.testing.assert_array_equal(with_head[pool], made[pool])
        gap = np.abs(made[pool].astype(np.float32) - expected[pool])
        if lm.places or lm.model.dtype == torch.float32:
            np.testing.assert_array_equal(made[pool], expected[pool])
        elif lm.model.dtype == torch.bfloat16:
            assert gap.max() <= 2**-9
        else:
            assert gap[..., 0].max() <= 1e-2
            assert gap[..., 0].mean() <= 2e-4


def table(names: Iterable[str]) -> str:
    """What becomes of each model type, as it stands in docs/models.md."""
    rows: dict[str, list[str]] = {}
    for name in names:
        ways = {dtype: outcome(name, dtype) for dtype in DTYPES}
        (usual, masked), pooled = ways["float32"], ways["float32"][0] in ("interface", "hooks")
        others = [dtype for dtype in DTYPES if pooled and ways[dtype][0] != usual]
        notes = [f"{dtype}: {ways[dtype][0] if ways[dtype][0] in ('hooks', 'interface') else 'refused'}" for dtype in others]
        if pooled and not masked:
            notes.append("not to be switched off")
        why = re.sub(r"its layer \d+", "a layer", re.sub(r"^\d+ of its \d+ layers", "only some of its layers", usual))
        rows.setdefault(re.sub(r" of layer \d+ has the shape.*", " of a layer is not one of queries and keys", why), []).append(
            f"{name} ({', '.join(notes)})" if notes else name
        )
    first = ["interface", "hooks"]
    lines = ["| attention | model types |", "|---|---|"]
    for way in first + sorted(set(rows) - set(first), key=lambda why: (-len(rows[why]), why)):
        if way in rows:
            said = {"interface": "pooled through the interface", "hooks": "pooled by hooks"}.get(way, f"refused: {way}")
            lines.append(f"| {said} | {', '.join(rows[way])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    print(table(sys.argv[1:] or NAMES))
