"""`python -m memgrid.audit`: compose the configuration, validate it, and go through the stages in their order."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from memgrid.audit.config import STAGES, AuditConfig, absolute, refuse_lost, typed
from memgrid.audit.folder import audit_folder, piece_folder
from memgrid.audit.sweep import Audits
from memgrid.config.describe import Composed, helped
from memgrid.errors import DamagedError
from memgrid.io.commands import HELP, any_terminal
from memgrid.io.digests import read_yaml, write_yaml
from memgrid.io.files import replace_damaged
from memgrid.launch.cli import attempt, composed, noted, prepared_root, restarted, start
from memgrid.launch.job import check_tasks, log_file
from memgrid.launch.workspace import Workspace
from memgrid.results.folder import prepare_folder
from memgrid.train.devices import check_trainer

COMMAND = Composed(
    "audit",
    AuditConfig,
    "Trains shadow models on halves of a data set, attacks them, and says which samples a classifier memorizes and how early one model "
    "alone would have told. What is on disk is not computed again.",
    {
        "audit": "the whole audit of scikit-learn's digits",
        "audit shadows=16 canary=label_noise": "fewer shadow models, other canaries",
        "audit -m part='range(0,4)' parts=4 hydra/launcher=local": "the shadow models in four processes",
    },
)


def run_audit(run: AuditConfig, workspace: Workspace) -> None:
    """Go through the stages that are asked for, in their order."""
    check_tasks()
    piece = piece_folder(run)
    if not run.force and Audits().done(run):  # nothing is written: the root may be another user's
        with suppress(OSError):
            piece.clear_failure()
        go_through(run, workspace)
        return
    with prepared_root(run.root):
        prepare_folder(str(piece.path))
        if run.force and restarted(piece.path):
            run = replace(run, force=False)  # what is there is this job's own
        piece.note_job(log_file())
        with noted(piece.path, workspace, own=piece.path == audit_folder(run).path):
            refuse_lost(run)
            if "train" in run.stages:
                check_trainer(run.trainer)
            keep_config(run)
            go_through(run, workspace)


def go_through(run: AuditConfig, workspace: Workspace) -> None:
    """The stages that are asked for, in their order."""
    from memgrid.audit.stages import do_stages  # imports torch, which a refusal can do without

    do_stages(run, workspace.console)


def keep_config(run: AuditConfig) -> None:
    """Leave the audit's settings in its folder, as a start of the whole would give them."""
    folder = audit_folder(run)
    try:
        if folder.config.exists():
            read_yaml(folder.config)
    except DamagedError as error:
        replace_damaged(error)
    if not folder.config.exists():
        whole = replace(absolute(run), shadow=None, part=0, parts=1, stages=list(STAGES), force=False)
        write_yaml(OmegaConf.structured(whole), folder.config)


@composed("audit")
def compose_and_audit(config: DictConfig) -> str | None:
    """Hydra calls this once per combination."""
    return attempt(lambda workspace: run_audit(typed(config), workspace))


def main() -> None:
    """`memgrid audit`."""
    if HELP & set(sys.argv[1:]):
        with any_terminal():
            print(helped(COMMAND))
        return
    ConfigStore.instance().store(name="audit_schema", node=AuditConfig)
    start(compose_and_audit, Audits())
