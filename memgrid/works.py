"""The runs of a sweep as pieces of work: which belong into one job, and whether they are still what was submitted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from memgrid.naming import training_key
from memgrid.schema import OWN_STAGES, RunConfig


@dataclass(frozen=True)
class Work:
    """One run of a job: its number in the sweep, how it was typed, and its settings when it was submitted."""

    number: int
    overrides: list[str]
    run: RunConfig


def groups(works: list[Work]) -> list[list[Work]]:
    """Runs that share their work, together: one job does it, and the others find it done.

    They are equal trainings, or, without training, the same part of one model and corpus.
    """
    found: dict[tuple[Any, ...], list[Work]] = {}
    for work in works:
        run = work.run
        shared = (training_key(run),) if set(OWN_STAGES) & set(run.stages) else (run.llm.name, run.corpus.name, run.part, run.parts)
        found.setdefault((run.root, *shared), []).append(work)
    return list(found.values())


def changes(submitted: RunConfig, now: RunConfig) -> str:
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


def stages_of(run: RunConfig) -> str:
    """What a run without training does, such as `extract for toy/rasy, part 3 of 8`."""
    part = f", part {run.part} of {run.parts}" if run.parts > 1 else ""
    return f"{' and '.join(run.stages)} for {run.llm.name}/{run.taxonomy.name}{part}"
