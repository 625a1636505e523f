"""Training one shadow model: members only, a trigger early on, predictors before, at and after it."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor

from memgrid.audit.config import AuditConfig
from memgrid.audit.shadow.data import Dataset, augmented, views
from memgrid.audit.shadow.files import AuditWarning
from memgrid.audit.shadow.networks import build, hidden
from memgrid.audit.shadow.population import Population
from memgrid.audit.shadow.predictors import PREDICTORS, predictors
from memgrid.errors import UserError
from memgrid.train.trainer import trainer_of

MOMENTS = ("start", "trigger", "end")
KEPT = ("identity", "found", "noise", "curve", "fired", "trigger")  # in a checkpoint, beside the weights


@dataclass(frozen=True)
class Outcome:
    """What a shadow model leaves behind.

    logits: float32 (views, N, classes). members: bool (N,).
    found: moment and name of a predictor → float32 (N,), NaN for samples that are no members, and all NaN if the trigger did not fire.
    curve: float32 (epochs, 2), mean training loss and accuracy of each epoch.
    trigger: after how many steps it fired, 0 if it did not. accuracy: of held-out samples.
    """

    logits: np.ndarray
    members: np.ndarray
    found: dict[tuple[str, str], np.ndarray]
    curve: np.ndarray
    trigger: int
    accuracy: float


class Trigger:
    """Fires once, when the median of the last losses of single samples falls below a share of the first full window's."""

    def __init__(self, window: int, share: float) -> None:
        self.share, self.last = share, deque[float](maxlen=window)
        self.first: float | None = None
        self.fired = False

    def sees(self, losses: np.ndarray) -> bool:
        """Whether these losses make it fire."""
        if self.fired:
            return False
        self.last.extend(losses.tolist())
        if len(self.last) < (self.last.maxlen or 0):
            return False
        median = float(np.median(self.last))
        self.first = median if self.first is None else self.first
        self.fired = median < self.share * self.first
        return self.fired


class Batches:
    """The members in batches, in an order that seed, model and epoch decide; every batch is (places of the samples, images)."""

    def __init__(self, shadow: Shadow) -> None:
        self.shadow = shadow

    def __len__(self) -> int:
        return -(-len(self.shadow.inside) // self.shadow.run.model.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = self.shadow.generator(self.shadow.current_epoch)
        order = self.shadow.inside[torch.randperm(len(self.shadow.inside), generator=generator)]
        for places in order.split(self.shadow.run.model.batch_size):
            images = self.shadow.images[places.to(self.shadow.images.device)]
            yield places, augmented(images, self.shadow.run.dataset.augment, generator)


class Shadow(lightning.LightningModule):
    """One shadow model."""

    def __init__(self, run: AuditConfig, number: int, population: Population, data: Dataset, identity: str) -> None:
        super().__init__()
        self.run, self.number, self.identity = run, number, identity
        torch.manual_seed(self.seed(0))
        self.network = build(run.model, data)
        self.images, self.labels = torch.from_numpy(population.images), torch.from_numpy(population.labels)
        self.inside = torch.from_numpy(np.flatnonzero(population.members[number]))
        self.trigger = Trigger(run.predictors.window, run.predictors.share)
        self.found: dict[tuple[str, str], np.ndarray] = {}
        self.noise = torch.zeros(len(self.labels))
        self.curve: list[tuple[float, float]] = []
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.fired = 0

    def seed(self, *what: int) -> int:
        """A seed of 63 bits for something of this model."""
        return int(np.random.SeedSequence([self.run.seed, self.number, *what]).generate_state(1, np.uint64)[0] >> 1)

    def generator(self, *what: int) -> torch.Generator:
        """Random numbers for something of this model, the same after a resumption."""
        return torch.Generator().manual_seed(self.seed(1, *what))

    def configure_optimizers(self) -> Any:
        """The learning rate falls to a tenth at every drop."""
        model, weights = self.run.model, self.network.parameters()
        chosen: torch.optim.Optimizer
        if model.optimizer == "sgd":
            chosen = torch.optim.SGD(weights, model.learning_rate, model.momentum, weight_decay=model.weight_decay)
        else:
            chosen = torch.optim.AdamW(weights, model.learning_rate, weight_decay=model.weight_decay)
        return [chosen], [torch.optim.lr_scheduler.MultiStepLR(chosen, model.drops)]

    def on_fit_start(self) -> None:
        """All images lie where the model does."""
        layout = torch.channels_last if self.images.ndim == 4 and self.run.trainer.channels_last else torch.contiguous_format
        self.images = self.images.to(self.device, memory_format=layout)
        self.labels, self.noise = self.labels.to(self.device), self.noise.to(self.device)
        if not self.found:
            self.predict("start")

    def on_train_epoch_start(self) -> None:
        """Dropout and noise of an epoch do not depend on where a training was cut off."""
        torch.manual_seed(self.seed(2, self.current_epoch))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The mean loss of a batch."""
        places, images = batch
        places = places.to(self.device)
        h = self.network.body(images)
        if self.fired and self.run.defence.slope:
            h = h + self.noise[places, None] * torch.randn_like(h)
        logits, labels = self.network.head(h), self.labels[places]
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        self.seen.append((losses.detach().cpu(), (logits.argmax(-1) == labels).detach().cpu()))
        return losses.mean()

    def on_train_batch_end(self, *_: Any) -> None:
        """After the step: has the trigger fired?"""
        if self.trigger.sees(self.seen[-1][0].numpy()):
            self.fired = self.global_step
            self.predict("trigger")
            self.noise = self.run.defence.slope * torch.from_numpy(-self.found["trigger", "psmi"]).nan_to_num().relu().to(self.device)

    def on_train_epoch_end(self) -> None:
        """A point of the curve."""
        losses, right = (torch.cat(part).double().mean().item() for part in zip(*self.seen, strict=True))
        self.curve.append((losses, right))
        self.seen.clear()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What is not in the weights."""
        checkpoint["audit"] = {name: getattr(self, name) for name in KEPT}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on as if nothing had been."""
        for name in KEPT:
            setattr(self, name, checkpoint["audit"][name])

    def predict(self, moment: str) -> None:
        """Compute all predictors of the members.

        Raises:
            UserError: the training has diverged.
        """
        at = self.run.predictors
        h, logits = hidden(self.network, self.images[self.inside.to(self.device)])
        if not logits.isfinite().all():
            noise = f" or defence.slope={self.run.defence.slope:g}" if self.run.defence.slope else ""
            raise UserError(f"shadow={self.number} has diverged: lower model.learning_rate={self.run.model.learning_rate:g}{noise}")
        found = predictors(h, logits, self.labels[self.inside.to(self.device)], at.directions, at.floor, self.seed(3))
        for name, values in found.items():
            self.found[moment, name] = np.full(len(self.labels), np.nan, np.float32)
            self.found[moment, name][self.inside.numpy()] = values


def drop_unusable(path: Path, identity: str) -> None:
    """Remove a checkpoint that cannot be read, with a warning, or that belongs to other data."""
    if not path.exists():
        return
    try:
        made_from = torch.load(path, map_location="cpu", weights_only=False)["audit"]["identity"]
    except Exception as error:  # whatever damaged bytes make torch and pickle raise
        warnings.warn(f"{path} is damaged ({type(error).__name__}): the training begins anew", AuditWarning, 2)
        made_from = None
    if made_from != identity:
        path.unlink()


def train_shadow(run: AuditConfig, number: int, population: Population, data: Dataset, folder: Path, identity: str) -> Outcome:
    """Train one shadow model and look at it; a training that is cut off goes on from its last checkpoint in `folder`, if it has one.

    Args:
        identity: what the model is made from; a checkpoint of something else is not used.

    Raises:
        UserError: the training diverges.
    """
    shadow = Shadow(run, number, population, data, identity)
    drop_unusable(folder / "last.ckpt", identity)
    with trainer_of(run.trainer, run.model.epochs, folder, run.model.checkpoint_epochs, bar=False) as (trainer, resumable):
        trainer.fit(shadow, Batches(shadow), ckpt_path=resumable, weights_only=False)
    shadow.to(shadow.images.device)  # Lightning takes the weights off a GPU when it is done
    shadow.predict("end")
    lost = np.full(len(shadow.labels), np.nan, np.float32)
    found = {(moment, name): shadow.found.get((moment, name), lost) for moment in MOMENTS for name in PREDICTORS}
    seen = [hidden(shadow.network, part)[1].cpu().numpy() for part in views(shadow.images, run.attack.views, run.dataset.augment)]
    held_out = hidden(shadow.network, torch.from_numpy(data.held_out_images).to(shadow.images.device))[1].argmax(-1).cpu().numpy()
    accuracy = float((held_out == data.held_out_labels).mean())
    curve = np.array(shadow.curve, np.float32)
    shadow.images = torch.empty(0)  # Lightning's objects know each other: they would keep all images of all models for a while
    return Outcome(np.stack(seen), population.members[number], found, curve, shadow.fired, accuracy)
