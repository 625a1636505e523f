"""The schema of the configuration: every setting with its type and default, as Hydra checks them while it composes conf/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

MOST_PARTS = 256  # into which extraction can be divided
STAGES = ("fetch", "label", "plan", "extract", "train", "localize", "intervene")
OWN_STAGES = ("train", "localize", "intervene")  # those whose results lie in the run's folder


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

    Without `leak_free` every row of the corpus is drawn for itself, exact copies too: the paper's split. Two settings make hard negatives:
    `non_memorized` any, or matched (with as many duplicates as the class that has most); `decoded` continuation (the model's own words),
    or suffix (the true one). Where they have their defaults, a run's settings do not name them.
    """

    train_per_class: int = 500
    eval_per_class: int = 160
    min_train_per_class: int = 50
    min_eval_per_class: int = 20
    leak_free: bool = True
    non_memorized: str = "any"
    decoded: str = "continuation"


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
class LocalizeConfig:
    """Where the networks decide.

    `method`: guided, gradient, integrated_gradients or gradcam. `samples`: at most so many eval samples of a class; null for all. `sanity`:
    of these so many of each class take part in the randomisation test, 0 leaves it out.
    """

    method: str = "guided"
    samples: int | None = None
    sanity: int = 16


@dataclass
class InterveneConfig:
    """Doses and sizes.

    `percent`: the values of q. `seeds`: random masks per dose. `heads`: mask only so many heads at each position, the most attentive; all
    without. `queries`: `suffix` or `all` (see `intervene.positions.candidates`). `samples`, `ordinary`: at most so many sequences of a
    class, and of ordinary text (0: damage is not measured). `layers_at`: the q at which layers are masked one at a time; null for none.
    """

    percent: list[float] = field(default_factory=lambda: [0.3, 1.0, 3.0, 10.0, 30.0])
    seeds: int = 3
    heads: int | None = None
    queries: str = "suffix"
    samples: int = 100
    ordinary: int = 100
    layers_at: float | None = 3.0


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
    localize: LocalizeConfig = field(default_factory=LocalizeConfig)
    intervene: InterveneConfig = field(default_factory=InterveneConfig)
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
