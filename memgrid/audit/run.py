"""`python -m memgrid.audit`: prepare the population, train the shadow models, attack them, and report what was predicted of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import hydra
import numpy as np
import torch
from filelock import FileLock, Timeout
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from memgrid.app import attempt, noted, restarted, start
from memgrid.audit import report
from memgrid.audit.config import STAGES, AuditConfig, audit_folder, settings, typed, wanted
from memgrid.audit.data import Dataset, load_dataset
from memgrid.audit.evaluation import Evidence, attack_table, below_zero, predictions
from memgrid.audit.files import read_arrays, write_arrays
from memgrid.audit.lira import attack_scores, lira
from memgrid.audit.networks import build
from memgrid.audit.population import Population, draw_population
from memgrid.audit.predictors import PREDICTORS
from memgrid.audit.shadow import MOMENTS, train_shadow
from memgrid.audit.sweep import piece_folder, shadow_path
from memgrid.job import check_tasks, log_file
from memgrid.naming import digest_of, prepare_root
from memgrid.progress import progress_bar
from memgrid.results import clear_failure, failure, finished, note_job, write_config, write_json
from memgrid.schema import CONF, UserError
from memgrid.tracking import record

LOCK_SECONDS = 600  # for another process that evaluates the same audit, which takes seconds


class Audit:
    """One audit's data, population and shadow models, each read or made when it is first asked for."""

    def __init__(self, run: AuditConfig, console: Console) -> None:
        self.run, self.console = run, console
        self.folder = audit_folder(run)

    def say(self, line: str) -> None:
        """Tell the user what is going on."""
        self.console.print(line, highlight=False, soft_wrap=True)

    @cached_property
    def data(self) -> Dataset:
        """The data set."""
        return load_dataset(self.run.dataset)

    @cached_property
    def identity(self) -> str:
        """What all files of this audit were made from."""
        return digest_of([settings(self.run), self.data.fingerprint])

    @cached_property
    def population(self) -> Population:
        """Drawn anew each time, since it follows from the settings; population.h5 is for readers."""
        run = self.run
        return draw_population(self.data, run.canary.name, run.canary.count, run.membership.name, run.shadows, run.seed)

    def shadow(self, number: int) -> tuple[dict[str, float], dict[str, np.ndarray]] | None:
        """What a shadow model left, or None."""
        return read_arrays(shadow_path(self.run, number), self.identity)

    @cached_property
    def missing(self) -> list[int]:
        """Shadow models that are not trained, or whose file is damaged."""
        return [number for number in range(self.run.shadows) if self.shadow(number) is None]

    def trained(self) -> tuple[list[dict[str, float]], list[dict[str, np.ndarray]]]:
        """The numbers and arrays of all shadow models.

        Raises:
            UserError: a file is missing or damaged.
        """
        every = [self.shadow(number) for number in range(self.run.shadows)]
        found = [one for one in every if one is not None]
        if len(found) < len(every):
            raise UserError(f"shadow={every.index(None)} is not in {self.folder}: add train to stages")
        return [one[0] for one in found], [one[1] for one in found]


def found_by(arrays: list[dict[str, np.ndarray]]) -> dict[tuple[str, str], np.ndarray]:
    """The predictors of all models: moment and name → float32 (K, N)."""
    return {(moment, name): np.stack([one[f"{moment}/{name}"] for one in arrays]) for moment in MOMENTS for name in PREDICTORS}


def prepare(audit: Audit) -> None:
    """Draw the population and write it down.

    Raises:
        UserError: the model does not fit the data, or an earlier audit of this name was made from other data.
    """
    build(audit.run.model, audit.data)
    path = audit.folder / "population.h5"
    drawn = audit.population
    if audit.run.force or read_arrays(path, audit.identity) is None:
        arrays = {name: getattr(drawn, name) for name in ("labels", "truth", "kind", "members")}
        write_arrays(path, audit.identity, {}, arrays)
    watched = int(drawn.audited.sum())
    audit.say(f"prepare  {len(drawn.labels)} samples of {audit.data.name}, {watched} audited, each in half of {audit.run.shadows} models")


def train(audit: Audit) -> None:
    """Train the shadow models that this start asks for and that are not on disk; each leaves one file."""
    run, made = audit.run, 0
    numbers = wanted(run)
    with progress_bar() as bar:
        for number in bar.track(numbers, description="shadow models"):
            made += train_one(audit, number)
    audit.say(f"train    {len(numbers)} shadow models: {made} trained, {len(numbers) - made} already there or under way elsewhere")


def train_one(audit: Audit, number: int) -> bool:
    """Train one shadow model, unless its file is there or another process is at it; returns whether it was trained."""
    path = shadow_path(audit.run, number)
    if audit.shadow(number) is not None:
        return False
    checkpoints = path.with_suffix("")
    checkpoints.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(checkpoints / ".lock", timeout=0):
            if audit.shadow(number) is not None:
                return False
            outcome = train_shadow(audit.run, number, audit.population, audit.data, checkpoints)
            arrays = {"logits": outcome.logits, "members": outcome.members, "curve": outcome.curve}
            arrays |= {f"{moment}/{name}": values for (moment, name), values in outcome.found.items()}
            write_arrays(path, audit.identity, {"trigger": outcome.trigger, "accuracy": outcome.accuracy}, arrays)
            (checkpoints / "last.ckpt").unlink(missing_ok=True)
            clear_failure(checkpoints)  # of a start that asked for this model alone
    except Timeout:
        return False
    return True


def attack(audit: Audit) -> None:
    """Measure memorization and how well it was predicted; metrics.json is written last and is the mark of a finished audit.

    Where shadow models are missing, nothing is done: whoever trains the last of them does it.
    """
    run = audit.run
    if finished(audit.folder) is not None:
        audit.say("attack   nothing: it is finished")
        return
    if audit.missing:
        audit.say(f"attack   waits for {len(audit.missing)} of {run.shadows} shadow models{why(run, audit.missing)}")
        return
    with alone(audit.folder):
        if finished(audit.folder) is not None:
            return
        numbers, arrays = audit.trained()
        labels = torch.from_numpy(audit.population.labels)
        scores = np.stack([attack_scores(torch.from_numpy(one["logits"]), labels, run.attack.name).numpy() for one in arrays], 1)
        members = audit.population.members
        ratio = lira(scores, members)
        seen = Evidence(members, audit.population.kind, ratio, found_by(arrays))
        write_arrays(audit.folder / "attack.h5", audit.identity, {}, {"scores": scores, "ratio": ratio})
        curves = np.stack([one["curve"] for one in arrays])
        metrics = {
            "settings": settings(run),
            "data": {"name": audit.data.name, "fingerprint": audit.data.fingerprint, "samples": len(labels)},
            "audited": int(audit.population.audited.sum()),
            "accuracy": float(np.mean([one["accuracy"] for one in numbers])),
            "train_accuracy": float(curves[:, -1, 1].mean()),
            "triggers": [int(one["trigger"]) for one in numbers],
            "steps": run.model.epochs * -(-int(members[0].sum()) // run.model.batch_size),
            "predictions": predictions(seen, run.attack.eta, run.attack.fpr).to_dicts(),
            "below_zero": below_zero(seen, run.attack.eta, "trigger").to_dicts(),
            "attack": attack_table(seen, run.attack.fpr).to_dicts(),
        }
        rows = [{"train_loss": float(loss), "train_accuracy": float(right)} for loss, right in curves.mean(0)]
        record(run.wandb, audit.folder, f"audit/{run.dataset.name}/{run.model.name}", settings(run), rows, report.summary(metrics))
        write_json(metrics, audit.folder / "metrics.json")
        audit.say(f"attack   Λ of {metrics['audited']} samples under {run.shadows} models")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else evaluates the audit meanwhile: processes that train its last models end at about the same time.

    Raises:
        UserError: somebody does, for too long.
    """
    try:
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise UserError(f"another process is working on {folder}: wait for it, or stop it") from None


def why(run: AuditConfig, missing: list[int]) -> str:
    """What the disk knows of a missing model that has failed."""
    for number in missing:
        if known := failure(shadow_path(run, number).with_suffix("")):
            return f"; the training of shadow={number} failed: {known['error']}"
    return ""


def tell(audit: Audit) -> None:
    """Draw the figures, write the page, and print the result."""
    metrics = finished(audit.folder)
    if metrics is None:
        audit.say("report   nothing: the attack has not been made")
        return
    attacked, (_, arrays) = read_arrays(audit.folder / "attack.h5", audit.identity), audit.trained()
    if attacked is None:
        raise UserError(f"{audit.folder / 'attack.h5'} is missing or damaged: start with force=true")
    seen = Evidence(audit.population.members, audit.population.kind, attacked[1]["ratio"], found_by(arrays))
    with alone(audit.folder):
        report.write_report(audit.run, metrics, seen, audit.folder)
    report.print_result(metrics, audit.folder, audit.console)


DO = {"prepare": prepare, "train": train, "attack": attack, "report": tell}


def run_audit(run: AuditConfig, console: Console) -> None:
    """Go through the stages that are asked for, in their order."""
    check_tasks()
    prepare_root(run.root)
    piece, folder = piece_folder(run), audit_folder(run)
    if run.force and not restarted(piece):
        for path in [*(shadow_path(run, number) for number in wanted(run) if "train" in run.stages), folder / "metrics.json"]:
            path.unlink(missing_ok=True)
    piece.mkdir(parents=True, exist_ok=True)
    note_job(piece, log_file())
    with noted(piece):
        if not (folder / "config.yaml").exists():
            write_config(OmegaConf.structured(run), folder)
        audit = Audit(run, console)
        for stage in STAGES:
            if stage in run.stages:
                DO[stage](audit)


@hydra.main(config_path=str(CONF), config_name="audit", version_base="1.3")
def compose_and_audit(config: DictConfig) -> str | None:
    """Hydra calls this once per combination."""
    return attempt(lambda: run_audit(typed(config), Console()))


def main() -> None:
    """The command line."""
    ConfigStore.instance().store(name="audit_schema", node=AuditConfig)
    start(compose_and_audit)
