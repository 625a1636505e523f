"""The proof that attention is read as the model uses it."""

from __future__ import annotations

import numpy as np
import torch

from memgrid.errors import UserError
from memgrid.lm.model import LanguageModel
from memgrid.lm.pooling import attention_of
from memgrid.lm.triangle import Triangle


def prove_pooling(lm: LanguageModel, length: int = 64) -> None:
    """Pool a sequence of `length` tokens and compare with the model's own eager attention.

    It takes a moment and finds every model whose attention does what our function does not know of, such as capped scores or sinks.

    Raises:
        UserError: the two differ, or a layer does not report.
    """
    tokens = np.arange(1, length + 1)[None] % lm.identity.vocabulary
    pooled = lm.pooled_maps(tokens)
    triangle = Triangle(tokens.shape[1])
    with torch.inference_mode(), attention_of(lm.model, "eager"):
        attentions = lm.model.base_model(input_ids=lm._tensor(tokens), output_attentions=True, use_cache=False).attentions
    expected = np.stack([triangle.pack(weights.float().mean(1).cpu().numpy()) for weights in attentions], -1)
    # Eager attention rounds its weights to the model's type, pooling does not.
    tolerance = 1e-3 if lm.model.dtype == torch.float32 else 2e-2
    if not np.allclose(pooled["mean"], expected, atol=tolerance):
        raise UserError(
            f"llm {lm.identity.name!r} ({type(lm.model).__name__}) computes attention in a way of its own: its pooled maps would be wrong"
        )
