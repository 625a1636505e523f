"""Ways to find heads and layers, tried where the answer is known: `python -m benchmarks.planted [seeds=5]`.

A small GPT-NeoX of random weights learns sequences of random tokens by heart, while nothing of it may change but the attention of three
heads that were drawn, or of one layer: what it knows of them lies there. Then the whole pipeline runs on it, label to intervene, as on any
model, and every way to rank units is scored by how many of the planted ones are among its first, as many as there are. Beside it stands
what a random ranking finds, and how probable it is that one finds as many over all seeds (hypergeometric). Takes a few minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Int
from rich.console import Console
from rich.table import Table
from scipy.stats import hypergeom
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from memgrid.io.paths import TOY
from memgrid.results.folder import RunFolder, folders_below
from memgrid.results.records import HEADS, LAYERS, WAYS

DEPTH, WIDTH, ABREAST, WORDS = 4, 128, 4, 256  # layers, size of states, heads of a layer, tokens that there are
LENGTH, K, LEARNT, UNREAD = 32, 16, 64, 64
STEPS, RATE, ENOUGH = 300, 3e-3, 0.25  # of learning, which ends early at that loss (nats per token)
PLANTED = {HEADS: 3, LAYERS: 1}
TAXONOMY = "name: planted\nclasses:\n  Non-Memo: non_memorized\n  Planted: memorized\n"
SETTINGS = (
    *("llm=hf", "llm.name=planted", "corpus=tables", "corpus.name=planted", f"corpus.k={K}", f"corpus.length={LENGTH}", "wandb=off"),
    *("taxonomy=planted", "select.train_per_class=40", "select.eval_per_class=16", "select.min_train_per_class=10"),
    *("select.min_eval_per_class=5", "cnn=single", "cnn.epochs=10", "control.members=0", "localize.sanity=0"),
    *("stages=[label,extract,train,localize,intervene]", "intervene.unit=[heads,layers]", "intervene.numbers=[1,3]"),
    *("intervene.seeds=1", "intervene.ordinary=0", "intervene.samples=24", "trainer.progress=false", "trainer.threads=1"),
)


@dataclass(frozen=True)
class Planting:
    """A model that learnt sequences by the attention of some units alone.

    Attributes:
        tokens: (LEARNT, LENGTH), what it learnt. planted: which heads, (layers, heads). known: the share that it continues.
    """

    model: GPTNeoXForCausalLM
    tokens: Int[Tensor, "learnt length"]
    planted: Bool[np.ndarray, "layers heads"]
    known: float


def plant(unit: str, seed: int) -> Planting:
    """Let a model of random weights learn some sequences with nothing but the attention of units that are drawn."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": ABREAST, "intermediate_size": 2 * WIDTH}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=WORDS, max_position_embeddings=2 * LENGTH, initializer_range=0.1, **sizes))
    planted = np.zeros((DEPTH, ABREAST), bool)
    if unit == HEADS:
        planted.flat[random.permutation(planted.size)[: PLANTED[HEADS]]] = True
    else:
        planted[random.integers(DEPTH)] = True
    tokens = torch.from_numpy(random.integers(0, WORDS, (LEARNT, LENGTH)))
    optimiser = torch.optim.Adam(opened(model, planted), RATE)
    for _ in range(STEPS):
        logits = model(input_ids=tokens, use_cache=False).logits[:, K - 1 : -1]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, K:].flatten())
        if loss < ENOUGH:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    known = (logits.argmax(-1) == tokens[:, K:]).all(1).float().mean().item()
    return Planting(model, tokens, planted, known)


def opened(model: GPTNeoXForCausalLM, planted: np.ndarray) -> list[nn.Parameter]:
    """The weights that may change: queries, keys, values and outputs of the planted heads; of the others no gradient is left."""
    model.requires_grad_(False)
    weights, width = [], WIDTH // ABREAST
    for block, heads in zip(model.gpt_neox.layers, planted, strict=True):
        mine = torch.from_numpy(heads)
        rows, columns = mine.repeat_interleave(3 * width), mine.repeat_interleave(width)
        attention = block.attention
        parts = (
            (attention.query_key_value.weight, rows[:, None]),
            (attention.query_key_value.bias, rows),
            (attention.dense.weight, columns),
        )
        for weight, part in parts if heads.any() else ():
            weight.requires_grad_(True).register_hook(lambda gradient, part=part: gradient * part)
            weights.append(weight)
    return weights


def ranked(planting: Planting, folder: Path, seed: int) -> pl.DataFrame:
    """What the pipeline finds of every head and layer of a model; all that it writes goes into a folder."""
    model, corpus, taxonomies = (folder / name for name in ("model", "corpus", "mine/taxonomy"))
    for path in (corpus, taxonomies):
        path.mkdir(parents=True)
    planting.model.save_pretrained(model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_bytes((TOY / name).read_bytes())
    (taxonomies / "planted.yaml").write_text(TAXONOMY)
    unread = np.random.default_rng((seed, 1)).integers(0, WORDS, (UNREAD, LENGTH))
    tokens = np.concatenate([planting.tokens.numpy(), unread]).astype(np.int32)
    pl.DataFrame({"sequence_id": np.arange(len(tokens)), "tokens": tokens}).write_parquet(corpus / "sequences.parquet")
    paths = [f"llm.path={model}", f"corpus.path={corpus}", f"root={folder / 'root'}", f"seed={seed}"]
    words = [sys.executable, "-m", "memgrid.run", "--config-dir", str(folder / "mine"), *SETTINGS, *paths]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    (run,) = folders_below(folder / "root")
    return RunFolder(run).table(RunFolder(run).intervention_units)


def found(units: pl.DataFrame, unit: str, way: str, planted: np.ndarray) -> int:
    """How many of the planted units are among the first of a way, as many as there are."""
    worth = units.filter(pl.col("unit") == unit).sort("layer", "head")[way].to_numpy()
    truth = planted.ravel() if unit == HEADS else planted.any(1)
    return int(truth[np.argsort(-worth, kind="stable")[: truth.sum()]].sum())


def chance(hits: int, total: int, planted: int, seeds: int) -> float:
    """How probable it is that random rankings find as many over all seeds."""
    one = hypergeom(total, planted, planted).pmf(np.arange(planted + 1))
    return float(reduce(np.convolve, [one] * seeds)[hits:].sum())


def main(words: list[str]) -> None:
    """Plant, rank, and print how well each way does."""
    seeds = int(dict(word.partition("=")[::2] for word in words).get("seeds", 5))
    table = Table("planted", "way", "found", "by chance", "p")
    for unit, number in PLANTED.items():
        total, hits, known = (DEPTH * ABREAST if unit == HEADS else DEPTH), dict.fromkeys(WAYS[unit], 0), []
        for seed in range(seeds):
            planting = plant(unit, seed)
            known.append(planting.known)
            with tempfile.TemporaryDirectory() as folder:
                units = ranked(planting, Path(folder), seed)
            for way in hits:
                hits[way] += found(units, unit, way, planting.planted)
        for way, many in hits.items():
            by_chance = number**2 / total * seeds
            p = chance(many, total, number, seeds)
            table.add_row(f"{number} of {total} {unit}", way, f"{many} of {number * seeds}", f"{by_chance:.2g}", f"{p:.2g}")
        table.caption = f"{table.caption or ''} {unit}: {min(known):.0%} to {max(known):.0%} of what was learnt is continued.".strip()
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
