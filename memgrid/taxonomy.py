"""Taxonomies: ordered classes, each a named rule over a sequence's features; the first rule that holds gives the class."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

NO_CLASS = -1
UNDECIDED = -2


# Which ROUGE scores ρ is applied to → the features, and what people read.
ROUGES = {"both": ("rouge_l", "rouge_3"), "l": ("rouge_l",), "3": ("rouge_3",)}
ROUGE_NAMES = {"both": "ROUGE-L or ROUGE-3", "l": "ROUGE-L", "3": "ROUGE-3"}


@dataclass(frozen=True)
class Thresholds:
    """δ: more duplicates than this are many. ρ: a ROUGE of at least this is high. `rouge`: both, l or 3.

    All that is written of thresholds is spelled here; None where a taxonomy does not depend on one, and then nothing is written of it.
    """

    delta: int | None
    rho: float | None
    rouge: str | None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Thresholds:
        """Those of a run, from its settings as plain containers."""
        return cls(settings["delta"], settings["rho"], settings["rouge"])

    @property
    def high_rouge(self) -> pl.Expr:
        """Whether a score that ρ applies to reaches it."""
        return pl.any_horizontal(*(pl.col(name) >= self.rho for name in ROUGES[self.rouge or "both"]))

    def text(self) -> str:
        """As a run's title says them, such as `δ=50 ρ=0.5 (both)`."""
        parts = [] if self.delta is None else [f"δ={self.delta}"]
        parts += [] if self.rho is None else [f"ρ={self.rho:g} ({self.rouge})"]
        return " ".join(parts)

    def phrase(self) -> str:
        """As a sentence says them, such as `δ=50, ρ=0.5, ROUGE-L`; that ρ is applied to both scores goes without saying."""
        parts = [] if self.delta is None else [f"δ={self.delta}"]
        parts += [] if self.rho is None else [f"ρ={self.rho:g}"]
        parts += [] if self.rouge in (None, "both") else [ROUGE_NAMES[self.rouge]]
        return ", ".join(parts)

    def folder(self) -> str:
        """As the name of a folder says them, such as `delta50-rho0.5-both`."""
        parts = [] if self.delta is None else [f"delta{self.delta}"]
        parts += [] if self.rho is None else [f"rho{self.rho:g}-{self.rouge}"]
        return "-".join(parts)

    def bracket(self) -> str:
        """δ as the title of a class says it, such as `[5]` or `[1k]`."""
        if self.delta is None:
            return ""
        return f"[{self.delta // 1000}k]" if self.delta and self.delta % 1000 == 0 else f"[{self.delta}]"


@dataclass(frozen=True)
class Rule:
    """A condition, the feature groups (see `memgrid.label.labels`) that it reads, and a sentence for people."""

    condition: Callable[[Thresholds], pl.Expr]
    needs: tuple[str, ...]
    meaning: str


def _reconstruct(_: Thresholds) -> pl.Expr:
    return pl.col("memorized") & (pl.col("is_repeating") | pl.col("is_incrementing"))


def _guess(t: Thresholds) -> pl.Expr:
    return pl.col("memorized") & (pl.col("is_repeating") | pl.col("is_incrementing") | t.high_rouge)


# how-it-works 4 (Rules): all but the first need `memorized`; thresholds compare the value itself.
RULES: dict[str, Rule] = {
    "non_memorized": Rule(lambda _: ~pl.col("memorized"), (), "the continuation differs from the suffix"),
    "recite": Rule(lambda t: pl.col("memorized") & (pl.col("duplicates") > t.delta), ("duplicates",), "more than δ duplicates"),
    "recollect": Rule(lambda t: pl.col("memorized") & (pl.col("duplicates") <= t.delta), ("duplicates",), "at most δ duplicates"),
    "reconstruct": Rule(_reconstruct, ("templates",), "the text repeats itself or counts"),
    "guess": Rule(_guess, ("templates", "rouge"), "the text repeats itself or counts, or prefix and suffix overlap by ρ"),
    "code": Rule(lambda _: pl.col("memorized") & pl.col("is_code"), ("code",), "the text is code"),
    "memorized": Rule(lambda _: pl.col("memorized"), (), "any memorized sequence that no earlier class took"),
    "heads": Rule(lambda _: pl.col("memorized") & pl.col("heads"), ("coin",), "a coin, drawn from tokens and seed, shows heads"),
    "frequent": Rule(
        lambda _: pl.col("memorized") & (pl.col("rank") > MEDIAN),
        ("duplicates", "rank"),
        "more duplicates than the median of the memorized",
    ),
}
NULL = ("coin", "rank")  # feature groups of rules that split for no reason; no file holds them
MEDIAN = 0.5


@dataclass(frozen=True)
class Taxonomy:
    """A name and its ordered classes, each with the rules of which one must hold."""

    name: str
    classes: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, name: str, classes: Mapping[str, Any]) -> Taxonomy:
        """A taxonomy from its YAML: class name → rule or list of rules.

        Raises:
            ValueError: fewer than two classes, an unknown rule, or a class behind others that take everything it could match.
        """
        rules = {title: tuple(value) if isinstance(value, list | tuple) else (value,) for title, value in classes.items()}
        if len(rules) < 2:
            raise ValueError(f"taxonomy {name!r} has {len(rules)} class: a taxonomy needs at least two")
        for title, names in rules.items():
            for rule in names:
                if rule not in RULES:
                    raise ValueError(f"class {title!r} of taxonomy {name!r} has the unknown rule {rule!r}: use {', '.join(RULES)}")
        taxonomy = cls(name, rules)
        taxonomy.refuse_hidden_classes()
        return taxonomy

    @property
    def needs(self) -> tuple[str, ...]:
        """The feature groups that its rules read, besides `memorized`."""
        return tuple(dict.fromkeys(group for names in self.classes.values() for rule in names for group in RULES[rule].needs))

    @property
    def kept(self) -> tuple[str, ...]:
        """Those of them that files of labels hold: a null rule's are made from the id."""
        return tuple(group for group in self.needs if group not in NULL)

    def classify(self, features: pl.DataFrame, thresholds: Thresholds) -> np.ndarray:
        """The class of every row as its index, int8 (rows,); `NO_CLASS` where no rule holds, `UNDECIDED` if a null `is_code` decides.

        Args:
            features: a row per sequence with the columns that `needs` names and `memorized`.
        """
        if "code" not in self.needs:
            return features.select(self.chain(thresholds))["class"].to_numpy()
        if_code, if_text = (
            features.with_columns(pl.col("is_code").fill_null(answer)).select(self.chain(thresholds))["class"].to_numpy()
            for answer in (True, False)
        )
        return np.where(if_code == if_text, if_code, np.int8(UNDECIDED))

    def undecided(self, classes: np.ndarray) -> int:
        """How many of the classes that `classify` gave are undecided."""
        return int((classes == UNDECIDED).sum())

    def chain(self, thresholds: Thresholds) -> pl.Expr:
        """The first class with a rule that holds."""
        chain = pl.lit(NO_CLASS, pl.Int8)
        for index, names in reversed(list(enumerate(self.classes.values()))):
            holds = pl.any_horizontal(*(RULES[rule].condition(thresholds) for rule in names))
            chain = pl.when(holds).then(pl.lit(index, pl.Int8)).otherwise(chain)
        return chain.alias("class")

    @property
    def is_null(self) -> bool:
        """Whether it splits what is memorized for no reason, by a coin or at a median: every ranking tells where such ones land."""
        return self.kept != self.needs

    @cached_property
    def cases(self) -> pl.DataFrame:
        """`CASES`; each of them also with every answer of the null rules, if it has one."""
        return CASES.join(NULL_CASES, how="cross") if self.is_null else CASES

    @cached_property
    def truth(self) -> np.ndarray:
        """The class of every one of its cases, int8 (cases,): a taxonomy is a function of these alone."""
        return self.classify(self.cases, CASE_THRESHOLDS)

    @property
    def non_memorized(self) -> int | None:
        """The index of the class that takes what is not memorized, or None."""
        index = int(self.truth[0])
        return None if index == NO_CLASS else index

    def refuse_hidden_classes(self) -> None:
        """Raise ValueError for a class behind others that take everything it could match."""
        taken = set(self.truth.tolist())
        for index, (title, names) in enumerate(self.classes.items()):
            if index not in taken:
                matches = self.cases.select(pl.any_horizontal(*(RULES[rule].condition(CASE_THRESHOLDS) for rule in names)))
                titles = list(self.classes)
                before = [titles[other] for other in dict.fromkeys(self.truth[matches.to_series().to_numpy()].tolist())]
                same = " with the same rules" if len(before) == 1 and set(self.classes[before[0]]) == set(names) else ""
                come = "comes" if len(before) == 1 else "come"
                names_before = " and ".join(map(repr, before))
                raise ValueError(f"class {title!r} of taxonomy {self.name!r} can never match: {names_before}{same} {come} before it")

    @property
    def decided_by_code(self) -> list[bool]:
        """For every class, whether a sequence of it can hang on `is_code`."""
        others = [column for column in self.cases.columns if column != "is_code"]
        pairs = self.cases.with_columns(truth=self.truth).group_by(others).agg(pl.col("truth").unique())["truth"].to_list()
        hanging = {index for pair in pairs if len(pair) > 1 for index in pair}
        return [index in hanging for index in range(len(self.classes))]

    def depends_on(self, *features: str) -> bool:
        """Whether a case's class can change with these columns of its cases."""
        others = [column for column in self.cases.columns if column not in features]
        return self.cases.with_columns(truth=self.truth).group_by(others).agg(pl.col("truth").n_unique())["truth"].max() != 1

    def partition(self, thresholds: Thresholds) -> Partition:
        """How it divides sequences at these thresholds."""
        delta = thresholds.delta if self.depends_on("duplicates") else None
        rho, rouge = (thresholds.rho, thresholds.rouge) if self.depends_on("rouge_l", "rouge_3") else (None, None)
        # Where no answer of the null rules decides, it is the partition of a taxonomy without them.
        truth = self.truth[:: len(NULL_CASES)] if self.is_null and not self.depends_on(*NULL_CASES.columns) else self.truth
        order = tuple(index for index in dict.fromkeys(truth.tolist()) if index != NO_CLASS)
        rank = {index: position for position, index in enumerate(order)}
        cases = "".join("-" if index == NO_CLASS else str(rank[index]) for index in truth.tolist())
        return Partition(delta, rho, rouge, order, cases)


@dataclass(frozen=True)
class Partition:
    """How sequences are divided, whatever the classes are called and in whatever order they stand: equal ones need only one training.

    Attributes:
        delta, rho, rouge: the thresholds that it depends on; None where it does not.
        order: the taxonomy's class indices in an order that depends on the partition alone.
        cases: for every one of its cases, the position of its class in `order`.
    """

    delta: int | None
    rho: float | None
    rouge: str | None
    order: tuple[int, ...]
    cases: str

    @property
    def thresholds(self) -> Thresholds:
        """Those that it depends on."""
        return Thresholds(self.delta, self.rho, self.rouge)

    @property
    def key(self) -> str:
        """Equal for equal partitions."""
        return f"{self.cases}/{self.delta}/{self.rho}/{self.rouge}"


def all_cases() -> pl.DataFrame:
    """A row for every way in which rules can tell sequences apart: not memorized, or memorized with each answer of the four features."""
    answers = itertools.product((True, False), repeat=4)
    rows = [(True, template, template, int(many), float(high), float(high), code) for many, template, high, code in answers]
    names = ("memorized", "is_repeating", "is_incrementing", "duplicates", "rouge_l", "rouge_3", "is_code")
    return pl.DataFrame([(False, *rows[-1][1:]), *rows], schema=list(names), orient="row")


CASES = all_cases()
NULL_CASES = pl.DataFrame(
    [(heads, float(upper)) for heads, upper in itertools.product((True, False), repeat=2)], schema=["heads", "rank"], orient="row"
)
CASE_THRESHOLDS = Thresholds(delta=0, rho=0.5, rouge="both")
