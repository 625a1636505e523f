"""The sequences that the embedded corpus offers: every chunk, held-out text, stream windows, and templates seen and unseen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from memgrid.corpus.ngrams import window_hashes
from memgrid.io.display import progress_bar
from memgrid.pretrain import templates
from memgrid.pretrain.config import OfferConfig

NEAR_DUPLICATE = 32  # template sequences never share this many consecutive tokens, or the leak-free split would tie them all together
Reader = Callable[[np.ndarray], np.ndarray]


def build_sequences(
    documents: pl.DataFrame, tokenizer: Tokenizer, extractable: Reader, offer: OfferConfig, length: int, seed: int
) -> pl.DataFrame:
    """The table of sequences: sequence_id, source, kind, tokens (list of uint16).

    `kind` is chunk, held_out, stream (a uniform draw of windows seen once), extractable (stream windows outside that draw that the
    model continues word for word: what it recollects after one reading), repeat or increment, and those with `unseen_` in front.

    Args:
        extractable: tells for tokens (n, length) which of them the model continues exactly, bool (n,).
    """
    rng = np.random.default_rng(seed + 1)
    parts = [table_of(rows_of(documents, kind), kind) for kind in ("chunk", "held_out")]
    streams = rows_of(documents, "stream")
    windows = np.concatenate([tokens.reshape(-1, length) for tokens in streams[1]])
    sources = np.repeat(np.array(streams[0]), [len(tokens) // length for tokens in streams[1]])
    order = rng.permutation(len(windows))
    drawn, rest = order[: offer.stream], np.sort(order[offer.stream :])
    batches = np.array_split(rest, -(-len(rest) // offer.batch)) if len(rest) else []
    with progress_bar() as bar:
        continued = [batch[extractable(windows[batch].astype(np.int64))] for batch in bar.track(batches, description="reading the streams")]
    for kind, rows in (("stream", np.sort(drawn)), ("extractable", np.concatenate([*continued, np.zeros(0, np.int64)]))):
        parts.append(table_of((sources[rows].tolist(), list(windows[rows])), kind))
    parts += [
        table_of((["template"] * len(rows), list(rows)), kind)
        for kind, rows in draw_templates(documents, tokenizer, offer, length, rng).items()
    ]
    return pl.concat(parts).with_row_index("sequence_id").with_columns(pl.col("sequence_id").cast(pl.Int64))


def rows_of(documents: pl.DataFrame, kind: str) -> tuple[list[str], list[np.ndarray]]:
    """Sources and tokens of one kind of document."""
    chosen = documents.filter(pl.col("kind") == kind)
    return chosen["source"].to_list(), [tokens.to_numpy() for tokens in chosen["tokens"]]


def table_of(rows: tuple[list[str], list[np.ndarray]], kind: str) -> pl.DataFrame:
    """Rows of one kind as a table."""
    tokens = pl.Series([row.tolist() for row in rows[1]], dtype=pl.List(pl.UInt16))
    return pl.DataFrame(
        {"source": pl.Series(rows[0], dtype=pl.String), "kind": pl.Series([kind] * len(rows[0]), dtype=pl.String), "tokens": tokens}
    )


def draw_templates(
    documents: pl.DataFrame, tokenizer: Tokenizer, offer: OfferConfig, length: int, rng: np.random.Generator
) -> dict[str, list[np.ndarray]]:
    """Templates of each kind, of which no two share 32 consecutive tokens. Unseen ones are drawn first, so that they find room."""
    taken: set[int] = set()
    alphabet = templates.repeat_alphabet(tokenizer)
    unseen_repeats = templates.draw_repeats(alphabet, 4 * offer.unseen_repeats, length, True, rng)
    unseen_lists = templates.draw_lists(tokenizer, None, length, True, rng)
    kinds = {
        "unseen_repeat": (offer.unseen_repeats, unseen_repeats),
        "repeat": (offer.seen_repeats, trained(documents, "repeat", length, rng)),
        "unseen_increment": (offer.unseen_increments, unseen_lists),
        "increment": (offer.seen_increments, trained(documents, "increment", length, rng)),
    }
    chosen: dict[str, list[np.ndarray]] = {}
    for kind, (count, candidates) in kinds.items():
        chosen[kind] = []
        for row, hashes in zip(candidates, window_hashes(candidates, NEAR_DUPLICATE), strict=True):
            if len(chosen[kind]) < count and taken.isdisjoint(hashes.tolist()):
                taken.update(hashes.tolist())
                chosen[kind].append(row)
    return chosen


def trained(documents: pl.DataFrame, kind: str, length: int, rng: np.random.Generator) -> np.ndarray:
    """The templates of one kind that the model was trained on, shuffled, int64 (n, length)."""
    rows = np.array(rows_of(documents, kind)[1], np.int64).reshape(-1, length)
    return rng.permutation(rows)
