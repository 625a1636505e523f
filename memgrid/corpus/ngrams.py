"""Token n-grams by hash: window hashes, sampling priorities and duplicate counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

# The multiplier is 3 modulo 4: swapping the two halves of a window then costs only one bit of the hash.
JOIN_MULTIPLIER = np.uint64(0xD1342543DE82EF97)
BUFFER_TOKENS = 1 << 21
BLOCK_TOKENS = 1 << 16


def window_hashes(tokens: np.ndarray, n: int) -> np.ndarray:
    """Hashes of all windows of `n` tokens.

    A window's hash depends on its tokens only: not on where it stands, nor on the integer type. Windows of 2, 4, 8 … tokens are hashed
    from their halves, and the last step joins two windows that overlap, so that any `n` takes about log2(n) passes.

    Args:
        tokens: integers, (length,) or (rows, length).
        n: tokens per window, at least 1.

    Returns:
        uint64, (length - n + 1,) or (rows, length - n + 1); empty where `n` exceeds the length.

    Raises:
        ValueError: `n` is below 1, or `tokens` are not integers in one or two dimensions.
    """
    if n < 1:
        raise ValueError(f"A window holds at least 1 token, not {n}: choose n >= 1.")
    if tokens.ndim not in (1, 2) or tokens.dtype.kind not in "iu":
        raise ValueError(f"Tokens are integers in 1 or 2 dimensions, not {tokens.dtype} in {tokens.ndim}: convert them first.")
    if n > tokens.shape[-1]:
        return np.zeros((*tokens.shape[:-1], 0), np.uint64)
    # Tokens run along the first axis here: slices of it stay contiguous, so that short rows are as fast as long texts.
    hashes = _mix(tokens.T.astype(np.uint64, order="C"))
    width = 1
    while width < n:
        shift = min(width, n - width)
        hashes = hashes[:-shift] * JOIN_MULTIPLIER + hashes[shift:]
        hashes ^= hashes >> np.uint64(32)
        width += shift
    return _mix(hashes).T


def sequence_hashes(tokens: np.ndarray, seed: int = 0) -> np.ndarray:
    """Hashes of whole rows, a fixed sampling priority: the same tokens and seed always give the same value, another seed another order.

    Args:
        tokens: integers, (rows, length), length at least 1.
        seed: any integer from 0 to 2**64 - 1.

    Returns:
        uint64 (rows,), uniform over the whole range.
    """
    return seeded_hashes(tokens, seed)[0]


def seeded_hashes(tokens: np.ndarray, *seeds: int) -> list[np.ndarray]:
    """`sequence_hashes` for several seeds: the tokens are read once."""
    hashes = np.empty(len(tokens), np.uint64)
    for rows in row_blocks(*tokens.shape):
        hashes[rows] = _whole_hashes(tokens[rows])
    return [_mix(hashes ^ _mix(np.array([seed], np.uint64))) for seed in seeds]


def count_occurrences(sequences: np.ndarray, documents: Iterable[tuple[np.ndarray, int]]) -> np.ndarray:
    """How often each sequence occurs in the documents, at any offset and overlaps included (the duplicates of a taxonomy).

    Exact: the hashes only propose matches, the tokens decide. Windows never cross from one document into the next. Besides a few numbers
    for each sequence, memory is bounded: documents pass through a buffer of 2 million tokens, however many there are and however long.

    Args:
        sequences: integers, (rows, n), n at least 1.
        documents: pairs of integers (length,) and how many copies of that document the corpus holds (0 or more); read once.

    Returns:
        int64 (rows,); equal rows have equal counts.

    Raises:
        ValueError: a negative number of copies.
    """
    wanted = Wanted(sequences)
    return wanted.counts(wanted.find(documents))


class Wanted:
    """Sequences that are to be found in documents: the distinct ones, by their hashes.

    Attributes:
        distinct: int64 (distinct,); a row of each, in the order of their hashes. Should two share a hash, one may stand here twice.
    """

    def __init__(self, sequences: np.ndarray) -> None:
        self.sequences = sequences
        hashes = _row_hashes(sequences)
        self._order = np.argsort(hashes, kind="stable")
        self._first = _first_of_equals(sequences, hashes, self._order)
        self.distinct = self._order[self._first]
        self._keys = hashes[self.distinct]
        # The top bits of the hashes: most windows are refused for the price of one look-up; a binary search costs twenty.
        bits = min(max(len(self._keys).bit_length() + 4, 16), 27)
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, bool)
        self._table[self._keys >> self._shift] = True

    def find(self, documents: Iterable[tuple[np.ndarray, int]]) -> np.ndarray:
        """How often each of the distinct sequences occurs, int64 (distinct,); see `count_occurrences`."""
        n, keys = self.sequences.shape[1], self._keys
        totals = np.zeros(len(keys), np.int64)
        for buffer, document, copies in _buffers(documents, n):
            windows = np.lib.stride_tricks.sliding_window_view(buffer, n)
            starts, places = self._candidates(buffer, n)
            inside = document[starts] == document[starts + n - 1]
            starts, places = starts[inside], places[inside]
            while len(starts):  # once, unless different sequences share a hash: then the next of them is tried
                equal = _equal_rows(windows, starts, self.sequences, self.distinct[places])
                np.add.at(totals, places[equal], copies[document[starts[equal]]])
                again = (places + 1 < len(keys)) & (keys[np.minimum(places + 1, len(keys) - 1)] == keys[places])
                starts, places = starts[again], places[again] + 1
        return totals

    def counts(self, totals: np.ndarray) -> np.ndarray:
        """The numbers of the distinct sequences as those of all rows, int64 (rows,)."""
        counts = np.zeros(len(self.sequences), np.int64)
        counts[self._order] = totals[np.cumsum(self._first) - 1]
        return counts

    def _candidates(self, buffer: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows whose hash is among the keys: where they start, and the first place of the hash among them, int64 (matches,)."""
        starts, places = [], []
        for start in range(0, len(buffer) - n + 1, BLOCK_TOKENS):
            hashes = window_hashes(buffer[start : start + BLOCK_TOKENS + n - 1], n)
            near = np.flatnonzero(self._table[hashes >> self._shift])
            place = np.searchsorted(self._keys, hashes[near])
            hit = self._keys[np.minimum(place, len(self._keys) - 1)] == hashes[near]
            starts.append(start + near[hit])
            places.append(place[hit])
        return np.concatenate(starts), np.concatenate(places)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014), in place: uint64, each bit of the result depends on every bit of the value."""
    values += np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _row_hashes(tokens: np.ndarray) -> np.ndarray:
    """The window hash of each whole row: uint64 (rows,)."""
    blocks = [window_hashes(tokens[rows], tokens.shape[1])[:, 0] for rows in row_blocks(*tokens.shape)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)


def _whole_hashes(tokens: np.ndarray) -> np.ndarray:
    """`_row_hashes` from only the narrower windows that they are made of: a fifth of the work at 64 tokens."""
    n = tokens.shape[1]
    widths = [1]
    while widths[-1] < n:
        widths.append(min(2 * widths[-1], n))
    starts = [np.zeros(1, np.int64)]  # of the windows of each width that are asked for, the widest first
    for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):
        starts.append(np.unique(np.concatenate([starts[-1], starts[-1] + wide - narrow])))
    hashes = _mix(tokens.T[starts[-1]].astype(np.uint64, order="C"))
    for here, below, (narrow, wide) in zip(starts[-2::-1], starts[:0:-1], pairwise(widths), strict=True):
        left, right = np.searchsorted(below, here), np.searchsorted(below, here + wide - narrow)
        hashes = hashes[left] * JOIN_MULTIPLIER + hashes[right]
        hashes ^= hashes >> np.uint64(32)
    return _mix(hashes)[0]


def row_blocks(rows: int, length: int) -> Iterator[slice]:
    """Slices of rows of `length` tokens that hold about BLOCK_TOKENS tokens each, so that their hashes stay in the cache."""
    step = max(BLOCK_TOKENS // max(length, 1), 1)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _first_of_equals(sequences: np.ndarray, hashes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Whether each row, in the order of the hashes, differs from the row before it: bool (rows,).

    Should two different rows share a hash, equal rows may be parted and each counted on its own: no count changes.
    """
    first = np.ones(len(order), bool)
    left, right = order[:-1], order[1:]
    first[1:] = (hashes[left] != hashes[right]) | ~_equal_rows(sequences, left, sequences, right)
    return first


def _buffers(documents: Iterable[tuple[np.ndarray, int]], n: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Documents end to end: tokens int64 (length,), which document each belongs to int64 (length,), copies of each document int64.

    A document longer than a buffer goes in parts that overlap by n - 1 tokens: each of its windows lies in exactly one part.
    """
    parts: list[np.ndarray] = []
    copies: list[int] = []
    size = 0
    for tokens, count in documents:
        if count < 0:
            raise ValueError(f"A document has {count} copies: give 0 or more.")
        for start in range(0, len(tokens) - n + 1 if count else 0, BUFFER_TOKENS):
            parts.append(tokens[start : start + BUFFER_TOKENS + n - 1].astype(np.int64))
            copies.append(count)
            size += len(parts[-1])
            if size >= BUFFER_TOKENS:
                yield _joined(parts, copies)
                parts, copies, size = [], [], 0
    if parts:
        yield _joined(parts, copies)


def _joined(parts: list[np.ndarray], copies: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One buffer from its parts, as `_buffers` yields it."""
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts]), np.array(copies, np.int64)


def _equal_rows(left: np.ndarray, left_rows: np.ndarray, right: np.ndarray, right_rows: np.ndarray) -> np.ndarray:
    """Whether left[left_rows[i]] equals right[right_rows[i]] in every column: bool (rows,), a block at a time to bound memory."""
    equal = np.ones(len(left_rows), bool)
    step = max(BLOCK_TOKENS // left.shape[1], 1)
    for start in range(0, len(equal), step):
        rows = slice(start, start + step)
        equal[rows] = (left[left_rows[rows]] == right[right_rows[rows]]).all(axis=1)
    return equal
