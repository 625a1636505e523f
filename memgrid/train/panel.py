"""The panel as a LightningModule: several networks that see the same batches, each with its own weights, dropout and metrics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from memgrid.config.derive import Member, members, partition, protocol
from memgrid.config.schema import CNNConfig, RunConfig
from memgrid.errors import DamagedError, UserError
from memgrid.io.checkpoints import load
from memgrid.io.files import reason
from memgrid.metrics.scores import scores
from memgrid.results.folder import RunFolder
from memgrid.store.store import Store
from memgrid.train.data import Batch
from memgrid.train.devices import training_device
from memgrid.train.networks import AttentionCNN, LinearProbe, Unpack

PAPER_EPOCHS = 3  # the paper sums the confusion matrices of the last three epochs


class Panel(pl.LightningModule):
    """Trains every member in one pass over the data; a member comes out as if it had been trained alone.

    One AdamW serves all: its update of a weight depends on that weight's gradient only, and no member's loss reaches another's weights.

    Args:
        members: the networks to train; a `linear` panel has one probe per pooling.
        layers, length, k, classes: shape of the maps, tokens in the prefix, number of classes.
        seed: of initialisation and dropout; together with a member's name it decides both.
    """

    def __init__(
        self, members: list[Member], config: CNNConfig, layers: int, length: int, k: int, classes: int, seed: int, channels_last: bool
    ) -> None:
        super().__init__()
        self.members, self.config, self.classes = members, config, classes
        self.unpack = Unpack(length, config.scale)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.seeds = {member.name: member_seed(member, seed) for member in members}
        self.nets = nn.ModuleDict()
        # A plain dictionary: metrics are no part of a network's state.
        self.confusion: dict[str, MulticlassConfusionMatrix] = {}
        with torch.random.fork_rng():
            for member in members:
                torch.manual_seed(self.seeds[member.name])
                if config.kind == "linear":
                    net: nn.Module = LinearProbe(layers, length, k, classes)
                else:
                    net = AttentionCNN(layers, length, classes, member.kernel_size, member.features, config.dropout)
                self.nets[member.name] = net.to(memory_format=self.memory_format)  # type: ignore[call-overload]
                self.confusion[member.name] = MulticlassConfusionMatrix(classes)
        self.losses: dict[str, list[tuple[float, int]]] = {}
        self.history: list[dict[str, Any]] = []

    def on_train_epoch_start(self) -> None:
        """Look at eval samples after this epoch, or not: nothing is chosen on them, so that the networks come out the same."""
        self.losses.clear()
        last = self.current_epoch >= self.config.epochs - PAPER_EPOCHS
        looks = last or (self.current_epoch + 1) % self.config.evaluate_every == 0
        # Lightning looks where this number divides that of the epochs so far.
        self.trainer.check_val_every_n_epoch = 1 if looks else self.config.epochs + 1

    def images(self, pools: dict[str, Tensor]) -> dict[str, Tensor]:
        """Packed maps → images, for each pooling that the panel reads."""
        return {name: self.unpack(packed).contiguous(memory_format=self.memory_format) for name, packed in pools.items()}

    def logits(self, pools: dict[str, Tensor]) -> dict[str, Tensor]:
        """Logits (batch, classes) of each member."""
        images = self.images(pools)
        return {member.name: self.nets[member.name](images[member.reads]) for member in self.members}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The sum over members of the mean cross-entropy."""
        pools, labels = batch
        images = self.images(pools)
        losses = []
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            for member in self.members:
                # Dropout depends on member and step alone: not on the other members, and not on where a resumed run was cut.
                begin_numbers(self.seeds[member.name] + self.global_step, self.device)
                loss = nn.functional.cross_entropy(self.nets[member.name](images[member.reads]), labels)
                self.tally(f"train/{member.name}", loss, len(labels))
                losses.append(loss)
        return torch.stack(losses).sum()

    def tally(self, key: str, loss: Tensor, samples: int) -> None:
        """Remember a batch's mean loss and its size, so that the epoch's loss is a mean per sample."""
        self.losses.setdefault(key, []).append((loss.detach(), samples))  # type: ignore[arg-type]

    def epoch_loss(self, key: str) -> float:
        """The mean loss per sample (nats) since it was last asked for."""
        tallied = self.losses.pop(key, [])
        return float(sum(loss * n for loss, n in tallied)) / max(1, sum(n for _, n in tallied))

    def validation_step(self, batch: Batch, _: int) -> None:
        """Count each member's answers."""
        pools, labels = batch
        for name, logits in self.logits(pools).items():
            self.tally(f"eval/{name}", nn.functional.cross_entropy(logits, labels), len(labels))
            self.confusion[name].to(self.device).update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Add a row per member to the history: epoch, member, losses in nats per sample, confusion matrix."""
        for member in self.members:
            name = member.name
            confusion = self.confusion[name].compute().cpu().numpy()
            self.confusion[name].reset()
            losses = {side: self.epoch_loss(f"{side}/{name}") for side in ("train", "eval")}
            row = {"epoch": self.current_epoch, "member": name, "train_loss": losses["train"], "eval_loss": losses["eval"]}
            self.history.append({**row, "confusion": confusion.tolist()})
            self.log_dict(
                {f"{name}/train_loss": losses["train"], f"{name}/eval_loss": losses["eval"], f"{name}/min_f1": scores(confusion)["min_f1"]}
            )

    def epoch_text(self) -> str:
        """What there is to say of the epoch that has ended, means over the members: the loss, and min-F1 where eval samples were seen."""
        rows = [row for row in self.history if row["epoch"] == self.current_epoch]
        if rows:
            loss, min_f1 = (np.mean([each(row) for row in rows]) for each in (train_loss_of, min_f1_of))
            return f"loss {loss:.3f}, min-F1 {min_f1:.1f}"
        parts = [float(loss) for key, tallied in self.losses.items() if key.startswith("train/") for loss, _ in tallied]
        return f"loss {np.mean(parts):.3f}"

    def predict_step(self, batch: Batch, _: int) -> Tensor:
        """Probabilities float32 (members, batch, classes)."""
        return torch.stack([logits.float().softmax(-1) for logits in self.logits(batch[0]).values()])

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW (the paper's: learning rate 1e-3, weight decay 0.1)."""
        return torch.optim.AdamW(self.nets.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    def configure_optimizers(self) -> Any:
        """The same, with a learning rate that falls to 0, step by step, where the settings ask for that."""
        optimizer = self.optimizer()
        if self.config.schedule == "constant":
            return optimizer
        # Not what Lightning offers: it would begin to read before the epoch is known from which a training goes on.
        steps = self.config.epochs * self.trainer.datamodule.steps  # type: ignore[attr-defined]
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The history belongs to the state: a resumed run must have all epochs."""
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `on_save_checkpoint`."""
        self.history = checkpoint["history"]


def train_loss_of(row: dict[str, Any]) -> float:
    """The training loss of a row of the history."""
    return float(row["train_loss"])


def min_f1_of(row: dict[str, Any]) -> float:
    """The min-F1 of a row of the history, in percent."""
    return float(scores(np.array(row["confusion"]))["min_f1"])


def begin_numbers(seed: int, device: torch.device) -> None:
    """As `torch.manual_seed`, which also writes down a stack for each kind of device that is not there: slower than a small network."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def member_seed(member: Member, seed: int) -> int:
    """A number below 2**48 from the member's name and the run's seed."""
    return int.from_bytes(hashlib.sha256(f"{member.name}/{seed}".encode()).digest()[:6], "big")


@dataclass(frozen=True, eq=False)
class TrainedPanel:
    """The networks of a finished run, in evaluation mode.

    Attributes:
        titles: the classes, in the taxonomy's order.
        logits: for each class, the logit that stands for it: networks see the classes in the partition's order. See `logit_of`.
        digest: SHA-256 of all weights, in hex.
    """

    run: RunConfig
    panel: Panel
    titles: tuple[str, ...]
    logits: tuple[int, ...]
    digest: str

    def logit_of(self, label: int) -> int:
        """The logit of the networks that stands for a class of the run."""
        return self.logits[label]


def load_panel(run: RunConfig, store: Store, folder: RunFolder) -> TrainedPanel:
    """Read the networks of the finished run in `folder`, or of the equal run that trained them.

    They are put where `trainer.accelerator` says, in float32 whatever they were trained in: a gradient is a small difference.

    Raises:
        UserError: the run is not finished, or its checkpoint is missing, unreadable or not of its last epoch.
    """
    result = folder.result()
    if result is None:
        raise UserError(f"{folder.path} holds no finished run, whose networks could be read: train it first, with train in stages")
    path = folder.trained_in(run.root, result).checkpoint
    checkpoint = read_checkpoint(path, run.cnn.epochs)
    titles = tuple(run.taxonomy.classes)
    shape = store.identity.layers, store.identity.length, store.identity.k, len(titles)
    panel = Panel(members(run.cnn, protocol(run)), run.cnn, *shape, run.seed, run.trainer.channels_last)
    try:
        panel.load_state_dict(checkpoint["state_dict"])
    except RuntimeError:
        raise UserError(f"{path} holds other networks than this run's: run again with force=true") from None
    digest = hashlib.sha256()
    for name, weights in sorted(panel.state_dict().items()):
        digest.update(name.encode() + weights.contiguous().numpy().tobytes())
    panel.to(training_device(run.trainer)).eval().requires_grad_(False)
    return TrainedPanel(run, panel, titles, tuple(np.argsort(partition(run).order).tolist()), digest.hexdigest())


def read_checkpoint(path: Path, epochs: int) -> dict[str, Any]:
    """The state of a training that has seen all its epochs; UserError says what to do where there is none."""
    again = "run again with force=true, which trains the networks anew"
    if not path.exists():
        raise UserError(f"{path} is missing, and with it the trained networks: {again}")
    try:
        checkpoint = load(path)
        seen = max((row["epoch"] + 1 for row in checkpoint["history"]), default=0)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): set that right, or {again}") from None
    except (DamagedError, KeyError, TypeError) as error:
        fault = error.fault if isinstance(error, DamagedError) else "it is none of this training"
        raise UserError(f"{path} is damaged ({fault}): {again}") from None
    if seen < epochs:
        raise UserError(f"{path} has seen {seen} of {epochs} epochs: wait if another process trains this run, or {again}")
    return checkpoint
