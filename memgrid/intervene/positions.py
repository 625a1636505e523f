"""Which attention positions an intervention switches off: the most decisive ones of a class, and the controls they are compared with.

All masks are bool (layers, query, key). No torch here.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from memgrid.intervene.trials import EVERYTHING, NOTHING, Trial

Mask = Bool[np.ndarray, "layers length length"]

COUNTED = 10**6
ALIKE = 16  # positions of a stratum, about: of fewer the target would take most, and of more the attention would differ


def candidates(layers: int, length: int, k: int, queries: str) -> Mask:
    """The positions that can be masked at all.

    - The diagonal never is: a token can always look at itself, so that every row keeps a key and can be renormalised. Row 0 has no other.
    - Only what can change the decoding of the suffix: not the last query, whose output predicts nothing, and in the last layer no query
      before k - 1.
    - `queries=suffix`: only queries from k - 1 on, those whose output predicts the suffix. `all`: how the prefix is read, too.
    """
    query, key = np.arange(length)[:, None], np.arange(length)
    below = (key < query) & (query < length - 1) & (query >= (k - 1 if queries == "suffix" else 0))
    among = np.repeat(below[None], layers, 0)
    among[-1, : k - 1] = False
    return among


def ranked(importance: Float[np.ndarray, "layers length length"], among: Mask, tie_seed: int) -> Int[np.ndarray, " candidates"]:
    """The flat indices of the candidates, the most important first; equal ones (Δ is often exactly 0) in an order drawn from `tie_seed`."""
    places = np.flatnonzero(among)
    ties = np.random.default_rng(tie_seed).permutation(len(places))
    return places[np.lexsort((ties, -importance.ravel()[places]))]


def amount(percent: float, among: Mask) -> int:
    """How many positions q % of the candidates are: at least one."""
    return max(1, round(percent / 100 * int(among.sum())))


def first_overall(order: np.ndarray, count: int, shape: tuple[int, ...]) -> Mask:
    """The first `count` positions of an order, over all layers jointly."""
    mask = np.zeros(shape, bool)
    mask.flat[order[:count]] = True
    return mask


def first_of_mass(order: np.ndarray, attention: np.ndarray, target: Mask) -> Mask:
    """In each layer the first positions of an order, as many as together get most nearly as much attention as the target's there.

    Args:
        order: flat indices, not of all candidates where an order ends. attention: float (layers, length, length).
    """
    mask = np.zeros_like(target)
    layer = order // target[0].size
    for number in np.flatnonzero(target.any((1, 2))):
        own = order[layer == number]
        reached = np.concatenate([[0.0], attention.ravel()[own].cumsum()])
        mask.flat[own[: abs(reached - attention[number][target[number]].sum()).argmin()]] = True
    return mask


def strata(attention: np.ndarray, among: Mask) -> Int[np.ndarray, " candidates"]:
    """Which candidates are alike: in one layer, about as far back (1, 2-3, 4-7, … tokens), and neighbours in attention; a number for each.

    Args:
        attention: float (layers, length, length).
    """
    layer, query, key = np.nonzero(among)
    octave, weight = np.log2(query - key).astype(int), attention[among]
    numbers, count = np.empty(len(layer), int), 0
    for which in np.unique(np.stack([layer, octave], 1), axis=0):
        mine = np.flatnonzero((layer == which[0]) & (octave == which[1]))
        mine = mine[np.argsort(weight[mine])]
        for neighbours in np.array_split(mine, max(1, round(len(mine) / ALIKE))):
            numbers[neighbours], count = count, count + 1
    return numbers


def exchanged(target: Mask, among: Mask, alike: Int[np.ndarray, " candidates"], random: np.random.Generator) -> Mask:
    """Random candidates, as many in each stratum as the target has there.

    A target that holds another one gives a mask that holds the other's, from the same random numbers.

    If Δ orders the positions of a stratum no better than by chance, the target is such a mask, too.

    Args:
        alike: see `strata`.
    """
    order = np.lexsort((random.random(len(alike)), alike))
    wanted = np.bincount(alike, weights=target[among])
    place = np.empty(len(alike), int)
    place[order] = np.arange(len(alike)) - np.searchsorted(alike[order], alike[order])
    mask = np.zeros_like(target)
    mask[among] = place < wanted[alike]
    return mask


def choices(mask: Mask, among: Mask, alike: Int[np.ndarray, " candidates"]) -> int:
    """How many masks there are with as many candidates in each stratum: what `exchanged` draws from. No more than `COUNTED` are counted."""
    wanted, sizes = np.bincount(alike, weights=mask[among]).astype(int), np.bincount(alike)
    number = 1
    for size, taken in zip(sizes.tolist(), wanted.tolist(), strict=True):
        number *= math.comb(size, taken)
        if number >= COUNTED:
            return COUNTED
    return number


class Regions:
    """The masks of all trials of one class.

    All take as much attention from each layer as the target, so that only the choice within a layer is compared: an attentive position
    matters more than one that is hardly looked at, whatever Δ knows.

    - `target`: the most decisive q % of the class, over layers, queries and keys jointly.
    - `random`: as many positions of each stratum, see `exchanged`; a draw of a seed grows with the dose, as the target does.
    - `other:<class>`: in each layer the most decisive positions of another class, see `first_of_mass`, so far as these decide anything.
    - `least`: in each layer the least decisive of this class, so far as the target does not have them.
    - `attended`: in each layer those that get most attention from the class's samples: does Δ know more than where the model looks?
    - `layer:<n>`: the target's positions in one layer, and `random-layer:<n>`: those of `random` (its first seed) there.

    Args:
        maps: (classes, layers, length, length), the classes' decision maps (Δ).
        attention: (layers, length, length), mean over heads and the class's samples.
    """

    def __init__(self, maps: np.ndarray, label: int, classes: list[str], attention: np.ndarray, among: Mask) -> None:
        self.label, self.among, self.importance, self.attention = label, among, maps[label], attention
        # Ties fall differently in each class: common zeros shall not make their masks alike.
        orders = [ranked(by_class, among, number) for number, by_class in enumerate(maps)]
        self.order = orders[label]
        self.orders = {f"other:{name}": order[own.ravel()[order] > 0] for name, order, own in zip(classes, orders, maps, strict=True)}
        self.orders |= {"least": self.order[::-1], "attended": ranked(attention, among, label)}
        self.alike = strata(attention, among)

    def target(self, percent: float) -> Mask:
        """The most decisive q % of the class."""
        return first_overall(self.order, amount(percent, self.among), self.among.shape)

    def mask(self, trial: Trial) -> Mask:
        """The positions that a trial masks."""
        if trial.masked in (NOTHING, EVERYTHING):
            return self.among & (trial.masked == EVERYTHING)
        target = self.target(trial.percent)
        if trial.masked in self.orders:
            order = self.orders[trial.masked]
            return first_of_mass(order[~target.ravel()[order]] if trial.masked == "least" else order, self.attention, target)
        mask = target
        if trial.masked.startswith("random"):
            mask = exchanged(target, self.among, self.alike, np.random.default_rng((trial.seed or 0, self.label)))
        return mask if trial.layer is None else mask & (np.arange(1, len(mask) + 1) == trial.layer)[:, None, None]

    def describe(self, trial: Trial, mask: Mask) -> dict[str, float]:
        """What a mask takes away.

        units: how many positions. choices: see there. overlap: the share of them that the target has too. decisive: their share of the
        sum of Δ over all candidates. removed: the share of the rows' attention that lies on them when nothing is masked.
        """
        count, total = int(mask.sum()), float(self.importance[self.among].sum())
        rows = int(self.among.any(2).sum())
        shared = int((mask & self.target(trial.percent)).sum())
        return {
            "units": count,
            "choices": choices(mask, self.among, self.alike),
            "overlap": shared / count if count else 0.0,
            "decisive": float(self.importance[mask].sum()) / total if total > 0 else 0.0,
            "removed": float(self.attention[mask].sum()) / rows,
        }
