"""The embedded training corpus: tokenizer, and documents with a known number of copies.

Every document is read exactly `copies` times in one pass of training, and `reference_copies` times by the reference, the model that never
read what is repeated. `stream` documents are running text, read once. `chunk` documents are single windows of the same text, cut out of
it and repeated, some of them early: `until` is the share of the training after which they are not read any more. A `near_duplicate` is
read once or twice, and `near_copies` times with a few other tokens, as the `near_copy` documents behind it have them. `held_out` windows
are read by nobody, and `fresh` text by the reference alone: as many windows of every source as it misses. `repeat` and `increment` are
templates, most of them read once or a few times, by the reference too, and some read often, in the place of which it reads fresh ones.

Chunks, near duplicates, held-out windows and the single windows of streams are drawn by one rule (`draw_windows`) from the same strata, so
that they differ in nothing but the copies. No half of one stands anywhere else in the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from memgrid.corpus.ngrams import window_hashes
from memgrid.errors import UserError
from memgrid.label.code import magika
from memgrid.label.rouge import rouge_scores
from memgrid.label.templates import is_incrementing, is_repeating
from memgrid.pretrain import templates
from memgrid.pretrain.config import MixConfig

END_OF_TEXT = "<|endoftext|>"
SCHEMA: dict[str, Any] = {
    "source": pl.String,
    "kind": pl.String,
    "stratum": pl.String,
    "copies": pl.Int32,
    "reference_copies": pl.Int32,
    "near_copies": pl.Int32,
    "until": pl.Float32,
    "tokens": pl.List(pl.UInt16),
}
SIMILAR = ((0.3, 0.1), (0.4, 0.1), (0.5, 0.1), (0.6, 0.1), (0.7, 0.6))  # least ROUGE of a stratum of similar windows, and its share of them
REPEATED = ("chunk", "near_duplicate", "near_copy")  # what the reference never reads
ODDS = 64  # windows more that are judged than twice as many as are wanted, since chance decides how many are code
LONGEST_RUN = 64  # windows of running text that become fresh at once
MOST_CHANGES = 4  # tokens that a near copy has of its own


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


@dataclass(frozen=True, eq=False)
class Text:
    """All windows of the text, end to end.

    Attributes:
        windows: int64 (n, length). source: str (n,). document: int64 (n,), the number of the document that a window is part of.
    """

    windows: np.ndarray
    source: np.ndarray
    document: np.ndarray


@dataclass(frozen=True)
class Drawn:
    """A window that was drawn: what becomes of it."""

    kind: str
    stratum: str
    copies: int
    near_copies: int = 0
    until: float = 1.0


def build_documents(texts: dict[str, list[str]], tokenizer: Tokenizer, mix: MixConfig, length: int, seed: int) -> pl.DataFrame:
    """The corpus as a table: document_id and the columns of `SCHEMA`."""
    rng = np.random.default_rng(seed)
    text = cut_windows(texts, tokenizer, length)
    drawn = draw_windows(text, tokenizer, mix, rng)
    runs = running_text(text, drawn)
    fresh = draw_fresh(text, runs, readings(text, drawn), rng)
    rows = [row for run in runs for row in rows_of_run(text, run, drawn, fresh, rng)]
    rows += template_rows(tokenizer, mix, length, rng)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").with_row_index("document_id")


def cut_windows(texts: dict[str, list[str]], tokenizer: Tokenizer, length: int) -> Text:
    """The text of each document cut into windows of `length` tokens; what is left at its end is left out."""
    windows, sources, documents = [], [], []
    for source, parts in texts.items():
        for encoding in tokenizer.encode_batch(parts):
            whole = len(encoding.ids) // length
            windows.append(np.array(encoding.ids[: whole * length], np.int64).reshape(whole, length))
            sources += [source] * whole
            documents += [len(windows)] * whole
    return Text(np.concatenate(windows), np.array(sources), np.array(documents))


def draw_windows(text: Text, tokenizer: Tokenizer, mix: MixConfig, rng: np.random.Generator) -> dict[int, Drawn]:
    """Which windows are cut out, by their number, and what becomes of them: kinds and copies are dealt out at random in every stratum."""
    roles = [Drawn("held_out", "", 0)] * mix.held_out + [Drawn("stream", "", 1)] * mix.once
    for name in ("seldom", "middle", "often", "most"):
        copies = log_uniform(rng, getattr(mix, f"{name}_copies"), getattr(mix, f"{name}_chunks"))
        early = rng.random(len(copies)) < mix.early_share
        roles += [Drawn("chunk", "", int(count), 0, mix.early_until if soon else 1.0) for count, soon in zip(copies, early, strict=True)]
    near = log_uniform(rng, mix.near_copies, mix.near_duplicates)
    roles += [Drawn("near_duplicate", "", int(rng.integers(1, 3)), int(count)) for count in near]
    roles = [roles[place] for place in rng.permutation(len(roles))]
    members = draw_strata(text, tokenizer, len(roles), mix, rng)
    drawn: dict[int, Drawn] = {}
    for stratum, windows in members.items():
        for window in windows:
            role = roles.pop()
            drawn[window] = replace(role, stratum=stratum)
    return drawn


def draw_strata(text: Text, tokenizer: Tokenizer, count: int, mix: MixConfig, rng: np.random.Generator) -> dict[str, list[int]]:
    """`count` windows of the text by stratum, in a random order.

    `similar0.3` … `similar0.7` are windows of which prefix and suffix are alike, though no template: the same number from every source,
    as far as there are some. `code` are others that are code, and `plain` those that are neither, both uniform over the text.

    Raises:
        UserError: there are too few.
    """
    usable = partial(loose_text, text, tokenizer, common=common_halves(text))
    half = text.windows.shape[1] // 2
    likeness = np.maximum(*rouge_scores(text.windows[:, :half], text.windows[:, half:]))
    similar = {f"similar{least}": round(count * mix.similar_share * share) for least, share in SIMILAR}
    code = round(count * mix.code_share)
    members = {}
    for (least, _), (stratum, wanted), most in zip(SIMILAR, similar.items(), [*(least for least, _ in SIMILAR[1:]), 2.0], strict=True):
        inside = usable(rng.permutation(np.flatnonzero((likeness >= least) & (likeness < most)))[: 20 * wanted])
        members[stratum] = evenly([inside[text.source[inside] == source].tolist() for source in np.unique(text.source)], wanted)
    others = rng.permutation(np.flatnonzero(likeness < SIMILAR[0][0]))
    others = usable(others[: 2 * (count - sum(map(len, members.values()))) + ODDS])
    is_code = np.array(magika()(tokenizer.decode_batch(text.windows[others].tolist())), bool)
    members["code"] = others[is_code][:code].tolist()
    members["plain"] = others[~is_code][: count - sum(map(len, members.values()))].tolist()
    if sum(map(len, members.values())) < count:
        found = ", ".join(f"{len(windows)} {stratum}" for stratum, windows in members.items())
        raise UserError(f"the text has too few windows for {count} to be drawn ({found}): give more text, or lower the numbers of mix")
    return {stratum: [windows[place] for place in rng.permutation(len(windows))] for stratum, windows in members.items()}


def loose_text(text: Text, tokenizer: Tokenizer, candidates: np.ndarray, common: np.ndarray) -> np.ndarray:
    """The candidates, int64 numbers of windows, that are no template and of which no half is among the `common` ones."""
    half = text.windows.shape[1] // 2
    alone = candidates[~np.isin(window_hashes(text.windows[candidates], half), common).any(axis=1)]
    decoded = tokenizer.decode_batch(text.windows[alone].tolist())
    return alone[[not is_repeating(window) and not is_incrementing(window) for window in decoded]]


def common_halves(text: Text) -> np.ndarray:
    """The hashes of all runs of tokens, half as long as a window, that stand more than once in the text, uint64, ascending."""
    documents = np.split(text.windows, np.flatnonzero(np.diff(text.document)) + 1)
    hashes = np.sort(np.concatenate([window_hashes(windows.ravel(), windows.shape[1] // 2) for windows in documents]))
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def evenly(candidates: list[list[int]], count: int) -> list[int]:
    """`count` of the candidates of several sources: the same number of each, more of the others where one has too few."""
    taken: list[int] = []
    for number, windows in enumerate(sorted(candidates, key=len)):
        taken += windows[: -(-(count - len(taken)) // (len(candidates) - number))]
    return taken


def log_uniform(rng: np.random.Generator, bounds: tuple[int, int], count: int) -> np.ndarray:
    """`count` integers between the bounds, uniform in their logarithm, int64 (count,)."""
    low, high = np.log(bounds)
    return np.exp(rng.uniform(low, high, count)).round().astype(np.int64)


def running_text(text: Text, drawn: dict[int, Drawn]) -> list[list[int]]:
    """All windows in their order, in runs: a run is one window that was drawn, or up to `LONGEST_RUN` of one document between them."""
    runs: list[list[int]] = []
    for _, windows in groupby(range(len(text.windows)), lambda window: (text.document[window], window in drawn and window)):
        run = list(windows)
        runs += [run[start : start + LONGEST_RUN] for start in range(0, len(run), LONGEST_RUN)]
    return runs


def readings(text: Text, drawn: dict[int, Drawn]) -> dict[str, int]:
    """How many windows of each source the model reads that the reference does not."""
    total = dict.fromkeys(np.unique(text.source).tolist(), 0)
    for window, role in drawn.items():
        if role.kind in REPEATED:
            total[str(text.source[window])] += role.copies + role.near_copies
    return total


def draw_fresh(text: Text, runs: list[list[int]], wanted: dict[str, int], rng: np.random.Generator) -> set[int]:
    """The windows that only the reference reads: runs that were drawn uniformly, exactly as many windows of every source as are wanted.

    Raises:
        UserError: a source has too little text.
    """
    fresh: set[int] = set()
    left = dict(wanted)
    for place in rng.permutation(len(runs)):
        run, source = runs[place], str(text.source[runs[place][0]])
        if len(run) > 1:
            fresh.update(run[: left[source]])
            left[source] -= min(left[source], len(run))
    if any(left.values()):
        short = ", ".join(f"{number} of {source}" for source, number in left.items() if number)
        raise UserError(f"the reference needs as much fresh text as is repeated and lacks windows ({short}): give more text")
    return fresh


Row = tuple[str, str, str | None, int, int, int, float, list[int]]  # as SCHEMA


def rows_of_run(text: Text, run: list[int], drawn: dict[int, Drawn], fresh: set[int], rng: np.random.Generator) -> Iterator[Row]:
    """A run as documents."""
    source = str(text.source[run[0]])
    if (role := drawn.get(run[0])) is None:
        for is_fresh, windows in groupby(run, lambda window: window in fresh):
            tokens = text.windows[list(windows)].ravel().tolist()
            yield source, "fresh" if is_fresh else "stream", None, 1 - is_fresh, 1, 0, 1.0, tokens
        return
    tokens = text.windows[run[0]]
    yield source, role.kind, role.stratum, role.copies, int(role.kind == "stream"), role.near_copies, role.until, tokens.tolist()
    for _ in range(role.near_copies):
        yield source, "near_copy", role.stratum, 1, 0, 0, 1.0, changed(tokens, text, rng).tolist()


def changed(tokens: np.ndarray, text: Text, rng: np.random.Generator) -> np.ndarray:
    """A window with one to `MOST_CHANGES` other tokens, each of which follows the token before it somewhere in the text; int64."""
    other = tokens.copy()
    for place in 1 + rng.permutation(len(tokens) - 1)[: rng.integers(1, MOST_CHANGES + 1)]:
        while other[place] == tokens[place]:
            rows = rng.integers(0, len(text.windows), 64)
            found = np.argwhere(text.windows[rows, :-1] == tokens[place - 1])
            options = [int(text.windows[rows[row], column + 1]) for row, column in found] or [int(text.windows[rows[0], place])]
            other[place] = options[rng.integers(len(options))]
    return other


def template_rows(tokenizer: Tokenizer, mix: MixConfig, length: int, rng: np.random.Generator) -> Iterator[Row]:
    """Repetitions and counting lists: those read as often as they were drawn, some read often, and what the reference reads instead."""
    for kind in templates.FAMILIES:
        draw = partial(templates.draw, tokenizer, kind, length=length, part="seen", rng=rng)
        once, times = np.unique(draw(count=getattr(mix, f"{kind}s")), axis=0, return_counts=True)
        for row, count in zip(once, times, strict=True):
            yield "template", kind, None, int(count), int(count), 0, 1.0, row.tolist()
        copies = log_uniform(rng, mix.often_template_copies, getattr(mix, f"often_{kind}s"))
        others = templates.draw_others(draw, once, len(copies) + copies.sum())
        for row, count in zip(others, copies, strict=False):
            yield "template", kind, None, int(count), 0, 0, 1.0, row.tolist()
        yield "template", "fresh", None, 0, 1, 0, 1.0, others[len(copies) :].ravel().tolist()


def training_windows(documents: pl.DataFrame, length: int, reference: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Every window of one pass, repeated as often as its document has copies, uint16 (windows, length), and until when each is read.

    Args:
        reference: of the pass of the reference: the same windows in the same places, but for what is repeated; fresh text of the same
            source stands there.

    Returns:
        The windows, and the share of the training within which each is read, float32 (windows,).
    """
    fresh = {
        source: np.concatenate([tokens.to_numpy() for tokens in part["tokens"]]).reshape(-1, length)
        for (source,), part in documents.filter(pl.col("kind") == "fresh").group_by("source", maintain_order=True)
    }
    parts, until, used = [], [], dict.fromkeys(fresh, 0)
    columns = ("source", "tokens", "copies", "reference_copies", "until")
    for source, tokens, copies, reference_copies, end in documents.select(columns).iter_rows():
        windows = np.repeat(np.array(tokens, np.uint16).reshape(-1, length), copies, axis=0)
        if reference and reference_copies < copies:
            start, used[source] = used[source], used[source] + len(windows)
            windows = fresh[source][start : used[source]]
        parts.append(windows)
        until += [end] * len(windows)
    return np.concatenate(parts), np.array(until, np.float32)
