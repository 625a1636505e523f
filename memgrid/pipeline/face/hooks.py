"""What a run's intervention switches off, for other tools: functions on attention patterns, with the names of TransformerLens' hooks.

Nothing is measured anew: heads and layers come from the run's table of them, positions from its decision maps, and they are taken in the
experiment's own order. torch is imported only where functions are made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from memgrid.config.schema import InterveneConfig
from memgrid.errors import UserError
from memgrid.intervene.positions import Mask, amount, candidates, first_overall, ranked
from memgrid.intervene.trials import Trial
from memgrid.intervene.units import Units, switchable
from memgrid.localize.maps import DecisionMaps, read_decision_maps
from memgrid.pipeline.face.view import RunData
from memgrid.results.records import HEADS, POSITIONS, WAYS, of_unit

if TYPE_CHECKING:
    from torch import Tensor

    from memgrid.intervene.attention.masking import PositionMask

HOOK = "blocks.{}.attn.hook_pattern"
PLACES = {POSITIONS: ("layer", "query", "key"), HEADS: ("layer", "head")}


@dataclass(frozen=True, eq=False)
class Chosen:
    """Units of a class, the most important first.

    Attributes:
        table: a row per unit: its place (from 0 on), worth, and hook.
        mask: the positions that go with them. settings: of the intervention, see `InterveneConfig`.
    """

    table: pl.DataFrame
    mask: Bool[np.ndarray, "layers length length"] | Bool[np.ndarray, "layers heads length length"]
    settings: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Switch:
    """Switches parts of one layer's attention off, as `memgrid.intervene.attention.masking` does; called as TransformerLens calls hooks.

    What a model gives to a sink beside its keys (gpt-oss) is not in a pattern, and counts for nothing here.

    Attributes:
        layer: from 0 on.
    """

    layer: int
    mask: PositionMask

    def __call__(self, pattern: Float[Tensor, "batch heads query key"], hook: object = None) -> Float[Tensor, "batch heads query key"]:
        """The pattern without what is switched off; what is handed in stays as it is.

        The queries are the last ones of the keys, and the keys the first ones of the run's sequences (of fewer, the mask is cut off).

        Raises:
            UserError: there are more keys, or other heads, than the run's model had.
        """
        off = self.mask.layers[self.layer]
        assert off is not None, "made for layers in which something is switched off"
        self.refuse_others(pattern.shape[1], pattern.shape[-1], off)
        off = self.mask.off(self.layer, pattern.shape[2:], lambda: pattern)
        assert off is not None, "as above"
        off = off.to(pattern.device)
        rest = pattern.masked_fill(off, 0)
        return rest if self.mask.replace == "zero" else self.renormalised(pattern, rest, off)

    def renormalised(self, pattern: Tensor, rest: Tensor, off: Tensor) -> Tensor:
        """What is left of the rows that lose something, made to sum to one; where no more than 0 is left, the token's own."""
        import torch

        left, (queries, keys) = rest.sum(-1, keepdim=True), rest.shape[2:]
        own = torch.eye(keys, dtype=rest.dtype, device=rest.device)[keys - queries :]
        kept = torch.where(left > 0, rest / torch.where(left > 0, left, 1), own)
        return torch.where(off.any(-1, keepdim=True), kept, pattern)

    def refuse_others(self, heads: int, keys: int, off: Tensor) -> None:
        """Raise UserError for a pattern of other sequences, or of another model."""
        if keys > off.shape[-1]:
            raise UserError(
                f"the run's sequences have {off.shape[-1]} tokens, and this one has {keys}: what to switch off is known for those only"
            )
        if off.ndim == 3 and len(off) != heads:
            raise UserError(
                f"layer {self.layer} of the run's model has {len(off)} heads, and this one has {heads}: hand it the run's model"
            )


def switches(mask: PositionMask) -> list[tuple[str, Switch]]:
    """What a mask does, as a pair of a hook's name and a function for each layer in which it does something."""
    return [(HOOK.format(layer), Switch(layer, mask)) for layer, off in enumerate(mask.layers) if off is not None]


def hooks_of(run: RunData, chosen: Chosen) -> list[tuple[str, Switch]]:
    """Functions that switch units off as the run did.

    Raises:
        UserError: the run put a mean over ordinary text in their place.
    """
    from memgrid.intervene.attention.masking import PositionMask

    if (replace := chosen.settings["replace"]) == "mean":
        again = run.command("intervene.replace=renormalise", "stages=[localize,intervene]")
        raise UserError(
            f"what intervene.replace=mean puts in the place of attention is not kept, so that it cannot be handed over: run {again}"
        )
    heads = chosen.settings["heads"] if "query" in chosen.table.columns else None
    return switches(PositionMask(chosen.mask, heads, replace).behind(int(run.settings.corpus.bos)))


def choose(run: RunData, title: str, unit: str, way: str | None, number: int | None, percent: float | None) -> Chosen:
    """The first units of a class.

    Args:
        way: by which they are ranked, the first of `WAYS` without it. number: of heads or layers. percent: of positions.

    Raises:
        UserError: there is no such class, unit or way, the unit was not switched off, or there are not so many.
    """
    if unit not in WAYS:
        raise UserError(f"there is no unit {unit!r}: use {', '.join(WAYS)}")
    maps, settings = made_from(run)
    refuse_unranked(run, title, unit)
    _, layers, length, _ = maps.values.shape
    label, among = maps.classes.index(title), candidates(layers, length, maps.k, settings["queries"])
    way = way or WAYS[unit][0]
    if unit == POSITIONS:
        values = maps.votes() if settings["average"] == "votes" else maps.values
        order, mask = first_positions(values[label], label, way, number, percent, among)
        return Chosen(table_of(unit, np.stack(np.unravel_index(order, mask.shape)), values[label].ravel()[order]), mask, settings)
    units = units_of(run, title, unit, label, switchable(among, settings["replace"]))
    order = first_units(units, way, number, percent)
    mask = units.mask(Trial(label, 100 * len(order) / units.every.size, way, None, unit))
    places = np.stack(np.unravel_index(order, units.every.shape))
    return Chosen(table_of(unit, places, units.importance[way].ravel()[order]), mask, settings)


def made_from(run: RunData) -> tuple[DecisionMaps, dict[str, Any]]:
    """The decision maps and the settings that a run's intervention was made from; of older ones, those that they had."""
    record = run.folder.intervene_record()
    if record is None:
        raise run.lacks("intervention", "stages=[localize,intervene]")
    settings = {**asdict(InterveneConfig()), **record.settings}
    path = run.folder.decision_maps(record.method)
    if not path.exists():
        raise run.lacks(f"decision maps by {record.method}", f"localize.method={record.method}", "stages=[localize]")
    maps = read_decision_maps(path, with_members=settings["average"] == "votes")
    if maps.inputs != record.inputs:
        raise UserError(f"{path} is newer than the intervention: make that anew with {run.command('stages=[localize,intervene]')}")
    return maps, settings


def refuse_unranked(run: RunData, title: str, unit: str) -> None:
    """Raise UserError for a class that there is not, and for units that were not switched off."""
    if title not in run.classes:
        raise UserError(f"there is no class {title!r}: use {', '.join(run.classes)}")
    trials = of_unit(run.trials, unit)
    if trials.is_empty():
        raise run.lacks(f"intervention on {unit}", "intervene.unit=[positions,heads,layers]", "stages=[localize,intervene]")
    if title not in (done := trials["class"].unique(maintain_order=True).to_list()):
        raise UserError(f"no {unit} were switched off for {title}, of which no sample is extractable: use {', '.join(done)}")


def first_positions(
    importance: np.ndarray, label: int, way: str, number: int | None, percent: float | None, among: Mask
) -> tuple[Int[np.ndarray, " positions"], Mask]:
    """The most decisive positions: flat indices, and as a mask, see `Regions.target`."""
    if way != WAYS[POSITIONS][0]:
        raise UserError(f"positions cannot be handed over by {way!r}: use {WAYS[POSITIONS][0]}")
    if number is not None or percent is None or not 0 < percent <= 100:
        given = f"percent={percent}" if number is None else f"number={number}"
        raise UserError(f"{given} does not say which positions: use percent=, above 0 and at most 100")
    order = ranked(importance, among, label)[: amount(percent, among)]
    return order, first_overall(order, len(order), among.shape)


def units_of(run: RunData, title: str, unit: str, label: int, allowed: Mask) -> Units:
    """A class's heads or layers as the run ranked them; of their attention only the shape is known."""
    rows = run.units.filter(pl.col("class") == title, unit=unit).sort("layer", "head")
    shape = (len(allowed), -1) if unit == HEADS else (len(allowed),)
    importance = {way: rows[way].to_numpy().reshape(shape) for way in WAYS[unit] if not rows[way].null_count()}
    size = (*importance["ablation"].shape, *allowed.shape[1:])
    return Units(unit, label, importance, np.zeros(rows.height, int), np.broadcast_to(np.zeros(()), size), allowed)


def first_units(units: Units, way: str, number: int | None, percent: float | None) -> Int[np.ndarray, " units"]:
    """The first heads or layers of a way, flat indices."""
    if way not in units.orders:
        raise UserError(f"there is no way {way!r} to choose {units.unit}: use {', '.join(units.orders)}")
    total = units.every.size
    if percent is not None or number is None or number not in range(1, total + 1):
        given = f"number={number}" if percent is None else f"percent={percent}"
        raise UserError(f"{given} does not say how many {units.unit}: use number=, from 1 to {total}")
    return units.orders[way][: int(number)]


def table_of(unit: str, places: Int[np.ndarray, "axes units"], worth: np.ndarray) -> pl.DataFrame:
    """A row per unit, in their order."""
    columns = dict(zip(PLACES.get(unit, ("layer",)), places, strict=True))
    hook = [HOOK.format(layer) for layer in places[0].tolist()]
    return pl.DataFrame({**columns, "worth": worth.astype(np.float64), "hook": hook})
