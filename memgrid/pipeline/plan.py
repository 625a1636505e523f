"""What a sweep will cost, before anything heavy: distinct samples, bytes on disk, passes through the model, and time on this machine.

Works from the labels. The runs of a sweep in one process add up, so that the last line printed is the sweep's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from memgrid.config.derive import members, protocol
from memgrid.config.names import training_key
from memgrid.config.schema import RunConfig
from memgrid.io.display import duration
from memgrid.lm.model import LanguageModel
from memgrid.lm.triangle import Triangle
from memgrid.store.store import Store
from memgrid.train.devices import training_device
from memgrid.train.panel import Panel

ROUNDS = 3
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}  # trainer.precision → the type that autocast uses


@dataclass
class Bill:
    """What the runs of one store want so far."""

    runs: int = 0
    trainings: set[str] = field(default_factory=set)  # equal partitions are one
    trained: int = 0
    wanted: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # sequence ids, ascending
    memorized: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))  # aligned with them
    summed: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Pace:
    """Seconds per sample on this machine: one pass, one continuation, and one training step per network."""

    read: float
    continue_: float
    train: float


@dataclass(eq=False)
class Ledger:
    """What the runs of a process want together.

    Attributes:
        bills: by the folder of the store. paces: by what was measured: the model, and how and which networks are trained.
    """

    bills: dict[str, Bill] = field(default_factory=dict)
    paces: dict[tuple[str, ...], Pace] = field(default_factory=dict)


def plan(bills: dict[str, Bill], run: RunConfig, store: Store, ids: np.ndarray, train: int, memorized: np.ndarray, pace: Pace) -> list[str]:
    """Add a run to its store's bill and tell the sum, in a few lines.

    Args:
        bills: of the runs so far, by the folder of the store.
        ids: the sequence ids that the run wants, int64.
        train: how many of them are for training.
        memorized: bool, aligned with ids; the others need a continuation.
    """
    bill = bills.setdefault(str(store.folder), Bill())
    bill.runs += 1
    bill.summed += len(ids)
    if (training := training_key(run)) not in bill.trainings:
        bill.trainings.add(training)
        bill.trained += train * run.cnn.epochs * (len(members(run.cnn, protocol(run))) + run.control.members)
    bill.wanted, places = np.unique(np.concatenate([ids, bill.wanted]), return_index=True)
    bill.memorized = np.concatenate([memorized, bill.memorized])[places]
    bill.bytes = len(bill.wanted) * sample_bytes(store.identity.length, store.identity.layers)
    missing = store.missing(bill.wanted)
    continued = int((~bill.memorized[np.searchsorted(bill.wanted, missing)]).sum())
    extract = duration(len(missing) * pace.read + continued * pace.continue_)
    lines = [
        f"{bill.runs} runs of {run.llm.name} ({len(bill.trainings)} trainings) want {len(bill.wanted):,} distinct samples "
        f"({bill.summed:,} if each run kept its own), "
        f"{bill.bytes / 1e9:.2f} GB on disk",
        f"{len(missing):,} are missing: {len(missing):,} passes and {continued:,} continuations, {extract} on this machine; "
        f"training: {duration(bill.trained * pace.train)}",
    ]
    if len(bills) > 1:
        total = sum(each.bytes for each in bills.values())
        lines.append(f"all {len(bills)} models and corpora together: {total / 1e9:.2f} GB on disk")
    return lines


def sample_bytes(length: int, layers: int) -> int:
    """Bytes of one sample in a shard: two float16 triangles per layer, tokens and their log-probabilities, id, three numbers, checksums."""
    return 2 * 2 * len(Triangle(length)) * layers + (4 + 2) * length + 8 + 3 * 4 + 16


def measure(run: RunConfig, lm: LanguageModel, classes: int) -> Pace:
    """Time a batch of each kind, median of a few rounds: where the model lies, and where and in what precision networks are trained."""
    length, k, layers = run.corpus.length, run.corpus.k, lm.identity.layers
    batch = lm.batch_size(length)
    tokens = np.random.default_rng(0).integers(1, lm.identity.vocabulary, (batch, length))
    device, mixed = training_device(run.trainer), MIXED.get(run.trainer.precision)
    panel = Panel(members(run.cnn, protocol(run)), run.cnn, layers, length, k, classes, 0, run.trainer.channels_last).to(device)
    optimizer = panel.optimizer()
    maps = torch.rand(run.cnn.batch_size, len(Triangle(length)), layers, device=device).half()
    labels = torch.arange(run.cnn.batch_size, device=device) % classes

    def step() -> None:
        """One batch, forward and backward."""
        with torch.autocast(device, mixed, enabled=mixed is not None):
            images = panel.logits({"mean": maps, "max": maps} if any(m.reads == "max" for m in panel.members) else {"mean": maps})
            loss = torch.stack([torch.nn.functional.cross_entropy(logits, labels) for logits in images.values()]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for a GPU

    return Pace(
        read=seconds(lambda: lm.score_and_pool(tokens, k)) / batch,
        continue_=seconds(lambda: lm.continue_greedily(tokens[:, :k], length - k)) / batch,
        train=seconds(step) / run.cnn.batch_size / len(panel.members),
    )


def seconds(work: Callable[[], object]) -> float:
    """Median wall time of a few rounds after a warm-up."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        rounds.append(time.perf_counter() - started)
    return float(np.median(rounds))
