"""Extraction: attention of the samples that the store lacks, while the model decodes them."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np

from memgrid.config.names import ATTENTION, claim_home
from memgrid.config.schema import ExtractConfig
from memgrid.corpus.corpus import Corpus
from memgrid.io.display import progress_bar
from memgrid.lm.model import LanguageModel, ModelIdentity
from memgrid.lm.scores.scores import Scores, zlib_bytes
from memgrid.store.shard import Identity, Maps
from memgrid.store.sharing import shared_work
from memgrid.store.store import Store, owner_of_store, store_name
from memgrid.store.writer import ShardWriter

SHARDS_A_SLICE = 4  # of work: little for another process to wait for ...
BATCHES_A_SLICE = 4  # ... and enough for full batches


class LabelWarning(UserWarning):
    """The model does not do what the corpus says of it."""


def open_store(root: Path, corpus: Corpus, llm: ModelIdentity, compress: bool = False, decoded: str = "continuation") -> Store:
    """The store of one LLM and corpus, `<root>/attention/<llm>/<corpus>`, or `<corpus>@<decoded>` (no corpus has an @).

    With `decoded` continuation it has the first name; see `memgrid.config.derive.decoded` for the others.

    Its shards name the corpus so, too: a store takes none of the other kind. Memorized sequences are the same in both. Another checkpoint
    of the same name has a folder of its own; another name of the same weights has the same, whose shards say the name that came first.
    """
    length = corpus.tokens.shape[1]
    name = store_name(corpus.name, decoded)
    folder, owner = claim_home(root, ATTENTION, name, llm, owner_of_store)
    return Store(folder, Identity(llm.name, owner.revision, llm.fingerprint, name, corpus.k, length, llm.layers), compress=compress)


def filled(array: np.ndarray, size: int) -> np.ndarray:
    """The rows repeated in turn until there are `size`: a batch that is full.

    What a model computes of a sequence depends, in its last bit, on how many are read at once (another shape is another kernel), but not on
    which. With every batch full, a sample is the same whatever the store lacked when it was extracted.
    """
    return np.resize(array, (size, *array.shape[1:]))


def arranged(rows: np.ndarray, memorized: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Rows in the order in which they are read in batches of `size`, and how many of them fill whole batches.

    Sequences that need a continuation stand together: their batches are decoded token by token. What is left of both kinds comes last.
    """
    kinds = [rows[~memorized[rows]], rows[memorized[rows]]]
    cuts = [len(kind) - len(kind) % size for kind in kinds]
    parts = [*(kind[:cut] for kind, cut in zip(kinds, cuts, strict=True)), *(kind[cut:] for kind, cut in zip(kinds, cuts, strict=True))]
    return np.concatenate(parts), sum(cuts)


def decode(lm: LanguageModel, corpus: Corpus, rows: np.ndarray, memorized: np.ndarray) -> np.ndarray:
    """What the model reads when it decodes each sequence, int32 (rows, length).

    A memorized sequence is its own continuation; the others are continued greedily.
    """
    decoded = corpus.tokens[rows].astype(np.int32)
    foreign, size = np.flatnonzero(~memorized[rows]), lm.batch_size(corpus.tokens.shape[1])
    for start in range(0, len(foreign), size):
        part = foreign[start : start + size]
        continued = lm.continue_greedily(filled(corpus.prefix[rows[part]], size), corpus.suffix.shape[1])
        decoded[part, corpus.k :] = continued[: len(part)]
    return decoded


def extract(
    store: Store,
    lm: LanguageModel,
    corpus: Corpus,
    wanted: np.ndarray,
    memorized: np.ndarray,
    confidence: np.ndarray,
    config: ExtractConfig,
    decoded: str = "continuation",
) -> int:
    """Fill the store with every wanted sequence that it lacks, a shard at a time; returns how many this process computed.

    Other processes may do the same at the same time: they share the work, see `memgrid.store.sharing`.

    Args:
        wanted: sequence ids, int64. memorized, confidence: labels of every sequence of the corpus, in its order.
        decoded: what is not memorized is read with the model's own `continuation`, or with its true `suffix`.
    """
    missing, disputed, extracted, size = store.missing(wanted), 0, 0, lm.batch_size(corpus.tokens.shape[1])
    with progress_bar() as progress, closing(turns(store, corpus, missing, memorized, config, size)) as work:
        task = progress.add_task("extracting attention", total=len(missing))
        for rows in work:
            with ShardWriter(store, config.shard_samples) as writer:
                for start in range(0, len(rows), size):
                    part = rows[start : start + size]
                    maps, doubted = extract_batch(lm, corpus, part, memorized, confidence, decoded)
                    writer.add(maps)
                    disputed += doubted
                    progress.advance(task, len(part))
            extracted += len(rows)
    if disputed:
        what = f"{disputed} of the {extracted} extracted sequences memorized that llm {lm.identity.name!r} does not continue word for word"
        warnings.warn(f"corpus {corpus.name!r} calls {what}: they keep the corpus's label", LabelWarning, stacklevel=2)
    return extracted


def turns(
    store: Store, corpus: Corpus, missing: np.ndarray, memorized: np.ndarray, config: ExtractConfig, size: int
) -> Generator[np.ndarray]:
    """The rows that this process is to read, a few shards at a time, in batches of `size`, which are whole but for the last ones."""

    def whole_batches(ids: np.ndarray) -> np.ndarray:
        """Those of some ids that fill whole batches: the others can wait for more."""
        rows, full = arranged(corpus.rows_of(np.sort(ids)), memorized, size)
        return corpus.sequence_id[rows[:full]]

    turn = max(SHARDS_A_SLICE * config.shard_samples, BATCHES_A_SLICE * size)
    with closing(shared_work(store.folder / ".claims", missing, store.missing, turn, whole_batches)) as work:
        for ids in work:
            yield arranged(corpus.rows_of(np.sort(ids)), memorized, size)[0]


def extract_batch(
    lm: LanguageModel, corpus: Corpus, rows: np.ndarray, memorized: np.ndarray, confidence: np.ndarray, read: str = "continuation"
) -> tuple[Maps, int]:
    """A batch's maps, and how many of its sequences the corpus calls memorized that the model does not continue word for word."""
    decoded = corpus.tokens[rows].astype(np.int32) if read == "suffix" else decode(lm, corpus, rows, memorized)
    # How sure the model is of what is memorized, labels know that did not come with the corpus; of the others, the pass that reads them.
    sure = np.where(memorized[rows], confidence[rows], np.nan).astype(np.float32)
    count = len(rows)
    whole, pools = lm.score_and_pool(filled(decoded, lm.batch_size(decoded.shape[1])), corpus.k)
    scores = whole.of(slice(count))
    disputed = ~scores.memorized & memorized[rows] & np.isnan(sure)
    # A greedy continuation's most probable tokens are its tokens: both measures are then the same.
    own = np.where(memorized[rows], scores.confidence, scores.suffix_probability)
    sure = np.where(np.isnan(sure), own, sure)
    maps = {pool: values[:count] for pool, values in pools.items()}
    return Maps(corpus.sequence_id[rows], decoded, sure, maps, **measured(lm, decoded, scores)), int(disputed.sum())


def measured(lm: LanguageModel, decoded: np.ndarray, scores: Scores) -> dict[str, np.ndarray]:
    """What a store keeps of sequences beside their attention: how probable their tokens are, and how long their text is for zlib."""
    assert scores.logprob is not None
    return {"logprob": scores.logprob, "min_k": scores.min_k_plus, "zlib": zlib_bytes(lm.detokenize(decoded))}


def score_and_extract(store: Store, lm: LanguageModel, corpus: Corpus, config: ExtractConfig, rows: slice = slice(None)) -> list[Scores]:
    """Read the sequences of some rows once: their scores, and into the store the attention of the memorized ones that it lacks."""
    ids, tokens = corpus.sequence_id[rows], corpus.tokens[rows]
    lacking = np.isin(ids, store.missing(ids))
    scores = []
    size = lm.batch_size(tokens.shape[1])
    with progress_bar() as progress, ShardWriter(store, config.shard_samples) as writer:
        task = progress.add_task("reading sequences, keeping attention", total=len(corpus.tokens), completed=rows.start or 0)
        for start in range(0, len(tokens), size):
            batch = slice(start, start + size)
            count = len(tokens[batch])
            whole, pools = lm.score_and_pool(filled(tokens[batch], size), corpus.k)
            score = whole.of(slice(count))
            scores.append(score)
            kept = score.memorized & lacking[batch]
            if kept.any():
                mine, decoded = score.of(kept), tokens[batch][kept].astype(np.int32)
                maps = {pool: maps[:count][kept] for pool, maps in pools.items()}
                writer.add(Maps(ids[batch][kept], decoded, mine.confidence, maps, **measured(lm, decoded, mine)))
            progress.advance(task, count)
    return scores
