"""`python -m benchmarks.decisions [sequences=1000]`: how often greedy decisions differ by precision and batch size, on the embedded models.

A decision is the arg max at one place under teacher forcing. What it is compared with is float32 in batches of 64; a tie is a place where
two tokens have the highest logit. Decoding token by token, with a cache, is compared with the same model's one pass.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from memgrid.config.schema import CorpusConfig, LLMConfig
from memgrid.corpus.corpus import Corpus, load_corpus
from memgrid.lm.load import load_language_model
from memgrid.lm.model import LanguageModel

MODELS = ("toy", "toy_reference")
DTYPES = ("float32", "float16", "bfloat16")
BATCHES = (64, 8, 1)
COLUMNS = ("model", "precision", "batch", "other decisions", "of which in suffixes", "ties", "other memorized", "decoded otherwise")


@dataclass(frozen=True)
class Decisions:
    """What one model decides.

    Attributes:
        chosen: int64 (n, length - 1). memorized: bool (n,). ties: how many places. decoded: bool (n,); whether decoding gives the suffix.
    """

    chosen: np.ndarray
    memorized: np.ndarray
    ties: int
    decoded: np.ndarray


@torch.inference_mode()
def decisions(lm: LanguageModel, corpus: Corpus, batch: int) -> Decisions:
    """Those of all sequences, in batches of a size."""
    chosen, ties, decoded = [], 0, []
    for start in range(0, len(corpus.tokens), batch):
        tokens = torch.from_numpy(corpus.tokens[start : start + batch].astype(np.int64))
        logits = lm.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits[:, :-1]
        chosen.append(logits.argmax(-1).numpy())
        ties += int(((logits == logits.amax(-1, keepdim=True)).sum(-1) > 1).sum())
        own = lm.continue_greedily(corpus.prefix[start : start + batch], corpus.suffix.shape[1])
        decoded.append((own == corpus.suffix[start : start + batch]).all(1))
    every = np.concatenate(chosen)
    memorized = (every[:, corpus.k - 1 :] == corpus.suffix).all(1)
    return Decisions(every, memorized, ties, np.concatenate(decoded))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    given = dict(argument.split("=", 1) for argument in arguments)
    whole = load_corpus(CorpusConfig(name="toy", path=None))
    step = max(1, len(whole.tokens) // int(given.get("sequences", 1000)))
    corpus = Corpus("toy", whole.sequence_id[::step], whole.tokens[::step], whole.k, None)
    table = Table(*COLUMNS, caption=f"{len(corpus.tokens):,} sequences, {len(corpus.tokens) * (corpus.tokens.shape[1] - 1):,} decisions")
    for name in MODELS:
        base: Decisions | None = None
        for dtype in DTYPES:
            lm = load_language_model(LLMConfig(name=name, path=None, dtype=dtype, device="cpu"), corpus.tokens.shape[1])
            for batch in BATCHES:
                found = decisions(lm, corpus, batch)
                base = base or found
                other = found.chosen != base.chosen
                flipped, apart = found.memorized != base.memorized, found.decoded != found.memorized
                counts = (other.sum(), other[:, corpus.k - 1 :].sum(), found.ties, flipped.sum(), apart.sum())
                table.add_row(name, dtype, str(batch), *(f"{int(count):,}" for count in counts))
    Console(width=None if sys.stdout.isatty() else 150).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
