"""Rules: conditions on the features of a sequence, by name, or on any column, and joined by `and`, `or` and `not`.

In YAML a rule is a name of `RULES`, a list of rules of which one must hold, or a mapping:

    {column: p_extract, above: 0.001}      also at_least, below, at_most; the number may be the name of a threshold
    {column: is_pii, is: true}             a truth value, a number or a word
    {and: [memorized, {not: code}]}        also {or: [...]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from memgrid.taxonomy.columns import group_of
from memgrid.taxonomy.thresholds import Thresholds

Value = float | bool | str
Read = Callable[[str], pl.Expr]  # a column's name → the column that a comparison reads

SIGNS: dict[str, tuple[str, Callable[[pl.Expr, Any], pl.Expr]]] = {
    "above": ("above", lambda column, value: column > value),
    "at_least": ("at least", lambda column, value: column >= value),
    "below": ("below", lambda column, value: column < value),
    "at_most": ("at most", lambda column, value: column <= value),
    "is": ("is", lambda column, value: column == value),
}
JOINTS = ("and", "or", "not")
FORMS = "a name, a list of rules, {column: …, above|at_least|below|at_most|is: …}, or {and|or: [rules]} and {not: rule}"
SYMBOLS = ("delta", "rho")  # names of thresholds that every run has


@dataclass(frozen=True)
class Comparison:
    """A column against a value, or against δ or ρ by its name."""

    column: str
    sign: str
    value: Value
    symbol: str = ""

    def against(self, thresholds: Thresholds) -> Value:
        """The value that is compared with."""
        given: Value = getattr(thresholds, self.symbol) if self.symbol else self.value
        return given

    def holds(self, column: pl.Expr, thresholds: Thresholds) -> pl.Expr:
        """Whether it holds for a column."""
        return SIGNS[self.sign][1](column, self.against(thresholds))

    def fits(self, dtype: pl.DataType) -> bool:
        """Whether a column of that type can be compared with the value."""
        if isinstance(self.value, bool | str):
            return bool(dtype == (pl.Boolean if isinstance(self.value, bool) else pl.String))
        return dtype.is_numeric()

    def text(self) -> str:
        """Such as `p_extract above 0.001`."""
        value = (
            str(self.value).lower() if isinstance(self.value, bool) else self.value if isinstance(self.value, str) else f"{self.value:g}"
        )
        symbol = {"delta": "δ", "rho": "ρ"}.get(self.symbol)
        return f"{self.column} {SIGNS[self.sign][0]} {symbol or value}"


@dataclass(frozen=True)
class Rule:
    """A condition, and what there is to know of it.

    Attributes:
        condition: from the thresholds, and from where a comparison finds its column.
        needs: the feature groups (see `memgrid.taxonomy.columns`) that it reads besides `memorized`.
        meaning: a sentence for people.
        reads: which of δ and ρ it reads.
        comparisons: those that it makes on columns of its own choice.
    """

    condition: Callable[[Thresholds, Read], pl.Expr]
    needs: tuple[str, ...]
    meaning: str
    reads: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


def named(condition: Callable[[Thresholds], pl.Expr], needs: tuple[str, ...], meaning: str, *reads: str) -> Rule:
    """A rule that reads the same columns wherever it stands."""
    return Rule(lambda thresholds, _: condition(thresholds), needs, meaning, reads)


def _reconstruct(_: Thresholds) -> pl.Expr:
    return pl.col("memorized") & (pl.col("is_repeating") | pl.col("is_incrementing"))


def _guess(t: Thresholds) -> pl.Expr:
    return pl.col("memorized") & (pl.col("is_repeating") | pl.col("is_incrementing") | t.high_rouge)


# how-it-works 4 (Rules): all but the first need `memorized`; thresholds compare the value itself.
RULES: dict[str, Rule] = {
    "non_memorized": named(lambda _: ~pl.col("memorized"), (), "the continuation differs from the suffix"),
    "recite": named(lambda t: pl.col("memorized") & (pl.col("duplicates") > t.delta), ("duplicates",), "more than δ duplicates", "delta"),
    "recollect": named(lambda t: pl.col("memorized") & (pl.col("duplicates") <= t.delta), ("duplicates",), "at most δ duplicates", "delta"),
    "reconstruct": named(_reconstruct, ("templates",), "the text repeats itself or counts"),
    "guess": named(_guess, ("templates", "rouge"), "the text repeats itself or counts, or prefix and suffix overlap by ρ", "rho"),
    "code": named(lambda _: pl.col("memorized") & pl.col("is_code"), ("code",), "the text is code"),
    "memorized": named(lambda _: pl.col("memorized"), (), "any memorized sequence that no earlier class took"),
    "heads": named(lambda _: pl.col("memorized") & pl.col("heads"), ("coin",), "a coin, drawn from tokens and seed, shows heads"),
    "frequent": named(
        lambda _: pl.col("memorized") & (pl.col("rank") > MEDIAN),
        ("duplicates", "rank"),
        "more duplicates than the median of the memorized",
    ),
}
NULL = ("coin", "rank")  # feature groups of rules that split for no reason; no file holds them
MEDIAN = 0.5


def rule_of(given: Any, thresholds: Mapping[str, Any]) -> Rule:
    """The rule that YAML gives; its forms stand at the top of this module.

    Args:
        thresholds: the taxonomy's own, by name.

    Raises:
        ValueError: it has none of the forms; the sentence begins with what is wrong and ends with what to use.
    """
    if isinstance(given, str):
        if given not in RULES:
            raise ValueError(f"the unknown rule {given!r}: use {', '.join(RULES)}, or a rule on a column")
        return RULES[given]
    if isinstance(given, list | tuple):
        return joined("or", given, thresholds)
    if not isinstance(given, Mapping):
        raise ValueError(f"{given!r}, which is no rule: use {FORMS}")
    keys = set(given)
    if "column" in keys and len(keys) == 2 and keys <= {"column", *SIGNS}:
        return compared(given, thresholds)
    if len(keys) == 1 and (joint := next(iter(keys))) in JOINTS:
        return joined(joint, given[joint], thresholds)
    raise ValueError(f"a rule with the keys {', '.join(map(str, given))}: use {FORMS}")


def joined(joint: str, given: Any, thresholds: Mapping[str, Any]) -> Rule:
    """Several rules of which all or one must hold, or one that must not."""
    if joint != "not" and (not isinstance(given, list | tuple) or not given):
        raise ValueError(f"{joint!r} with {given!r}: give it a list of rules")
    parts = [rule_of(part, thresholds) for part in ([given] if joint == "not" else given)]

    def condition(t: Thresholds, read: Read) -> pl.Expr:
        every = [part.condition(t, read) for part in parts]
        if joint == "not":
            return ~every[0]
        return pl.all_horizontal(*every) if joint == "and" else pl.any_horizontal(*every)

    words = [part.meaning for part in parts]
    return Rule(
        condition,
        tuple(dict.fromkeys(group for part in parts for group in part.needs)),
        f"not ({words[0]})" if joint == "not" else f" {joint} ".join(f"({word})" if len(words) > 1 else word for word in words),
        tuple(dict.fromkeys(name for part in parts for name in part.reads)),
        tuple(dict.fromkeys(comparison for part in parts for comparison in part.comparisons)),
    )


def compared(given: Mapping[str, Any], thresholds: Mapping[str, Any]) -> Rule:
    """A rule on one column."""
    column, sign = given["column"], next(key for key in given if key != "column")
    if not isinstance(column, str) or not column.isidentifier():
        raise ValueError(f"a rule on column {column!r}: name a column with letters, digits and _")
    comparison = Comparison(column, sign, *value_of(column, sign, given[sign], thresholds))
    group = group_of(column)
    return Rule(
        lambda t, read: comparison.holds(read(column), t),
        () if column == "memorized" else (group,),
        comparison.text(),
        (comparison.symbol,) if comparison.symbol else (),
        (comparison,),
    )


def value_of(column: str, sign: str, given: Any, thresholds: Mapping[str, Any]) -> tuple[Value, str]:
    """What a column is compared with: a value, and the symbol that stands for it, or an empty one."""
    value: Any = given
    if sign != "is" and isinstance(given, str):
        if given in SYMBOLS:
            return 0, given
        if given not in thresholds:
            known = ", ".join((*thresholds, *SYMBOLS))
            raise ValueError(f"a rule on {column} that is {sign} {given!r}: use a number, or a threshold, one of {known}")
        value = thresholds[given]
    allowed: tuple[type, ...] = (bool, int, float, str) if sign == "is" else (int, float)
    fits = isinstance(value, allowed) and value == value
    if not fits or (sign != "is" and isinstance(value, bool)):
        words = ("is", "true, false, a number or a word") if sign == "is" else (f"is {sign}", "a number")
        raise ValueError(f"a rule on {column} that {words[0]} {value!r}: use {words[1]}")
    return float(value) if type(value) is int else value, ""  # 5 and 5.0 are one threshold


def named_columns(given: Any) -> set[tuple[str, str]]:
    """The thresholds that a rule names, wherever they stand in it, each with the column that is compared with it."""
    if isinstance(given, Mapping):
        own = {(value, str(given.get("column"))) for key, value in given.items() if key in SIGNS and key != "is" and isinstance(value, str)}
        return own.union(*(named_columns(value) for value in given.values()))
    return set().union(*map(named_columns, given)) if isinstance(given, list | tuple) else set()


def names_read(given: Any) -> set[str]:
    """The thresholds that a rule names."""
    return {name for name, _ in named_columns(given)}
