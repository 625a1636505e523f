"""What `python -m memgrid.audit -m` sweeps over: which pieces of an audit are done, and which share a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from memgrid.audit.config import AuditConfig, audit_folder, typed, validate, wanted
from memgrid.results import finished
from memgrid.status import locked
from memgrid.works import Kind


class Audits(Kind):
    """Audits, or single shadow models of them; see `memgrid.works.Kind` for what each method is for."""

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
        """The audit's metrics, or nothing but that its models are trained, where others are not."""
        return None if run.force or not self.done(run) else finished(audit_folder(run)) or {}

    def done(self, run: AuditConfig) -> bool:
        """Its shadow models are on disk, and, if all are, so is the result of the attack."""
        if "train" in run.stages and not all(shadow_path(run, number).exists() for number in wanted(run)):
            return False
        complete = all(shadow_path(run, number).exists() for number in range(run.shadows))
        if "attack" in run.stages and complete:
            return finished(audit_folder(run)) is not None
        return "train" in run.stages

    def busy(self, run: AuditConfig) -> bool:
        """Another process trains its only model."""
        folder = shadow_path(run, wanted(run)[0]).with_suffix("")
        return len(wanted(run)) == 1 and (folder / ".lock").exists() and locked(folder)

    def shared(self, run: AuditConfig) -> tuple[Any, ...]:
        """The same models of the same audit."""
        return (audit_folder(run), *wanted(run))

    def name(self, run: AuditConfig) -> str:
        """Its folder, and which models."""
        some = "" if run.shadow is None else f", shadow {run.shadow}"
        return "/".join(audit_folder(run).parts[-3:]) + some + (f", part {run.part} of {run.parts}" if run.parts > 1 else "")

    def ending(self, run: AuditConfig) -> str:
        """With the page, where the whole audit is."""
        page = audit_folder(run) / "report" / "index.html"
        return f"done, the audit too: {page}" if page.exists() and finished(audit_folder(run)) is not None else "done"

    def needs_internet(self, run: AuditConfig) -> bool:
        """Never."""
        return False


def shadow_path(run: AuditConfig, number: int) -> Path:
    """The file of a shadow model; a folder beside it, of the same name without suffix, has its checkpoint while it is trained."""
    return audit_folder(run) / "shadows" / f"shadow-{number:04}.h5"


def piece_folder(run: AuditConfig) -> Path:
    """Where a failure of what this start asks for is noted: the audit's folder, that of one model, or of a share of them."""
    if run.shadow is not None:
        return shadow_path(run, run.shadow).with_suffix("")
    return audit_folder(run) / "shadows" / f"part{run.part}of{run.parts}" if run.parts > 1 else audit_folder(run)
