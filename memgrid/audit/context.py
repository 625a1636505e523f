"""One audit: its settings, and its data, population and shadow models, each read or made when it is first asked for."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from memgrid.audit.attack.baselines import BASELINES, baselines
from memgrid.audit.attack.evaluation import Evidence
from memgrid.audit.config import AuditConfig, model_settings, models_to_train
from memgrid.audit.data.dataset import Dataset
from memgrid.audit.data.population import Population, draw_population
from memgrid.audit.data.sources import load_dataset
from memgrid.audit.folder import attack_folder, audit_folder, current_result, models_on_disk, settings_on_disk
from memgrid.audit.shadow.arrays import read_arrays
from memgrid.audit.shadow.classifier import Classifier
from memgrid.audit.shadow.networks import build
from memgrid.audit.shadow.predictors import PREDICTORS
from memgrid.audit.shadow.training import MOMENTS
from memgrid.config.names import digest_of
from memgrid.errors import UserError
from memgrid.io.locks import exclusive
from memgrid.results.audit_folder import AuditFolder

LOCK_SECONDS = 3600  # for another process that evaluates the same audit: minutes at the size of CIFAR-10
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrainedModel:
    """What a shadow model has left: after how many steps its trigger fired, its accuracies, and its arrays (see `shadow.arrays`)."""

    trigger: int
    accuracy: float
    train_accuracy: float
    arrays: Arrays


def open_audit(folder: Path | str, console: Console | None = None) -> Audit:
    """The audit in a folder such as `memgrid-runs/audits/digits/mlp/mixed-canaries-32-seed0-…`; it is silent without a console.

    Raises:
        UserError: there is none.
    """
    return Audit(settings_on_disk(AuditFolder(Path(folder).absolute())), console or Console(quiet=True))


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
        """What the files of this audit's models were made from; canaries of a user's own are part of it."""
        made_from = [model_settings(self.run), self.data.fingerprint]
        if self.run.canary.path is not None and self.population.out_of_domain.any():
            foreign = np.ascontiguousarray(self.population.images[self.population.out_of_domain])
            made_from.append(hashlib.sha256(foreign.data).hexdigest()[:16])
        return digest_of(made_from)

    @cached_property
    def population(self) -> Population:
        """Drawn anew each time, since it follows from the settings; population.h5 is for readers."""
        run = self.run
        return draw_population(self.data, run.canary, run.membership.name, run.shadows, run.seed)

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
        if content is None:
            return None
        numbers, arrays = content
        return TrainedModel(int(numbers["trigger"]), numbers["accuracy"], numbers["train_accuracy"], arrays)

    def is_there(self, number: int) -> bool:
        """Whether a shadow model need not be trained: its file is sound, and so are its weights where they are kept.

        Raises:
            UserError: as `shadow`.
        """
        weights = self.folder.shadow(number).weights
        kept = self.run.keep != "weights" or read_arrays(weights, self.identity, self.run.force) is not None
        return kept and self.shadow(number) is not None

    def network(self, number: int, moment: str = "end") -> Classifier:
        """A shadow model as it was at a moment (start, trigger or end), for a predictor of one's own; needs `keep=weights`.

        Raises:
            UserError: its weights were not kept, or its trigger did not fire.
        """
        content = read_arrays(self.folder.shadow(number).weights, self.identity)
        tensors = {} if content is None else content[1]
        of_moment = {name.removeprefix(f"{moment}/"): array for name, array in tensors.items() if name.startswith(f"{moment}/")}
        if not of_moment:
            raise UserError(f"shadow={number} has no weights at its {moment} in {self.folder.path}: train it with keep=weights")
        network = build(self.run.model, self.data)
        network.load_state_dict({name: torch.from_numpy(np.asarray(array)) for name, array in of_moment.items()})
        return network.eval()

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

    def evidence_of(self, attacked: Arrays, models: list[TrainedModel]) -> Evidence:
        """What results are computed from; `attacked` is what attack.h5 holds."""
        population = self.population
        values = {
            (moment, name): np.stack([model.arrays[f"{moment}/{name}"] for model in models]) for moment in MOMENTS for name in PREDICTORS
        }
        for name, own in self.baselines.items():  # which no training changes
            of_members = np.where(population.members, own, np.nan).astype(np.float32)
            values |= {(moment, name): of_members for moment in MOMENTS}
        scores = np.full(population.members.shape, np.nan)
        scores[:, population.audited] = attacked["scores"][0]
        return Evidence(
            members=population.members,
            kind=population.kind,
            ratio=attacked["ratio"],
            predictors={(moment, name): values[moment, name] for moment in MOMENTS for name in (*PREDICTORS, *BASELINES)},
            likelihood=attacked["likelihood"],
            scores=scores,
            average=self.run.attack.average,
        )

    def exclusively(self) -> AbstractContextManager[None]:
        """Inside, nobody else evaluates the audit: processes that train its last models end at about the same time.

        Raises:
            UserError: somebody does, for too long.
        """
        return exclusive(self.attack_folder.lock_file, LOCK_SECONDS)

    @cached_property
    def baselines(self) -> Arrays:
        """What pixels alone say of the samples that are asked about, float32 (N,) each; with canaries out of domain, of all."""
        population = self.population
        asked = np.ones(len(population.labels), bool) if population.out_of_domain.any() else population.audited
        return baselines(population.images, population.labels, asked)
