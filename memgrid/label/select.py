"""Selection: which sequences a run trains and evaluates on; balanced, seeded, without near-duplicates on both sides.

Every sequence has a fixed priority, a hash of its tokens and the seed, and a class takes its lowest priorities: sampling is uniform,
and neighbouring settings of the grid share most samples. Priorities and sides depend on the corpus alone, so that they are drawn once
for all settings of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from memgrid.config.schema import SelectConfig
from memgrid.corpus.ngrams import seeded_hashes, sequence_hashes
from memgrid.errors import UserError
from memgrid.label.groups import content_groups
from memgrid.taxonomy import UNDECIDED

GROUP_NGRAM = 32  # sequences that share this many consecutive tokens (half a sequence) are near-duplicates
SPLIT_SALT = 0x5EED  # the sides are drawn independently of the priorities
SIDES = ("train", "eval")
FIRST_BLOCK = 1 << 15  # places of a draw that are looked at first
STRATUM = 1.2  # matched sequences differ in duplicates (and one) by less than this factor: below 8 duplicates, not at all


@dataclass(frozen=True, eq=False)
class Draw:
    """The order in which sequences are taken, and the side each belongs to.

    Attributes:
        rows: int32 (n,), int64 in corpora of 2 billion rows; rows of the corpus in the order of their priority, exact copies left out.
        on_eval: bool (n,); whether the row at that place is on the eval side.
    """

    rows: np.ndarray
    on_eval: np.ndarray


def draw(sequence_id: np.ndarray, tokens: np.ndarray, config: SelectConfig, seed: int) -> Draw:
    """Fix priorities and sides for a whole corpus: tokens integers (N, length), sequence_id int64 (N,).

    `leak_free`: exact copies are one sample, and content decides the order and the side. Otherwise the id does, for every row.
    """
    decides = tokens if config.leak_free else np.ascontiguousarray(sequence_id, np.int64).view(np.uint32).reshape(-1, 2)
    priority, side = seeded_hashes(decides, seed, seed ^ SPLIT_SALT)
    rows = distinct(priority, sequence_id) if config.leak_free else np.argsort(priority, kind="stable")
    if config.leak_free:
        side = group_hashes(side, tokens, seed ^ SPLIT_SALT)
    share = config.eval_per_class / (config.train_per_class + config.eval_per_class)
    on_eval = side < np.uint64(share * np.iinfo(np.uint64).max)
    return Draw(rows.astype(np.int32 if len(tokens) < 2**31 else np.int64), on_eval[rows])


@dataclass(eq=False)
class Places:
    """What was found of one side, in the order of priorities: the places in the draw of each class, in parts, and of the undecided."""

    by_class: list[list[np.ndarray]]
    undecided: list[np.ndarray]

    def count(self, label: int) -> int:
        """Places of a class so far; of the undecided with `UNDECIDED`."""
        return sum(map(len, self.undecided if label == UNDECIDED else self.by_class[label]))

    def of(self, label: int) -> np.ndarray:
        """The places of a class, or of the undecided, int64."""
        parts = self.undecided if label == UNDECIDED else self.by_class[label]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def look(drawn: Draw, classes: np.ndarray, number: int, enough: Callable[[str, Places], bool]) -> dict[str, Places]:
    """Go through a draw until both sides have enough, or to its end; of a corpus of millions a small part is mostly enough.

    Args:
        number: of classes. enough: whether what was found of a side suffices.
    """
    found = {side: Places([[] for _ in range(number)], []) for side in SIDES}
    start, size = 0, FIRST_BLOCK
    while start < len(drawn.rows) and not all(enough(side, places) for side, places in found.items()):
        block = slice(start, start + size)
        ordered, on_eval = classes[drawn.rows[block]], drawn.on_eval[block]
        for side, places in found.items():
            here = on_eval if side == "eval" else ~on_eval
            for label, parts in ((UNDECIDED, places.undecided), *enumerate(places.by_class)):
                parts.append(start + np.flatnonzero(here & (ordered == label)))
        start, size = start + size, 2 * size
    return found


def undecided_rows(drawn: Draw, classes: np.ndarray, open_classes: list[bool], config: SelectConfig) -> np.ndarray:
    """Rows of the corpus, int64, whose undecided class has to be known before `select` can choose; empty where it already can.

    A side is settled when all its classes are full before the first undecided row, whatever comes after; full is what is wanted, or all
    that the smallest class can have. Until then the next of its undecided rows are asked for, as many as the side will take in all.

    Args:
        open_classes: for every class, whether an undecided sequence may belong to it.
    """
    if config.non_memorized == "matched":  # who finds a match, and with which class, hangs on every row
        return drawn.rows[classes[drawn.rows] == UNDECIDED].astype(np.int64)
    wanted = {"train": config.train_per_class, "eval": config.eval_per_class}
    labels = range(len(open_classes))
    # Classes on which no answer hangs are read to their end where they are not full: theirs are known wherever they stand.
    closed, hanging = ([label for label in labels if open_classes[label] is is_open] for is_open in (False, True))

    def enough(side: str, places: Places) -> bool:
        """Whether the answer for a side cannot change with what comes after."""
        if any(places.count(label) < wanted[side] for label in closed):
            return False
        unknown = places.count(UNDECIDED)
        return unknown >= wanted[side] * len(labels) or (not unknown and all(places.count(label) >= wanted[side] for label in hanging))

    asked = []
    for side, places in look(drawn, classes, len(labels), enough).items():
        unknown = places.of(UNDECIDED)
        if len(unknown):
            full = min([wanted[side], *(places.count(label) for label in closed)])
            before = [int(np.searchsorted(places.of(label), unknown[0])) for label in hanging]
            if min(before, default=full) < full:
                asked.append(unknown[: full * len(labels)])
    return drawn.rows[np.concatenate(asked)].astype(np.int64) if asked else np.zeros(0, np.int64)


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
    labels = range(len(titles))
    # Whom a sequence is paired with hangs on all.
    every = look(
        drawn,
        classes,
        len(titles),
        lambda side, found: matched is None and all(found.count(label) >= wanted[side] for label in labels),
    )
    parts = []
    for side in SIDES:
        places = [every[side].of(label) for label in labels]
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


def distinct(priority: np.ndarray, sequence_id: np.ndarray) -> np.ndarray:
    """The rows in the order of their priority, without exact copies: of equal sequences the one with the lowest id stays; int64.

    Args:
        priority: uint64 (N,), which equal sequences have in common.
    """
    order = np.argsort(priority, kind="stable")
    ordered = priority[order]
    first = np.ones(len(order), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    rows = order[first]
    copied = ~first
    copied[:-1] |= ~first[1:]
    runs, copies = np.cumsum(first)[copied] - 1, order[copied]
    lowest = copies[np.lexsort((sequence_id[copies], runs))]
    rows[runs[np.diff(runs, prepend=-1) > 0]] = lowest[np.diff(runs, prepend=-1) > 0]
    return rows


def group_hashes(hashes: np.ndarray, tokens: np.ndarray, seed: int) -> np.ndarray:
    """One uniform hash per content group, uint64 (N,): the same for all sequences that share a long n-gram, directly or through others.

    Args:
        hashes: uint64 (N,), the sequences' own with this seed.
    """
    if not len(tokens):
        return hashes
    groups = content_groups(tokens, min(GROUP_NGRAM, tokens.shape[1]))
    # A group's draw is its members' lowest hash, so that it depends on content alone and not on the order of rows.
    lowest = np.full(len(tokens), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, groups, hashes)
    # Hashed again, since the lowest of many is not uniform.
    return sequence_hashes(lowest[groups].view(np.uint32).reshape(-1, 2), seed)
