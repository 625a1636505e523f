"""What `python -m memgrid.audit -m` sweeps over: which pieces of an audit are done, and which share a job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from memgrid.audit.config import (
    AuditConfig,
    models_to_train,
    refuse_lost,
    typed,
    validate,
)
from memgrid.audit.folder import attack_folder, audit_folder, current_result, piece_folder, untrained
from memgrid.launch.tasks import SweepTarget


class Audits(SweepTarget):
    """Audits, or single shadow models of them; see `memgrid.launch.tasks.SweepTarget` for what each method is for."""

    numbered = ("shadow", "part")

    def typed(self, config: DictConfig) -> AuditConfig:
        """As `memgrid.audit.config.typed`."""
        return typed(config)

    def validate(self, run: AuditConfig) -> None:
        """As `memgrid.audit.config.validate`."""
        validate(run)

    def together(self, runs: Sequence[AuditConfig]) -> None:
        """A path that is wrong is told before anything is submitted."""
        for run in runs:
            refuse_lost(run)

    def plan(self, run: AuditConfig) -> None:
        """Nothing: an audit that was begun says itself what it lacks."""

    def folder(self, run: AuditConfig) -> Path:
        """As `piece_folder`."""
        return piece_folder(run).path

    def result(self, run: AuditConfig) -> dict[str, Any] | None:
        """Nothing but that it is done: what an audit found lies in several files."""
        return None if run.force or not self.done(run) else {}

    def done(self, run: AuditConfig) -> bool:
        """Its shadow models are on disk, and, if all are, so are the attack on these and the page."""
        missing = set(untrained(run))
        if "train" in run.stages and missing & set(models_to_train(run)):
            return False
        if missing:
            return "train" in run.stages
        if "attack" in run.stages and current_result(run) is None:
            return False
        return "report" not in run.stages or attack_folder(run).page_is_current()

    def busy(self, run: AuditConfig) -> bool:
        """Another process trains its only model."""
        numbers = models_to_train(run)
        return len(numbers) == 1 and audit_folder(run).shadow(numbers[0]).is_locked()

    def shared(self, run: AuditConfig) -> tuple[Any, ...]:
        """The same models of the same audit."""
        return (audit_folder(run).path, *models_to_train(run))

    def name(self, run: AuditConfig) -> str:
        """Its folder, and which models."""
        models = "" if run.shadow is None else f", shadow {run.shadow}"
        return "/".join(audit_folder(run).path.parts[-3:]) + models + (f", part {run.part} of {run.parts}" if run.parts > 1 else "")

    def ending(self, run: AuditConfig) -> str:
        """With the page, where the whole audit is."""
        page = attack_folder(run).page
        return f"done, the audit too: {page}" if page.exists() else "done"

    def ways_on(self, runs: Iterable[AuditConfig]) -> list[str]:
        """The pages that are there."""
        pages = dict.fromkeys(str(attack_folder(run).page) for run in runs if attack_folder(run).page.exists())
        return [f"What the audit found: {page}" for page in pages]

    def needs_internet(self, run: AuditConfig) -> bool:
        """Never."""
        return False
