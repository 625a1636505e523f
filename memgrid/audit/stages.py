"""The stages of an audit: prepare the population, train the shadow models, attack them, and report what was predicted of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from filelock import Timeout
from rich.console import Console

from memgrid.audit.attack.lira import Density, lira
from memgrid.audit.config import STAGES, AuditConfig, models_to_train
from memgrid.audit.context import Audit
from memgrid.audit.folder import result_of
from memgrid.audit.measurement import attack
from memgrid.audit.report.findings import print_result
from memgrid.audit.report.page import write_report
from memgrid.audit.shadow.arrays import read_arrays, write_arrays
from memgrid.audit.shadow.networks import build
from memgrid.audit.shadow.training import train_shadow
from memgrid.errors import UserError
from memgrid.io.display import duration, on_terminal, progress_bar, watcher

LINE_SECONDS = 5.0  # between two lines of a log, at least: small models take less than one
LOOK_SECONDS = 1  # whoever asks whether a lock is held, such as `status`, holds it for a moment


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
    density = Density.of(audit.run.attack, audit.run.shadows)
    if not np.isfinite(lira(np.zeros((1, *drawn.members.shape)), drawn.members, density)).any():
        raise UserError(
            f"shadows={audit.run.shadows} with canary.count={audit.run.canary.count} are too few: of no canary two models have a variance"
        )
    path = audit.folder.population
    if read_arrays(path, audit.identity, audit.run.force) is None:
        arrays = {name: getattr(drawn, name) for name in ("labels", "truth", "kind", "members")}
        write_arrays(path, audit.identity, {}, {**arrays, "identifiers": audit.data.identifiers})
    audit.say(f"prepare  {len(drawn.labels)} samples of {audit.data.name}, {audited} audited, each in half of {audit.run.shadows} models")


def train(audit: Audit) -> None:
    """Train the shadow models that this start asks for and that are not on disk; each leaves one file."""
    if "prepare" not in audit.run.stages:
        prepare(audit)  # before anything is removed
    numbers, took = models_to_train(audit.run), list[float]()
    lines, told = audit.run.trainer.progress and not on_terminal(), time.monotonic()
    with progress_bar(audit.run.trainer.progress, telling=False) as bar:
        for place, number in enumerate(bar.track(numbers, description="shadow models")):
            began = time.monotonic()
            accuracy = train_one(audit, number, partial(tell_share, place, len(numbers)))
            now, rest = time.monotonic(), len(numbers) - place - 1
            took += [] if accuracy is None else [now - began]
            if lines and accuracy is not None and rest and now - told > LINE_SECONDS:
                told = now
                left = f"{duration(rest * sum(took) / len(took))} left"
                audit.say(f"train    shadow model {place + 1} of {len(numbers)}: accuracy {100 * accuracy:.1f}, {took[-1]:.1f} s; {left}")
    audit.say(
        f"train    {len(numbers)} shadow models: {len(took)} trained, {len(numbers) - len(took)} already there or under way elsewhere"
    )


def tell_share(place: int, models: int, share: float) -> None:
    """Tell that a share of the model after so many is trained."""
    watcher().step("shadow model", place + share, models, ordinal=True)


def train_one(audit: Audit, number: int, tell: Callable[[float], None] | None = None) -> float | None:
    """Train one shadow model, unless its file is there or another process is at it; returns its accuracy, None where it was not trained.

    Args:
        tell: is called with the share that is done.
    """
    folder = audit.folder.shadow(number)
    if not audit.run.force and audit.is_there(number):
        folder.clear_checkpoints()  # who wrote it may have been killed before it did so
        return None
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with folder.lock(LOOK_SECONDS):
            if audit.run.force:
                folder.clear()
            elif audit.is_there(number):
                return None
            outcome = train_shadow(audit.run, number, audit.population, audit.data, folder, audit.identity, tell)
            arrays = {"logits": outcome.logits, "members": outcome.members, "curve": outcome.curve}
            arrays |= {f"{moment}/{name}": values for (moment, name), values in outcome.predictors.items()}
            if outcome.weights:
                tensors = {f"{moment}/{name}": each.numpy() for moment, own in outcome.weights.items() for name, each in own.items()}
                write_arrays(folder.weights, audit.identity, {}, tensors)
            numbers = {name: getattr(outcome, name) for name in ("trigger", "accuracy", "train_accuracy")}
            write_arrays(folder.arrays, audit.identity, numbers, arrays)
            folder.clear_checkpoints()
    except Timeout:
        return None
    return outcome.accuracy


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
        with audit.exclusively():
            if audit.page_is_wanted:  # no other process has written it meanwhile
                if audit.evidence is None:
                    if (attacked := audit.attacked()) is None:
                        raise UserError(f"{audit.attack_folder.arrays} is missing or damaged: add attack to stages")
                    audit.evidence = audit.evidence_of(attacked, audit.trained())
                write_report(audit, result, audit.evidence)
    print_result(result, audit.attack_folder, audit.console)


TASKS: dict[str, Callable[[Audit], None]] = {"prepare": prepare, "train": train, "attack": attack, "report": report}


def do_stages(run: AuditConfig, console: Console) -> None:
    """Go through the stages that are asked for, in their order."""
    audit = Audit(run, console)
    for stage in STAGES:
        if stage in run.stages:
            watcher().stage(stage)
            TASKS[stage](audit)
