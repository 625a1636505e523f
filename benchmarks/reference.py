"""The reference layout: what the paper's pipeline does, written anew and as plainly as it is described.

All heads of all layers from eager attention, rounded to float16, one HDF5 dataset per sequence; a file is opened for every item that is
read, heads are pooled each time an item is used, ROUGE is scored row by row, and one CNN is trained per pass over the data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
from torch import Tensor, nn

from memgrid.lm.pooling import attention_of


@torch.inference_mode()
def all_heads(model: Any, tokens: Int[Tensor, "batch length"]) -> list[Float[Tensor, "batch heads length length"]]:
    """Attention weights of every layer, from transformers' own eager attention; the language-model head is left out here as well."""
    with attention_of(model, "eager"):
        return list(model.base_model(input_ids=tokens, output_attentions=True, use_cache=False).attentions)


def pooled(attentions: list[Tensor]) -> dict[str, np.ndarray]:
    """Mean and maximum over heads in memgrid's packing, float16 (batch, positions, layers): what extraction must equal bit for bit."""
    rows, columns = np.tril_indices(attentions[0].shape[-1])
    packed = {"mean": [weights.float().mean(1) for weights in attentions], "max": [weights.float().amax(1) for weights in attentions]}
    return {pool: torch.stack(layers, -1)[:, rows, columns].half().numpy() for pool, layers in packed.items()}


def extract(model: Any, tokens: np.ndarray, ids: np.ndarray, folder: Path, batch: int) -> None:
    """Store every head of every layer: a file per batch, a dataset (layers, heads, length, length) per sequence."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(tokens), batch):
        attentions = all_heads(model, torch.from_numpy(tokens[start : start + batch]))
        stacked = torch.stack(attentions, 1).half().numpy()
        with h5py.File(folder / f"{ids[start]}.h5", "w") as file:
            for sequence, heads in zip(ids[start : start + batch], stacked, strict=True):
                file.create_dataset(str(sequence), data=heads)


def write_random(folder: Path, ids: np.ndarray, layers: int, heads: int, length: int) -> None:
    """Files as `extract` leaves them, of random causal attention: stands for a model that is too large to run here."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    causal = torch.ones(length, length).tril()
    with h5py.File(folder / f"{ids[0]}.h5", "w") as file:
        for sequence in ids:
            weights = torch.rand(layers, heads, length, length, generator=generator) * causal
            file.create_dataset(str(sequence), data=(weights / weights.sum(-1, keepdim=True)).half().numpy())


def read(path: Path, sequence: int) -> Float[Tensor, "layers heads length length"]:
    """One item: open, find, read, close."""
    with h5py.File(path, "r") as file:
        return torch.from_numpy(file[str(sequence)][()])


def batch_of(path: Path, ids: np.ndarray) -> Float[Tensor, "batch layers length length"]:
    """Images of a batch: every item read by itself and its heads averaged on the way."""
    return torch.stack([read(path, int(sequence)).float().mean(1) for sequence in ids])


def rouge(prefix: np.ndarray, suffix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROUGE-L and ROUGE-3 F-measures row by row, from the `rouge_score` package."""
    scorer = RougeScorer(["rougeL", "rouge3"])
    lines = [(" ".join(map(str, left)), " ".join(map(str, right))) for left, right in zip(prefix, suffix, strict=True)]
    scores = [scorer.score(left, right) for left, right in lines]
    return np.array([score["rougeL"].fmeasure for score in scores]), np.array([score["rouge3"].fmeasure for score in scores])


def train_step(net: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    """One step of one network, float32, contiguous images."""
    nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
