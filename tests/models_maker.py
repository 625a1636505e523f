"""Small models with random weights of many architectures, and the slow way to pool their attention."""

import numpy as np
import torch

from memgrid.config.schema import LLMConfig
from memgrid.lm.load import load_language_model
from memgrid.lm.pooling import attention_of

SMALL = {"vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}


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


def eager_pools(lm, tokens):
    """The same maps the expensive way: all heads of all layers, from transformers' eager attention."""
    rows, columns = np.tril_indices(tokens.shape[1])
    with torch.inference_mode(), attention_of(lm.model, "eager"):
        attentions = lm.model(input_ids=torch.from_numpy(tokens.astype(np.int64)), output_attentions=True, use_cache=False).attentions
    stacked = {"mean": [a.float().mean(1) for a in attentions], "max": [a.float().amax(1) for a in attentions]}
    return {pool: torch.stack(layers, -1)[:, rows, columns].half().numpy() for pool, layers in stacked.items()}
