"""The settings of an audit, and what is refused of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig

from memgrid.config.limits import limits, refuse_outside_limits
from memgrid.config.schema import SEED, TrainerConfig, WandbConfig
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
NOT_IN_NAME = {"root", "force", "stages", "shadow", "part", "parts", "wandb"}
HARDWARE = {"trainer": {"threads", "progress"}, "model": {"checkpoint_epochs"}}
FEWEST = 4  # models: with one less there would be no other model to compare with
VIEWS = {"none": 1, "shift": 5, "flip_shift": 10}  # dataset.augment → in how many views the attack can look at an image


@dataclass
class DatasetConfig:
    """Kind digits, mnist5k, cifar10 (`path`: its folder) or attention (`path`: the folder of a finished run of memgrid.run).

    `samples`: only so many, for a try (of digits and mnist5k, held-out ones are among them). `augment`: none, shift or flip_shift; training
    and the attack's views use it.
    """

    name: str = MISSING
    kind: str = field(default=MISSING, metadata=limits(choices=("digits", "mnist5k", "cifar10", "attention")))
    path: str | None = None
    samples: int | None = field(default=None, metadata=limits(least=2 * HELD_OUT))
    augment: str = field(default="none", metadata=limits(choices=tuple(VIEWS)))


@dataclass
class CanaryConfig:
    """Which samples are watched, clean, label_noise, ood or mixed, and how many."""

    name: str = field(default=MISSING, metadata=limits(choices=("clean", "label_noise", "ood", "mixed")))
    count: int = field(default=MISSING, metadata=limits(least=2))


@dataclass
class MembershipConfig:
    """Half of the models see `canaries`, and all see the others; or half of them see each of `all` samples."""

    name: str = field(default=MISSING, metadata=limits(choices=("canaries", "all")))


@dataclass
class ModelConfig:
    """A network and how it is trained: by `optimizer` sgd (with `momentum`) or adamw, the learning rate times 0.1 at the epochs `drops`.

    `kind`: mlp, small_cnn, wrn16_4 or attention_cnn. `width`: of the hidden layers, or feature maps. `checkpoint_epochs`: after so many
    epochs a training that is cut off can go on from there; null: it begins anew.
    """

    name: str = MISSING
    kind: str = field(default=MISSING, metadata=limits(choices=("mlp", "small_cnn", "wrn16_4", "attention_cnn")))
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
    many `directions`; `floor`: see `memgrid.audit.shadow.predictors.psmi`.
    """

    name: str = MISSING
    window: int = field(default=500, metadata=limits(least=1))
    share: float = field(default=0.05, metadata=limits(least=0, most=1))
    directions: int = field(default=1000, metadata=limits(least=1))
    floor: float = field(default=1e-3, metadata=limits(least=0, most=1))


@dataclass
class AttackConfig:
    """The statistic (`hinge` or `logit`), in how many views of each image, and where results are looked at: η and false-positive rates."""

    name: str = field(default=MISSING, metadata=limits(choices=("hinge", "logit")))
    views: int = field(default=1, metadata=limits(least=1))
    eta: list[float] = field(default_factory=lambda: [4.0, 6.0, 8.0, 10.0])
    fpr: list[float] = field(default_factory=lambda: [0.001, 0.01, 0.05])


@dataclass
class DefenceConfig:
    """After the trigger, noise on the last hidden layer of every member i, of deviation `slope` * max(0, -PSMI of i); 0: none."""

    slope: float = field(default=0.0, metadata=limits(least=0, most=1e6))


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
    wandb: WandbConfig = field(default_factory=WandbConfig)
    shadows: int = field(default=32, metadata=limits(least=FEWEST))
    shadow: int | None = None
    part: int = 0
    parts: int = field(default=1, metadata=limits(least=1))
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
    refuse_places(run.root, {"dataset": run.dataset.name, "model": run.model.name})
    refuse_tracking(run.wandb)
    if run.dataset.kind == "digits" and run.dataset.path is not None:
        raise UserError(f"dataset.path={run.dataset.path} is not read: dataset=digits comes with scikit-learn, so leave it out")
    if run.dataset.kind in ("cifar10", "attention") and run.dataset.path is None:
        what = "cifar-10-batches-py of CIFAR-10's Python version" if run.dataset.kind == "cifar10" else "of a finished run of memgrid.run"
        raise UserError(f"dataset.path is not set: give the folder {what}")
    if run.dataset.kind == "attention" and (run.dataset.augment != "none" or run.canary.name in ("ood", "mixed")):
        raise UserError(
            f"canary.name={run.canary.name} with dataset.augment={run.dataset.augment} does not fit dataset=attention, which has no images "
            "of another domain and cannot be moved: use canary=clean or label_noise, and dataset.augment=none"
        )
    refuse_views(run.attack.views, run.dataset.augment)


def refuse_views(count: int, augment: str) -> None:
    """Raise UserError for more views than images have."""
    if count > VIEWS[augment]:
        raise UserError(f"attack.views={count} is too many: dataset.augment={augment} has {VIEWS[augment]}")


def validate_models(run: AuditConfig) -> None:
    """Refuse numbers of models, and a share of them, that there cannot be."""
    if run.shadows % 2:
        raise UserError(f"shadows={run.shadows} is odd: each canary is in exactly half of the models, so take {run.shadows + 1}")
    if run.shadow is not None and not 0 <= run.shadow < run.shadows:
        raise UserError(f"shadow={run.shadow} is none of shadows={run.shadows}, which are counted from 0 to {run.shadows - 1}")
    refuse_part(run.part, run.parts)
    if run.shadow is not None and run.parts > 1:
        raise UserError(f"shadow={run.shadow} and parts={run.parts} cannot both say which models to train: leave one of them out")
    if run.parts > run.shadows:
        raise UserError(f"parts={run.parts} is more than shadows={run.shadows}: use at most so many")


def settings(run: AuditConfig) -> dict[str, Any]:
    """The settings that decide an audit's result, as plain containers."""
    plain = asdict(run)
    plain = {key: value for key, value in plain.items() if key not in NOT_IN_NAME}
    if run.dataset.path is not None:
        plain["dataset"]["path"] = str(Path(run.dataset.path).absolute())  # from whatever folder it was typed
    for group, keys in HARDWARE.items():
        plain[group] = {key: value for key, value in plain[group].items() if key not in keys}
    return plain


def model_settings(run: AuditConfig) -> dict[str, Any]:
    """The settings that decide what shadow models leave behind: of the attack, the views alone."""
    return {**settings(run), "attack": run.attack.views}


def models_to_train(run: AuditConfig) -> list[int]:
    """The numbers of the shadow models that this start trains: one, a share of them, or all."""
    if run.shadow is not None:
        return [run.shadow]
    return list(range(run.part, run.shadows, run.parts))
