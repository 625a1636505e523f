"""The settings of the embedded model: the defaults are those of the model that the package ships."""

from __future__ import annotations

from dataclasses import dataclass, field

from memgrid.config.limits import limits, refuse_outside_limits


@dataclass
class MixConfig:
    """How many windows of each kind the corpus has, and how often they are repeated."""

    seldom_chunks: int = 230
    seldom_copies: tuple[int, int] = (1, 19)
    middle_chunks: int = 660
    middle_copies: tuple[int, int] = (20, 38)
    often_chunks: int = 1000
    often_copies: tuple[int, int] = (39, 90)
    most_chunks: int = 80
    most_copies: tuple[int, int] = (91, 128)
    early_share: float = field(default=0.06, metadata=limits(least=0, most=1))
    early_until: float = field(default=0.4, metadata=limits(above=0, most=1))
    near_duplicates: int = 150
    near_copies: tuple[int, int] = (30, 90)
    once: int = 1500
    held_out: int = 1500
    similar_share: float = 0.38
    code_share: float = 0.34
    repeats: int = 11000
    increments: int = 12000
    often_repeats: int = 120
    often_increments: int = 120
    often_template_copies: tuple[int, int] = (45, 90)


@dataclass
class OfferConfig:
    """How many templates of each kind are offered; all windows that were drawn by strata are."""

    often_repeats: int = 120
    often_increments: int = 120
    seen_repeats: int = 400
    renamed_repeats: int = 100
    unseen_repeats: int = 300
    seen_increments: int = 300
    renamed_increments: int = 100
    unseen_increments: int = 300
    batch: int = 64


@dataclass
class ModelConfig:
    """Shape of the embedded model. `rotary_pct` is 1 since a quarter of a 32-wide head would leave 8 rotary dimensions."""

    vocab_size: int = 2048
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    intermediate_size: int = 1024
    tie_word_embeddings: bool = True
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


@dataclass
class PretrainConfig:
    """Everything that decides the embedded model."""

    folder: str = "memgrid-pretrain"
    documents: str = field(default="shipped", metadata=limits(choices=("shipped", "sources")))
    seed: int = 0
    threads: int = 2
    device: str = field(default="cpu", metadata=limits(choices=("cpu", "cuda")))
    length: int = 64
    k: int = 32
    windows: int | None = None
    reference: bool = False
    steps: list[int] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    characters: dict[str, int] = field(default_factory=dict)
    mix: MixConfig = field(default_factory=MixConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    offer: OfferConfig = field(default_factory=OfferConfig)


def validate(config: PretrainConfig) -> None:
    """Refuse what cannot be made; UserError."""
    refuse_outside_limits(config)
