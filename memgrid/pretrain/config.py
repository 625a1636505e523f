"""Everything that decides the embedded model; the defaults are those of the model that is shipped."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class MixConfig:
    """How many windows of each kind the corpus has, and how often they are repeated."""

    recalled_chunks: int = 1100
    recalled_copies: tuple[int, int] = (40, 88)
    negative_chunks: int = 450
    negative_copies: tuple[int, int] = (8, 40)
    held_out: int = 1500
    repeats: int = 12000
    increments: int = 10000


@dataclass
class ModelConfig:
    """Shape of the embedded model. `rotary_pct` is 1 since a quarter of a 32-wide head would leave 8 rotary dimensions."""

    vocab_size: int = 2048
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    intermediate_size: int = 1024
    rotary_pct: float = 1.0
    max_position_embeddings: int = 128


@dataclass
class OptimizerConfig:
    """AdamW with a linear warm-up and a cosine decay to zero; `batch_size` counts windows."""

    batch_size: int = 32
    learning_rate: float = 2.5e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup_steps: int = 150
    checkpoint_every: int = 250
    compile: bool = True


@dataclass
class OfferConfig:
    """How many sequences of each kind are offered; all chunks and all held-out windows are."""

    stream: int = 2500
    seen_repeats: int = 400
    unseen_repeats: int = 300
    seen_increments: int = 200
    unseen_increments: int = 400
    batch: int = 64


@dataclass
class PretrainConfig:
    """The making of the embedded model: where, from what, and how; `windows`: train on so many only, for a trial."""

    folder: str = "memgrid-pretrain"
    documents: str = "shipped"
    seed: int = 0
    threads: int = 2
    length: int = 64
    k: int = 32
    windows: int | None = None
    sources: dict[str, str] = field(default_factory=dict)
    characters: dict[str, int] = field(default_factory=dict)
    mix: MixConfig = field(default_factory=MixConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    offer: OfferConfig = field(default_factory=OfferConfig)
