"""Why a class has too few samples, and what would help: a sentence by cause, from the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from memgrid.config.limits import plain
from memgrid.config.schema import SelectConfig
from memgrid.taxonomy.rules import named_columns
from memgrid.taxonomy.taxonomy import Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

MOST_TRIED = 40  # values of a threshold
RHOS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))


def refusal(title: str, available: int, side: str, config: SelectConfig, have: Mapping[str, int], like: str, what_helps: str) -> str:
    """Why a run is refused.

    Args:
        title: of the class that has too few on a side. available: how many.
        have: each class, and how many sequences it has on both sides together, exact copies once.
        like: what else they had to be like.
    """
    wanted = config.train_per_class if side == "train" else config.eval_per_class
    least = config.min_train_per_class if side == "train" else config.min_eval_per_class
    counts = ", ".join(f"{name} {number}" for name, number in have.items())
    together = config.min_train_per_class + config.min_eval_per_class
    if not like and have[title] >= 2 * together:
        what_helps = "they are near-duplicates of each other, which stay on one side: add other texts"
    lower = f"lower select.min_{side}_per_class, or " if available else ""
    return (
        f"class {title!r} has {available} samples{like} for the {side} side, {wanted} were wanted and {least} are the least "
        f"(in all {counts}): {lower}{what_helps}"
    )


@dataclass(frozen=True, eq=False)
class Labelled:
    """The sequences of a corpus, exact copies once, by what the rules of a taxonomy read.

    Attributes:
        read: makes a row per sequence; only asked where something is refused.
    """

    taxonomy: Taxonomy
    thresholds: Thresholds
    read: Callable[[], pl.DataFrame]
    config: SelectConfig

    @cached_property
    def features(self) -> pl.DataFrame:
        """What the rules read, and nothing else."""
        features = self.read()
        return features.select(column for column in self.taxonomy.columns if column in features.columns)

    @cached_property
    def kinds(self) -> pl.DataFrame:
        """A row for all sequences that the rules cannot tell apart, with their number."""
        return self.features.group_by(pl.all(), maintain_order=True).len("number")

    def smallest(self, thresholds: Thresholds, other: Taxonomy | None = None) -> int:
        """How many sequences the smallest class has at some thresholds; at least so many, where not all were judged for code.

        Args:
            other: the taxonomy with other values of its own thresholds.
        """
        kinds, taxonomy = self.kinds, other or self.taxonomy
        classes = taxonomy.classify(kinds.drop("number"), thresholds)
        counts = np.zeros(len(taxonomy.classes), np.int64)
        np.add.at(counts, classes[classes >= 0], kinds["number"].to_numpy()[classes >= 0])
        return int(counts.min())

    def advice(self, short: int) -> str:
        """What would help a class that has too few, from its index."""
        memorized, total = int(self.features["memorized"].sum()), self.features.height
        negative = self.taxonomy.non_memorized
        if short == negative:
            return f"of {total} sequences {memorized} are memorized: add text that the model has not read"
        if not memorized:
            return f"none of {total} sequences is memorized: take a larger model, or text that it has read more often"
        if better := self.better_thresholds():
            return better
        enough = self.config.min_train_per_class + self.config.min_eval_per_class
        if memorized < enough * (len(self.taxonomy.classes) - (negative is not None)):
            return f"take a larger corpus, for only {memorized} of {total} sequences are memorized"
        at = f" at any {' or '.join(self.tried)}" if self.tried else ""
        return f"use another taxonomy, for this corpus has too few such sequences{at}"

    @cached_property
    def tried(self) -> dict[str, dict[float, tuple[Thresholds, Taxonomy]]]:
        """The thresholds that the taxonomy depends on, as they are typed, and what is tried in the place of each."""
        partition, now = self.taxonomy.partition(self.thresholds), self.thresholds
        tried: dict[str, dict[float, tuple[Thresholds, Taxonomy]]] = {}
        if partition.delta is not None:
            tried["delta"] = {int(delta): (replace(now, delta=int(delta)), self.taxonomy) for delta in self.values("delta")}
        if partition.rho is not None:
            tried["rho"] = {rho: (replace(now, rho=rho), self.taxonomy) for rho in RHOS}
        for name in self.taxonomy.own_thresholds:
            others = tried[f"taxonomy.thresholds.{name}"] = {}
            for value in (float(f"{value:.3g}") for value in self.values(name)):  # which people can type
                with suppress(ValueError):  # at which a class can never match
                    others[value] = (now, self.taxonomy.at(**{name: value}))
        return tried

    def better_thresholds(self) -> str:
        """The thresholds that leave every class enough, each alone; empty where none does."""
        least = self.config.min_train_per_class + self.config.min_eval_per_class
        wanted = self.config.train_per_class + self.config.eval_per_class
        now, words = {"delta": self.thresholds.delta, "rho": self.thresholds.rho, **self.taxonomy.own_thresholds}, []
        for name, others in self.tried.items():
            found, own = {value: self.smallest(*other) for value, other in others.items()}, now[name.rpartition(".")[2]]
            full = [value for value, number in found.items() if number >= wanted]
            # The nearest of those that leave all that is wanted, else the best.
            best = min(full, key=lambda value: abs(value - own)) if full else max(found, key=found.__getitem__, default=None)
            if best is not None and found[best] >= least:
                words.append(f"{name}={plain(best)}, which leaves every class at least {found[best]}")
        return f"change to {' or '.join(words)}" if words else ""

    def values(self, name: str) -> list[float]:
        """Values of a threshold that divide the sequences by what is compared with it, at most so many of them."""
        compared = [column for read, column in named_columns([*self.taxonomy.classes.values()]) if read == name]
        columns = [self.features[column] for column in sorted(compared)]
        if name == "delta" and "duplicates" in self.features.columns:
            columns.append(self.features.filter("memorized")["duplicates"])
        numbers = np.unique(np.concatenate([np.zeros(0), *(column.cast(pl.Float64).to_numpy() for column in columns)]))
        values = numbers[np.isfinite(numbers)][:-1]
        some = values[np.unique(np.linspace(0, len(values) - 1, MOST_TRIED).astype(int))] if len(values) else values
        return some.tolist()  # type: ignore[no-any-return]
