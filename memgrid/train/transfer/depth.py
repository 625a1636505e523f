"""Maps of a model with another number of layers: every layer is looked for at the same relative depth.

Layer i of L (i = 0 … L − 1) lies at the depth i / (L − 1), so that first layers and last layers meet; the only layer of a model lies in the
middle, at ½. For layer j of the source, which has M layers, the place among the L at hand is x = (L − 1) · j / (M − 1). Its map is
(1 − w) · map ⌊x⌋ + w · map ⌈x⌉ with w = x − ⌊x⌋: a mean of two maps, so that rows of mean-pooled maps still sum to 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def weights(have: int, want: int) -> np.ndarray:
    """How much of each layer at hand is in each layer that is wanted, float32 (want, have); rows sum to 1."""
    above, steps = ((have - 1) * np.arange(want), want - 1) if want > 1 else (np.array([have - 1]), 2)
    below, rest = np.divmod(above, steps)
    share, rows, mixed = (rest / steps).astype(np.float32), np.arange(want), np.zeros((want, have), np.float32)
    np.add.at(mixed, (rows, below), 1 - share)
    np.add.at(mixed, (rows, np.minimum(below + 1, have - 1)), share)
    return mixed


def at_depth(packed: Tensor, layers: int) -> Tensor:
    """Packed maps (..., have) with so many layers: float32 (..., layers); where the numbers are equal, the very same tensor.

    Args:
        packed: float16 (batch, positions, have).
    """
    have = packed.shape[-1]
    if have == layers:
        return packed
    return packed.float() @ torch.from_numpy(weights(have, layers)).T.to(packed.device)
