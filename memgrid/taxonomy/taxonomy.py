"""Taxonomies: ordered classes, each a rule over a sequence's features; the first rule that holds gives the class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from memgrid.taxonomy.cases import CASE_THRESHOLDS, CASES, NAMES, NULL_CASES, case_column, cases_of
from memgrid.taxonomy.columns import OWN, group_of
from memgrid.taxonomy.rules import NULL, SYMBOLS, Comparison, Read, Rule, names_read, rule_of
from memgrid.taxonomy.thresholds import Thresholds

NO_CLASS = -1
UNDECIDED = -2


@dataclass(frozen=True)
class Taxonomy:
    """A name and its ordered classes, each with the rules of which one must hold, as YAML gives them, and thresholds that these name."""

    name: str
    classes: Mapping[str, tuple[Any, ...]]
    own_thresholds: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, classes: Mapping[str, Any], thresholds: Mapping[str, Any] | None = None) -> Taxonomy:
        """A taxonomy from its YAML: class name → rule or list of rules, and the values of thresholds that rules name.

        Raises:
            ValueError: fewer than two classes, no rule, a threshold that none reads, or a class behind others that take everything it
                could match.
        """
        rules = {title: tuple(value) if isinstance(value, list | tuple) else (value,) for title, value in classes.items()}
        if len(rules) < 2:
            raise ValueError(f"taxonomy {name!r} has {len(rules)} class: a taxonomy needs at least two")
        taxonomy = cls(name, rules, dict(thresholds or {}))
        taxonomy.refuse_thresholds()
        taxonomy.refuse_hidden_classes()
        return taxonomy

    @classmethod
    def written(cls, settings: Mapping[str, Any]) -> Taxonomy:
        """A taxonomy from its settings as plain containers: name, classes and, where it has some, thresholds; raises as `of`."""
        return cls.of(settings["name"], settings["classes"], settings.get("thresholds"))

    @cached_property
    def rules(self) -> dict[str, Rule]:
        """The rule of each class.

        Raises:
            ValueError: there is none of a name, or what is given is none.
        """
        found = {}
        for title, given in self.classes.items():
            try:
                found[title] = rule_of(given[0] if len(given) == 1 else list(given), self.own_thresholds)
            except ValueError as error:
                raise ValueError(f"class {title!r} of taxonomy {self.name!r} has {error}") from None
        return found

    def at(self, **thresholds: float) -> Taxonomy:
        """The same with other values of some thresholds of its own; raises as `of`."""
        return Taxonomy.of(self.name, self.classes, {**self.own_thresholds, **thresholds})

    def refuse_thresholds(self) -> None:
        """Raise ValueError for a threshold that cannot be one, or that no rule reads."""
        read = names_read([list(given) for given in self.classes.values()])
        for name, value in self.own_thresholds.items():
            if name in SYMBOLS or isinstance(value, bool) or not isinstance(value, int | float):
                what = "δ and ρ are set by themselves, choose another name" if name in SYMBOLS else "give a number"
                raise ValueError(f"taxonomy {self.name!r} has the threshold {name}={value}: {what}")
            if name not in read:
                raise ValueError(f"taxonomy {self.name!r} has the threshold {name}, which no rule reads: name it in one, or leave it out")

    @property
    def needs(self) -> tuple[str, ...]:
        """The feature groups that its rules read, besides `memorized`."""
        return tuple(dict.fromkeys(group for rule in self.rules.values() for group in rule.needs))

    @property
    def kept(self) -> tuple[str, ...]:
        """Those of them that files of labels hold: a null rule's are made from the id, and others stand in the user's own table."""
        return tuple(group for group in self.needs if group not in (*NULL, OWN))

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Those that its rules make on columns of their own choice."""
        return tuple(dict.fromkeys(comparison for rule in self.rules.values() for comparison in rule.comparisons))

    @property
    def compared(self) -> tuple[str, ...]:
        """The columns that these read."""
        return tuple(dict.fromkeys(comparison.column for comparison in self.comparisons))

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Those of them that only the user's own table can bring."""
        return tuple(column for column in self.compared if group_of(column) == OWN)

    @property
    def columns(self) -> tuple[str, ...]:
        """All feature columns that decide a class, but for those that null rules read."""
        return (*NAMES, *(column for column in self.compared if column not in NAMES))

    def classify(self, features: pl.DataFrame, thresholds: Thresholds) -> np.ndarray:
        """The class of every row as its index, int8 (rows,); `NO_CLASS` where no rule holds, `UNDECIDED` if a null `is_code` decides.

        Args:
            features: a row per sequence with the columns that `needs` names and `memorized`.
        """
        return self.answers(features, thresholds, pl.col)

    def answers(self, features: pl.DataFrame, thresholds: Thresholds, read: Read) -> np.ndarray:
        """As `classify`; `read` says where a comparison finds its column."""
        if "code" not in self.needs:
            return features.select(self.chain(thresholds, read))["class"].to_numpy()
        if_code, if_text = (
            features.with_columns(pl.col("is_code").fill_null(answer)).select(self.chain(thresholds, read))["class"].to_numpy()
            for answer in (True, False)
        )
        return np.where(if_code == if_text, if_code, np.int8(UNDECIDED))

    def undecided(self, classes: np.ndarray) -> int:
        """How many of the classes that `classify` gave are undecided."""
        return int((classes == UNDECIDED).sum())

    def chain(self, thresholds: Thresholds, read: Read = pl.col) -> pl.Expr:
        """The first class with a rule that holds."""
        chain = pl.lit(NO_CLASS, pl.Int8)
        for index, rule in reversed(list(enumerate(self.rules.values()))):
            chain = pl.when(rule.condition(thresholds, read)).then(pl.lit(index, pl.Int8)).otherwise(chain)
        return chain.alias("class")

    @property
    def is_null(self) -> bool:
        """Whether it splits what is memorized for no reason, by a coin or at a median: every ranking tells where such ones land."""
        return any(group in NULL for group in self.needs)

    @cached_property
    def cases(self) -> pl.DataFrame:
        """`CASES`, or those of the columns that it compares; each of them also with every answer of the null rules, if it has one."""
        comparisons = self.comparisons
        try:
            cases = cases_of(comparisons) if comparisons else CASES
        except ValueError as error:
            raise ValueError(f"taxonomy {self.name!r} {error}") from None
        return cases.join(NULL_CASES, how="cross") if self.is_null else cases

    @cached_property
    def truth(self) -> np.ndarray:
        """The class of every one of its cases, int8 (cases,): a taxonomy is a function of these alone."""
        return self.answers(self.cases, CASE_THRESHOLDS, case_column)

    @property
    def non_memorized(self) -> int | None:
        """The index of the class that takes what is not memorized, or None where there is none, or several."""
        found = set(self.truth[~self.cases["memorized"].to_numpy()].tolist())
        return found.pop() if len(found) == 1 and NO_CLASS not in found else None

    @property
    def never_memorized(self) -> set[int]:
        """The indices of classes whose samples are none that are memorized."""
        memorized = self.cases["memorized"].to_numpy()
        return set(self.truth[~memorized].tolist()) - set(self.truth[memorized].tolist()) - {NO_CLASS}

    def refuse_hidden_classes(self) -> None:
        """Raise ValueError for a class behind others that take everything it could match."""
        taken = set(self.truth.tolist())
        for index, (title, rule) in enumerate(self.rules.items()):
            if index not in taken:
                matches = self.cases.select(rule.condition(CASE_THRESHOLDS, case_column)).to_series().to_numpy()
                if not matches.any():
                    raise ValueError(f"class {title!r} of taxonomy {self.name!r} can never match: nothing is {rule.meaning}")
                titles = list(self.classes)
                before = [titles[other] for other in dict.fromkeys(self.truth[matches].tolist())]
                same = " with the same rules" if len(before) == 1 and self.has_same_rules(before[0], title) else ""
                come = "comes" if len(before) == 1 else "come"
                names_before = " and ".join(map(repr, before))
                raise ValueError(f"class {title!r} of taxonomy {self.name!r} can never match: {names_before}{same} {come} before it")

    def has_same_rules(self, one: str, other: str) -> bool:
        """Whether two classes were given the same rules, in any order."""
        return {repr(rule) for rule in self.classes[one]} == {repr(rule) for rule in self.classes[other]}

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
        symbols = {comparison.symbol for comparison in self.comparisons}
        by_delta = "delta" in symbols or self.depends_on("duplicates")
        by_rouge = self.depends_on("rouge_l", "rouge_3")
        rho = thresholds.rho if by_rouge or "rho" in symbols else None
        # Where no answer of the null rules decides, it is the partition of a taxonomy without them.
        truth = self.truth[:: len(NULL_CASES)] if self.is_null and not self.depends_on(*NULL_CASES.columns) else self.truth
        order = tuple(index for index in dict.fromkeys(truth.tolist()) if index != NO_CLASS)
        rank = {index: position for position, index in enumerate(order)}
        cases = "".join("-" if index == NO_CLASS else str(rank[index]) for index in truth.tolist())
        compared = [[each.column, each.sign, each.symbol or each.value] for each in self.comparisons]
        own = f"/{json.dumps(sorted(compared, key=repr))}" if compared else ""
        return Partition(thresholds.delta if by_delta else None, rho, thresholds.rouge if by_rouge else None, order, cases + own)


@dataclass(frozen=True)
class Partition:
    """How sequences are divided, whatever the classes are called and in whatever order they stand: equal ones need only one training.

    Attributes:
        delta, rho, rouge: the thresholds that it depends on; None where it does not.
        order: the taxonomy's class indices in an order that depends on the partition alone.
        cases: for every one of its cases, the position of its class in `order`; and what it compares columns with.
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
