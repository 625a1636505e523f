"""Texts that follow a template, which a model can continue by a rule alone: a repeated pattern, or a pattern that counts.

Both predicates make up the class Reconstruct of Prashanth et al. 2024, "Recite, Reconstruct, Recollect: Memorization in LMs as a
Multifaceted Phenomenon", stated exactly instead of by heuristics. They look at detokenized text, of which the
tokenizer may have cut both ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# A number, a word, or one other character; white space only separates. Runs of more than 18 digits split: Python refuses to read long ones.
UNIT = re.compile(r"[0-9]{1,18}|[^\W0-9_]+|[^\w\s]|_")
NUMBER = re.compile("[0-9]+")
LEAST_NUMBERS = 3
# What decoding leaves of a character that the tokenizer cut.
CUT_CHARACTER = "\ufffd"


def is_repeating(text: str) -> bool:
    """Whether the text is one pattern of characters repeated: at least twice, the last time perhaps in part.

    Equivalently: the text has a period of at most half its length. Where the pattern starts does not matter. White space and cut
    characters at both ends are forgiven as long as at least half the text remains.
    """
    core = text.strip(CUT_CHARACTER).strip()
    return _has_period(text) or (2 * len(core) >= len(text) and _has_period(core))


def is_incrementing(text: str) -> bool:
    """Whether the text is a pattern whose numbers count up or down: lists, indices, years.

    Split into units (integers, words, single other characters; white space is dropped), the text must have a period: the words and signs of
    each period are the same, and the numbers in each place of the period run in arithmetic progression, at least three whole numbers to a
    place, not all with step 0. The first and the last unit may be cut: the end, or the beginning, of what the progression expects there.

    Numbers are decimal integers without sign: `1.9, 2.0` is four numbers, and `0x09, 0x0a` does not count (`0x01, …, 0x09` does).
    """
    if len(NUMBER.findall(text)) < LEAST_NUMBERS:
        return False
    units = UNIT.findall(text)
    words = ["" if NUMBER.match(unit) else unit for unit in units]
    values = [0 if word else int(unit) for word, unit in zip(words, units, strict=True)]
    # Whether the ends are cut or not, the units between them must progress: nearly every period fails already there.
    inner = slice(1, len(units) - 1)
    periods = (period for period in range(1, (len(units) + 1) // 2) if _progresses(words[inner], values[inner], period))
    return any(_counts(units, words, values, period, first, last) for period in periods for first in (0, 1) for last in (0, 1))


def _has_period(text: str) -> bool:
    """Whether text[i] == text[i + period] for all i, for some period of at most half the length."""
    # A period is where the first half of the text occurs again and goes on as the text began; `str.find` jumps from place to place.
    half = text[: (len(text) + 1) // 2]
    period = text.find(half, 1)
    while period != -1:
        if text.startswith(text[period:]):
            return True
        period = text.find(half, period + 1)
    return False


def _progresses(words: Sequence[str], values: Sequence[int], period: int) -> bool:
    """Whether words recur and numbers run in arithmetic progressions with this period; a number has the word "", a word the value 0."""
    if words[period:] != words[:-period]:
        return False
    return all(before + after == 2 * value for before, value, after in zip(values, values[period:], values[2 * period :], strict=False))


def _counts(units: Sequence[str], words: Sequence[str], values: Sequence[int], period: int, first: int, last: int) -> bool:
    """Whether the units count with this period, the `first` and the `last` one (0 or 1 each) being cut units that fit the count."""
    inner = slice(first, len(units) - last)
    body, words, values = units[inner], words[inner], values[inner]
    if not _progresses(words, values, period) or values[period:] == values[:-period]:
        return False
    if "" in words[max(len(words) - (LEAST_NUMBERS - 1) * period, 0) : period]:  # a place with too few numbers
        return False
    before, after = _expected(body, values, period - 1, 2 * period - 1), _expected(body, values, -period, -2 * period)
    return (not first or before.endswith(units[0])) and (not last or after.startswith(units[-1]))


def _expected(body: Sequence[str], values: Sequence[int], near: int, far: int) -> str:
    """What follows body[far], body[near] in their place of the period: the same word, or the next number, zero-padded like the last."""
    if not NUMBER.match(body[near]):
        return body[near]
    following = str(2 * values[near] - values[far])
    return following.zfill(len(body[near])) if body[near].startswith("0") else following
