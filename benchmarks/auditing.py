"""Rows about the audit: what a training step costs beside a plain loop, and what the order of numbers in memory is worth."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Row, Times
from benchmarks.shapes import Settings
from memgrid.audit.config import AuditConfig, ModelConfig
from memgrid.audit.data.dataset import Dataset
from memgrid.audit.data.population import Population
from memgrid.audit.shadow.networks import build
from memgrid.audit.shadow.training import Batches, ShadowModel
from memgrid.train.trainer import trainer_of

BATCH, STEPS, CLASSES = 64, 4, 10


class Timed(ShadowModel):
    """A shadow model that looks at the clock before and after its steps, and leaves out what is looked at between epochs."""

    seconds = 0.0

    def on_train_epoch_start(self) -> None:
        """From here."""
        super().on_train_epoch_start()
        self.seconds = -time.process_time()

    def on_train_epoch_end(self) -> None:
        """To here."""
        self.seconds += time.process_time()

    def predict(self, moment: str) -> float:
        """Not of interest."""
        return 0.0


def setting(quick: bool) -> tuple[AuditConfig, Population, Dataset]:
    """The published network, or a thin one, on random images of CIFAR's size."""
    rng = np.random.default_rng(0)
    steps, batch = (2, 4) if quick else (STEPS, BATCH)
    images = rng.normal(size=(steps * batch, 3, 32, 32)).astype(np.float32)
    labels = rng.integers(0, CLASSES, len(images))
    data = Dataset("random", images, labels, images[:2], labels[:2], CLASSES, fill=np.zeros(3, np.float32))
    run = AuditConfig()
    width = 1 if quick else 4
    run.model = ModelConfig("wrn16_4_paper", "wrn16_4_paper", width=width, epochs=1, batch_size=batch)
    run.predictors.share = 0.0  # the trigger never fires
    run.trainer.threads, run.trainer.progress = 1, False
    members = np.ones((2, len(labels)), bool)
    return run, Population(images, labels, labels, np.zeros(len(labels), np.uint8), members), data


def by_memgrid(run: AuditConfig, population: Population, data: Dataset, folder: Path) -> float:
    """CPU seconds of the steps of an epoch."""
    shadow = Timed(run, 0, population, data, "")
    folder.mkdir(exist_ok=True)
    with trainer_of(run.trainer, 1, folder, None, None) as (trainer, _):
        trainer.fit(shadow, Batches(shadow))
    return shadow.seconds


def by_loop(run: AuditConfig, population: Population, data: Dataset, layout: Any) -> float:
    """The same as anybody would write it."""
    torch.manual_seed(0)
    network = build(run.model, data)
    optimizer = torch.optim.SGD(network.parameters(), run.model.learning_rate, run.model.momentum, weight_decay=run.model.weight_decay)
    images, labels = torch.from_numpy(population.images).to(memory_format=layout), torch.from_numpy(population.labels)
    order = torch.randperm(len(labels))
    started = time.process_time()
    for places in order.split(run.model.batch_size):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images[places]), labels[places]).backward()
        optimizer.step()
    return time.process_time() - started


def auditing(settings: Settings) -> list[Row]:
    """A training step of the published network: memgrid's, a plain loop's, and a plain loop's with contiguous images."""
    made = setting(settings.quick)
    times: Times = {"memgrid": [], "loop": [], "contiguous": []}
    works = {
        "memgrid": lambda: by_memgrid(*made, settings.folder / "shadow"),
        "loop": lambda: by_loop(*made, torch.channels_last),
        "contiguous": lambda: by_loop(*made, torch.contiguous_format),
    }
    names = list(works)
    for turn in range(1 + settings.rounds):  # the first one warms up; the order turns
        for name in names[turn % 3 :] + names[: turn % 3]:
            seconds = works[name]()
            if turn:
                times[name].append(seconds)
    run = made[0]
    steps = len(made[2].labels) // run.model.batch_size
    per = 1000 / steps
    what = f"WRN-16-4 as published, {steps} batches of {run.model.batch_size} images of 32 × 32"
    how = f"CPU, one thread, {what}, median of {settings.rounds} epochs"
    rows = []
    for name, against, goal in (("loop", "a plain loop", 1.05), ("contiguous", "a plain loop with contiguous images", 1.0)):
        ratio = median(mine / other for mine, other in zip(times["memgrid"], times[name], strict=True))
        value, baseline = (per * median(times[key]) for key in ("memgrid", name))
        rows.append(Row(f"audit: a training step, over {against}", value, baseline, ratio, "ms", ("ratio", "<=", goal), how))
    return rows
