"""Taxonomies: ordered classes, each a named rule over a sequence's features; the first rule that holds gives the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from memgrid.taxonomy.cases import CASE_THRESHOLDS, CASES, NULL_CASES
from memgrid.taxonomy.rules import NULL, RULES
from memgrid.taxonomy.thresholds import Thresholds

NO_CLASS = -1
UNDECIDED = -2


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
