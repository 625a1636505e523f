"""The stages of an audit: prepare the population, train the shadow models, attack them, and report what was predicted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from rich.console import Console

from memgrid.audit import report
from memgrid.audit.config import AuditConfig, attack_folder, audit_folder, model_settings, settings, shadow_path, wanted
from memgrid.audit.evaluation import Evidence, attack_table, below_zero, predictions
from memgrid.audit.shadow.data import Dataset, load_dataset
from memgrid.audit.shadow.files import current_metrics, models_on_disk, page_is_current, read_arrays, write_arrays
from memgrid.audit.shadow.lira import attack_scores, lira
from memgrid.audit.shadow.networks import build
from memgrid.audit.shadow.population import Population, draw_population
from memgrid.audit.shadow.predictors import PREDICTORS
from memgrid.audit.shadow.training import MOMENTS, train_shadow
from memgrid.config.names import digest_of
from memgrid.errors import UserError
from memgrid.io.files import write_json
from memgrid.io.progress import progress_bar
from memgrid.results.folder import clear_failure, failure
from memgrid.tracking.log import record

LOCK_SECONDS = 3600  # for another process that evaluates the same audit: minutes at the size of CIFAR-10
LOOK_SECONDS = 1  # whoever asks whether a lock is held, such as `status`, holds it for a moment
Arrays = dict[str, np.ndarray]


class Audit:
    """One audit's data, population and shadow models, each read or made when it is first asked for."""

    def __init__(self, run: AuditConfig, console: Console) -> None:
        self.run, self.console = run, console
        self.folder, self.results = audit_folder(run), attack_folder(run)
        self.seen: Evidence | None = None

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

    def shadow(self, number: int) -> tuple[dict[str, float], Arrays] | None:
        """What a shadow model left, or None.

        Raises:
            UserError: it was made from other data, and is not to be replaced.
        """
        return read_arrays(shadow_path(self.run, number), self.identity, self.run.force)

    @property
    def missing(self) -> list[int]:
        """Shadow models that have no file."""
        return [number for number in range(self.run.shadows) if not shadow_path(self.run, number).exists()]

    @property
    def piece(self) -> bool:
        """Whether this start trains some of the models only."""
        return len(wanted(self.run)) < self.run.shadows

    def trained(self) -> tuple[list[dict[str, float]], list[Arrays]]:
        """The numbers and arrays of all shadow models.

        Raises:
            UserError: a file is missing or damaged.
        """
        every = [self.shadow(number) for number in range(self.run.shadows)]
        found = [one for one in every if one is not None]
        if len(found) < len(every):
            raise UserError(f"shadow={every.index(None)} is not in {self.folder}, or is damaged: add train to stages")
        return [one[0] for one in found], [one[1] for one in found]

    def attacked(self) -> Arrays | None:
        """The arrays of the attack, or None."""
        found = read_arrays(self.results / "attack.h5", models_on_disk(self.run), replaced=True)
        return None if found is None else found[1]

    def evidence(self, ratio: np.ndarray, arrays: list[Arrays]) -> Evidence:
        """What results are computed from.

        Args:
            ratio: Λ, float64 (K, N). arrays: of every model.
        """
        found = {(moment, name): np.stack([one[f"{moment}/{name}"] for one in arrays]) for moment in MOMENTS for name in PREDICTORS}
        return Evidence(self.population.members, self.population.kind, ratio, found)


def prepare(audit: Audit) -> None:
    """Draw the population and write it down.

    Raises:
        UserError: the model does not fit the data, there are too few models for the attack, or an earlier audit of this name was made from
            other data.
    """
    build(audit.run.model, audit.data)
    drawn = audit.population
    if not (sizes := drawn.members.sum(1)).all():
        raise UserError(
            f"shadow={int(sizes.argmin())} would be trained on nothing: of the {len(drawn.labels)} samples of dataset {audit.data.name!r} "
            f"{int(drawn.audited.sum())} are audited, so take more samples or fewer canaries"
        )
    if not np.isfinite(lira(np.zeros((1, *drawn.members.shape)), drawn.members)).any():
        raise UserError(
            f"shadows={audit.run.shadows} with canary.count={audit.run.canary.count} are too few: of no canary two models have a variance"
        )
    path = audit.folder / "population.h5"
    if read_arrays(path, audit.identity, audit.run.force) is None:
        write_arrays(path, audit.identity, {}, {name: getattr(drawn, name) for name in ("labels", "truth", "kind", "members")})
    watched = int(drawn.audited.sum())
    audit.say(f"prepare  {len(drawn.labels)} samples of {audit.data.name}, {watched} audited, each in half of {audit.run.shadows} models")


def train(audit: Audit) -> None:
    """Train the shadow models that this start asks for and that are not on disk; each leaves one file."""
    if "prepare" not in audit.run.stages:
        prepare(audit)  # before anything is removed
    numbers, made = wanted(audit.run), 0
    with progress_bar(audit.run.trainer.progress) as bar:
        for number in bar.track(numbers, description="shadow models"):
            made += train_one(audit, number)
    audit.say(f"train    {len(numbers)} shadow models: {made} trained, {len(numbers) - made} already there or under way elsewhere")


def train_one(audit: Audit, number: int) -> bool:
    """Train one shadow model, unless its file is there or another process is at it; returns whether it was trained."""
    path = shadow_path(audit.run, number)
    checkpoints = path.with_suffix("")
    checkpoints.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(checkpoints / ".lock", timeout=LOOK_SECONDS):
            if audit.run.force:
                for one in (path, checkpoints / "last.ckpt"):
                    one.unlink(missing_ok=True)
            elif audit.shadow(number) is not None:
                return False
            outcome = train_shadow(audit.run, number, audit.population, audit.data, checkpoints, audit.identity)
            arrays = {"logits": outcome.logits, "members": outcome.members, "curve": outcome.curve}
            arrays |= {f"{moment}/{name}": values for (moment, name), values in outcome.found.items()}
            write_arrays(path, audit.identity, {"trigger": outcome.trigger, "accuracy": outcome.accuracy}, arrays)
            (checkpoints / "last.ckpt").unlink(missing_ok=True)
    except Timeout:
        return False
    return True


def attack(audit: Audit) -> None:
    """Measure memorization and how well it was predicted; metrics.json is written last and says which models it was measured on.

    Where shadow models are missing, nothing is done: whoever trains the last of them does it.
    """
    run = audit.run
    if missing := audit.missing:
        audit.say(f"attack   waits for {len(missing)} of {run.shadows} shadow models{why(audit.folder)}")
    elif run.force and audit.piece:
        audit.say("attack   left to a start without force=true: others may be training the other models again")
    else:
        with alone(audit.results):
            if not run.force and current_metrics(run) is not None and audit.attacked() is not None:
                audit.say("attack   nothing: it is finished")
                return
            measure(audit)
        audit.say(f"attack   Λ of {int(audit.population.audited.sum())} samples under {run.shadows} models")


def measure(audit: Audit) -> None:
    """Compute Λ and everything that is told of it, and write it down."""
    run, population, models = audit.run, audit.population, models_on_disk(audit.run)
    numbers, arrays = audit.trained()
    labels = torch.from_numpy(population.labels)
    scores = np.stack([attack_scores(torch.from_numpy(one["logits"]), labels, run.attack.name).numpy() for one in arrays], 1)
    ratio = lira(scores, population.members)
    audit.seen = audit.evidence(ratio, arrays)
    write_arrays(audit.results / "attack.h5", models, {}, {"scores": scores, "ratio": ratio})
    curves = np.stack([one["curve"] for one in arrays])
    answers = [one["logits"][0].argmax(1) == population.labels for one in arrays]  # of the images as they are, when training has ended
    batches = -(-population.members.sum(1) // run.model.batch_size)
    metrics = {
        "settings": settings(run),
        "models": models,
        "data": {"name": audit.data.name, "fingerprint": audit.data.fingerprint, "samples": len(labels)},
        "audited": int(population.audited.sum()),
        "accuracy": float(np.mean([one["accuracy"] for one in numbers])),
        "train_accuracy": float(np.mean([right[inside].mean() for right, inside in zip(answers, population.members, strict=True)])),
        "triggers": [int(one["trigger"]) for one in numbers],
        "steps": int(run.model.epochs * np.median(batches)),
        "predictions": predictions(audit.seen, run.attack.eta, run.attack.fpr).to_dicts(),
        "below_zero": below_zero(audit.seen, run.attack.eta, report.moment([int(one["trigger"]) for one in numbers])).to_dicts(),
        "attack": attack_table(audit.seen, run.attack.fpr).to_dicts(),
    }
    rows = [{"train_loss": float(loss), "train_accuracy": float(right)} for loss, right in curves.mean(0)]
    record(run.wandb, audit.results, f"audit/{run.dataset.name}/{run.model.name}", settings(run), rows, report.summary(metrics))
    write_json(metrics, audit.results / "metrics.json")
    for path in (audit.folder / "shadows").glob("*/failed.json"):
        clear_failure(path.parent)  # of starts that asked for some of the models


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else evaluates the audit meanwhile: processes that train its last models end at about the same time.

    Raises:
        UserError: somebody does, for too long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise UserError(f"another process is working on {folder}: wait for it, or stop it") from None


def why(folder: Path) -> str:
    """What the disk knows of starts for some of the models that have failed."""
    for path in sorted((folder / "shadows").glob("*/failed.json")):
        if known := failure(path.parent):
            return f"; {path.parent.name} failed: {known['error']}"
    return ""


def tell(audit: Audit) -> None:
    """Draw the figures and write the page, if that is not done, and print the result.

    Raises:
        UserError: files are missing or damaged, or the page cannot be written.
    """
    metrics = current_metrics(audit.run)
    if metrics is None:
        audit.say("report   nothing: the attack on these models has not been made")
        return
    with alone(audit.results):
        if audit.run.force or not page_is_current(audit.run):
            if audit.seen is None:
                if (attacked := audit.attacked()) is None:
                    raise UserError(f"{audit.results / 'attack.h5'} is missing or damaged: add attack to stages")
                audit.seen = audit.evidence(attacked["ratio"], audit.trained()[1])
            report.write_report(audit.run, metrics, audit.seen, audit.results)
    report.print_result(metrics, audit.results, audit.console)


DO: dict[str, Callable[[Audit], None]] = {"prepare": prepare, "train": train, "attack": attack, "report": tell}
