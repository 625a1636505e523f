"""Repeating and incrementing texts: examples, and what hypothesis can make of the definitions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.label.templates import is_incrementing, is_repeating

PROSE = (
    "The ferry left at noon, and by the time it had crossed the river nobody remembered who had paid.",
    "In 1923 the 14 men of the 7th company crossed 3 rivers and lost 21 horses; 9 came home on 8 May 1924.",
    "for index in range(10):\n    total += weights[index] * values[index]\nreturn total / 2",
)


@pytest.mark.parametrize(
    "text",
    [
        "abababab",
        " the and the and the",
        "=====",
        "-*-*-*-",
        "=" * 70 + "\n",
        "\ufffdабвабв\ufffd",
        "    ",
        "0, 0, 0, 0, 0",
        "ab\nab\n",
        "日本日本日",
        "abab" + 4 * " ",  # half of it remains
    ],
)
def test_repeating(text: str) -> None:
    assert is_repeating(text)


@pytest.mark.parametrize("text", ["", "a", "abcabd", "aab", "abcab", "ab" + 9 * " ", "abab" + 5 * " ", "1, 2, 3, 4", *PROSE])
def test_not_repeating(text: str) -> None:
    assert not is_repeating(text)


@pytest.mark.parametrize(
    "text",
    [
        "123, 124, 125, 126, 12",
        "4, 125, 126, 127",
        "1923, 1925, 1927, 1929, 19",
        "10\n9\n8\n7",
        " 8\n 9\n10\n11\n",
        "item 1: x\nitem 2: x\nitem 3: x\nite",
        "tem 1: x\nitem 2: x\nitem 3: x\n",
        "a1 b2 a3 b4 a5 b6",
        "(1, 0), (2, 0), (3, 0), (4,",
        "1 of them and 2 of them and 3",  # two periods and a number
        "1, 7, 2, 8, 3, 9",
        "9, 0010, 0011, 0012, 001",
        "0x01, 0x02, 0x03, 0x04",
        "1 2 3\n4 5 6\n7 8 9",
        '<li id="x-5">5</li><li id="x-6">6</li><li id="x-7">7</li><li id="',
    ],
)
def test_incrementing(text: str) -> None:
    assert is_incrementing(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1 2",
        "123, 124, 12",  # only two numbers are whole
        "7, 7, 7, 7, 7",
        "5, 9, 2, 7, 1, 8",
        "1, 1, 2, 3, 5, 8, 13, 21",
        "1, 2, 3, 5",  # 5 does not begin 4
        "99, 1, 2, 3",  # 99 does not end 0
        "1, 2, 3, 4, and then",
        "0x08, 0x09, 0x0a, 0x0b",
        "1 a 2 b 3 c 4",
        "abab abab abab",
        *PROSE,
    ],
)
def test_not_incrementing(text: str) -> None:
    assert not is_incrementing(text)


@given(st.text(min_size=1, max_size=12), st.integers(2, 8), st.integers(0, 11))
def test_any_unit_twice_or_more_is_repeating(unit: str, times: int, rest: int) -> None:
    assert is_repeating(unit * times + unit[:rest])


@settings(max_examples=300)
@given(st.text("ab", min_size=1, max_size=14))
def test_repeating_is_having_a_period_of_half_the_length(text: str) -> None:
    periods = [p for p in range(1, len(text) // 2 + 1) if all(a == b for a, b in zip(text, text[p:], strict=False))]
    assert is_repeating(text) == bool(periods)


SEPARATORS = st.text(" ,;:-_()ab\n\té日", min_size=1, max_size=5)
STEPS = st.integers(-40, 40).filter(bool)


@settings(max_examples=300)
@given(st.integers(0, 5000), STEPS, st.integers(5, 12), SEPARATORS, st.integers(0, 9), st.integers(0, 9))
def test_any_progression_is_incrementing_wherever_it_is_cut(
    start: int, step: int, count: int, separator: str, first: int, last: int
) -> None:
    numbers = [str(start + max(-step, 0) * count + step * i) for i in range(count)]
    text = separator.join(numbers)
    # At most one number may go at each end, so that three whole ones stay.
    first, last = min(first, len(numbers[0])), min(last, len(numbers[-1]))
    assert is_incrementing(text[first : len(text) - last])


@settings(max_examples=200)
@given(st.integers(1, 900), STEPS, SEPARATORS, SEPARATORS, st.integers(0, 3), st.integers(0, 3))
def test_two_counters_and_a_constant_are_incrementing(start: int, step: int, left: str, right: str, first: int, last: int) -> None:
    rows = [f"{start + 40 * 9 + step * i}{left}7{right}{start + 2 * i}\n" for i in range(9)]
    text = "".join(rows)
    assert is_incrementing(text[first : len(text) - last])


@settings(max_examples=200)
@given(st.integers(0, 999), STEPS, st.integers(6, 12), st.integers(1, 500), st.data())
def test_one_wrong_number_inside_is_not_incrementing(start: int, step: int, count: int, error: int, data: st.DataObject) -> None:
    numbers = [start + max(-step, 0) * count + step * i for i in range(count)]
    numbers[data.draw(st.integers(2, count - 3))] += error
    assert not is_incrementing(", ".join(map(str, numbers)))


@settings(max_examples=300)
@given(st.text(max_size=60), st.text("0123456789, a\n", max_size=40))
def test_any_text_gets_an_answer(text: str, numeric: str) -> None:
    for answer in (is_repeating(text), is_incrementing(text), is_repeating(numeric), is_incrementing(numeric)):
        assert isinstance(answer, bool)


def test_endless_digits_are_no_error() -> None:
    assert not is_incrementing("1 2 " + "9" * 5000)
