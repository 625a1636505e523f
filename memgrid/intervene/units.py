"""Heads and layers, which are switched off whole: which ones, by what they were ranked, and draws to compare them with. No torch here.

A head is switched off at all queries that can be masked at all (`memgrid.intervene.positions.candidates`), a layer on all of its heads. So
heads, layers and positions are the same thing in three sizes, and switching off all of any of them is the same mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from memgrid.intervene.positions import Mask, choices, exchanged, ranked
from memgrid.intervene.trials import ALONE, EVERYTHING, NOTHING, Trial
from memgrid.results.records import HEADS, RANDOM, WAYS

ALIKE_HEADS = 4  # heads of a layer that are neighbours by the length of their outputs


def doses(total: int, numbers: list[int] | None) -> list[int]:
    """How many units are switched off together: as many as are asked for and exist, or half of all, a quarter, and so on down to one."""
    if numbers is None:
        return sorted({max(1, round(total / 2**power)) for power in range(1, total.bit_length() + 1)})
    return sorted({number for number in numbers if number <= total})


def switchable(among: Mask, replace: str) -> Mask:
    """The positions of a unit, bool (layers, query, key): with the diagonal where the row need not keep a key."""
    if replace == "renormalise":
        return among
    rows: Bool[np.ndarray, "layers length"] = np.asarray(among.any(-1))
    # The first query sees itself alone.
    rows[:, 0] |= among[:, 1].any(-1)
    return among | (rows[:, :, None] & np.eye(among.shape[-1], dtype=bool))


def alike_heads(norm: Float[np.ndarray, "layers heads"]) -> Int[np.ndarray, " units"]:
    """Which heads are alike: in one layer, and neighbours in the length of their outputs; a number for each."""
    numbers, count = np.empty(norm.shape, int), 0
    for layer, lengths in enumerate(norm):
        for neighbours in np.array_split(np.argsort(lengths), max(1, round(len(lengths) / ALIKE_HEADS))):
            numbers[layer, neighbours], count = count, count + 1
    return numbers.ravel()


@dataclass(frozen=True)
class Units:
    """The masks of all trials on one class's heads, or layers.

    - `attribution`, `ablation`, `delta`: the first units by one of the ways that they were ranked in, see `WAYS`.
    - `random`: as many of each stratum as the first of these ways takes; a draw of a seed grows with the dose.
    - `alone:<n>`: a single unit, from 0 on.

    Attributes:
        unit: heads or layers.
        importance: by way, and the `norm` of heads' outputs, float of a shape that is (layers, heads) or (layers,).
        alike: the number of each unit's stratum.
        attention: float (layers, heads, length, length), or (layers, length, length) of layers.
        allowed: what of a unit is switched off, see `switchable`.
    """

    unit: str
    label: int
    importance: Mapping[str, np.ndarray]
    alike: Int[np.ndarray, " units"]
    attention: np.ndarray
    allowed: Mask

    @cached_property
    def every(self) -> Bool[np.ndarray, ...]:
        """All units, true."""
        return np.ones(self.attention.shape[:-2], bool)

    @cached_property
    def orders(self) -> dict[str, Int[np.ndarray, " units"]]:
        """The units by way, the most important first."""
        return {way: ranked(self.importance[way], self.every, self.label) for way in WAYS[self.unit] if way in self.importance}

    def rows(self) -> list[dict[str, float | int | str | None]]:
        """What was found of every unit."""
        columns = {name: values.ravel().tolist() for name, values in self.importance.items()}
        places = [(place[0] + 1, place[1] + 1 if len(place) > 1 else None) for place in np.ndindex(self.every.shape)]
        names = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return [{"unit": self.unit, "layer": layer, "head": head, **row} for (layer, head), row in zip(places, names, strict=True)]

    def amount(self, trial: Trial) -> int:
        """How many units a trial switches off."""
        return round(trial.percent / 100 * self.every.size)

    def first(self, way: str, number: int) -> Bool[np.ndarray, ...]:
        """The first units of a way's order."""
        chosen = np.zeros(self.every.shape, bool)
        chosen.flat[self.orders[way][:number]] = True
        return chosen

    def chosen(self, trial: Trial) -> Bool[np.ndarray, ...]:
        """Which units a trial switches off."""
        if trial.masked in (NOTHING, EVERYTHING):
            return self.every & (trial.masked == EVERYTHING)
        kind, _, number = trial.masked.partition(":")
        if kind == ALONE:
            return np.arange(self.every.size).reshape(self.every.shape) == int(number)
        if trial.masked != RANDOM:
            return self.first(trial.masked, self.amount(trial))
        target = self.first(WAYS[self.unit][0], self.amount(trial))
        return exchanged(target, self.every, self.alike, np.random.default_rng((trial.seed or 0, self.label)))

    def mask(self, trial: Trial) -> Bool[np.ndarray, ...]:
        """The positions that a trial masks, bool of the attention's shape."""
        allowed = self.allowed[:, None] if self.unit == HEADS else self.allowed
        return self.chosen(trial)[..., None, None] & allowed

    def describe(self, trial: Trial, mask: np.ndarray) -> dict[str, float]:
        """What a mask takes away, as `memgrid.intervene.positions.Regions.describe`; Δ is what lies under the units' own attention."""
        chosen, delta = self.chosen(trial), self.importance["delta"]
        shared = int((chosen & self.first(WAYS[self.unit][0], self.amount(trial))).sum())
        rows = int(self.allowed.any(2).sum()) * (self.every.shape[1] if self.unit == HEADS else 1)
        return {
            "units": int(chosen.sum()),
            "choices": choices(chosen, self.every, self.alike),
            "overlap": shared / max(1, int(chosen.sum())),
            "decisive": float(delta[chosen].sum()) / float(delta.sum()) if delta.sum() > 0 else 0.0,
            "removed": float(self.attention[mask].sum()) / rows,
        }
