"""Rows about loading a model from a folder: what it costs to prove that it is what its files say."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.gpu import FEW, PYTHIA_1_4B, clock
from benchmarks.measure import Row, interleaved, timed_row
from benchmarks.shapes import LENGTH, PYTHIA_70M, Settings, random_tokens
from memgrid.config.schema import LLMConfig
from memgrid.io.paths import TOY
from memgrid.lm.load import load_language_model


def write_model(folder: Path, shape: dict[str, Any], dtype: torch.dtype) -> None:
    """A model of random weights as it lies in a user's folder, with the embedded tokenizer."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=dtype).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((TOY / name).read_bytes())


def load_only(folder: Path, dtype: torch.dtype, device: str) -> None:
    """What nobody can do without: weights in memory, read to the last, and a tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device)
    AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for weights in model.parameters():
        weights.detach().aminmax()


def loading(settings: Settings) -> list[Row]:
    """Loading with its proofs over loading alone, and the proofs over one batch; of 1.4b on a GPU where there is one, else of 70m."""
    there = torch.cuda.is_available()
    device, kind = ("cuda", "1.4b, float16, on the GPU") if there else ("cpu", "70m, float32")
    shape, dtype = (PYTHIA_1_4B, torch.float16) if there else (PYTHIA_70M, torch.float32)
    folder = settings.folder / "model"
    transformers.logging.disable_progress_bar()
    write_model(folder, FEW if settings.quick else shape, dtype)
    config = LLMConfig(name="stored", path=str(folder), dtype=str(dtype).removeprefix("torch."), device=device)
    lm = load_language_model(config, LENGTH)
    tokens = random_tokens(lm.batch_size(LENGTH))
    works: dict[str, Callable[[], object]] = {
        "alone": lambda: load_only(folder, dtype, device),
        "proven": lambda: load_language_model(config, LENGTH),
        "batch": lambda: lm.score(tokens, LENGTH // 2),
    }
    times = interleaved(works, settings.rounds, clock=clock if there else time.process_time)
    how = f"{kind}, from the system's cache, {'seconds' if there else 'CPU, one thread'}, median of rounds"
    goal = ("ratio", "<=", 1.1) if there and not settings.quick else None
    proofs = [proven - alone for proven, alone in zip(times["proven"], times["alone"], strict=True)]
    share = median(proof / batch for proof, batch in zip(proofs, times["batch"], strict=True))
    least = None if settings.quick else ("ratio", "<=", 0.1)
    return [
        timed_row(times, "loading: with proofs", "proven", "alone", 1.0, "s", goal, f"{how}; over loading alone, every weight read once"),
        Row(
            *("loading: the proofs alone", median(proofs), median(times["batch"]), share, "s", least),
            f"{how}; over one batch of {tokens.size:,} tokens through the model and its head, as labelling reads them",
        ),
    ]
