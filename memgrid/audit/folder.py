"""Which folder an audit's settings name, and which of the results in it belong to the models that are on disk now."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memgrid.audit.config import AuditConfig, model_settings, settings
from memgrid.audit.result import AuditResult, from_json
from memgrid.config.names import digest_of
from memgrid.errors import UserError
from memgrid.io.digests import read_yaml
from memgrid.io.files import content_of, reason
from memgrid.results.audit_folder import AttackFolder, AuditFolder
from memgrid.results.work import WorkFolder


def audit_folder(run: AuditConfig) -> AuditFolder:
    """`<root>/audits/digits/mlp/mixed-canaries-32-seed0-<hash>`: named by the settings of the models, never by the time."""
    name = f"{run.canary.name}-{run.membership.name}-{run.shadows}-seed{run.seed}-{digest_of(model_settings(run))}"
    return AuditFolder(Path(run.root) / "audits" / run.dataset.name / run.model.name / name)


def settings_on_disk(folder: AuditFolder) -> AuditConfig:
    """The settings of an audit as its folder has them, below the root where it lies now.

    Raises:
        UserError: there are none, they are damaged, or another version wrote what this one cannot read.
    """
    try:
        kept = OmegaConf.merge(OmegaConf.structured(AuditConfig), read_yaml(folder.config), {"root": str(folder.path.parents[3])})
        run = OmegaConf.to_object(kept)
    except (OSError, OmegaConfBaseException) as error:
        raise UserError(f"{folder.path} holds no audit that this version can read ({reason(error)}): give the folder of one") from None
    assert isinstance(run, AuditConfig)
    return run


def attack_folder(run: AuditConfig) -> AttackFolder:
    """`<audit>/attack-hinge-<hash>`, with the results: other attacks on the same models lie beside it."""
    return audit_folder(run).attack(f"{run.attack.name}-{digest_of(settings(run))}")


def piece_folder(run: AuditConfig) -> WorkFolder:
    """Where a failure of what this start asks for is noted: the audit's folder, that of one model, or of a share of them."""
    audit = audit_folder(run)
    if run.shadow is not None:
        return audit.shadow(run.shadow)
    return audit.part(run.part, run.parts) if run.parts > 1 else audit


def untrained(run: AuditConfig) -> list[int]:
    """The numbers of the shadow models that have not left all that is to be kept of them."""
    audit = audit_folder(run)
    return [number for number in range(run.shadows) if not audit.shadow(number).is_trained(run.keep)]


def models_on_disk(run: AuditConfig) -> str:
    """Tells the shadow models on disk from others: an attack is one on these files."""
    from memgrid.audit.shadow.arrays import stored_digest  # imports HDF5, which a refusal can do without

    audit = audit_folder(run)
    return digest_of([stored_digest(audit.shadow(number).arrays) for number in range(run.shadows)])


def result_of(run: AuditConfig) -> AuditResult | None:
    """The result of the attack on the models that are on disk now; None if there is none.

    Raises:
        UserError: there is one, but it is damaged, or another version wrote what this one cannot read.
    """
    attack = attack_folder(run)
    if not attack.is_finished() or untrained(run):
        return None
    try:
        result = from_json(content_of(attack.metrics))
    except OSError as error:
        raise UserError(f"{attack.metrics} cannot be read ({error.strerror}): set that right and start again") from None
    except UserError as error:
        raise UserError(f"{attack.path}: {error}") from None
    return result if result.models == models_on_disk(run) else None


def current_result(run: AuditConfig) -> AuditResult | None:
    """The same for whoever makes the attack anew where there is no result: None also if it cannot be read."""
    try:
        return result_of(run)
    except UserError:
        return None
