"""Why a class has too few samples, and what would help: a sentence by cause, from the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from memgrid.config.schema import SelectConfig
from memgrid.taxonomy.taxonomy import Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

MOST_TRIED = 40  # values of δ
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

    def smallest(self, thresholds: Thresholds) -> int:
        """How many sequences the smallest class has at some thresholds; at least so many, where not all were judged for code."""
        kinds = self.kinds
        classes = self.taxonomy.classify(kinds.drop("number"), thresholds)
        counts = np.zeros(len(self.taxonomy.classes), np.int64)
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
        depends = self.depends
        at = f" at any {' or '.join(depends)}" if depends else ""
        return f"use another taxonomy, for this corpus has too few such sequences{at}"

    @property
    def depends(self) -> list[str]:
        """The thresholds that the taxonomy depends on, as they are typed."""
        partition = self.taxonomy.partition(self.thresholds)
        return ["delta"] * (partition.delta is not None) + ["rho"] * (partition.rho is not None)

    def better_thresholds(self) -> str:
        """The δ, or the ρ, that leaves every class enough; empty where none does."""
        least = self.config.min_train_per_class + self.config.min_eval_per_class
        wanted = self.config.train_per_class + self.config.eval_per_class
        now, depends, words = self.thresholds, self.depends, []
        tried: dict[str, dict[float, Thresholds]] = {
            "delta": {delta: replace(now, delta=delta) for delta in (self.deltas if "delta" in depends else [])},
            "rho": {rho: replace(now, rho=rho) for rho in (RHOS if "rho" in depends else [])},
        }
        for name, others in tried.items():
            found = {value: self.smallest(thresholds) for value, thresholds in others.items()}
            full = [value for value, number in found.items() if number >= wanted]
            # The nearest of those that leave all that is wanted, else the best.
            best = min(full, key=lambda value: abs(value - getattr(now, name))) if full else max(found, key=found.__getitem__, default=None)
            if best is not None and found[best] >= least:
                words.append(f"{name}={best}, which leaves every class at least {found[best]}")
        return f"change to {' or '.join(words)}" if words else ""

    @cached_property
    def deltas(self) -> list[int]:
        """Values of δ that divide the memorized sequences, at most so many of them."""
        counts = self.features.filter("memorized")["duplicates"].to_numpy()
        values = np.unique(counts)[:-1]
        return [int(value) for value in values[np.unique(np.linspace(0, len(values) - 1, MOST_TRIED).astype(int))]] if len(values) else []
