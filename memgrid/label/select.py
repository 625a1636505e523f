"""Selection: which sequences a run trains and evaluates on; balanced, seeded, without near-duplicates on both sides.

Every sequence has a fixed priority, a hash of its tokens and the seed, and a class takes its lowest priorities: sampling is uniform,
and neighbouring settings of the grid share most samples. Priorities and sides depend on the corpus alone, so that they are drawn once
for all settings of a sweep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from memgrid.config.schema import SelectConfig
from memgrid.corpus.ngrams import content_groups, sequence_hashes
from memgrid.errors import UserError
from memgrid.taxonomy import UNDECIDED

GROUP_NGRAM = 32  # sequences that share this many consecutive tokens (half a sequence) are near-duplicates
SPLIT_SALT = 0x5EED  # the sides are drawn independently of the priorities
SIDES = ("train", "eval")
STRATUM = 1.2  # matched sequences differ in duplicates (and one) by less than this factor: below 8 duplicates, not at all


@dataclass(frozen=True, eq=False)
class Draw:
    """The order in which sequences are taken, and the side each belongs to.

    Attributes:
        rows: int64 (n,); rows of the corpus in the order of their priority, exact copies left out.
        on_eval: bool (n,); whether the row at that place is on the eval side.
    """

    rows: np.ndarray
    on_eval: np.ndarray


def draw(sequence_id: np.ndarray, tokens: np.ndarray, config: SelectConfig, seed: int) -> Draw:
    """Fix priorities and sides for a whole corpus: tokens int32 (N, length), sequence_id int64 (N,).

    `leak_free`: exact copies are one sample, and content decides the order and the side. Otherwise the id does, for every row.
    """
    if config.leak_free:
        rows = distinct(tokens, sequence_id)
        rows = rows[np.argsort(sequence_hashes(tokens[rows], seed), kind="stable")]
        hashes = group_hashes(tokens, seed ^ SPLIT_SALT)
    else:
        ids = np.ascontiguousarray(sequence_id, np.int64).view(np.uint32).reshape(-1, 2)
        rows = np.argsort(sequence_hashes(ids, seed), kind="stable")
        hashes = sequence_hashes(ids, seed ^ SPLIT_SALT)
    share = config.eval_per_class / (config.train_per_class + config.eval_per_class)
    return Draw(rows, (hashes < np.uint64(share * np.iinfo(np.uint64).max))[rows])


def undecided_rows(drawn: Draw, classes: np.ndarray, open_classes: list[bool], config: SelectConfig) -> np.ndarray:
    """Rows of the corpus, int64, whose undecided class has to be known before `select` can choose; empty where it already can.

    A side is settled when all its classes are full before the first undecided row, whatever comes after; full is what is wanted, or all
    that the smallest class can have. Until then the next of its undecided rows are asked for, as many as the side will take in all.

    Args:
        open_classes: for every class, whether an undecided sequence may belong to it.
    """
    ordered = classes[drawn.rows]
    if config.non_memorized == "matched":  # who finds a match, and with which class, hangs on every row
        return drawn.rows[ordered == UNDECIDED]
    asked = []
    for side in SIDES:
        here = np.flatnonzero(drawn.on_eval if side == "eval" else ~drawn.on_eval)
        unknown = np.flatnonzero(ordered[here] == UNDECIDED)
        if len(unknown):
            on_side = ordered[here]
            number = len(open_classes)
            before, total = (np.bincount(part[part >= 0], minlength=number) for part in (on_side[: unknown[0]], on_side))
            full = min([config.train_per_class if side == "train" else config.eval_per_class, *total[~np.array(open_classes)]])
            # Classes on which no answer hangs are read to their end: theirs are known wherever they stand.
            if min(before[open_classes], default=full) < full:
                asked.append(here[unknown[: full * number]])
    return drawn.rows[np.concatenate(asked)] if asked else np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Match:
    """What matched negatives are drawn by: the classes `negative` and `target`, and int64 (N,) `duplicates` of every sequence."""

    negative: int
    target: int
    duplicates: np.ndarray


def match(classes: np.ndarray, duplicates: np.ndarray, negative: int, number: int) -> Match:
    """Negatives are matched to the class with the most duplicates (the highest median): the one that they are hardest to tell from.

    Args:
        classes: int8 (N,), all decided. negative: the class of what is not memorized. number: of classes.
    """
    medians = [np.median(counts) if len(counts := duplicates[classes == label]) else -1.0 for label in range(number)]
    medians[negative] = -2.0
    return Match(negative, int(np.argmax(medians)), duplicates)


def paired(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in `left` and `right`, aligned: each of left, in its order, with the first of right that is equally frequent and still free.

    Equally frequent: duplicates in the same stratum of a logarithmic scale. Whoever finds no partner is left out, on either side, so that
    the first n pairs have the same distribution for every n.

    Args:
        left, right: duplicates, int64 (n,) and (m,).
    """
    keys = []
    for duplicates in (left, right):
        stratum = np.floor(np.log1p(duplicates) / np.log(STRATUM)).astype(np.int64)
        order = np.argsort(stratum, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.searchsorted(stratum[order], stratum[order])
        keys.append(stratum << 40 | rank)
    _, ours, theirs = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    order = np.argsort(ours)
    return ours[order], theirs[order]


def select(
    drawn: Draw, sequence_id: np.ndarray, classes: np.ndarray, titles: list[str], config: SelectConfig, matched: Match | None = None
) -> pl.DataFrame:
    """The samples of a run, sorted by sequence_id: sequence_id int64, label int8, title, side ("train" or "eval").

    Args:
        classes: int8 (N,), index into `titles`, negative for sequences that no class took.
        matched: take the two classes that it names in pairs of equally frequent sequences.

    Raises:
        UserError: a class has fewer samples than the least that the configuration allows; the sentence names class, wanted and available.
    """
    wanted = {"train": config.train_per_class, "eval": config.eval_per_class}
    least = {"train": config.min_train_per_class, "eval": config.min_eval_per_class}
    ordered = classes[drawn.rows]
    parts = []
    for side in SIDES:
        here = drawn.on_eval if side == "eval" else ~drawn.on_eval
        places = [np.flatnonzero(here & (ordered == label)) for label in range(len(titles))]
        if matched is not None:
            both = [places[label] for label in (matched.target, matched.negative)]
            pairs = paired(*(matched.duplicates[drawn.rows[side_rows]] for side_rows in both))
            places[matched.target], places[matched.negative] = (side_rows[pair] for side_rows, pair in zip(both, pairs, strict=True))
        available = [len(inside) for inside in places]
        short = int(np.argmin(available))
        if available[short] < least[side]:
            raise UserError(too_few(titles, short, available[short], side, wanted[side], least[side], matched))
        count = min(wanted[side], *available)
        for label, inside in enumerate(places):
            ids = sequence_id[drawn.rows[inside[:count]]]
            parts.append(
                pl.DataFrame({"sequence_id": ids, "label": np.full(count, label, np.int8), "title": [titles[label]] * count, "side": side})
            )
    return pl.concat(parts).sort("sequence_id")


def too_few(titles: list[str], short: int, available: int, side: str, wanted: int, least: int, matched: Match | None) -> str:
    """Why a run is refused, and what to do."""
    like, instead = "", "change delta, rho or the taxonomy"
    if matched is not None and short in (matched.negative, matched.target):
        other = titles[matched.target if short == matched.negative else matched.negative]
        like, instead = f" with as many duplicates as one of {other!r}", "use select.non_memorized=any"
    return (
        f"class {titles[short]!r} has {available} samples{like} for the {side} side, {wanted} were wanted and {least} are the least: "
        f"lower select.min_{side}_per_class, or {instead}"
    )


def quartiles(samples: pl.DataFrame, titles: list[str], matched: Match, rows: np.ndarray) -> str:
    """What matching came to, such as `duplicates matched: 12, 25, 41 (quartiles) of Non-Memo, 12, 26, 41 of Recall`.

    Args:
        rows: where the samples stand in the corpus.
    """
    labels = samples["label"].to_numpy()
    both = []
    for label in (matched.negative, matched.target):
        numbers = np.percentile(matched.duplicates[rows[labels == label]], [25, 50, 75])
        both.append(f"{', '.join(f'{number:.0f}' for number in numbers)} of {titles[label]}")
    return f"duplicates matched: quartiles {both[0]}, {both[1]}"


def distinct(tokens: np.ndarray, sequence_id: np.ndarray) -> np.ndarray:
    """The rows without exact copies: of equal sequences the one with the lowest id stays. Ascending row numbers, int64."""
    ordered = np.argsort(sequence_id, kind="stable")
    _, first = np.unique(sequence_hashes(tokens)[ordered], return_index=True)
    return np.sort(ordered[first])


def group_hashes(tokens: np.ndarray, seed: int) -> np.ndarray:
    """One uniform hash per content group, uint64 (N,): the same for all sequences that share a long n-gram, directly or through others."""
    hashes = sequence_hashes(tokens, seed)
    if not len(tokens):
        return hashes
    groups = content_groups(tokens, min(GROUP_NGRAM, tokens.shape[1]))
    # A group's draw is its members' lowest hash, so that it depends on content alone and not on the order of rows.
    lowest = np.full(len(tokens), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, groups, hashes)
    # Hashed again, since the lowest of many is not uniform.
    return sequence_hashes(lowest[groups].view(np.uint32).reshape(-1, 2), seed)
