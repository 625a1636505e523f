"""Groups of sequences that belong on one side of a split: those that share a long run of tokens, and repetitions of one pattern."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from memgrid.corpus.ngrams import row_blocks, window_hashes

WINDOWS_PER_PASS = 8_000_000
PAIRS_PER_BLOCK = 4_000_000


def row_type(rows: int) -> type[np.int32] | type[np.int64]:
    """What the numbers of so many rows need."""
    return np.int32 if rows < 2**31 else np.int64


def split_groups(sequences: np.ndarray, n: int, together: np.ndarray | None = None) -> np.ndarray:
    """`content_groups`, in which repetitions of one pattern are together too, whatever tokens they repeat, and what else is told.

    A pattern is what is left when tokens get other names: `a b a b` and `x y x y` have one, `a b b a b b` another, wherever it starts.

    Args:
        together: int64 (rows,); rows of equal numbers from 0 on are together.
    """
    groups = content_groups(sequences, n)
    rows = np.flatnonzero(has_period(sequences))
    found = content_groups(distances(sequences[rows]), n)
    groups = join_groups(groups, groups[rows], groups[rows[found]])
    if together is not None:
        rows = np.flatnonzero(together >= 0)
        _, first, places = np.unique(together[rows], return_index=True, return_inverse=True)
        groups = join_groups(groups, groups[rows], groups[rows[first[places]]])
    return groups


def has_period(sequences: np.ndarray) -> np.ndarray:
    """Which rows repeat a run of at most half their length to their end, bool (rows,)."""
    rows, length = sequences.shape
    answers = np.zeros(rows, bool)
    for block in row_blocks(rows, length):
        tokens = sequences[block]
        places = tokens.T.copy()  # so that one comparison runs over contiguous rows
        for period in range(1, length // 2 + 1):
            # Nearly all rows fail at their last tokens, so that few are compared as a whole.
            some = np.flatnonzero((places[-1] == places[-1 - period]) & (places[period] == places[0]))
            answers[block.start + some] |= (tokens[some, period:] == tokens[some, :-period]).all(axis=1)
    return answers


def distances(sequences: np.ndarray) -> np.ndarray:
    """How many places before each token the same one stood last, 0 where there was none: what no renaming changes; as `sequences`.

    Baker 1993, "A Theory of Parameterized Pattern Matching".
    """
    steps = np.zeros_like(sequences)
    for step in reversed(range(1, sequences.shape[1])):
        steps[:, step:][sequences[:, step:] == sequences[:, :-step]] = step
    return steps


def content_groups(sequences: np.ndarray, n: int) -> np.ndarray:
    """Groups of sequences that share a window of `n` tokens, directly or through other sequences.

    Equal hashes are taken for equal windows: with 2 million sequences of 64 tokens the odds that two groups are joined by mistake are 1 in
    10,000, and joining them keeps both on the same side of a train/eval split, which is the safe error. Windows are sorted in passes
    of about 8 million: 0.4 GB of memory, 1 GB where nearly all are shared. Where there are more, those rows are found first that can
    share anything at all (`sharing_rows`), and only their windows are sorted.

    Args:
        sequences: integers, (rows, length).
        n: tokens per window, at least 1; with `n` > length nothing is shared.

    Returns:
        int32 (rows,), int64 from 2 billion rows on: the smallest row of the group.
    """
    groups = np.arange(len(sequences), dtype=row_type(len(sequences)))
    each = sequences.shape[1] - n + 1  # windows; without any there is no pass
    rows = sharing_rows(sequences, n) if len(sequences) * each > WINDOWS_PER_PASS else np.arange(len(sequences))
    passes = -(-len(rows) * each // WINDOWS_PER_PASS)
    for number in range(passes):
        members, starts = shared_windows(sequences, rows, n, number, passes)
        if len(members):
            found = groups[members]
            groups = join_groups(groups, np.repeat(found[starts], np.diff(starts, append=len(members))), found)
    return groups


def sharing_rows(sequences: np.ndarray, n: int) -> np.ndarray:
    """The rows that may share a window of `n` tokens with another row, ascending: none that does is missing, and few others are there.

    A window is known by the least hash among its runs of n / 2 tokens, which neighbouring windows mostly have in common (winnowing:
    Schleimer, Wilkerson, Aiken 2003): 5 hashes a row instead of 33, of sequences of 64 tokens and n = 32.
    """
    bits = np.uint64(len(sequences).bit_length())
    keys, count = np.empty(6 * len(sequences), np.uint64), 0
    for found in least_hashes(sequences, n, bits):
        if count + len(found) > len(keys):
            keys = np.concatenate([keys[:count], np.empty(len(keys) + len(found), np.uint64)])
        keys[count : count + len(found)] = found
        count += len(found)
    keys = keys[:count]
    keys.sort()  # by hash, and within a hash by row
    shares = np.zeros(len(sequences), bool)
    low = (np.uint64(1) << bits) - np.uint64(1)
    for start in range(0, count, PAIRS_PER_BLOCK):
        block = keys[start : start + PAIRS_PER_BLOCK + 1]
        pairs = np.flatnonzero((block[1:] >> bits == block[:-1] >> bits) & (block[1:] != block[:-1]))
        shares[block[pairs] & low] = shares[block[pairs + 1] & low] = True
    return np.flatnonzero(shares)


def least_hashes(sequences: np.ndarray, n: int, bits: np.uint64) -> Iterator[np.ndarray]:
    """What each window is known by, once for all neighbours that have it in common, in blocks of rows; the row in the lowest `bits`."""
    run = max(n // 2, 1)
    span = n - run + 1  # runs in a window
    for block in row_blocks(*sequences.shape):
        least, width = window_hashes(sequences[block], run).T, 1
        while width < span:
            shift = min(width, span - width)
            least = np.minimum(least[:-shift], least[shift:])
            width += shift
        new = np.ones(least.shape, bool)
        np.not_equal(least[1:], least[:-1], out=new[1:])
        rows = np.broadcast_to(np.arange(block.start, block.start + least.shape[1], dtype=np.uint64), least.shape)
        yield (least[new] >> bits) << bits | rows[new]


def shared_windows(sequences: np.ndarray, rows: np.ndarray, n: int, number: int, passes: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the windows that occur more than once, equal windows side by side, and where each run of equal windows starts.

    Args:
        rows: whose windows are looked at. number, passes: the remainder of its hash by `passes` tells the pass of a window.
    """
    hashes, owners = [], []
    for block in row_blocks(len(rows), sequences.shape[1]):
        chosen_rows = rows[block]
        hashed = window_hashes(sequences[chosen_rows], n).T
        chosen = np.flatnonzero(hashed % np.uint64(passes) == number)
        hashes.append(hashed.ravel()[chosen])
        owners.append(chosen_rows[chosen % hashed.shape[1]].astype(row_type(len(sequences))))
    every, owner = np.concatenate(hashes), np.concatenate(owners)
    order = np.argsort(every)
    every, owner = every[order], owner[order]
    same = every[1:] == every[:-1]
    again = np.append(False, same)[: len(owner)]
    shared = again | np.append(same, False)[: len(owner)]
    return owner[shared], np.flatnonzero(~again[shared])


def join_groups(groups: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Groups after group left[i] and group right[i] have become one, for all i: again named by their smallest row."""
    # Two sequences mostly share many windows: each edge is kept once, so that the graph stays small next to the windows.
    different = left != right
    left, right = left[different].astype(np.int64), right[different]
    left, right = np.divmod(np.unique(left * len(groups) + right), len(groups))
    named, places = np.unique(np.concatenate([left, right]), return_inverse=True)  # the few groups that change, by their smallest row
    edges = coo_array((np.ones(len(left), bool), (places[: len(left)], places[len(left) :])), shape=(len(named), len(named)))
    count, labels = connected_components(edges)
    smallest = np.full(count, len(groups))
    np.minimum.at(smallest, labels, named)
    renamed = np.arange(len(groups), dtype=groups.dtype)
    renamed[named] = smallest[labels]
    joined: np.ndarray = renamed[groups]
    return joined
