"""The runs of a sweep as pieces of work: what a launcher must know of them, which belong into one job, and what changed since then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig


@dataclass(frozen=True)
class Work:
    """One run of a job: its number in the sweep, how it was typed, and its settings when it was submitted."""

    number: int
    overrides: list[str]
    run: Any


class Kind(ABC):
    """What is swept over, such as `memgrid.pipeline.sweep.Runs`. Settings are a dataclass, called run here.

    Attributes:
        numbered: settings that are a number and on which the composition of no other depends.
    """

    numbered: tuple[str, ...] = ()

    @abstractmethod
    def typed(self, config: DictConfig) -> Any:
        """A composed configuration as validated settings; UserError if it is invalid."""

    @abstractmethod
    def validate(self, run: Any) -> None:
        """UserError if the settings are invalid."""

    def together(self, runs: Sequence[Any]) -> None:
        """UserError if the runs of a sweep, each valid, are not so together."""
        return

    @abstractmethod
    def plan(self, run: Any) -> None:
        """Leave on disk that the run is wanted."""

    @abstractmethod
    def folder(self, run: Any) -> Path:
        """Where a failure of the run is noted."""

    @abstractmethod
    def result(self, run: Any) -> object | None:
        """The result of a run that need not be done again, or None; UserError if what is there cannot be used."""

    @abstractmethod
    def done(self, run: Any) -> bool:
        """Whether all that the run asks for is on disk, even if it is to be done again."""

    @abstractmethod
    def busy(self, run: Any) -> bool:
        """Whether another process is working on the run."""

    @abstractmethod
    def shared(self, run: Any) -> tuple[Any, ...]:
        """Equal for runs that share their work."""

    @abstractmethod
    def name(self, run: Any) -> str:
        """What the run is called in a line of the launcher."""

    @abstractmethod
    def ending(self, run: Any) -> str:
        """How a run went that is done, such as `done, min-F1 87.8`."""

    @abstractmethod
    def needs_internet(self, run: Any) -> bool:
        """Whether the run cannot be done on a compute node."""


def groups(works: list[Work], kind: Kind) -> list[list[Work]]:
    """Runs that share their work, together: one job does it, and the others find it done."""
    found: dict[tuple[Any, ...], list[Work]] = {}
    for work in works:
        found.setdefault(kind.shared(work.run), []).append(work)
    return list(found.values())


def changes(submitted: Any, now: Any) -> str:
    """Which settings are others than they were, in one clause; empty if none is."""
    before, after = (flat(asdict(run)) for run in (submitted, now))
    differing = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    shown = [f"{key} changed from {before.get(key)} to {after.get(key)}" for key in differing[:3]]
    return ", ".join(shown) + (f" and {len(differing) - 3} more changed" if len(differing) > 3 else "")


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys, joined by dots."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
