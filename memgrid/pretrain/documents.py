"""The embedded training corpus: tokenizer, and documents with a known number of copies.

Every document is seen exactly `copies` times in one pass of training. `stream` documents are running text, seen once;
`chunk` documents are single 64-token windows of the same text, cut out of the stream and repeated; `repeat` and `increment` are templates.
Windows that are cut out and given to nobody are `held_out`: the model never sees them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from memgrid.pretrain import templates
from memgrid.pretrain.config import MixConfig

END_OF_TEXT = "<|endoftext|>"
Row = tuple[str, str, int, list[int]]  # source, kind, copies, tokens


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer of `vocabulary` tokens in which every digit is a token of its own, so that counting can be learned."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def build_documents(texts: dict[str, list[str]], tokenizer: Tokenizer, mix: MixConfig, length: int, seed: int) -> pl.DataFrame:
    """The corpus as a table: document_id, source, kind, copies, tokens (list of uint16). `held_out` rows have 0 copies.

    Windows become chunks or are held out by one uniform draw over all text, so that the two differ in nothing but the copies.
    """
    rng = np.random.default_rng(seed)
    streams = [(source, tokenizer.encode(text).ids) for source, documents in texts.items() for text in documents]
    copies = draw_copies(sum(len(ids) // length for _, ids in streams), mix, rng)
    rows: list[Row] = []
    window = 0
    for source, ids in streams:
        rows += cut(source, ids, length, copies, window)
        window += len(ids) // length
    rows += template_rows(tokenizer, mix, length, rng)
    schema: dict[str, Any] = {"source": pl.String, "kind": pl.String, "copies": pl.Int32, "tokens": pl.List(pl.UInt16)}
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index("document_id")


def draw_copies(windows: int, mix: MixConfig, rng: np.random.Generator) -> dict[int, int]:
    """Which of all windows of the text are cut out, and how many copies each has; 0: held out."""
    taken = rng.permutation(windows)[: mix.recalled_chunks + mix.negative_chunks + mix.held_out]
    copies = np.zeros(len(taken), np.int64)
    copies[: mix.recalled_chunks] = log_uniform(rng, mix.recalled_copies, mix.recalled_chunks)
    copies[mix.recalled_chunks : -mix.held_out] = log_uniform(rng, mix.negative_copies, mix.negative_chunks)
    return dict(zip(taken.tolist(), copies.tolist(), strict=True))


def cut(source: str, ids: list[int], length: int, copies: dict[int, int], first: int) -> list[Row]:
    """One text as rows: the windows that are cut out, and the streams between them.

    Args:
        copies: of the windows that are cut out, by their number among those of all texts. first: the number of this text's first.
    """
    rows: list[Row] = []
    stream: list[int] = []

    def end_stream() -> None:
        if stream:
            rows.append((source, "stream", 1, stream.copy()))
        stream.clear()

    for window in range(first, first + len(ids) // length):
        piece = ids[(window - first) * length : (window - first + 1) * length]
        if window in copies:
            rows.append((source, "chunk" if copies[window] else "held_out", copies[window], piece))
            end_stream()
        else:
            stream.extend(piece)
    end_stream()
    return rows


def template_rows(tokenizer: Tokenizer, mix: MixConfig, length: int, rng: np.random.Generator) -> list[Row]:
    """Repetitions and counting lists, a row for each that was drawn, with as many copies as it was drawn."""
    drawn = {
        "repeat": templates.draw_repeats(templates.repeat_alphabet(tokenizer), mix.repeats, length, False, rng),
        "increment": templates.draw_lists(tokenizer, mix.increments, length, False, rng),
    }
    rows: list[Row] = []
    for kind, sequences in drawn.items():
        unique, times = np.unique(sequences, axis=0, return_counts=True)
        rows += [("template", kind, int(n), row.tolist()) for row, n in zip(unique, times, strict=True)]
    return rows


def log_uniform(rng: np.random.Generator, bounds: tuple[int, int], count: int) -> np.ndarray:
    """`count` integers between the bounds, uniform in their logarithm, int64 (count,)."""
    low, high = np.log(bounds)
    return np.exp(rng.uniform(low, high, count)).round().astype(np.int64)


def training_windows(documents: pl.DataFrame, length: int) -> np.ndarray:
    """Every window of one pass, repeated as often as its document has copies, uint16 (windows, length)."""
    parts = [
        np.repeat(np.array(tokens, np.uint16).reshape(-1, length), copies, axis=0)
        for tokens, copies in documents.select("tokens", "copies").iter_rows()
        if copies
    ]
    return np.concatenate(parts)
