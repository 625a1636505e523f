"""What the stages after training leave in a run's folder: each a record, a JSON file that it writes last, with its settings and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.results.boundary import decode, parse
from memgrid.results.transfers.record import TransferRecord

LATER = ("localize", "intervene", "transfer")
RANDOM = "random"
POSITIONS, HEADS, LAYERS = "positions", "heads", "layers"
# How an intervention chooses units; random draws are matched with the first of the ways. And what they are called.
WAYS = {POSITIONS: ("target", "attended"), HEADS: ("attribution", "ablation", "delta"), LAYERS: ("ablation", "attribution", "delta")}
NAMES = {
    **{(unit, way): f"{unit} by {'Δ' if way in ('target', 'delta') else way}" for unit, ways in WAYS.items() for way in ways},
    **{(POSITIONS, "attended"): "the most attended positions", **{(unit, RANDOM): f"random {unit}" for unit in WAYS}},
}
LIMIT = math.log(2)  # of damage, nats per token: ordinary text is twice as perplexing
# What is called otherwise in the files: `class` is no name in Python, and δ is another thing.
ALIASES = {"title": "class", "decision_map": "delta", "randomization_test": "sanity", "verdicts": "verdict"}
NAMED_AS_IN_FILES = {"alias_generator": lambda name: ALIASES.get(name, name), "populate_by_name": True}


@dataclass(frozen=True)
class ClassRegions:
    """Where one class is decided: shares of its decision map, in percent.

    Attributes:
        title: of the class. samples: how many the map is averaged over. layers: of the model.
        layer: the most decisive one, counted from 1; layer_share: how much of the map lies there; layer_shares: in every layer.
        within_prefix, suffix_to_prefix, within_suffix: by query and key.
        half: so many of all positions, the most decisive ones, hold half of the map.
        agreement: the rank correlation of two networks' maps; shared: how much of the most decisive 3 % of one is among those of the other,
            in percent (3 by chance). Means over pairs of networks; None for one network, and in records that are older than these.
    """

    __pydantic_config__ = NAMED_AS_IN_FILES
    title: str
    samples: int
    layers: int
    layer: int
    layer_share: float
    within_prefix: float
    suffix_to_prefix: float
    within_suffix: float
    half: float
    layer_shares: list[float]
    agreement: float | None = None
    shared: float | None = None


@dataclass(frozen=True)
class RandomizationCurves:
    """The randomization test of one class: rank correlation with the trained networks' maps, by the number of layers with random weights.

    `decision_map` compares Δ, which keeps the attention whatever the networks are; `decisiveness` compares D, by the networks alone.
    """

    __pydantic_config__ = NAMED_AS_IN_FILES
    decision_map: dict[int, float]
    decisiveness: dict[int, float]


@dataclass(frozen=True)
class LocalizeRecord:
    """What decision maps were made with, and what they show: the content of `localize-<method>.json`.

    Attributes:
        settings: of the stage, but for the method. inputs: digest of what the maps were made from.
        samples: how many, in words. randomization_test: by class; empty where it was not made.
        memgrid: the version that wrote it; empty before versions were noted.
    """

    __pydantic_config__ = NAMED_AS_IN_FILES
    method: str
    settings: dict[str, Any]
    inputs: str
    samples: str
    classes: list[ClassRegions]
    randomization_test: dict[str, RandomizationCurves]
    memgrid: str = ""


@dataclass(frozen=True)
class Comparison:
    """The most decisive positions of a class at one dose against one control that takes as much attention from each layer.

    Attributes:
        control: `random`, `attended`, `least` or `other:<class>`, see `memgrid.intervene.positions.Regions`.
        share: of the samples that stay extractable, in 0..1, mean over draws; lowest, highest: of the draws. draws: their number, else 1.
        removed: the attention that the control takes, as a share of what there is. overlap: how much of the control is in the target.
        difference: the target's share less the control's; low, high: its 95 % interval over samples and draws.
        chance: p. Of random draws, how often one like them is so far off at any dose; of another control, how often so many of the samples
            that only one of the two masks leaves extractable would be on one side (McNemar, exact).
        adjusted: the same by Holm over classes, and, of a control that is not drawn, over doses; of other classes, over all of these.
        verdict: what the target does, by that and the sign.
    """

    control: str
    share: float
    lowest: float
    highest: float
    draws: int
    removed: float
    overlap: float
    difference: float
    low: float
    high: float
    chance: float
    adjusted: float
    verdict: str


@dataclass(frozen=True)
class Dose:
    """The most decisive `q` percent of a class's positions switched off.

    Attributes:
        target: the share of samples that stay extractable, in 0..1. removed: the attention that lies there, as a share of what there is.
    """

    q: float
    target: float
    removed: float
    comparisons: list[Comparison]


@dataclass(frozen=True)
class ClassVerdict:
    """What an intervention says of one class: in numbers, in a sentence against each control, and what follows from all of them."""

    __pydantic_config__ = NAMED_AS_IN_FILES
    title: str
    samples: int
    doses: list[Dose]
    sentences: list[str]


@dataclass(frozen=True)
class WayArea:
    """What a way of choosing units leaves of a class at equal damage; see `memgrid.intervene.selectivity`.

    Attributes:
        unit: positions, heads or layers. way: by what they were ranked. name: both, for sentences.
        area: the mean share that stays extractable up to the limit of damage, in 0..1; low, high: its 95 % interval.
    """

    unit: str
    way: str
    name: str
    area: float
    low: float
    high: float


@dataclass(frozen=True)
class UnitDose:
    """One dose of a unit beside its random draws: the shares that stay extractable, in 0..1, and p by Holm.

    Attributes:
        q: in percent of all units. units: so many.
        own, others: of the class's samples, and of the other memorized classes'; None where there are none.
        damage: nats per token of held-out text. random_own, random_others: means over the draws.
        matters: p that its own share is that of a draw. specific: p that the others' share less its own is.
    """

    q: float
    units: int
    own: float
    others: float | None
    damage: float | None
    random_own: float
    random_others: float | None
    matters: float
    specific: float | None


@dataclass(frozen=True)
class UnitTest:
    """A unit of one class against random draws that are alike, in the first of the ways that it was ranked in, dose by dose."""

    unit: str
    name: str
    draws: int
    doses: list[UnitDose]


@dataclass(frozen=True)
class Selectivity:
    """Which part of the attention removes a class at least damage: ways by area (none where that was not measured), tests, sentences."""

    __pydantic_config__ = NAMED_AS_IN_FILES
    title: str
    samples: int
    ways: list[WayArea]
    tests: list[UnitTest]
    sentences: list[str]

    @property
    def beyond_positions(self) -> bool:
        """Whether heads or layers were switched off, too: of positions alone other sentences tell."""
        return bool(({way.unit for way in self.ways} | {test.unit for test in self.tests}) - {POSITIONS})


@dataclass(frozen=True)
class InterveneRecord:
    """What an intervention was made with, and what it found: the content of `intervene.json`.

    Attributes:
        method: of the decision maps. settings: of the stage. inputs: digest of what the decision maps were made from.
        damage_on: the text on which general damage was measured. selectivity: of each class.
        memgrid: the version that wrote it; empty before versions were noted.
    """

    __pydantic_config__ = NAMED_AS_IN_FILES
    method: str
    settings: dict[str, Any]
    inputs: str
    verdicts: list[ClassVerdict]
    damage_on: str = "other text"
    memgrid: str = ""
    selectivity: list[Selectivity] = field(default_factory=list)


Record = TypeVar("Record", LocalizeRecord, InterveneRecord)
Kept = TypeVar("Kept", LocalizeRecord, InterveneRecord, TransferRecord)
STAGE_OF: dict[type[Any], str] = {LocalizeRecord: "localize", InterveneRecord: "intervene", TransferRecord: "transfer"}


def from_json(kind: type[Kept], text: bytes | str, name: str) -> Kept:
    """The record that a file of that name holds.

    Raises:
        UserError: it is damaged, or another version wrote what this one cannot read. The sentence has no subject: it follows on the name of
            the folder.
    """
    again = f"do the stage {STAGE_OF[kind]} again"
    return decode(kind, parse(text, name, again), name, again)


def stage_settings(run: RunConfig, stage: str) -> dict[str, Any]:
    """The settings that decide a stage's result, but for the method."""
    if stage != "localize":
        return dict(run.transfer) if stage == "transfer" else asdict(run.intervene)
    return {key: value for key, value in asdict(run.localize).items() if key != "method"}


def typed_names(stage: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A stage's settings under the names that they are typed with."""
    return {f"{stage}.{key}": value for key, value in settings.items()}


def refuse_rivals(runs: Iterable[RunConfig], record_path: Callable[[RunConfig, str], Path]) -> None:
    """A run keeps one result of each stage after training: two of a sweep would take each other's place, again and again.

    Args:
        record_path: where the record of a run's stage lies.

    Raises:
        UserError: two runs differ in nothing but settings of such a stage.
    """
    seen: dict[Path, tuple[str, dict[str, Any]]] = {}
    for run in runs:
        for stage in (stage for stage in LATER if stage in run.stages):
            method = "" if stage == "transfer" else run.localize.method  # which no transfer has to do with
            path, wanted = record_path(run, stage), (method, stage_settings(run, stage))
            other = seen.setdefault(path, wanted)
            if other != wanted:
                before, now = ({"localize.method": method, **typed_names(stage, settings)} for method, settings in (other, wanted))
                key = next(key for key in now if now[key] != before[key])
                raise UserError(
                    f"{key}={before[key]} and {key}={now[key]} of the same run cannot be swept over: {path} holds one result, so give each "
                    "a root of its own (labels and attention can be copied or linked)"
                )


def readable(read: Callable[[], Kept | None]) -> Kept | None:
    """What is read, or None where it cannot be: for whoever tells of many runs, and would not stop at one."""
    try:
        return read()
    except UserError:
        return None


def of_unit(table: pl.DataFrame, unit: str) -> pl.DataFrame:
    """The rows of one unit in the table of an intervention; a table of earlier versions knows of positions only."""
    if "unit" not in table.columns:
        return table if unit == POSITIONS else table.clear()
    return table.filter(pl.col("unit") == unit)
