"""Selection: which sequences a run trains and evaluates on; balanced, seeded, without near-duplicates on both sides.

Every sequence has a fixed priority, a hash of its tokens and the seed, and a class takes its lowest priorities: sampling is uniform,
and neighbouring settings of the grid share most samples. Priorities and lots depend on the corpus alone, so that they are drawn once for
all settings of a sweep. The lowest lots are the eval side's: a share of the corpus, or more where a small class could not be evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from memgrid.config.schema import SelectConfig
from memgrid.errors import UserError
from memgrid.label.selection.draw import Draw, of_the_corpus, reserved, settled
from memgrid.label.selection.scarcity import refusal
from memgrid.taxonomy.taxonomy import UNDECIDED

SIDES = ("train", "eval")
FIRST_BLOCK = 32_768  # places of a draw that are looked at first
Advice = Callable[[int], str]  # the class that has too few → what would help
MATCHED = "use select.non_memorized=any"  # what helps where matching leaves too few
STRATUM = 1.2  # matched sequences differ in duplicates (and one) by less than this factor: below 8 duplicates, not at all


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


def look(drawn: Draw, classes: np.ndarray, number: int, bound: int, enough: Callable[[str, Places], bool]) -> dict[str, Places]:
    """Go through a draw until both sides have enough, or to its end; of a corpus of millions a small part is mostly enough.

    Args:
        number: of classes. bound: lots below it are on the eval side. enough: whether what was found of a side suffices.
    """
    found = {side: Places([[] for _ in range(number)], []) for side in SIDES}
    start, size = 0, FIRST_BLOCK
    while start < len(drawn.rows) and not all(enough(side, places) for side, places in found.items()):
        block = slice(start, start + size)
        ordered, on_eval = classes[drawn.rows[block]], drawn.lots[block] < bound
        for side, places in found.items():
            here = on_eval if side == "eval" else ~on_eval
            for label, parts in ((UNDECIDED, places.undecided), *enumerate(places.by_class)):
                parts.append(start + np.flatnonzero(here & (ordered == label)))
        start, size = start + size, 2 * size
    return found


def bound_of(drawn: Draw, classes: np.ndarray, number: int, config: SelectConfig) -> int:
    """Lots below it are on the eval side; see `memgrid.label.selection.draw`."""
    usual = of_the_corpus(config)
    if is_plenty(drawn, classes, number, usual, config):
        return usual
    return reserved(drawn.by_class(classes, number), config)


def is_plenty(drawn: Draw, classes: np.ndarray, number: int, bound: int, config: SelectConfig) -> bool:
    """Whether each class has all that is wanted to evaluate on below a bound, and above it what training needs at least."""
    enough = {"train": config.min_train_per_class, "eval": config.eval_per_class}

    def is_full(side: str, found: Places) -> bool:
        """Whether a side has that much of every class."""
        return all(found.count(label) >= enough[side] for label in range(number))

    return all(is_full(side, found) for side, found in look(drawn, classes, number, bound, is_full).items())


def undecided_rows(drawn: Draw, classes: np.ndarray, open_classes: list[bool], config: SelectConfig) -> np.ndarray:
    """Rows of the corpus, int64, whose undecided class has to be known before `select` can choose; empty where it already can.

    Args:
        open_classes: for every class, whether an undecided sequence may belong to it.
    """
    undecided = np.flatnonzero(classes[drawn.rows] == UNDECIDED)
    if config.non_memorized == "matched":  # who finds a match, and with which class, hangs on every row
        return drawn.rows[undecided].astype(np.int64)
    usual, number = of_the_corpus(config), len(open_classes)
    places = unsettled(drawn, classes, open_classes, usual, config)
    if not len(places) and len(undecided) and not is_plenty(drawn, classes, number, usual, config):
        # Where the eval side ends hangs on a class that is small, or seems so while few are known.
        lots = drawn.by_class(classes, number)
        if settled(lots, np.flatnonzero(open_classes).tolist(), config):
            places = unsettled(drawn, classes, open_classes, reserved(lots, config), config)
        else:
            places = undecided[: (config.train_per_class + config.eval_per_class) * number]
    return drawn.rows[places].astype(np.int64)


def unsettled(drawn: Draw, classes: np.ndarray, open_classes: list[bool], bound: int, config: SelectConfig) -> np.ndarray:
    """Places in a draw, int64, whose undecided class has to be known before the sides on both sides of a bound can be chosen.

    A side is settled when all its classes are full before the first undecided row, whatever comes after; full is what is wanted, or all
    that the smallest class can have. Until then the next of its undecided rows are asked for, as many as the side will take in all.
    """
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

    asked = [np.zeros(0, np.int64)]
    for side, places in look(drawn, classes, len(labels), bound, enough).items():
        unknown = places.of(UNDECIDED)
        if len(unknown):
            full = min([wanted[side], *(places.count(label) for label in closed)])
            before = [int(np.searchsorted(places.of(label), unknown[0])) for label in hanging]
            if min(before, default=full) < full:
                asked.append(unknown[: full * len(labels)])
    return np.concatenate(asked)


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
        stratum = (np.log1p(duplicates) / np.log(STRATUM)).astype(np.int64)
        order = np.argsort(stratum, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.searchsorted(stratum[order], stratum[order])
        keys.append(stratum << 40 | rank)
    _, ours, theirs = np.intersect1d(*keys, return_indices=True)
    order = np.argsort(ours)
    return ours[order], theirs[order]


def select(
    drawn: Draw,
    sequence_id: np.ndarray,
    classes: np.ndarray,
    titles: list[str],
    config: SelectConfig,
    matched: Match | None = None,
    advise: Advice = lambda _: "change delta, rho or the taxonomy",
) -> pl.DataFrame:
    """The samples of a run, sorted by sequence_id: sequence_id int64, label int8, title, side ("train" or "eval"), and the group uint32.

    Near-duplicates have one group; with `leak_free=false` each sample has its own.

    Args:
        classes: int8 (N,), index into `titles`, negative for sequences that no class took.
        matched: take the two classes that it names in pairs of equally frequent sequences.
        advise: what would help where a class has too few, from its index.

    Raises:
        UserError: a class has fewer samples than the least that is allowed; it says what every class has, and what would help.
    """
    wanted, labels = {"train": config.train_per_class, "eval": config.eval_per_class}, range(len(titles))
    bound = bound_of(drawn, classes, len(titles), config)

    def enough(side: str, found: Places) -> bool:
        """Whether a side is full; whom a sequence is paired with hangs on all."""
        return matched is None and all(found.count(each) >= wanted[side] for each in labels)

    parts = []
    for side, found in look(drawn, classes, len(titles), bound, enough).items():
        places = in_pairs([found.of(label) for label in labels], drawn, matched)
        count = min(wanted[side], *map(len, places))
        if count < getattr(config, f"min_{side}_per_class"):
            short, have = int(np.argmin(list(map(len, places)))), dict(zip(titles, drawn.counts(classes, len(titles)), strict=True))
            like = likeness(titles, short, matched)
            raise UserError(refusal(titles[short], len(places[short]), side, config, have, like, MATCHED if like else advise(short)))
        for label, inside in enumerate(place[:count] for place in places):
            ids, own = sequence_id[drawn.rows[inside]], {"title": [titles[label]] * count, "side": side, "group": drawn.lots[inside]}
            parts.append(pl.DataFrame({"sequence_id": ids, "label": np.full(count, label, np.int8), **own}))
    return pl.concat(parts).sort("sequence_id")


def in_pairs(places: list[np.ndarray], drawn: Draw, matched: Match | None) -> list[np.ndarray]:
    """The places of each class; of two that are matched, only those that found a partner."""
    if matched is None:
        return places
    both = [places[label] for label in (matched.target, matched.negative)]
    pairs = paired(*(matched.duplicates[drawn.rows[own]] for own in both))
    kept = dict(zip((matched.target, matched.negative), (own[pair] for own, pair in zip(both, pairs, strict=True)), strict=True))
    return [kept.get(label, own) for label, own in enumerate(places)]


def likeness(titles: list[str], short: int, matched: Match | None) -> str:
    """What the samples of a class had to be like, where they were matched."""
    if matched is None or short not in (matched.negative, matched.target):
        return ""
    return f" with as many duplicates as one of {titles[matched.target if short == matched.negative else matched.negative]!r}"


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
