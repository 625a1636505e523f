"""What extraction is compared with, and the measurement of its peak memory: `python -m benchmarks.tasks task=… samples=…`.

Run as a module it loads the model, does one task in this fresh process and prints the peak of its resident memory as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import reference
from benchmarks.shapes import K, model_shaped_like_70m, random_tokens, store_of
from memgrid.config.schema import ExtractConfig
from memgrid.corpus.corpus import Corpus
from memgrid.label.features import columns_of_pass, label_memorized
from memgrid.lm.model import LanguageModel
from memgrid.store.extract import extract
from memgrid.store.shard import Maps


@torch.inference_mode()
def bare_pass(lm: LanguageModel, tokens: np.ndarray) -> None:
    """The body alone, sdpa, no language-model head: what nobody can do without."""
    size = lm.batch_size(tokens.shape[1])
    for start in range(0, len(tokens), size):
        inputs = torch.from_numpy(tokens[start : start + size]).to(lm.model.device)
        lm.model.base_model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)


@torch.inference_mode()
def pass_with_head(lm: LanguageModel, tokens: np.ndarray) -> None:
    """The whole model, sdpa: what nobody can do without who asks how probable tokens are."""
    size = lm.batch_size(tokens.shape[1])
    for start in range(0, len(tokens), size):
        inputs = torch.from_numpy(tokens[start : start + size]).to(lm.model.device)
        lm.model(input_ids=inputs, attention_mask=torch.ones_like(inputs), use_cache=False)


def score(lm: LanguageModel, tokens: np.ndarray) -> None:
    """What extraction makes of a batch: maps, and how probable every token is."""
    size = lm.batch_size(tokens.shape[1])
    for start in range(0, len(tokens), size):
        lm.score_and_pool(tokens[start : start + size], K)


def label(lm: LanguageModel, tokens: np.ndarray) -> None:
    """What labelling makes of sequences in one pass: all columns of the groups `memorized` and `degrees`."""
    corpus = Corpus("random", np.arange(len(tokens)), tokens.astype(np.int32), K, None)
    columns_of_pass(label_memorized(corpus, lm), corpus.tokens, lm)


def pool(lm: LanguageModel, tokens: np.ndarray) -> None:
    """memgrid's maps, thrown away."""
    size = lm.batch_size(tokens.shape[1])
    for start in range(0, len(tokens), size):
        lm.pooled_maps(tokens[start : start + size])


def pool_and_write(lm: LanguageModel, tokens: np.ndarray, folder: Path) -> None:
    """memgrid's maps, a shard per batch, checksums and fsync included."""
    store, size = store_of(folder, lm.identity.layers), lm.batch_size(tokens.shape[1])
    for start in range(0, len(tokens), size):
        part = tokens[start : start + size]
        ids = np.arange(start, start + len(part))
        store.write(Maps(ids, part.astype(np.int32), np.ones(len(part), np.float32), lm.pooled_maps(part)))


def extract_whole(lm: LanguageModel, tokens: np.ndarray, folder: Path, shard_samples: int) -> None:
    """The extract stage as `memgrid.run` calls it, into an empty store; every sequence counts as memorized."""
    corpus = Corpus("random", np.arange(len(tokens)), tokens.astype(np.int32), K, None)
    yes, sure = np.ones(len(tokens), bool), np.ones(len(tokens), np.float32)
    extract(store_of(folder, lm.identity.layers), lm, corpus, corpus.sequence_id, yes, sure, ExtractConfig(shard_samples))


def reference_extraction(lm: LanguageModel, tokens: np.ndarray, folder: Path) -> None:
    """All heads, a dataset per sequence."""
    reference.extract(lm.model, tokens, np.arange(len(tokens)), folder, lm.batch_size(tokens.shape[1]))


def resident(what: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the peak) of this process in MiB; where there is no /proc, the peak for both."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """Let the peak start anew from now, so that loading the model is not part of it (Linux; elsewhere it stays part)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main(arguments: list[str]) -> None:
    """Do one task; prints {"loaded", "peak"} in MiB."""
    given = dict(argument.split("=", 1) for argument in arguments)
    torch.set_num_threads(1)
    vocabulary = int(given["vocabulary"]) if "vocabulary" in given else None
    lm = model_shaped_like_70m(given["quick"] == "True", int(given["batch_tokens"]), vocabulary)
    tokens = random_tokens(int(given["samples"]))
    bare_pass(lm, tokens[:1])
    forget_peak()
    loaded = resident("VmRSS")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = {
            "bare": lambda: bare_pass(lm, tokens),
            "head": lambda: pass_with_head(lm, tokens),
            "label": lambda: label(lm, tokens),
            "pool": lambda: pool(lm, tokens),
            "extract": lambda: extract_whole(lm, tokens, folder, int(given["shard_samples"])),
            "reference": lambda: reference_extraction(lm, tokens, folder),
        }
        tasks[given["task"]]()
    print(json.dumps({"loaded": loaded, "peak": resident("VmHWM")}))


if __name__ == "__main__":
    main(sys.argv[1:])
