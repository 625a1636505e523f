"""The audit that belongs beside another: the published run has its canaries out of domain in an audit of their own."""

from __future__ import annotations

from dataclasses import replace

from memgrid.audit.config import AuditConfig, model_settings
from memgrid.audit.folder import audit_folder, current_result, settings_on_disk
from memgrid.audit.result import AuditResult
from memgrid.errors import UserError
from memgrid.results.audit_folder import AuditFolder

OF = "ood"  # the canaries of the companion


def companion(run: AuditConfig) -> AuditResult | None:
    """The result of the same audit with canaries out of domain, if there is one on disk; None for such an audit itself."""
    if run.canary.name == OF:
        return None
    for folder in sorted(audit_folder(run).path.parent.glob(f"{OF}-*")):
        try:
            other = replace(settings_on_disk(AuditFolder(folder)), attack=run.attack)
        except UserError:
            continue  # begun, damaged, or of another version
        if apart_from_canaries(other) == apart_from_canaries(run) and (result := current_result(other)) is not None:
            return result
    return None


def apart_from_canaries(run: AuditConfig) -> dict[str, object]:
    """What two audits have in common that differ in their canaries."""
    settings = model_settings(run)
    return {**settings, "canary": {"count": run.canary.count, "copies": run.canary.copies}}
