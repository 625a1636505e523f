"""Rows about feeding and training, at the 12b shape of the maps: 36 layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from statistics import median

import numpy as np
import torch

from benchmarks import reference
from benchmarks.measure import Row, interleaved, paired_ratio, timed_row
from benchmarks.shapes import CLASSES, HEADS_12B, LAYERS_12B, LENGTH, K, Settings, paper_panel, random_labels, random_maps, store_of
from memgrid.config.derive import Member, members
from memgrid.train.data import Batch, StreamedMaps
from memgrid.train.networks import AttentionCNN
from memgrid.train.panel import Panel

ONE = Member(kernel_size=8, features=16, pooling="mean")


def panel_of(panel: list[Member]) -> Panel:
    """These members of the paper's panel, float32, channels_last."""
    return Panel(panel, paper_panel(), LAYERS_12B, LENGTH, K, CLASSES, seed=0, channels_last=True).train()


def step(panel: Panel, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """One training step of the whole panel, as Lightning takes it."""
    panel.training_step(batch, 0).backward()
    optimizer.step()
    optimizer.zero_grad()


def lone(member: Member) -> tuple[AttentionCNN, torch.optim.Optimizer]:
    """The reference's CNN, contiguous."""
    net = AttentionCNN(LAYERS_12B, LENGTH, CLASSES, member.kernel_size, member.features, paper_panel().dropout)
    return net, torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)


def feeding(settings: Settings) -> list[Row]:
    """Samples per second through one CNN, from the disk's files to its updated weights, and how much of that is reading and unpacking."""
    samples, few, batch = (32, 4, 4) if settings.quick else (512, 24, 16)
    store = store_of(settings.folder / "feeding", LAYERS_12B)
    maps = random_maps(samples, LAYERS_12B)
    store.write(maps)
    data = StreamedMaps(store, maps.sequence_id, (ONE.pooling,), random_labels(samples).numpy())
    panel = panel_of([ONE])
    optimizer, (net, other) = panel.configure_optimizers(), lone(ONE)
    path, ids = settings.folder / "reference-feeding" / "0.h5", np.arange(few)
    reference.write_random(path.parent, ids, LAYERS_12B, HEADS_12B, LENGTH)
    # Batches of shuffled rows, each read but once: the worst order for a store.
    order = np.random.default_rng(1).permutation(samples)[: 4 * batch].reshape(-1, batch).tolist()
    parts = np.random.default_rng(1).permutation(ids).reshape(-1, min(batch, few // 2))

    def read_only() -> None:
        for rows in order:
            panel.images(data[rows][0])

    def memgrid() -> None:
        for rows in order:
            step(panel, optimizer, data[rows])

    def by_reference() -> None:
        for part in parts:
            reference.train_step(net, other, reference.batch_of(path, part), random_labels(len(part)))

    times = interleaved({"read": read_only, "memgrid": memgrid, "reference": by_reference}, settings.rounds)
    value, baseline = 4 * batch / median(times["memgrid"]), few / median(times["reference"])
    how = f"CPU, one thread, {samples} samples in a shard, streamed in shuffled batches of {batch}"
    against = f"against {few} samples with all 36 × {HEADS_12B} heads, a file opened per item and heads pooled on the way"
    share, unit = paired_ratio(times, "read", "memgrid"), "ms/sample"
    per = 1000 / (4 * batch)
    return [
        Row("feeding one CNN (12b)", value, baseline, value / baseline, "samples/s", ("value", ">=", 100.0), f"{how}, {against}"),
        Row(
            "feeding: reading + unpacking in the step",
            per * median(times["read"]),
            per * median(times["memgrid"]),
            share,
            unit,
            ("ratio", "<=", 0.10),
            f"{how}; reading and unpacking alone, over the whole step of one CNN, float32",
        ),
    ]


def training(settings: Settings) -> list[Row]:
    """CPU per sample and model of the paper's panel of eight."""
    config = paper_panel()
    if settings.quick:
        config.kernel_size, config.features = [8], [10]
    panel, batch = members(config), 4 if settings.quick else config.batch_size
    maps = random_maps(batch, LAYERS_12B)
    labels = random_labels(batch)
    pools = {pool: torch.from_numpy(packed) for pool, packed in maps.pools.items()}
    images = {pool: made.contiguous() for pool, made in panel_of([ONE]).images(pools).items()}
    alone = [(lone(member), member) for member in panel]

    def ours(bf16: bool) -> Callable[[], None]:
        """A step of our panel, under bfloat16 autocast or not."""
        nets = panel_of(panel)
        optimizer = nets.configure_optimizers()

        def work() -> None:
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                loss = nets.training_step((pools, labels), 0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return work

    def one_by_one() -> None:
        for (net, optimizer), member in alone:
            reference.train_step(net, optimizer, images[member.pooling], labels)

    times = interleaved({"fp32": ours(False), "bf16": ours(True), "reference": one_by_one}, settings.rounds)
    per = 1000 / batch / len(panel)
    how = (
        f"CPU of one step on a batch of {batch} at 36 layers, unpacking included, over {len(panel)} CNNs, one thread; "
        "against one CNN per pass, float32, contiguous, images pooled beforehand"
    )
    kinds = (("fp32", "float32", 6.0), ("bf16", "bf16", 3.4))
    return [
        timed_row(
            times, f"training the panel of {len(panel)}, {title}, channels_last", work, "reference", per, "ms", ("value", "<=", most), how
        )
        for work, title, most in kinds
    ]
