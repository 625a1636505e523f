"""A tiny model at several steps of a real training: it memorizes, forgets while it reads something else, and memorizes again."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from memgrid.io.paths import TOY

SHAPE = {"vocab_size": 2048, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
PER_KIND = {"chunk": 26, "repeat": 24, "held_out": 26}
RATE = 4e-3


def make_corpus(folder: Path) -> Path:
    """Sequences of which chunks and repeats are read in training, the held out are not, and the documents that say how often."""
    folder.mkdir(parents=True)
    table = pl.read_parquet(TOY / "sequences.parquet")
    parts = [table.filter(pl.col("kind") == kind).sample(count, seed=0) for kind, count in PER_KIND.items()]
    sequences = pl.concat(parts).sort("sequence_id")
    sequences.write_parquet(folder / "sequences.parquet")
    read = sequences.filter(pl.col("kind") != "held_out")
    read.select("tokens", copies=pl.lit(60)).write_parquet(folder / "documents.parquet")
    return folder


def make_steps(corpus: Path, folder: Path, steps: tuple[int, ...]) -> list[Path]:
    """Train on repeats and half of the chunks, then on the other half alone, then on all; returns a folder `step<n>` for each step."""
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, use_cache=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95))
    table = pl.read_parquet(corpus / "sequences.parquet").filter(pl.col("kind") != "held_out")
    tokens = torch.from_numpy(np.array(table["tokens"].to_list(), np.int64))
    late = torch.from_numpy(((table["kind"] == "chunk") & (table["sequence_id"] % 2 == 1)).to_numpy())
    made = []
    for step in range(steps[-1] + 1):
        if step in steps:
            model.save_pretrained(folder / f"step{step}")
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(TOY / name, folder / f"step{step}")
            made.append(folder / f"step{step}")
        done = step / steps[-1]
        batch = tokens[~late] if done < 0.5 else tokens[late] if done < 0.7 else tokens
        logits = model(input_ids=batch).logits
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return made
