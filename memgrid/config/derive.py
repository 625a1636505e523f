"""What follows from a configuration: the taxonomy, its thresholds and partition, the panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memgrid.config.schema import CNNConfig, RunConfig
from memgrid.errors import UserError
from memgrid.taxonomy import Partition, Taxonomy, Thresholds


def taxonomy(run: RunConfig) -> Taxonomy:
    """The run's taxonomy.

    Raises:
        UserError: a rule is unknown or the classes cannot be told apart.
    """
    try:
        return Taxonomy.of(run.taxonomy.name, run.taxonomy.classes)
    except ValueError as error:
        raise UserError(str(error)) from None


def partition(run: RunConfig) -> Partition:
    """How the run's taxonomy divides sequences at its thresholds."""
    return taxonomy(run).partition(thresholds(run))


def thresholds(run: RunConfig) -> Thresholds:
    """δ, ρ and which ROUGE score ρ applies to."""
    return Thresholds(run.delta, run.rho, run.rouge)


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


def members(cnn: CNNConfig, compat: str = "none") -> list[Member]:
    """The panel: every kernel size with every number of features and every pooling.

    In the paper's code the pooling never reached the CNN: with `compat=paper` all members read means (DESIGN 7, first error).

    Raises:
        UserError: a value is of the wrong type, out of range, or the list is empty.
    """

    def values(key: str, kind: type, allowed: Any) -> list[Any]:
        """What is given for one key, as a list without doubles."""
        given = getattr(cnn, key)
        listed = list(given) if isinstance(given, list | tuple) else [given]
        wrong = [value for value in listed if not isinstance(value, kind) or isinstance(value, bool) or value not in allowed]
        if wrong or not listed:
            allowed_text = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(allowed)
            raise UserError(f"cnn.{key}={given} is not usable: give one value or a list of values, {allowed_text}")
        return list(dict.fromkeys(listed))

    kernels, features = values("kernel_size", int, range(1, 17)), values("features", int, range(1, 257))
    poolings = values("pooling", str, ("mean", "max"))
    means = compat == "paper"
    return [Member(kernel, feature, pooling, means) for kernel in kernels for feature in features for pooling in poolings]
