"""The stages of an audit: prepare the population, train the shadow models, attack them, and report what was predicted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from filelock import Timeout
from rich.console import Console

from memgrid.audit.config import STAGES, AuditConfig, model_settings, models_to_train, settings
from memgrid.audit.evaluation import Evidence, attack_scores, below_zero, predictions
from memgrid.audit.folder import attack_folder, audit_folder, current_result, models_on_disk, result_of, untrained
from memgrid.audit.report.findings import print_result, summary
from memgrid.audit.report.page import write_report
from memgrid.audit.result import AuditResult, DataOrigin, comparison_moment, to_json
from memgrid.audit.shadow.arrays import read_arrays, write_arrays
from memgrid.audit.shadow.datasets import Dataset, load_dataset
from memgrid.audit.shadow.lira import lira, membership_scores
from memgrid.audit.shadow.networks import build
from memgrid.audit.shadow.population import Population, draw_population
from memgrid.audit.shadow.predictors import PREDICTORS
from memgrid.audit.shadow.training import MOMENTS, train_shadow
from memgrid.config.names import digest_of
from memgrid.errors import UserError
from memgrid.io.digests import write_json
from memgrid.io.display import progress_bar
from memgrid.results.audit_folder import AttackFolder, AuditFolder
from memgrid.tracking.log import record

LOCK_SECONDS = 3600  # for another process that evaluates the same audit: minutes at the size of CIFAR-10
LOOK_SECONDS = 1  # whoever asks whether a lock is held, such as `status`, holds it for a moment
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrainedModel:
    """What a shadow model has left: after how many steps its trigger fired, its accuracy, and its arrays (see `shadow.arrays`)."""

    trigger: int
    accuracy: float
    arrays: Arrays


class Audit:
    """One audit's data, population and shadow models, each read or made when it is first asked for."""

    def __init__(self, run: AuditConfig, console: Console) -> None:
        self.run, self.console = run, console
        self.folder, self.attack_folder = audit_folder(run), attack_folder(run)
        self.evidence: Evidence | None = None

    def say(self, line: str) -> None:
        """Tell the user what is going on."""
        self.console.print(line, highlight=False, soft_wrap=True)

    @cached_property
    def data(self) -> Dataset:
        """The data set."""
        return load_dataset(self.run.dataset)

    @cached_property
    def identity(self) -> str:
        """What the files of this audit's models were made from."""
        return digest_of([model_settings(self.run), self.data.fingerprint])

    @cached_property
    def population(self) -> Population:
        """Drawn anew each time, since it follows from the settings; population.h5 is for readers."""
        run = self.run
        return draw_population(self.data, run.canary.name, run.canary.count, run.membership.name, run.shadows, run.seed)

    @property
    def piece(self) -> bool:
        """Whether this start trains some of the models only."""
        return len(models_to_train(self.run)) < self.run.shadows

    def shadow(self, number: int) -> TrainedModel | None:
        """What a shadow model left, or None.

        Raises:
            UserError: it was made from other data, and is not to be replaced.
        """
        content = read_arrays(self.folder.shadow(number).arrays, self.identity, self.run.force)
        return None if content is None else TrainedModel(int(content[0]["trigger"]), content[0]["accuracy"], content[1])

    def trained(self) -> list[TrainedModel]:
        """All shadow models.

        Raises:
            UserError: a file is missing or damaged.
        """
        models = []
        for number in range(self.run.shadows):
            if (model := self.shadow(number)) is None:
                raise UserError(f"shadow={number} is not in {self.folder.path}, or is damaged: add train to stages")
            models.append(model)
        return models

    def attacked(self) -> Arrays | None:
        """The arrays of the attack, or None."""
        content = read_arrays(self.attack_folder.arrays, models_on_disk(self.run), replaced=True)
        return None if content is None else content[1]

    @property
    def attack_is_finished(self) -> bool:
        """Whether the attack on the models on disk need not be made. Asked without a lock too, as `page_is_wanted` is."""
        return not self.run.force and current_result(self.run) is not None and self.attacked() is not None

    @property
    def page_is_wanted(self) -> bool:
        """Whether the page has to be written."""
        return self.run.force or not self.attack_folder.page_is_current()

    def evidence_of(self, ratio: np.ndarray, models: list[TrainedModel]) -> Evidence:
        """What results are computed from; `ratio` is Λ, float64 (K, N)."""
        values = {
            (moment, name): np.stack([model.arrays[f"{moment}/{name}"] for model in models]) for moment in MOMENTS for name in PREDICTORS
        }
        return Evidence(self.population.members, self.population.kind, ratio, values)


def prepare(audit: Audit) -> None:
    """Draw the population and write it down.

    Raises:
        UserError: the model does not fit the data, there are too few models for the attack, or an earlier audit of this name was made from
            other data.
    """
    build(audit.run.model, audit.data)
    drawn = audit.population
    audited = int(drawn.audited.sum())
    if not (sizes := drawn.members.sum(1)).all():
        raise UserError(
            f"shadow={int(sizes.argmin())} would be trained on nothing: of the {len(drawn.labels)} samples of dataset {audit.data.name!r} "
            f"{audited} are audited, so take more samples or fewer canaries"
        )
    if not np.isfinite(lira(np.zeros((1, *drawn.members.shape)), drawn.members)).any():
        raise UserError(
            f"shadows={audit.run.shadows} with canary.count={audit.run.canary.count} are too few: of no canary two models have a variance"
        )
    path = audit.folder.population
    if read_arrays(path, audit.identity, audit.run.force) is None:
        write_arrays(path, audit.identity, {}, {name: getattr(drawn, name) for name in ("labels", "truth", "kind", "members")})
    audit.say(f"prepare  {len(drawn.labels)} samples of {audit.data.name}, {audited} audited, each in half of {audit.run.shadows} models")


def train(audit: Audit) -> None:
    """Train the shadow models that this start asks for and that are not on disk; each leaves one file."""
    if "prepare" not in audit.run.stages:
        prepare(audit)  # before anything is removed
    numbers, trained = models_to_train(audit.run), 0
    with progress_bar(audit.run.trainer.progress) as bar:
        for number in bar.track(numbers, description="shadow models"):
            trained += train_one(audit, number)
    audit.say(f"train    {len(numbers)} shadow models: {trained} trained, {len(numbers) - trained} already there or under way elsewhere")


def train_one(audit: Audit, number: int) -> bool:
    """Train one shadow model, unless its file is there or another process is at it; returns whether it was trained."""
    folder = audit.folder.shadow(number)
    if not audit.run.force and audit.shadow(number) is not None:
        return False
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with folder.lock(LOOK_SECONDS):
            if audit.run.force:
                folder.clear()
            elif audit.shadow(number) is not None:
                return False
            outcome = train_shadow(audit.run, number, audit.population, audit.data, folder, audit.identity)
            arrays = {"logits": outcome.logits, "members": outcome.members, "curve": outcome.curve}
            arrays |= {f"{moment}/{name}": values for (moment, name), values in outcome.predictors.items()}
            write_arrays(folder.arrays, audit.identity, {"trigger": outcome.trigger, "accuracy": outcome.accuracy}, arrays)
            folder.clear_checkpoints()
    except Timeout:
        return False
    return True


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
            with alone(audit.attack_folder):
                if not audit.attack_is_finished:  # by no other process meanwhile
                    measure(audit)
                    told = f"Λ of {int(audit.population.audited.sum())} samples under {run.shadows} models"
        audit.say(f"attack   {told}")


def measure(audit: Audit) -> None:
    """Compute Λ and everything that is said of it, and write it down."""
    run, population, identity = audit.run, audit.population, models_on_disk(audit.run)
    models = audit.trained()
    labels = torch.from_numpy(population.labels)
    logits = [torch.from_numpy(model.arrays["logits"]) for model in models]
    scores = np.stack([membership_scores(of_model, labels, run.attack.name).numpy() for of_model in logits], 1)
    ratio = lira(scores, population.members)
    audit.evidence = audit.evidence_of(ratio, models)
    write_arrays(audit.attack_folder.arrays, identity, {}, {"scores": scores, "ratio": ratio})
    result = result_from(audit, audit.evidence, models, identity)
    curve = np.stack([model.arrays["curve"] for model in models]).mean(0)
    rows = [{"train_loss": float(loss), "train_accuracy": float(right)} for loss, right in curve]
    record(run.wandb, audit.attack_folder.path, f"audit/{run.dataset.name}/{run.model.name}", settings(run), rows, summary(result))
    write_json(to_json(result), audit.attack_folder.metrics)
    for piece in audit.folder.pieces():
        piece.clear_failure()  # of starts that asked for some of the models


def result_from(audit: Audit, evidence: Evidence, models: list[TrainedModel], identity: str) -> AuditResult:
    """What the attack on the models found.

    Args:
        identity: tells these models from others.
    """
    run, population = audit.run, audit.population
    # Of the images as they are, when training has ended.
    right = [model.arrays["logits"][0].argmax(1) == population.labels for model in models]
    batches = -(-population.members.sum(1) // run.model.batch_size)
    triggers = [model.trigger for model in models]
    return AuditResult(
        settings=settings(run),
        models=identity,
        data=DataOrigin(audit.data.name, audit.data.fingerprint, len(population.labels)),
        audited=int(population.audited.sum()),
        accuracy=float(np.mean([model.accuracy for model in models])),
        train_accuracy=float(np.mean([answers[members].mean() for answers, members in zip(right, population.members, strict=True)])),
        triggers=triggers,
        steps=int(run.model.epochs * np.median(batches)),
        predictions=predictions(evidence, run.attack.eta, run.attack.fpr),
        below_zero=below_zero(evidence, run.attack.eta, comparison_moment(triggers)),
        attack=attack_scores(evidence, run.attack.fpr),
    )


@contextmanager
def alone(folder: AttackFolder) -> Iterator[None]:
    """Nobody else evaluates the audit meanwhile: processes that train its last models end at about the same time.

    Raises:
        UserError: somebody does, for too long.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with folder.lock(LOCK_SECONDS):
            yield
    except Timeout:
        raise UserError(f"another process is working on {folder.path}: wait for it, or stop it") from None


def first_failure(folder: AuditFolder) -> str:
    """The first of the starts for some of the models that have failed, as the disk has it; empty if none has."""
    told = (f"; {piece.path.name} failed: {failure.error}" for piece in folder.pieces() if (failure := piece.failure()))
    return next(told, "")


def report(audit: Audit) -> None:
    """Draw the figures and write the page, if that is not done, and print the result.

    Raises:
        UserError: files are missing or damaged, another version wrote the result, or the page cannot be written.
    """
    result = result_of(audit.run)
    if result is None:
        audit.say("report   nothing: the attack on these models has not been made")
        return
    if audit.page_is_wanted:
        with alone(audit.attack_folder):
            if audit.page_is_wanted:  # no other process has written it meanwhile
                if audit.evidence is None:
                    if (attacked := audit.attacked()) is None:
                        raise UserError(f"{audit.attack_folder.arrays} is missing or damaged: add attack to stages")
                    audit.evidence = audit.evidence_of(attacked["ratio"], audit.trained())
                write_report(audit.run, result, audit.evidence, audit.attack_folder)
    print_result(result, audit.attack_folder, audit.console)


TASKS: dict[str, Callable[[Audit], None]] = {"prepare": prepare, "train": train, "attack": attack, "report": report}


def do_stages(run: AuditConfig, console: Console) -> None:
    """Go through the stages that are asked for, in their order."""
    audit = Audit(run, console)
    for stage in STAGES:
        if stage in run.stages:
            TASKS[stage](audit)
