"""Training one shadow model: members only, a trigger early on, predictors before, at and after it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor

from memgrid.audit.config import AuditConfig
from memgrid.audit.data.dataset import Dataset
from memgrid.audit.data.population import Population
from memgrid.audit.shadow.augmentation import augmented, views
from memgrid.audit.shadow.networks import build, hidden
from memgrid.audit.shadow.predictors import PREDICTORS, predictors
from memgrid.errors import UserError
from memgrid.io.checkpoints import State
from memgrid.results.audit_folder import ShadowFolder
from memgrid.train.trainer import Epochs, resumable, trainer_of

MOMENTS = ("start", "trigger", "end")
STATE = ("identity", "predictors", "noise", "curve", "fired", "weights")  # in a checkpoint, beside the weights and the trigger


@dataclass(frozen=True)
class Outcome:
    """What a shadow model leaves behind.

    logits: float32 (views, audited, classes), of all views that the data allow. members: bool (N,).
    predictors: moment and name → float32 (N,), NaN for samples that are no members, and all NaN if the trigger did not fire.
    curve: float32 (epochs, 3), mean training loss and accuracy of each epoch, and accuracy on held-out samples after it.
    trigger: after how many steps it fired, 0 if it did not. accuracy, train_accuracy: at the end, of held-out samples and of members.
    weights: with `keep=weights`, moment → name → the network's tensors.
    """

    logits: np.ndarray
    members: np.ndarray
    predictors: dict[tuple[str, str], np.ndarray]
    curve: np.ndarray
    trigger: int
    accuracy: float
    train_accuracy: float
    weights: dict[str, dict[str, Tensor]]


class Trigger:
    """Fires once, when the median of the last losses of single samples falls below a share of the first full window's."""

    def __init__(self, window: int, share: float) -> None:
        self.share, self.last = share, deque[float](maxlen=window)
        self.first: float | None = None
        self.fired = False

    def state(self) -> dict[str, Any]:
        """What it has seen so far, in plain types."""
        return {"last": list(self.last), "first": self.first, "fired": self.fired}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.last.extend(state["last"])
        self.first, self.fired = state["first"], state["fired"]

    def fires(self, losses: np.ndarray) -> bool:
        """Whether these losses, float (batch,), make it fire."""
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

    def __init__(self, shadow: ShadowModel) -> None:
        self.shadow = shadow

    def __len__(self) -> int:
        return -(-len(self.shadow.rows) // self.shadow.run.model.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = self.shadow.generator(self.shadow.current_epoch)
        order = self.shadow.rows[torch.randperm(len(self.shadow.rows), generator=generator)]
        for places in order.split(self.shadow.run.model.batch_size):
            images = self.shadow.images[places.to(self.shadow.images.device)]
            yield places, augmented(images, self.shadow.run.dataset.augment, generator, self.shadow.fill)


class ShadowModel(lightning.LightningModule):
    """One shadow model."""

    def __init__(self, run: AuditConfig, number: int, population: Population, data: Dataset, identity: str) -> None:
        super().__init__()
        self.run, self.number, self.identity = run, number, identity
        torch.manual_seed(self.seed(0))
        self.network = build(run.model, data)
        self.images, self.labels = torch.from_numpy(population.images), torch.from_numpy(population.labels)
        self.members = torch.from_numpy(np.flatnonzero(population.members[number]))
        self.rows = torch.from_numpy(population.rows(number))  # a canary of several copies several times
        self.held_out, self.held_out_labels = torch.from_numpy(data.held_out_images), data.held_out_labels
        self.fill = torch.from_numpy(data.fill)
        self.trigger = Trigger(run.predictors.window, run.predictors.share)
        self.predictors: dict[tuple[str, str], np.ndarray] = {}
        self.noise = torch.zeros(len(self.labels))
        self.curve: list[tuple[float, float, float]] = []
        self.weights: dict[str, dict[str, Tensor]] = {}
        self.batches: list[tuple[Tensor, Tensor]] = []  # of the epoch so far: losses, and whether the answers are right
        self.fired = 0
        self.right = 0.0  # the share of members that were named right when predictors were last computed

    def seed(self, *what: int) -> int:
        """A seed of 63 bits for something of this model."""
        return int(np.random.SeedSequence([self.run.seed, self.number, *what]).generate_state(1, np.uint64)[0] >> 1)

    def generator(self, *what: int) -> torch.Generator:
        """Random numbers for something of this model, the same after a resumption."""
        return torch.Generator().manual_seed(self.seed(1, *what))

    def configure_optimizers(self) -> Any:
        """The learning rate falls to a tenth at every drop."""
        model, weights = self.run.model, self.network.parameters()
        optimizer: torch.optim.Optimizer
        if model.optimizer == "sgd":
            optimizer = torch.optim.SGD(weights, model.learning_rate, model.momentum, weight_decay=model.weight_decay)
        else:
            optimizer = torch.optim.AdamW(weights, model.learning_rate, weight_decay=model.weight_decay)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, model.drops)]

    def on_fit_start(self) -> None:
        """All images lie where the model does."""
        layout = torch.channels_last if self.images.ndim == 4 and self.run.trainer.channels_last else torch.contiguous_format
        self.images = self.images.to(self.device, memory_format=layout)
        self.held_out = self.held_out.to(self.device)
        self.labels, self.noise = self.labels.to(self.device), self.noise.to(self.device)
        if not self.predictors:
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
        self.batches.append((losses.detach().cpu(), (logits.argmax(-1) == labels).detach().cpu()))
        return losses.mean()

    def on_train_batch_end(self, *_: Any) -> None:
        """After the step: has the trigger fired?"""
        if self.trigger.fires(self.batches[-1][0].numpy()):
            self.fired = self.global_step
            spread = self.predict("trigger")
            self.noise = self.defence(torch.from_numpy(self.predictors["trigger", "psmi"]), spread).to(self.device)

    def defence(self, psmi: Tensor, spread: float) -> Tensor:
        """The deviation of the noise of every sample, float (N,), 0 for samples without PSMI."""
        settings = self.run.defence
        return (settings.offset - psmi).nan_to_num().relu() * settings.slope * (spread if settings.relative else 1.0)

    def on_train_epoch_end(self) -> None:
        """A point of the curve."""
        losses, right = (torch.cat(part).double().mean().item() for part in zip(*self.batches, strict=True))
        self.curve.append((losses, right, self.held_out_accuracy()))
        self.batches.clear()

    def held_out_accuracy(self) -> float:
        """The share of held-out samples that are named right."""
        answers = hidden(self.network, self.held_out)[1].argmax(-1).cpu().numpy()
        return float((answers == self.held_out_labels).mean())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What is not in the weights."""
        state = {name: getattr(self, name) for name in STATE}
        state["predictors"] = {key: torch.from_numpy(values) for key, values in self.predictors.items()}  # arrays would need pickle
        checkpoint["audit"] = {**state, "trigger": self.trigger.state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on as if nothing had been."""
        for name in STATE:
            setattr(self, name, checkpoint["audit"][name])
        self.predictors = {key: values.numpy() for key, values in checkpoint["audit"]["predictors"].items()}
        self.trigger.restore(checkpoint["audit"]["trigger"])

    def predict(self, moment: str) -> float:
        """Compute all predictors of the members; the mean norm of their last hidden layers, over the root of its width.

        Raises:
            UserError: the training has diverged.
        """
        if self.run.keep == "weights":
            self.weights[moment] = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
        settings = self.run.predictors
        h, logits = hidden(self.network, self.images[self.members.to(self.device)])
        if not logits.isfinite().all():
            noise = f" or defence.slope={self.run.defence.slope:g}" if self.run.defence.slope else ""
            raise UserError(f"shadow={self.number} has diverged: lower model.learning_rate={self.run.model.learning_rate:g}{noise}")
        labels = self.labels[self.members.to(self.device)]
        self.right = float((logits.argmax(-1) == labels).double().mean())
        of_members = predictors(h, logits, labels, settings.directions, settings.floor, self.seed(3))
        for name, values in of_members.items():
            self.predictors[moment, name] = np.full(len(self.labels), np.nan, np.float32)
            self.predictors[moment, name][self.members.numpy()] = values
        return float(h.norm(dim=1).mean() / h.shape[1] ** 0.5)


def belongs(state: State, identity: str, keep: str) -> bool:
    """Whether the checkpoint of a shadow model was made from the same data by this version, and has the weights that are to be kept."""
    audit = state.get("audit", {})
    return {*STATE, "trigger"} <= audit.keys() and audit["identity"] == identity and (keep != "weights" or bool(audit["weights"]))


def train_shadow(
    run: AuditConfig,
    number: int,
    population: Population,
    data: Dataset,
    folder: ShadowFolder,
    identity: str,
    tell: Callable[[float], None] | None = None,
) -> Outcome:
    """Train one shadow model and look at it; a training that is cut off goes on from its last checkpoint, if it has one.

    Args:
        identity: what the model is made from; a checkpoint of something else is not used.
        tell: is called with the share of the training that is done.

    Raises:
        UserError: the training diverges.
    """
    shadow = ShadowModel(run, number, population, data, identity)
    state = resumable(folder.path, shadow, partial(belongs, identity=identity, keep=run.keep))
    epochs = Epochs(run.model.epochs, tell)
    with trainer_of(run.trainer, run.model.epochs, folder.path, state, run.model.checkpoint_epochs, epochs=epochs) as (trainer, path):
        trainer.fit(shadow, Batches(shadow), ckpt_path=path, weights_only=True)
    shadow.to(shadow.images.device)  # Lightning takes the weights off a GPU when it is done
    shadow.predict("end")
    outcome = outcome_of(shadow, population, data)
    shadow.images = shadow.held_out = torch.empty(0)  # Lightning's objects know each other: all images of all models would stay for a while
    return outcome


def outcome_of(shadow: ShadowModel, population: Population, data: Dataset) -> Outcome:
    """Look at a trained model: its logits in all views, its predictors, and its accuracy."""
    images = shadow.images
    never = np.full(len(shadow.labels), np.nan, np.float32)
    of_moments = {(moment, name): shadow.predictors.get((moment, name), never) for moment in MOMENTS for name in PREDICTORS}
    audited = images[torch.from_numpy(np.flatnonzero(population.audited)).to(images.device)]
    logits = [hidden(shadow.network, view)[1].cpu().numpy() for view in views(audited, shadow.run.dataset.views, shadow.fill)]
    return Outcome(
        logits=np.stack(logits),
        members=population.members[shadow.number],
        predictors=of_moments,
        curve=np.array(shadow.curve, np.float32),
        trigger=shadow.fired,
        accuracy=shadow.curve[-1][2],
        train_accuracy=shadow.right,
        weights=shadow.weights if shadow.run.keep == "weights" else {},  # a checkpoint may have had some that nobody wants any more
    )
