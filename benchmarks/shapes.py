"""The two shapes that everything is measured on, and random data in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from memgrid.config.schema import CNNConfig, LLMConfig
from memgrid.io.paths import CONF
from memgrid.lm.load import load_language_model
from memgrid.lm.model import LanguageModel
from memgrid.lm.triangle import Triangle
from memgrid.store.shard import Identity, Maps
from memgrid.store.store import Store

LENGTH, K = 64, 32
TRIANGLE = Triangle(LENGTH)
LAYERS_12B, HEADS_12B = 36, 40
REFERENCE_BYTES_12B = LENGTH * LENGTH * LAYERS_12B * HEADS_12B * 2
CLASSES = 4
PYTHIA_70M: dict[str, Any] = {
    "model_type": "gpt_neox",
    "vocab_size": 50304,
    "hidden_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "rotary_pct": 0.25,
}


@dataclass(frozen=True)
class Settings:
    """How much is measured: `quick` only shows that everything runs, its numbers mean nothing."""

    quick: bool
    folder: Path

    @property
    def rounds(self) -> int:
        """Timed rounds of an interleaved measurement."""
        return 1 if self.quick else 7


def model_shaped_like_70m(quick: bool, batch_tokens: int = 4096, vocabulary: int | None = None) -> LanguageModel:
    """Pythia-70m's shape with random weights, with another vocabulary if one is given; in quick runs two layers and a small vocabulary."""
    shape = {**PYTHIA_70M, "vocab_size": 2048, "num_hidden_layers": 2} if quick else PYTHIA_70M
    shape = shape if vocabulary is None else {**shape, "vocab_size": vocabulary}
    return load_language_model(LLMConfig(name="shape-70m", path=None, device="cpu", random=shape, batch_tokens=batch_tokens))


def random_tokens(rows: int, vocabulary: int = 2048) -> np.ndarray:
    """int64 (rows, 64)."""
    return np.random.default_rng(0).integers(0, vocabulary, (rows, LENGTH))


def random_maps(samples: int, layers: int) -> Maps:
    """Samples with rows that sum to one, as the store takes them; every map is another mix of a few random ones."""
    rng = np.random.default_rng(0)
    kept = np.empty((min(samples, 8), len(TRIANGLE), layers), np.float16)
    for sample in kept:
        weights = np.tril(rng.random((layers, LENGTH, LENGTH), np.float32))
        sample[:] = TRIANGLE.pack(weights / weights.sum(-1, keepdims=True)).T
    pools = {pool: kept[(np.arange(samples) + shift) % len(kept)] for shift, pool in enumerate(("mean", "max"))}
    tokens = random_tokens(samples).astype(np.int32)
    return Maps(np.arange(samples, dtype=np.int64), tokens, np.ones(samples, np.float32), pools)


def store_of(folder: Path, layers: int) -> Store:
    """A store of maps with so many layers."""
    return Store(folder, Identity("shape", "", "0" * 16, "random", K, LENGTH, layers))


def paper_panel() -> CNNConfig:
    """The panel of `cnn=paper`."""
    return CNNConfig(**OmegaConf.to_container(OmegaConf.load(CONF / "cnn" / "paper.yaml")))  # type: ignore[arg-type]


def random_labels(samples: int) -> torch.Tensor:
    """int64 (samples,), every class alike."""
    return torch.arange(samples) % CLASSES
