"""What `python -m memgrid.audit -m` sweeps over: which pieces of an audit are done, and which share a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from memgrid.audit.config import AuditConfig, attack_folder, audit_folder, piece_folder, shadow_path, typed, validate, wanted
from memgrid.audit.shadow.files import current_metrics, page_is_current
from memgrid.launch.tasks import SweepTarget
from memgrid.results.work import WorkFolder


class Audits(SweepTarget):
    """Audits, or single shadow models of them; see `memgrid.launch.tasks.SweepTarget` for what each method is for."""

    numbered = ("shadow", "part")

    def typed(self, config: DictConfig) -> AuditConfig:
        """As `memgrid.audit.config.typed`."""
        return typed(config)

    def validate(self, run: AuditConfig) -> None:
        """As `memgrid.audit.config.validate`."""
        validate(run)

    def plan(self, run: AuditConfig) -> None:
        """Nothing: an audit that was begun says itself what it lacks."""

    def folder(self, run: AuditConfig) -> Path:
        """As `piece_folder`."""
        return piece_folder(run)

    def result(self, run: AuditConfig) -> dict[str, Any] | None:
        """Nothing but that it is done: what an audit found lies in several files."""
        return None if run.force or not self.done(run) else {}

    def done(self, run: AuditConfig) -> bool:
        """Its shadow models are on disk, and, if all are, so are the attack on these and the page."""
        if "train" in run.stages and not all(shadow_path(run, number).exists() for number in wanted(run)):
            return False
        if not all(shadow_path(run, number).exists() for number in range(run.shadows)):
            return "train" in run.stages
        if "attack" in run.stages and current_metrics(run) is None:
            return False
        return "report" not in run.stages or page_is_current(run)

    def busy(self, run: AuditConfig) -> bool:
        """Another process trains its only model."""
        folder = shadow_path(run, wanted(run)[0]).with_suffix("")
        return len(wanted(run)) == 1 and WorkFolder(folder).is_locked()

    def shared(self, run: AuditConfig) -> tuple[Any, ...]:
        """The same models of the same audit."""
        return (audit_folder(run), *wanted(run))

    def name(self, run: AuditConfig) -> str:
        """Its folder, and which models."""
        some = "" if run.shadow is None else f", shadow {run.shadow}"
        return "/".join(audit_folder(run).parts[-3:]) + some + (f", part {run.part} of {run.parts}" if run.parts > 1 else "")

    def ending(self, run: AuditConfig) -> str:
        """With the page, where the whole audit is."""
        page = attack_folder(run) / "report" / "index.html"
        return f"done, the audit too: {page}" if page.exists() else "done"

    def needs_internet(self, run: AuditConfig) -> bool:
        """Never."""
        return False
