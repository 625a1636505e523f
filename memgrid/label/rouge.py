"""ROUGE-L and ROUGE-3 between prefixes and suffixes of token ids: bit-equal to the `rouge_score` package, all rows at once.

Both scores only ask which prefix tokens equal which suffix tokens. A row's answer for one suffix position is one machine word (bit i: the
token equals prefix token i), and both scores are then a few word operations per suffix position.
"""

from __future__ import annotations

import numpy as np

LONGEST = 64
BLOCK_ROWS = 8192


def rouge_scores(prefix: np.ndarray, suffix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROUGE-L and ROUGE-3 F-measures of each row (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries").

    Equal, bit for bit, to `rouge_score` without stemming on `" ".join(ids)`; the F-measure does not depend on which side is the target.
    Rows of fewer than three tokens have no trigram and score 0 in ROUGE-3.

    Args:
        prefix: integers (rows, k), ids from 0 to 2**32 - 1, k from 1 to 64.
        suffix: integers (rows, m), likewise.

    Returns:
        ROUGE-L and ROUGE-3, float64 (rows,) each, from 0 to 1.

    Raises:
        ValueError: the shapes do not fit, a row is empty or longer than 64 tokens, or an id is out of range.
    """
    _check(prefix, suffix)
    rows, k = prefix.shape
    m = suffix.shape[1]
    longest, trigrams = np.empty(rows, np.uint8), np.empty(rows, np.uint8)
    for start in range(0, rows, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        masks = _equality_masks(prefix[block], suffix[block])
        longest[block] = _common_subsequence(masks, k)
        trigrams[block] = _common_trigrams(masks)
    return _f_measures(k, m)[longest], _f_measures(k - 2, m - 2)[trigrams]


def rouge_l(prefix: np.ndarray, suffix: np.ndarray) -> np.ndarray:
    """ROUGE-L alone: float64 (rows,), see `rouge_scores`."""
    return rouge_scores(prefix, suffix)[0]


def rouge_3(prefix: np.ndarray, suffix: np.ndarray) -> np.ndarray:
    """ROUGE-3 alone: float64 (rows,), see `rouge_scores`."""
    return rouge_scores(prefix, suffix)[1]


def _check(prefix: np.ndarray, suffix: np.ndarray) -> None:
    """Refuse what the masks cannot hold."""
    if prefix.ndim != 2 or suffix.ndim != 2 or len(prefix) != len(suffix):
        raise ValueError(f"ROUGE compares two tables of equally many rows, not shapes {prefix.shape} and {suffix.shape}.")
    for name, tokens in (("prefix", prefix), ("suffix", suffix)):
        if not 1 <= tokens.shape[1] <= LONGEST:
            raise ValueError(f"ROUGE takes 1 to {LONGEST} tokens a row, not a {name} of {tokens.shape[1]}: shorten the rows.")
        if tokens.dtype.kind not in "iu":
            raise ValueError(f"ROUGE takes token ids, integers: the {name} holds {tokens.dtype}.")
        if tokens.size and (tokens.min() < 0 or tokens.max() >= 2**32):
            raise ValueError(f"ROUGE takes token ids from 0 to 2**32 - 1: the {name} holds {tokens.min()} to {tokens.max()}.")


def _equality_masks(prefix: np.ndarray, suffix: np.ndarray) -> np.ndarray:
    """Which prefix positions hold the token of each suffix position: uint32 (m, rows), or uint64 for k > 32; bit i is prefix position i."""
    k = prefix.shape[1]
    # Positions first, so that one comparison runs over contiguous rows; as few bits as the ids allow, for twice the speed.
    ids = np.min_scalar_type(max(prefix.max(), suffix.max()))
    left, right = prefix.T.astype(ids, order="C"), suffix.T.astype(ids, order="C")
    masks = np.zeros((*right.shape, 4 if k <= 32 else 8), np.uint8)
    equal, bits = np.empty(right.shape, bool), np.empty(right.shape, np.uint8)
    for start in range(0, k, 8):
        bits[:] = 0
        for tokens in left[start : start + 8][::-1]:
            np.equal(tokens, right, out=equal)
            bits += bits
            bits |= equal.view(np.uint8)
        masks[:, :, start // 8] = bits
    return masks.view("<u4" if k <= 32 else "<u8")[:, :, 0]


def _common_subsequence(masks: np.ndarray, k: int) -> np.ndarray:
    """Length of the longest common subsequence from the masks: uint8 (rows,) (Hyyrö 2004, bit-parallel LCS: a zero bit is a match)."""
    state = np.full(masks.shape[1], ~masks.dtype.type(0))
    for mask in masks:
        matched = state & mask
        state = (state + matched) | (state - matched)
    lengths: np.ndarray = k - np.bitwise_count(state << masks.dtype.type(8 * masks.itemsize - k))
    return lengths


def _common_trigrams(masks: np.ndarray) -> np.ndarray:
    """Size of the multiset intersection of the trigrams from the masks: uint8 (rows,).

    Two trigrams are equal where their tokens are, so their masks are three token masks shifted onto each other. Each suffix trigram takes
    the first equal prefix trigram that is still free; equality being transitive, no other choice could match more.
    """
    once, twice = masks.dtype.type(1), masks.dtype.type(2)
    free = np.full(masks.shape[1], ~masks.dtype.type(0))
    for first, second, third in zip(masks[:-2], masks[1:-1], masks[2:], strict=True):
        equal = first & (second >> once) & (third >> twice) & free
        free ^= equal & -equal
    taken: np.ndarray = np.bitwise_count(~free)
    return taken


def _f_measures(k: int, m: int) -> np.ndarray:
    """F-measure for each number of matches, in the operations and order of `rouge_score`: float64 (min(k, m) + 1,), of none (1,)."""
    scores = [0.0]
    for matches in range(1, min(k, m) + 1):
        precision, recall = matches / m, matches / k
        scores.append(2 * precision * recall / (precision + recall))
    return np.array(scores)
