"""Which attention positions an intervention switches off: the most decisive ones of a class, and the controls they are compared with.

All masks are bool (layers, query, key). No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from memgrid.config.limits import refuse_value
from memgrid.config.schema import InterveneConfig

Mask = Bool[np.ndarray, "layers length length"]


def candidates(layers: int, length: int, k: int, queries: str) -> Mask:
    """The positions that can be masked at all.

    - The diagonal never is: a token can always look at itself, so that every row keeps a key and can be renormalised. Row 0 has no other.
    - Only what can change the decoding of the suffix: not the last query, whose output predicts nothing, and in the last layer no query
      before k - 1.
    - `queries=suffix`: only queries from k - 1 on, those whose output predicts the suffix. `all`: how the prefix is read, too.

    Raises:
        UserError: `queries` is neither.
    """
    refuse_value(InterveneConfig, "queries", queries, "intervene.")
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
    """How many positions q % of the candidates are: at least one.

    Raises:
        UserError: q is not in (0, 100].
    """
    refuse_value(InterveneConfig, "percent", percent, "intervene.")
    return max(1, round(percent / 100 * int(among.sum())))


def first_overall(order: np.ndarray, count: int, shape: tuple[int, ...]) -> Mask:
    """The first `count` positions of an order, over all layers jointly."""
    mask = np.zeros(shape, bool)
    mask.flat[order[:count]] = True
    return mask


def first_per_layer(order: np.ndarray, like: Mask) -> Mask:
    """In each layer the first positions of an order, as many as `like` has there."""
    mask = np.zeros_like(like)
    layer = order // like[0].size
    for number, count in enumerate(like.sum((1, 2))):
        mask.flat[order[layer == number][:count]] = True
    return mask


def matched(target: Mask, among: Mask, random: np.random.Generator) -> Mask:
    """Random candidates outside the target, in each layer as many as the target has at each distance (query - key).

    Where a layer has too few of a distance left, the nearest distances give the rest; where the target takes more than half of a layer's
    candidates, what is missing is drawn from the target itself. The count per layer is always the target's.
    """
    control = np.zeros_like(target)
    for layer in np.flatnonzero(target.any((1, 2))):
        control[layer] = _matched_layer(target[layer], among[layer], random)
    return control


def _matched_layer(target: np.ndarray, among: np.ndarray, random: np.random.Generator) -> np.ndarray:
    free = random.permutation(np.argwhere(among & ~target))
    distance = free[:, 0] - free[:, 1]
    wanted = np.bincount(np.subtract(*np.nonzero(target)), minlength=len(target))
    taken = np.zeros(len(free), bool)
    for step in np.flatnonzero(wanted):
        taken[np.flatnonzero(distance == step)[: wanted[step]]] = True
    lacking = wanted - np.bincount(distance[taken], minlength=len(target))
    for step in np.flatnonzero(lacking):
        rest = np.flatnonzero(~taken)
        taken[rest[np.argsort(abs(distance[rest] - step), kind="stable")][: lacking[step]]] = True
    own = random.permutation(np.argwhere(target))[: target.sum() - taken.sum()]
    control = np.zeros_like(target)
    control[tuple(np.concatenate([free[taken], own]).T)] = True
    return control


@dataclass(frozen=True)
class Trial:
    """One mask of the experiment.

    Attributes:
        label: index of the class whose samples are read.
        percent: q, the share of the candidates that are masked.
        masked: `none`, `target`, `random`, `other:<class>`, `least`, `attended`, `layer:<n>` or `random-layer:<n>` (n from 1 on).
        seed: of a random mask, else None.
    """

    label: int
    percent: float
    masked: str
    seed: int | None = None

    @property
    def layer(self) -> int | None:
        """The only layer that is masked, from 1 on; None where all are."""
        kind, _, number = self.masked.rpartition(":")
        return int(number) if kind in ("layer", "random-layer") else None


class Regions:
    """The masks of all trials of one class.

    All have as many positions in each layer as the target, so that only the choice within a layer is compared:

    - `target`: the most decisive q % of the class, over layers, queries and keys jointly.
    - `random`: see `matched`.
    - `other:<class>`: in each layer the most decisive positions of another class.
    - `least`: in each layer the least decisive of this class.
    - `attended`: in each layer those that get most attention from the class's samples: does Δ know more than where the model looks?
    - `layer:<n>`: the target's positions in one layer, and `random-layer:<n>`: those of `random` (its first seed) there.

    Args:
        maps: (classes, layers, length, length), the classes' decision maps (Δ).
        attention: (layers, length, length), mean over heads and the class's samples.
    """

    def __init__(self, maps: np.ndarray, label: int, classes: list[str], attention: np.ndarray, among: Mask) -> None:
        self.label, self.among, self.importance, self.attention = label, among, maps[label], attention
        # Ties fall differently in each class: common zeros shall not make their masks alike.
        self.orders = {f"other:{name}": ranked(maps[number], among, number) for number, name in enumerate(classes)}
        self.order = self.orders[f"other:{classes[label]}"]
        self.orders |= {"least": self.order[::-1], "attended": ranked(attention, among, label)}

    def target(self, percent: float) -> Mask:
        """The most decisive q % of the class."""
        return first_overall(self.order, amount(percent, self.among), self.among.shape)

    def mask(self, trial: Trial) -> Mask:
        """The positions that a trial masks."""
        if trial.masked == "none":
            return np.zeros_like(self.among)
        target = self.target(trial.percent)
        if trial.masked in self.orders:
            return first_per_layer(self.orders[trial.masked], target)
        mask = target
        if trial.masked.startswith("random"):
            seed = (trial.seed or 0, self.label, round(trial.percent * 1e6))
            mask = matched(target, self.among, np.random.default_rng(seed))
        return mask if trial.layer is None else mask & (np.arange(1, len(mask) + 1) == trial.layer)[:, None, None]

    def describe(self, trial: Trial, mask: Mask) -> dict[str, float]:
        """What a mask takes away.

        positions: their number. overlap: the share of them that the target has too. decisive: their share of the sum of Δ over all
        candidates. removed: the share of the rows' attention that lies on them when nothing is masked.
        """
        count, total = int(mask.sum()), float(self.importance[self.among].sum())
        rows = int(self.among.any(2).sum())
        shared = int((mask & self.target(trial.percent)).sum()) if count else 0
        return {
            "positions": count,
            "overlap": shared / count if count else 0.0,
            "decisive": float(self.importance[mask].sum()) / total if total > 0 else 0.0,
            "removed": float(self.attention[mask].sum()) / rows,
        }
