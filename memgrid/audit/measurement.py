"""The attack on trained shadow models: what is memorized, how well that was predicted, and the result, written last."""

from __future__ import annotations

import numpy as np
import torch

from memgrid.audit.attack.calibration import null_of
from memgrid.audit.attack.evaluation import Evidence, attack_scores, below_zero, predictions
from memgrid.audit.attack.lira import Density, lira, membership_scores
from memgrid.audit.config import settings
from memgrid.audit.context import Audit, TrainedModel
from memgrid.audit.folder import models_on_disk, untrained
from memgrid.audit.report.findings import summary
from memgrid.audit.result import AuditResult, DataOrigin, comparison_moment, to_json
from memgrid.audit.shadow.arrays import write_arrays
from memgrid.io.digests import write_json
from memgrid.results.audit_folder import AuditFolder
from memgrid.tracking.log import record


def attack(audit: Audit) -> None:
    """Measure memorization and how well it was predicted; metrics.json is written last and says which models it was measured on.

    Where shadow models are missing, nothing is done: whoever trains the last of them does it.
    """
    run = audit.run
    if missing := untrained(run):
        audit.say(f"attack   waits for {len(missing)} of {run.shadows} shadow models{first_failure(audit.folder)}")
    elif run.force and audit.piece:
        audit.say("attack   left to a start without force=true: others may be training the other models again")
    else:
        told = "nothing: it is finished"
        if not audit.attack_is_finished:
            with audit.exclusively():
                if not audit.attack_is_finished:  # by no other process meanwhile
                    measure(audit)
                    told = f"Λ of {int(audit.population.audited.sum())} samples under {run.shadows} models"
        audit.say(f"attack   {told}")


def measure(audit: Audit) -> None:
    """Compute Λ and everything that is said of it, and write it down."""
    run, population, identity = audit.run, audit.population, models_on_disk(audit.run)
    models, density = audit.trained(), Density.of(audit.run.attack, audit.run.shadows)
    scores = scores_of(audit, models)
    audited = population.audited
    members = population.members[:, audited]
    found = lira(scores, members, density)
    null = null_of(scores, members, density, run.seed)
    likelihood, ratio = np.full((2, *population.members.shape), np.nan)
    likelihood[:, audited] = found
    ratio[:, audited] = null.calibrated(found, members) if run.attack.calibrated else found
    attacked = {"scores": scores, "ratio": ratio, "likelihood": likelihood}
    audit.evidence = audit.evidence_of(attacked, models)
    write_arrays(audit.attack_folder.arrays, identity, {}, attacked)
    result = result_from(audit, audit.evidence, models, identity, null.area)
    curve = np.stack([model.arrays["curve"] for model in models]).mean(0)
    names = ("train_loss", "train_accuracy", "held_out_accuracy")
    rows = [dict(zip(names, map(float, epoch), strict=True)) for epoch in curve]
    group, folder = f"audit/{run.dataset.name}/{run.model.name}", audit.attack_folder.path
    record(run.tracking.name, run.wandb, folder, group, settings(run), rows, summary(result))
    write_json(to_json(result), audit.attack_folder.metrics)
    for piece in audit.folder.pieces():
        piece.clear_failure()  # of starts that asked for some of the models


def scores_of(audit: Audit, models: list[TrainedModel]) -> np.ndarray:
    """The attack's statistic of audited samples in the first views, float64 (views, K, audited)."""
    run, population = audit.run, audit.population
    labels = torch.from_numpy(population.labels[population.audited])
    first = (torch.from_numpy(model.arrays["logits"][: run.attack.views]) for model in models)
    return np.stack([membership_scores(logits, labels, run.attack.name).numpy() for logits in first], 1)


def result_from(audit: Audit, evidence: Evidence, models: list[TrainedModel], identity: str, null_auc: float) -> AuditResult:
    """What the attack on the models found.

    Args:
        identity: tells these models from others. null_auc: how well the attack does where nothing is memorized.
    """
    run, population = audit.run, audit.population
    batches = [-(-len(population.rows(number)) // run.model.batch_size) for number in range(run.shadows)]
    triggers = [model.trigger for model in models]
    return AuditResult(
        settings=settings(run),
        models=identity,
        data=DataOrigin(audit.data.name, audit.data.fingerprint, len(population.labels)),
        audited=int(population.audited.sum()),
        accuracy=float(np.mean([model.accuracy for model in models])),
        train_accuracy=float(np.mean([model.train_accuracy for model in models])),
        triggers=triggers,
        steps=int(run.model.epochs * np.median(batches)),
        predictions=predictions(evidence, run.attack.eta, run.attack.fpr),
        below_zero=below_zero(evidence, run.attack.eta, comparison_moment(triggers)),
        attack=attack_scores(evidence, run.attack.fpr),
        null_auc=null_auc,
    )


def first_failure(folder: AuditFolder) -> str:
    """The first of the starts for some of the models that have failed, as the disk has it; empty if none has."""
    told = (f"; {piece.path.name} failed: {failure.error}" for piece in folder.pieces() if (failure := piece.failure()))
    return next(told, "")
