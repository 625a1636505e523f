"""The sequences that the embedded corpus offers: every window that was drawn by strata, what else the model continues, and templates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from memgrid.corpus.ngrams import window_hashes
from memgrid.io.display import progress_bar
from memgrid.pretrain import templates
from memgrid.pretrain.config import OfferConfig
from memgrid.pretrain.documents import SCHEMA

NEAR_DUPLICATE = 32  # template sequences never share this many consecutive tokens, or the leak-free split would tie them all together
COLUMNS = ("source", "kind", "stratum", "near_copies", "tokens")
OFFERED = ("chunk", "near_duplicate", "held_out", "stream")
Reader = Callable[[np.ndarray], np.ndarray]


def build_sequences(
    documents: pl.DataFrame, tokenizer: Tokenizer, extractable: Reader, offer: OfferConfig, length: int, seed: int
) -> pl.DataFrame:
    """The table of sequences: sequence_id, source, kind, stratum, near_copies (of near duplicates), tokens (list of uint16), split_group.

    `kind` is chunk, near_duplicate, held_out, stream (windows read once), extractable (windows of the other streams that the model
    continues word for word: what it recollects after one reading), repeat or increment, and those with `often_`, `renamed_` or `unseen_` in
    front.
    The first four are in a stratum each. `split_group` has lists of one pattern on one side of a split; of repetitions, their tokens tell.

    Args:
        extractable: tells for tokens (n, length) which of them the model continues exactly, bool (n,).
    """
    rng = np.random.default_rng(seed + 1)
    drawn = documents.filter(pl.col("kind").is_in(OFFERED) & pl.col("stratum").is_not_null()).select(COLUMNS)
    parts = [drawn.filter(pl.col("kind") == kind) for kind in OFFERED]
    parts.append(table_of(*continued_streams(documents, extractable, offer.batch, length), "extractable"))
    for kind, rows in draw_templates(documents, tokenizer, offer, length, rng).items():
        parts.append(table_of(["template"] * len(rows), rows, kind))
    table = pl.concat(parts).with_row_index("sequence_id").with_columns(pl.col("sequence_id").cast(pl.Int64))
    return table.with_columns(patterns_of(table, tokenizer))


def patterns_of(table: pl.DataFrame, tokenizer: Tokenizer) -> pl.Series:
    """The pattern of each list as a number, -1 of what is no list."""
    lists = np.flatnonzero(table["kind"].str.ends_with("increment").to_numpy())
    texts = tokenizer.decode_batch(table["tokens"][lists].to_list())
    numbers = np.full(len(table), -1)
    numbers[lists] = np.unique([templates.list_pattern(text) for text in texts], return_inverse=True)[1]
    return pl.Series("split_group", numbers)


def continued_streams(documents: pl.DataFrame, extractable: Reader, batch: int, length: int) -> tuple[list[str], list[np.ndarray]]:
    """Sources and tokens of the windows of running text, of no stratum, that the model continues."""
    streams = documents.filter((pl.col("kind") == "stream") & pl.col("stratum").is_null())
    windows = streams["tokens"].explode().to_numpy().reshape(-1, length)
    sources = np.repeat(streams["source"].to_numpy(), streams["tokens"].list.len().to_numpy() // length)
    batches = np.array_split(np.arange(len(windows)), -(-len(windows) // batch)) if len(windows) else []
    with progress_bar() as bar:
        found = [rows[extractable(windows[rows].astype(np.int64))] for rows in bar.track(batches, description="reading the streams")]
    continued = np.concatenate([*found, np.zeros(0, np.int64)])
    return sources[continued].tolist(), list(windows[continued])


def table_of(sources: list[str], rows: list[np.ndarray], kind: str) -> pl.DataFrame:
    """Rows of one kind, of no stratum, as a table."""
    data = [(source, kind, None, 0, row.tolist()) for source, row in zip(sources, rows, strict=True)]
    return pl.DataFrame(data, schema={name: SCHEMA[name] for name in COLUMNS}, orient="row")


def draw_templates(
    documents: pl.DataFrame, tokenizer: Tokenizer, offer: OfferConfig, length: int, rng: np.random.Generator
) -> dict[str, list[np.ndarray]]:
    """Templates of each kind, of which no two share 32 consecutive tokens. Those not trained on are drawn first, so that they find room."""
    taken: set[int] = set()
    chosen: dict[str, list[np.ndarray]] = {}
    for part in ("unseen", "renamed", "often", "seen"):
        for kind in templates.FAMILIES:
            name = kind if part == "seen" else f"{part}_{kind}"
            count = getattr(offer, f"{part}_{kind}s")
            chosen[name] = []
            candidates = candidates_of(documents, tokenizer, kind, part, 4 * count, length, rng)
            for row, hashes in zip(candidates, window_hashes(candidates, NEAR_DUPLICATE), strict=True):
                if len(chosen[name]) < count and taken.isdisjoint(hashes.tolist()):
                    taken.update(hashes.tolist())
                    chosen[name].append(row)
    return chosen


def candidates_of(
    documents: pl.DataFrame, tokenizer: Tokenizer, kind: str, part: str, count: int, length: int, rng: np.random.Generator
) -> np.ndarray:
    """Templates of a kind, int64 (n, length): those that the model was trained on, shuffled, or `count` others."""
    if part not in ("seen", "often"):
        return templates.draw(tokenizer, kind, count, length, part, rng)
    is_often = pl.col("reference_copies") < pl.col("copies")
    rows = documents.filter((pl.col("kind") == kind) & (is_often if part == "often" else ~is_often))["tokens"].to_list()
    return rng.permutation(np.array(rows, np.int64).reshape(-1, length))
