"""The draw: in which order sequences are taken, where the eval side ends, and what null taxonomies split by.

Each sequence has a priority, and each group of near-duplicates a lot. Lots below a bound are evaluated on, all others trained on, whatever
class a sequence is of. The bound is the share of the wanted samples that is wanted for evaluation. Where a class has so few samples that
this share of them is less than could be spared, the bound rises: evaluation is served first, since a class that cannot be evaluated was
trained on for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memgrid.config.schema import SelectConfig
from memgrid.corpus.ngrams import seeded_hashes, sequence_hashes
from memgrid.label.selection.groups import row_type, split_groups

GROUP_NGRAM = 32  # sequences that share this many consecutive tokens (half a sequence) are near-duplicates
SPLIT_SALT = 0x5EED  # lots are drawn independently of the priorities ...
COIN_SALT = 0xC014  # ... and coins of both
LOTS = 1 << 32  # a lot is below this
SPARED = 1 / 3  # of a small class, for evaluation, where a smaller share is wanted


@dataclass(frozen=True, eq=False)
class Draw:
    """The order in which sequences are taken, and the lot that decides the side of each.

    Attributes:
        rows: int32 (n,), int64 in corpora of 2 billion rows; rows of the corpus in the order of their priority, exact copies left out.
        lots: uint32 (n,); that of the row at that place. Near-duplicates have one lot, and the eval side takes the lowest.
    """

    rows: np.ndarray
    lots: np.ndarray

    def by_class(self, classes: np.ndarray, number: int) -> list[np.ndarray]:
        """The lots of each class, uint32, lowest first; those of the undecided are left out."""
        ordered = classes[self.rows]
        return [np.sort(self.lots[ordered == label]) for label in range(number)]

    def counts(self, classes: np.ndarray, number: int) -> list[int]:
        """How many sequences each class has, exact copies once."""
        ordered = classes[self.rows]
        return [int((ordered == label).sum()) for label in range(number)]


def draw(sequence_id: np.ndarray, tokens: np.ndarray, config: SelectConfig, seed: int, together: np.ndarray | None = None) -> Draw:
    """Fix priorities and lots for a whole corpus: tokens integers (N, length), sequence_id int64 (N,).

    `together`, int64 (N,): rows of equal numbers from 0 on are on one side.

    `leak_free`: exact copies are one sample, and content decides the order and the lot. Otherwise the id does, for every row.
    """
    decides = tokens if config.leak_free else np.ascontiguousarray(sequence_id, np.int64).view(np.uint32).reshape(-1, 2)
    priority, side = seeded_hashes(decides, seed, seed ^ SPLIT_SALT)
    rows = distinct(priority, sequence_id) if config.leak_free else np.argsort(priority)
    if config.leak_free:
        side = group_hashes(side, tokens, seed ^ SPLIT_SALT, together)
    lots = (side >> np.uint64(32)).astype(np.uint32)
    return Draw(rows.astype(row_type(len(tokens))), lots[rows])


def distinct(priority: np.ndarray, sequence_id: np.ndarray) -> np.ndarray:
    """The rows in the order of their priority, without exact copies: of equal sequences the one with the lowest id stays; int64.

    Args:
        priority: uint64 (N,), which equal sequences have in common.
    """
    order = np.argsort(priority)
    ordered = priority[order]
    first = np.ones(len(order), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    rows = order[first]
    copied = ~first
    copied[:-1] |= ~first[1:]
    runs, copies = np.cumsum(first)[copied] - 1, order[copied]
    lowest = copies[np.lexsort((sequence_id[copies], runs))]
    begins = np.diff(runs, prepend=-1) > 0
    rows[runs[begins]] = lowest[begins]
    return rows


def group_hashes(hashes: np.ndarray, tokens: np.ndarray, seed: int, together: np.ndarray | None) -> np.ndarray:
    """One uniform hash per group, uint64 (N,): the same for all that share a long n-gram or a pattern, directly or through others.

    Args:
        hashes: uint64 (N,), the sequences' own with this seed. together: as `draw`.
    """
    if not len(tokens):
        return hashes
    groups = split_groups(tokens, min(GROUP_NGRAM, tokens.shape[1]), together)
    # A group's draw is its members' lowest hash, so that it depends on content alone and not on the order of rows.
    lowest = np.full(len(tokens), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, groups, hashes)
    # Hashed again, since the lowest of many is not uniform.
    return sequence_hashes(lowest[groups].view(np.uint32).reshape(-1, 2), seed)


def share(config: SelectConfig) -> float:
    """The part of all wanted samples that is wanted for evaluation."""
    return config.eval_per_class / (config.train_per_class + config.eval_per_class)


def of_the_corpus(config: SelectConfig) -> int:
    """The bound where every class has samples in plenty."""
    return int(share(config) * LOTS)


def spared(samples: int, config: SelectConfig) -> int:
    """How many of a class's samples are kept for evaluation: as many as are wanted, but no more than a part of them.

    Where that is less than the least, the least is kept if training keeps its own.
    """
    part = int(samples * max(share(config), SPARED))
    return min(config.eval_per_class, max(part, min(config.min_eval_per_class, samples - config.min_train_per_class)))


def reserved(lots: Sequence[np.ndarray], config: SelectConfig) -> int:
    """The bound that suits all classes: each has as many samples below it as the one that can spare fewest, which all are cut down to.

    A class's near-duplicates share a lot, so that they may be more than is needed; no class gives up what training needs at least.

    Args:
        lots: those of each class, uint32, lowest first.
    """
    kept = min(spared(len(own), config) for own in lots)
    needed = max(int(own[kept - 1]) + 1 for own in lots) if kept else 0
    return min(max(of_the_corpus(config), needed), *(most(own, config) for own in lots))


def most(own: np.ndarray, config: SelectConfig) -> int:
    """The highest bound that leaves a class what training needs at least; of a class that has not even that, all."""
    place = len(own) - config.min_train_per_class
    return LOTS if place < 0 else int(own[place])


def settled(known: Sequence[np.ndarray], hanging: Sequence[int], config: SelectConfig) -> bool:
    """Whether the bound is what it will be, whatever becomes of the samples whose class is not known yet.

    Args:
        known: the lots of what is known of each class. hanging: the classes to which others may belong.
    """
    closed = [own for label, own in enumerate(known) if label not in hanging]
    kept = min([config.eval_per_class, *(spared(len(own), config) for own in closed)])
    usual = of_the_corpus(config)
    bound = reserved(closed, config) if closed else usual

    def is_enough(own: np.ndarray) -> bool:
        """More samples only lower the bound that a class needs, and raise the one that it bears."""
        needs_no_more = not kept or int(own[kept - 1]) < max(bound, usual)
        return needs_no_more and most(own, config) >= bound

    least = config.min_train_per_class
    return all(len(known[each]) >= least and spared(len(known[each]), config) >= kept and is_enough(known[each]) for each in hanging)


def coins(tokens: np.ndarray, seed: int) -> np.ndarray:
    """A coin for each sequence, bool (N,), the same for equal ones and another with each seed: from integers (N, length)."""
    return sequence_hashes(tokens, seed ^ COIN_SALT) >> np.uint64(63) == 1


def ranks(duplicates: np.ndarray, memorized: np.ndarray) -> np.ndarray:
    """The quantile of each sequence's duplicates among those of the memorized ones, float64 (N,), from 0 to 1.

    It is the share of the memorized that have fewer, and half of those that have as many: of two halves neither gets all that are equal.
    """
    among = np.sort(duplicates[memorized])
    below, upto = (np.searchsorted(among, duplicates, side) for side in ("left", "right"))
    ranked: np.ndarray = (below + upto) / (2 * max(1, len(among)))
    return ranked
