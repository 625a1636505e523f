"""The schema of the configuration: every setting with its type and default, as Hydra checks them while it composes conf/."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

PACKAGE = Path(__file__).resolve().parent
# In a wheel conf/ lies inside the package, in a checkout beside it. Hydra needs an absolute path: it would turn a relative one into pkg://.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
MOST_PARTS = 256  # into which extraction can be divided
STAGES = ("fetch", "label", "plan", "extract", "train")


class UserError(Exception):
    """Something the user can mend, told in one sentence that names the value and what to do."""


@dataclass
class LLMConfig:
    """A causal language model: a folder or hub name (`path`), or random weights (`random`); `semantic_filters` as in split names there."""

    name: str = MISSING
    path: str | None = MISSING
    revision: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    device_map: str | None = None
    batch_tokens: int = 4096
    random: dict[str, Any] | None = None
    semantic_filters: str | None = None


@dataclass
class CorpusConfig:
    """Where the sequences and the training documents are.

    Kind `tables` (sequences.parquet, documents.parquet), `semantic_filters` (the paper's: its `splits`) or `text` (files in which
    sequences are cut; `column` names the text in .jsonl and .parquet files).
    """

    name: str = MISSING
    path: str | None = MISSING
    k: int = 32
    length: int = 64
    kind: str = "tables"
    splits: list[str] = field(default_factory=list)
    column: str = "text"


@dataclass
class TaxonomyConfig:
    """An ordered mapping from class name to rule, or to a list of rules of which one must hold."""

    name: str = MISSING
    classes: dict[str, Any] = MISSING


@dataclass
class LabelConfig:
    """`code` tells what judges whether a text is source code: `magika`, `fasttext` (the paper's, with `code_model`) or `usepackage`."""

    code: str = "magika"
    code_model: str | None = None


@dataclass
class SelectConfig:
    """How many samples a class gives to each side, and how the sides are kept apart.

    Without `leak_free` every row of the corpus is drawn for itself, exact copies too: the paper's split.
    """

    train_per_class: int = 500
    eval_per_class: int = 160
    min_train_per_class: int = 50
    min_eval_per_class: int = 20
    leak_free: bool = True


@dataclass
class ExtractConfig:
    """How attention is written: samples per shard, compressed or not (Blosc2-lz4, lossless), and whether labelling already keeps it."""

    shard_samples: int = 512
    compress: bool = False
    fused: bool = False


@dataclass
class DataConfig:
    """`resident`: a run's maps are read into memory once; `stream`: every batch from disk, in `workers` processes; `auto`: by size."""

    mode: str = "auto"
    memory_gb: float = 4.0
    workers: int = 2


@dataclass
class CNNConfig:
    """The panel (the product of the three lists; a single value counts as a list of one) and how it is trained."""

    kind: str = "conv"
    kernel_size: Any = MISSING
    features: Any = MISSING
    pooling: Any = MISSING
    scale: str = "log"
    dropout: float = 0.25
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.1


@dataclass
class ControlConfig:
    """The same training on shuffled labels; `members` of the panel take part, 0 leaves the control out."""

    members: int = 1


@dataclass
class TrainerConfig:
    """Where and how fast the panel is trained."""

    accelerator: str = "cpu"
    precision: str = "32-true"
    threads: int | None = None
    channels_last: bool = True
    progress: bool = True


@dataclass
class WandbConfig:
    """Mode `offline`, `online` or `disabled`."""

    mode: str = "offline"
    project: str = "memgrid"
    entity: str | None = None


@dataclass
class RunConfig:
    """One run: everything that decides a cell of the grid and how it is computed."""

    llm: LLMConfig = field(default_factory=LLMConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    taxonomy: TaxonomyConfig = field(default_factory=TaxonomyConfig)
    label: LabelConfig = field(default_factory=LabelConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    data: DataConfig = field(default_factory=DataConfig)
    cnn: CNNConfig = field(default_factory=CNNConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    delta: int = 50
    rho: float = 0.5
    rouge: str = "both"
    seed: int = 0
    compat: str = "none"
    stages: list[str] = field(default_factory=lambda: ["label", "extract", "train"])
    part: int = 0
    parts: int = 1
    root: str = "memgrid-runs"
    force: bool = False
