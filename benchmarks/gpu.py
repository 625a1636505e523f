"""Rows about one GPU: extraction at the shape of Pythia 1.4B, and training the paper's panel; without a GPU, only quick ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from benchmarks import tasks
from benchmarks.measure import Row, interleaved, timed_row
from benchmarks.shapes import LAYERS_12B, LENGTH, Settings, paper_panel, random_labels, random_maps, random_tokens
from benchmarks.training import panel_of
from memgrid.config.derive import members
from memgrid.config.schema import LLMConfig
from memgrid.lm.load import load_language_model

PYTHIA_1_4B = {
    "model_type": "gpt_neox",
    "vocab_size": 50304,
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 8192,
    "rotary_pct": 0.25,
}
FEW = {**PYTHIA_1_4B, "vocab_size": 2048, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
BATCHES = 2


def clock() -> float:
    """Seconds, when everything that was asked of the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def gpu(settings: Settings) -> list[Row]:
    """All rows."""
    there = torch.cuda.is_available()
    if not there and not settings.quick:
        return []
    name = torch.cuda.get_device_name() if there else "no GPU"
    return [row for dtype in ("float32", "bfloat16") for row in extraction(settings, dtype, name)] + training(settings, name)


def extraction(settings: Settings, dtype: str, name: str) -> list[Row]:
    """Pooled maps, thrown away and written as shards, over the bare pass."""
    shape, batch = (FEW, 2**9) if settings.quick else (PYTHIA_1_4B, 2**14)
    lm = load_language_model(LLMConfig(name="shape-1.4b", path=None, device="auto", dtype=dtype, random=shape, batch_tokens=batch))
    tokens = random_tokens(BATCHES * lm.batch_size(LENGTH))
    folders = (settings.folder / dtype / str(number) for number in range(100))
    works: dict[str, Callable[[], object]] = {
        "bare": lambda: tasks.bare_pass(lm, tokens),
        "pool": lambda: tasks.pool(lm, tokens),
        "write": lambda: tasks.pool_and_write(lm, tokens, next(folders)),
    }
    times = interleaved(works, settings.rounds, clock=clock)
    how = f"{name}, seconds of {BATCHES} batches of {len(tokens) // BATCHES} sequences over the body alone with sdpa, median of rounds"
    per, title = 1000 / len(tokens), f"GPU: extraction (1.4b, {dtype})"
    return [
        timed_row(times, f"{title}, pooled maps", "pool", "bare", per, "ms/sample", None, how),
        timed_row(times, f"{title}, written as shards", "write", "bare", per, "ms/sample", None, f"{how}; with fsync, one after another"),
    ]


def training(settings: Settings, name: str) -> list[Row]:
    """A step of the paper's panel on the GPU, over the same on one core."""
    config = paper_panel()
    if settings.quick:
        config.kernel_size, config.features = [8], [10]
    panel, batch = members(config), 4 if settings.quick else config.batch_size
    pools = {pool: torch.from_numpy(packed) for pool, packed in random_maps(batch, LAYERS_12B).pools.items()}
    labels = random_labels(batch)

    def step(device: torch.device, bf16: bool) -> Callable[[], None]:
        """A step there, the batch's way to it included."""
        nets = panel_of(panel).to(device)
        optimizer = nets.configure_optimizers()

        def work() -> None:
            with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
                loss = nets.training_step(({pool: packed.to(device) for pool, packed in pools.items()}, labels.to(device)), 0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return work

    cpu = torch.device("cpu")
    gpu = torch.device("cuda") if torch.cuda.is_available() else cpu
    works: dict[str, Callable[[], object]] = {"fp32": step(gpu, False), "bf16": step(gpu, True), "cpu": step(cpu, False)}
    times = interleaved(works, settings.rounds, clock=clock)
    per = 1000 / batch / len(panel)
    how = f"{name}, seconds of one step on a batch of {batch} at 36 layers over {len(panel)} CNNs; against one core, float32"
    return [
        timed_row(times, f"GPU: training the panel of {len(panel)}, {kind}", kind, "cpu", per, "ms", None, how) for kind in ("fp32", "bf16")
    ]
