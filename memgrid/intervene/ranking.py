"""Heads and layers, ranked by what a class's reproduction owes them: by gradients, by switching each off alone, and by what Δ says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from memgrid.config.schema import InterveneConfig
from memgrid.errors import UserError
from memgrid.intervene.attention.masking import RENORMALISE, PositionMask
from memgrid.intervene.attention.observation import HeadSummary, mean_attention, observe_heads, refuse_unreachable, usual_attention
from memgrid.intervene.attention.reader import MaskedReader
from memgrid.intervene.positions import Mask
from memgrid.intervene.trials import ALONE, Journal, Trial
from memgrid.intervene.units import Units, alike_heads, doses, switchable
from memgrid.lm.model import LanguageModel
from memgrid.results.records import HEADS, LAYERS, POSITIONS


def kinds_of(config: InterveneConfig) -> list[str]:
    """The units that are asked for, in the order of their size."""
    asked = [config.unit] if isinstance(config.unit, str) else list(config.unit)
    return [kind for kind in (POSITIONS, HEADS, LAYERS) if kind in asked]


def refuse_unreachable_units(lm: LanguageModel, config: InterveneConfig) -> None:
    """Raise UserError for a model whose heads cannot be reached, if any are to be, and for more units than it has."""
    asked = kinds_of(config)
    if HEADS in asked or config.replace != RENORMALISE:
        refuse_unreachable(lm)
    totals = {unit: number_of(lm, unit) for unit in asked if unit != POSITIONS}
    if totals and config.numbers and (most := max(config.numbers)) > max(totals.values()):
        has = " and ".join(f"{total} {unit}" for unit, total in totals.items())
        raise UserError(f"intervene.numbers={most} cannot be switched off: llm {lm.identity.name!r} has {has}, so give no more")


def number_of(lm: LanguageModel, unit: str) -> int:
    """How many heads, or layers, a model has."""
    one = np.arange(1, 9)[None] % lm.identity.vocabulary
    return lm.identity.layers * (len(usual_attention(lm, one)[0]) if unit == HEADS else 1)


class Ranking:
    """Ranks a model's heads and layers.

    Args:
        among: what can be masked at all, see `candidates`.
    """

    def __init__(self, lm: LanguageModel, k: int, among: Mask, config: InterveneConfig) -> None:
        self.lm, self.k, self.among, self.config = lm, k, among, config
        self.usual: Float[np.ndarray, "layers heads tokens tokens"] | None = None  # where heads look in ordinary text
        self._summaries: dict[int, HeadSummary] = {}  # by class: heads and layers are ranked by one pass

    @property
    def kinds(self) -> list[str]:
        """The units that are asked for."""
        return kinds_of(self.config)

    def percents(self, units: Units) -> list[float]:
        """The doses, as shares of all units."""
        total = units.every.size
        return [100 * number / total for number in doses(total, self.config.numbers)]

    def look_at(self, ordinary: np.ndarray) -> None:
        """Learn where heads look in ordinary text, if that is to come in the place of what is switched off.

        Raises:
            UserError: there is none.
        """
        if self.config.replace != "mean":
            return
        if not len(ordinary):
            raise UserError("intervene.replace=mean needs ordinary text, of which there is none here: use replace=renormalise or zero")
        self.usual = np.stack(usual_attention(self.lm, ordinary))

    def mask(self, positions: np.ndarray, heads: int | None = None) -> PositionMask:
        """A mask of positions, with what comes in their place."""
        return PositionMask(positions, heads, self.config.replace, self.usual)

    def units(self, unit: str, label: int, tokens: np.ndarray, delta: np.ndarray, journal: Journal) -> Units:
        """The heads or layers as they are ranked on some sequences of a class; what is measured one by one goes through the journal.

        Args:
            delta: the class's decision map, (layers, length, length).
        """
        allowed, length = switchable(self.among, self.config.replace), tokens.shape[1]
        summary = self.summary(label, tokens, allowed)
        importance: dict[str, np.ndarray] = {}
        if unit == HEADS and summary is not None:
            attention = summary.attention[..., -length:, -length:]
            importance = {"attribution": summary.attribution, "norm": summary.norm}
            importance["delta"] = np.einsum("lqk,lhqk->lh", delta * allowed, attention)
            alike = alike_heads(summary.norm)
        else:
            attention, alike = mean_attention(self.lm, tokens), np.zeros(len(delta), int)
            importance = {} if summary is None else {"attribution": summary.attribution.sum(1)}
            importance["delta"] = (delta * allowed).sum((1, 2), dtype=np.float64)
        units = Units(unit, label, importance, alike, attention, allowed)
        return replace(units, importance={**importance, "ablation": self.alone(units, tokens, label, journal)})

    def summary(self, label: int, tokens: np.ndarray, allowed: Mask) -> HeadSummary | None:
        """What the heads do while the model reads some sequences of a class; None where they cannot be reached."""
        if label not in self._summaries and not self.lm.places:
            self._summaries[label] = observe_heads(self.lm, tokens, self.k, self.mask(allowed))
        return self._summaries.get(label)

    def alone(self, units: Units, tokens: np.ndarray, label: int, journal: Journal) -> np.ndarray:
        """By how much the suffix's log-probability falls when a unit is switched off alone, for each: exact ablation."""
        reader = MaskedReader(self.lm, tokens, self.k, self.config.queries == "suffix")
        total = units.every.size
        before = float(reader.read(self.mask(np.zeros_like(self.among)))[1].mean(dtype=np.float64))
        fallen = []
        for number in range(total):
            trial = Trial(label, 100 / total, f"{ALONE}:{number}", None, units.unit)
            if trial not in journal.done:
                after = reader.read(self.mask(units.mask(trial)))[1]
                journal.add(trial, {"suffix_logprob": float(after.mean(dtype=np.float64))})
            fallen.append(before - journal.done[trial]["suffix_logprob"])
        return np.array(fallen).reshape(units.every.shape)
