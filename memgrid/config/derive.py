"""What follows from a configuration: the taxonomy, its thresholds and partition, the panel."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from memgrid.config.limits import refuse_value
from memgrid.config.schema import FORCIBLE, OWN_STAGES, CNNConfig, LLMConfig, RunConfig
from memgrid.errors import UserError
from memgrid.io.paths import CONF, embedded_models
from memgrid.taxonomy.taxonomy import Partition, Taxonomy
from memgrid.taxonomy.thresholds import Thresholds


def taxonomy(run: RunConfig) -> Taxonomy:
    """The run's taxonomy.

    Raises:
        UserError: a rule is unknown or the classes cannot be told apart.
    """
    try:
        return Taxonomy.of(run.taxonomy.name, run.taxonomy.classes, run.taxonomy.thresholds)
    except ValueError as error:
        raise UserError(str(error)) from None


def partition(run: RunConfig) -> Partition:
    """How the run's taxonomy divides sequences at its thresholds."""
    return taxonomy(run).partition(thresholds(run))


def thresholds(run: RunConfig) -> Thresholds:
    """δ, ρ and which ROUGE score ρ applies to."""
    return Thresholds(run.delta, run.rho, run.rouge)


@dataclass(frozen=True)
class Protocol:
    """What `compat` changes beside the settings of its file in conf/compat. The defaults are ours, `compat=paper` is `PAPER`.

    The paper's protocol, for whoever must compare numbers with its tables: its file asks for the paper's networks, its numbers of samples
    `select.leak_free=false`, a split that does not look at content, and float32, also on a GPU; the five fields here are what its code
    and its authors did, and no setting says.

    Attributes:
        members_read_means: the whole panel is given means, whatever its pooling says: there the pooling never reached the CNN.
        shares_trainings: equal partitions are one training, and a threshold that decides nothing is no setting of a run. In the paper
            every setting was trained for itself: no two runs are equal.
        seeds_every_setting: another seed for every setting, made from it: there no seed was set.
        suppresses_end: the model never continues with its end-of-text token, so that a suffix that holds it is not extractable. Labels
            and attention made so are kept apart from the others.
        maximum_anywhere: decision maps are shares of the largest C wherever it lies, above the diagonal, too.
    """

    members_read_means: bool = False
    shares_trainings: bool = True
    seeds_every_setting: bool = False
    suppresses_end: bool = False
    maximum_anywhere: bool = False


OURS = Protocol()
PAPER = Protocol(members_read_means=True, shares_trainings=False, seeds_every_setting=True, suppresses_end=True, maximum_anywhere=True)
PROTOCOLS = {"none": OURS, "paper": PAPER}


def protocol(run: RunConfig) -> Protocol:
    """What the run's `compat` changes."""
    return PROTOCOLS[run.compat]


def decoded(run: RunConfig) -> str:
    """What non-memorized sequences are read with, which names their store: `continuation`, `no-end` (the same, suppressed) or `suffix`."""
    own_words = run.select.decoded == "continuation"
    return "no-end" if own_words and protocol(run).suppresses_end else run.select.decoded


COMPUTED = ("dtype", "device", "device_map", "batch_tokens")  # how a model is computed with: other models as the run's own


def forced(run: RunConfig) -> tuple[str, ...]:
    """The stages that `force` has done again although their results are there.

    `true` means what is the run's own, of the stages that it asks for, and where nothing is, labels and attention, too. These are shared
    with other runs: beside a training they are made anew only where they are named.
    """
    if not run.force:
        return ()
    if isinstance(run.force, list | tuple):
        return tuple(run.force)
    if isinstance(run.force, str):
        return (run.force,)
    asked = tuple(stage for stage in run.stages if stage in FORCIBLE)
    return tuple(stage for stage in asked if stage in OWN_STAGES) or asked


def reference_of(llm: LLMConfig) -> LLMConfig | None:
    """The model that `llm.reference` names: an embedded one, one of conf/llm, or that of a folder or on the hub; None without one."""
    if llm.reference is None:
        return None
    name, _, revision = (llm.reference, "", "") if Path(llm.reference).is_dir() else llm.reference.partition("@")
    file = CONF / "llm" / f"{name}.yaml"
    own: dict[str, Any] = {key: getattr(llm, key) for key in COMPUTED}
    if name in embedded_models():
        found = LLMConfig(name=name, path=None, **own)
    elif "/" not in name and file.is_file():
        given = {**OmegaConf.to_container(OmegaConf.load(file)), **own, "reference": None, "steps": []}  # type: ignore[dict-item]
        found = LLMConfig(**{field.name: given[field.name] for field in fields(LLMConfig) if field.name in given})
    else:
        found = LLMConfig(name=name.rstrip("/").rpartition("/")[2], path=name, **own)
    return replace(found, revision=revision) if revision else found


def steps_of(llm: LLMConfig) -> list[LLMConfig]:
    """The model at the steps of its training that `llm.steps` names: revisions of it, or folders, which have a slash."""
    alone = replace(llm, reference=None, steps=[])
    return [replace(alone, path=step, revision=None) if "/" in step else replace(alone, revision=step) for step in llm.steps]


def sources(run: RunConfig) -> list[str]:
    """The runs that `transfer.from` names, as they are typed: one, or a list; without doubles.

    Raises:
        UserError: it holds something that is no text.
    """
    given = run.transfer.get("from")
    listed = given if isinstance(given, list | tuple) else [] if given is None else [given]
    if odd := [name for name in listed if not isinstance(name, str) or not name.strip()]:
        raise UserError(f"transfer.from={odd[0]!r} is no folder of a run: give such as transfer.from=memgrid-runs/runs/toy/rasy/<name>")
    return list(dict.fromkeys(listed))


@dataclass(frozen=True)
class Member:
    """One CNN of the panel; with `means_only` it is given means whatever its pooling says."""

    kernel_size: int
    features: int
    pooling: str
    means_only: bool = False

    @property
    def name(self) -> str:
        """Such as `k8-f16-mean`."""
        return f"k{self.kernel_size}-f{self.features}-{self.pooling}"

    @property
    def reads(self) -> str:
        """Which pooled maps it is given."""
        return "mean" if self.means_only else self.pooling


def members(cnn: CNNConfig, by: Protocol = OURS) -> list[Member]:
    """The panel: every kernel size with every number of features and every pooling.

    Raises:
        UserError: a value is of the wrong type, out of range, or the list is empty.
    """

    def values(key: str) -> list[Any]:
        """What is given for one key, as a list without doubles."""
        given = getattr(cnn, key)
        refuse_value(cnn, key, given, "cnn.")
        return list(dict.fromkeys(given if isinstance(given, list | tuple) else [given]))

    sides = product(values("kernel_size"), values("features"), values("pooling"))
    return [Member(*side, means_only=by.members_read_means) for side in sides]
