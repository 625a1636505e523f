"""The schema of the configuration: every setting with its type and default, as Hydra checks them while it composes conf/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from memgrid.config.limits import limits, section
from memgrid.taxonomy.thresholds import ROUGES

MOST_PARTS = 256  # into which extraction can be divided
STAGES = ("fetch", "label", "plan", "extract", "train", "localize", "intervene", "transfer")
FORCIBLE = ("label", "extract", "train", "localize", "intervene", "transfer")  # those whose results are kept
OWN_STAGES = ("train", "localize", "intervene", "transfer")  # those whose results lie in the run's folder
NO_SHARE = "is no share of positions in percent: use numbers above 0 and up to 100"
SEED = limits(least=0, most=2**48)


@dataclass
class LLMConfig:
    """A causal language model: a folder or hub name (`path`), or random weights (`random`); `semantic_filters` as in split names there.

    `reference`: a model of the same kind that did not read the text in question, by its name here, its folder or its name on the hub, with
    `@<revision>` where it has one. `steps`: revisions (or paths) of this model at earlier steps of its training.
    """

    name: str = MISSING
    path: str | None = MISSING
    revision: str | None = None
    dtype: str = field(default="float32", metadata=limits(choices=("float32", "bfloat16", "float16")))
    device: str = "auto"
    device_map: str | None = None
    batch_tokens: int = 4096
    random: dict[str, Any] | None = None
    semantic_filters: str | None = None
    reference: str | None = None
    steps: list[str] = field(default_factory=list)


@dataclass
class CorpusConfig:
    """Where the sequences and the training documents are.

    Kind `tables` (sequences.parquet, documents.parquet), `semantic_filters` (the paper's: its `splits`), `memorized_evals` (likewise) or
    `text` (files in which sequences are cut; `column` names the text in .jsonl and .parquet files, and `copies` the column that says how
    often the model has read it). With `bos` the model reads every sequence after its BOS token.
    """

    name: str = MISSING
    path: str | None = MISSING
    k: int = 32
    length: int = 64
    kind: str = field(default="tables", metadata=limits(choices=("tables", "semantic_filters", "memorized_evals", "text")))
    splits: list[str] = field(default_factory=list)
    column: str = "text"
    copies: str | None = None
    bos: bool = False


@dataclass
class TaxonomyConfig:
    """An ordered mapping from class name to rule, or to a list of rules of which one must hold; and thresholds that rules name.

    A rule is a name, `{column: p_extract, above: 0.001}` on any column of labels or of the user's own table (above, at_least, below,
    at_most, is), `{and: [...]}`, `{or: [...]}` or `{not: ...}`.
    """

    name: str = MISSING
    classes: dict[str, Any] = MISSING
    thresholds: dict[str, Any] = field(default_factory=dict)


@dataclass
class LabelConfig:
    """`code` tells what detects whether a text is source code: `magika`, `fasttext` (the paper's, with `code_model`) or `usepackage`.

    `code_text` tells what text it reads: what the `tokens` say, or what the `corpus` brings, where it brings any. `counts` tells where
    duplicates are counted: `exact`, in the corpus's documents, by `processes` (null: as many as are worth it), or `infini_gram`, in the
    folder `index`, which that package has built. `temperature` and `top_k` (null: all tokens) say how the continuation is drawn whose
    probability `p_extract` is.
    """

    code: str = field(default="magika", metadata=limits(choices=("magika", "fasttext", "usepackage")))
    code_model: str | None = None
    code_text: str = field(default="tokens", metadata=limits(choices=("tokens", "corpus")))
    counts: str = field(default="exact", metadata=limits(choices=("exact", "infini_gram")))
    index: str | None = None
    processes: int | None = field(default=None, metadata=limits(least=1, most=4096))
    temperature: float = field(default=1.0, metadata=limits(least=1e-3, most=1e3))
    top_k: int | None = field(default=None, metadata=limits(least=1))


@dataclass
class SelectConfig:
    """How many samples a class gives to each side, and how the sides are kept apart.

    Without `leak_free` every row of the corpus is drawn for itself, exact copies too: the paper's split. Two settings make hard negatives:
    `non_memorized` any, or matched (with as many duplicates as the class that has most); `decoded` continuation (the model's own words),
    or suffix (the true one). Where they have their defaults, a run's settings do not name them.
    """

    train_per_class: int = 500
    eval_per_class: int = 160
    min_train_per_class: int = field(default=50, metadata=limits(least=1))
    min_eval_per_class: int = field(default=20, metadata=limits(least=1))
    leak_free: bool = True
    non_memorized: str = field(default="any", metadata=limits(choices=("any", "matched")))
    decoded: str = field(default="continuation", metadata=limits(choices=("continuation", "suffix")))


@dataclass
class ExtractConfig:
    """How attention is written: samples per shard, compressed or not (Blosc2-lz4, lossless), and whether labelling already keeps it."""

    shard_samples: int = field(default=512, metadata=limits(least=1))
    compress: bool = False
    fused: bool = False


@dataclass
class DataConfig:
    """`resident`: a run's maps are read into memory once; `stream`: every batch from disk, in `workers` processes; `auto`: by size."""

    mode: str = field(default="auto", metadata=limits(choices=("auto", "resident", "stream")))
    memory_gb: float = field(default=4.0, metadata=limits(least=0, most=1e6))
    workers: int = field(default=2, metadata=limits(least=0))


@dataclass
class CNNConfig:
    """The panel (the product of the three lists; a single value counts as a list of one) and how it is trained.

    `evaluate_every`: eval samples are looked at after so many epochs, and after each of the last three, which scores are made of.
    """

    kind: str = field(default="conv", metadata=limits(choices=("conv", "linear")))
    kernel_size: Any = field(default=MISSING, metadata=limits(least=1, most=16, product=int))
    features: Any = field(default=MISSING, metadata=limits(least=1, most=256, product=int))
    pooling: Any = field(default=MISSING, metadata=limits(choices=("mean", "max"), product=str))
    scale: str = field(default="log", metadata=limits(choices=("raw", "log")))
    dropout: float = field(default=0.1, metadata=limits(least=0, most=0.99))
    epochs: int = field(default=15, metadata=limits(least=1))
    batch_size: int = field(default=16, metadata=limits(least=1))
    learning_rate: float = field(default=1e-3, metadata=limits(least=1e-9, most=10))
    weight_decay: float = field(default=0.1, metadata=limits(least=0, most=10))
    schedule: str = field(default="constant", metadata=limits(choices=("constant", "linear")))
    evaluate_every: int = field(default=1, metadata=limits(least=1))


@dataclass
class ControlConfig:
    """The same training on shuffled labels; `members` of the panel take part, 0 leaves the control out."""

    members: int = field(default=1, metadata=limits(least=0))


@dataclass
class LocalizeConfig:
    """Where the networks decide.

    `method`: guided, gradient, integrated_gradients or gradcam. `samples`: at most so many eval samples of a class; null for all. `sanity`:
    of these so many of each class take part in the randomization test, 0 leaves it out.
    """

    method: str = field(default="guided", metadata=limits(choices=("guided", "gradient", "integrated_gradients", "gradcam")))
    samples: int | None = field(default=None, metadata=limits(least=1))
    sanity: int = field(default=16, metadata=limits(least=0))


@dataclass
class InterveneConfig:
    """Doses and sizes.

    `percent`: the values of q. `seeds`: random masks per dose, at most; null for as many as can show a difference. `average`: what of a
    panel's decision maps ranks positions, their `mean` or their `votes` (see `DecisionMaps.votes`). `heads`: mask only so many heads at
    each position, the most attentive; all without. `queries`: `suffix` or `all` (see `intervene.positions.candidates`). `samples`,
    `ordinary`: at most so many sequences of a class, and of ordinary text (0: damage is not measured). `layers_at`: the q at which layers
    are masked one at a time; null for none. `unit`: what is switched off, positions, heads or layers, or several of them. `numbers`: of
    heads, and of layers, so many together; null for half of all, a quarter, and so on. `replace`: what comes in the place of attention that
    is switched off (see `PositionMask`).
    """

    percent: list[float] = field(
        default_factory=lambda: [0.3, 1.0, 3.0, 10.0, 30.0], metadata=limits(above=0, most=100, form="g", sentence=NO_SHARE)
    )
    seeds: int | None = field(default=None, metadata=limits(least=1))
    average: str = field(default="mean", metadata=limits(choices=("mean", "votes")))
    heads: int | None = field(default=None, metadata=limits(least=1))
    queries: str = field(default="suffix", metadata=limits(choices=("suffix", "all")))
    samples: int = field(default=100, metadata=limits(least=1))
    ordinary: int = field(default=100, metadata=limits(least=0))
    layers_at: float | None = field(default=3.0, metadata=limits(above=0, most=100, form="g", sentence=NO_SHARE))
    unit: Any = field(default="positions", metadata=limits(choices=("positions", "heads", "layers"), product=str))
    numbers: list[int] | None = field(default=None, metadata=limits(least=1))
    replace: str = field(default="renormalise", metadata=limits(choices=("renormalise", "zero", "mean")))


@dataclass
class TrainerConfig:
    """Where and how fast the panel is trained."""

    accelerator: str = field(default="cpu", metadata=limits(choices=("cpu", "gpu", "auto")))
    precision: str = field(default="32-true", metadata=limits(choices=("32-true", "bf16-mixed", "16-mixed")))
    threads: int | None = field(default=None, metadata=limits(least=1, most=4096))
    channels_last: bool = True
    progress: bool = True


@dataclass
class TrackingConfig:
    """What trainings are recorded with: `wandb`, `csv`, `tensorboard` or `none`."""

    name: str = field(default="wandb", metadata=limits(choices=("wandb", "csv", "tensorboard", "none")))


@dataclass
class WandbConfig:
    """Mode `offline`, `online` or `disabled`."""

    mode: str = field(default="offline", metadata=limits(choices=("offline", "online", "disabled")))
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
    transfer: dict[str, Any] = field(default_factory=lambda: {"from": []}, metadata=section("from"))  # other runs, by folder or pattern
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    delta: int = field(
        default=50, metadata=limits(least=0, sentence="is not a number of duplicates: it must be 0 or more, such as delta=50")
    )
    rho: float = field(
        default=0.5,
        metadata=limits(above=0, most=1, sentence="is not a ROUGE threshold: it must be above 0 and at most 1, such as rho=0.5"),
    )
    rouge: str = field(default="both", metadata=limits(choices=tuple(ROUGES)))
    seed: int = field(default=0, metadata=SEED)
    compat: str = field(default="none", metadata=limits(choices=("none", "paper")))
    stages: list[str] = field(default_factory=lambda: ["label", "extract", "train"], metadata=limits(choices=STAGES))
    part: int = 0
    parts: int = field(
        default=1,
        metadata=limits(least=1, most=MOST_PARTS, sentence=f"is out of range: extraction can be divided into 1 to {MOST_PARTS} parts"),
    )
    root: str = "memgrid-runs"
    force: Any = False
