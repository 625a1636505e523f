"""Template sequences that a model can continue by a rule instead of by memory: repetitions and counting lists.

The pattern of a template is what is left when its tokens get other names: of a repetition the shape of its period, wherever it starts; of a
list the format, the separator and the step. Some patterns are `unseen`: training never shows them. Of the others, some templates are
`renamed`: their pattern is trained on, but with other tokens. What is left is `seen`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import numpy as np
from tokenizers import Tokenizer

PERIODS = range(2, 9)
FORMATS = ("{}", "{:05d}", "({})", "{}.", "#{}", "item {}")
SEPARATORS = (", ", "\n", " | ")
STEPS = (1, 2, 10)
STARTS = (1, 3000)
PARTS = ("seen", "renamed", "unseen")
FAMILIES = ("repeat", "increment")
UNSEEN_SHAPES, UNSEEN_LISTS, RENAMED = 5, 8, 10  # one in so many
SHAPE_SALT = 1149  # with which some shapes of every period from 3 on are unseen, such as five different tokens
LIST_SALT = 285  # with which two lists of every step are unseen, and one or two of nearly every format
KINDS = {"words": "Ġ[a-z]{3,}", "names": "Ġ[A-Z][a-z]{2,}", "subwords": "[a-z]{2,}", "signs": r"[!-/:-@\[-`{-~]", "digits": "[0-9]"}
ALPHABET_SIZE = 64


def alphabets(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Ids of the most frequent tokens of each kind, int64; `lines` are words of which each period ends with the `line end`."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    found = {name: [index for token, index in vocabulary if re.fullmatch(kind, token)] for name, kind in KINDS.items()}
    found |= {"lines": found["words"], "line end": [index for token, index in vocabulary if token == "Ċ"]}
    return {name: np.array(ids[:ALPHABET_SIZE], np.int64) for name, ids in found.items()}


def named_by_order(symbols: np.ndarray) -> bytes:
    """The symbols, renamed to 0, 1, 2 … in the order in which they first come."""
    names: dict[int, int] = {}
    return bytes(names.setdefault(symbol, len(names)) for symbol in symbols.tolist())


def cycle_shape(period: np.ndarray) -> bytes:
    """The shape of what is repeated: the same for other tokens, and wherever the period starts."""
    return min(named_by_order(np.roll(period, shift)) for shift in range(len(period)))


def is_primitive(period: np.ndarray) -> bool:
    """Whether a period is not itself a repetition."""
    return not any(len(period) % part == 0 and (np.resize(period[:part], len(period)) == period).all() for part in range(1, len(period)))


def draw(tokenizer: Tokenizer, kind: str, count: int, length: int, part: str, rng: np.random.Generator) -> np.ndarray:
    """`count` templates of a kind, one of `FAMILIES`, and a part, one of `PARTS`; int64 (count, length)."""
    if kind == "repeat":
        return draw_repeats(alphabets(tokenizer), count, length, part, rng)
    return draw_lists(tokenizer, count, length, part, rng)


def draw_others(draw: Callable[..., np.ndarray], taken: np.ndarray, count: int) -> np.ndarray:
    """`count` different templates, int64 (count, length), of which none is among those taken; `draw(count=n)` gives any n."""
    found = {row.tobytes(): row for row in taken}
    while len(found) < len(taken) + count:
        found |= {row.tobytes(): row for row in draw(count=count)}
    return np.array(list(found.values())[len(taken) : len(taken) + count], np.int64).reshape(count, -1)


def draw_repeats(letters: dict[str, np.ndarray], count: int, length: int, part: str, rng: np.random.Generator) -> np.ndarray:
    """`count` sequences that repeat 2 to 8 tokens of one alphabet, of which some may be equal, int64 (count, length).

    Args:
        letters: the alphabets. part: of which patterns and tokens, one of `PARTS`.
    """
    names = [name for name, ids in letters.items() if len(ids) >= PERIODS[-1]]  # a small vocabulary may have few names; and one line end
    rows: list[np.ndarray] = []
    while len(rows) < count:
        alphabet = names[rng.integers(len(names))]
        size = int(rng.choice(PERIODS))
        different = int(rng.integers(2, size + 1))
        unit = rng.permutation(np.append(np.arange(different), rng.integers(0, different, size - different)))
        tokens = rng.choice(letters[alphabet], different, replace=False)
        if alphabet == "lines":
            unit[unit == 0] = 1
            unit[-1], tokens[0] = 0, letters["line end"][0]
        if is_primitive(unit) and part_of_repeat(tokens[unit]) == part:
            rows.append(np.resize(tokens[unit], length))
    return np.stack(rows) if rows else np.zeros((0, length), np.int64)


def part_of_repeat(period: np.ndarray) -> str:
    """Which of `PARTS` a repetition of these tokens belongs to; a period of two is always learned."""
    if len(period) > PERIODS[0] and zlib.crc32(cycle_shape(period), SHAPE_SALT) % UNSEEN_SHAPES == 0:
        return "unseen"
    return "renamed" if np.unique(period).sum() % RENAMED == 0 else "seen"


def draw_lists(tokenizer: Tokenizer, count: int, length: int, part: str, rng: np.random.Generator) -> np.ndarray:
    """`count` lists of numbers that grow by a step, cut to `length` tokens, int64 (count, length); `part`: one of `PARTS`."""
    texts: list[str] = []
    while len(texts) < count:
        form, separator = FORMATS[rng.integers(len(FORMATS))], SEPARATORS[rng.integers(len(SEPARATORS))]
        step, start = int(rng.choice(STEPS)), int(rng.integers(*STARTS))
        if part_of_list(form, separator, step, start) == part:
            texts.append(separator.join(form.format(start + step * place) for place in range(length)))
    return np.array([encoding.ids[:length] for encoding in tokenizer.encode_batch(texts)], np.int64).reshape(-1, length)


def part_of_list(form: str, separator: str, step: int, start: int) -> str:
    """Which of `PARTS` a list belongs to."""
    pattern = f"{form}{separator}{step:+d}".encode()
    if zlib.crc32(pattern, LIST_SALT) % UNSEEN_LISTS == 0:
        return "unseen"
    return "renamed" if zlib.crc32(str(start).encode(), 1) % RENAMED == 0 else "seen"


def list_pattern(text: str) -> str:
    """Form, separator and step of a list as `draw_lists` writes it: what stands around its first two numbers, and their difference."""
    before, first, between, second, *_ = re.split(r"(\d+)", text)
    return f"{before}{'0' if first.startswith('0') else ''}#{between}{int(second) - int(first):+d}"
