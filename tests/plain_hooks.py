"""Attention that anyone could have written, with a hook on every layer's pattern: what memgrid hands over is tried on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from memgrid.lm.pooling import attention_of

NAME = "plain_hooks"


@contextmanager
def hooked(model, hooks) -> Iterator[None]:
    """What the model reads inside goes through hooks, pairs of a TransformerLens name and a function."""

    def attention(module, query, key, value, attention_mask, scaling, **others):
        groups = query.shape[1] // key.shape[1]
        key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
        pattern = (query @ key.transpose(2, 3) * scaling + attention_mask).softmax(-1)
        for name, function in hooks:
            if name == f"blocks.{module.layer_idx}.attn.hook_pattern":
                pattern = function(pattern, hook=None)
        return (pattern @ value).transpose(1, 2).contiguous(), None

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    with attention_of(model, NAME):
        yield


def read_hooked(model, tokens, hooks):
    """Logits of one pass, with all its tokens."""
    inputs = torch.as_tensor(tokens).long()
    with torch.inference_mode(), hooked(model, hooks):
        return model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False).logits
