"""Trials, which are masks with a name: those of a class in their order, what is kept of each, and the files that hold it. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from memgrid.errors import DamagedError
from memgrid.intervene.statistics import LOOKS, share_interval
from memgrid.io.digests import KEY, UNSEALED, is_sound, read_table, sealed, write_parquet
from memgrid.io.files import replace_damaged, write_bytes
from memgrid.results.records import POSITIONS, RANDOM

NOTHING, EVERYTHING, ALONE = "none", "all", "alone"
MEASURED = 3  # random masks of a dose of which more than the samples that survive is measured: its mean is enough, no test asks for more

SCHEMA: dict[str, Any] = {
    "class": pl.String,
    "unit": pl.String,
    "q": pl.Float64,
    "masked": pl.String,
    "seed": pl.Int64,
    "units": pl.Int64,
    "choices": pl.Int64,
    "overlap": pl.Float64,
    "decisive": pl.Float64,
    "removed": pl.Float64,
    "samples": pl.Int64,
    "extractable": pl.Float64,
    "extractable_low": pl.Float64,
    "extractable_high": pl.Float64,
    "others": pl.Float64,
    "suffix_logprob": pl.Float64,
    "damage": pl.Float64,
    "kept": pl.List(pl.Boolean),
    "others_kept": pl.List(pl.Boolean),
    "damages": pl.List(pl.Float64),
}
# What was found of every head and layer; numbers from 1 on, and a layer has no head. The last four as in `memgrid.intervene.units.Units`.
UNITS: dict[str, Any] = {
    **{"class": pl.String, "unit": pl.String, "layer": pl.Int64, "head": pl.Int64},
    **dict.fromkeys(("attribution", "ablation", "delta", "norm"), pl.Float64),
}


@dataclass(frozen=True)
class Trial:
    """One mask of the experiment.

    Attributes:
        label: index of the class whose samples are read.
        percent: q, the share of all units that are masked.
        masked: by what they were chosen: `none` or `all`, or of positions `target`, `random`, `other:<class>`, `least`, `attended`,
            `layer:<n>` or `random-layer:<n>` (n from 1 on), and of heads and layers `attribution`, `ablation`, `delta`, `random`, or
            `alone:<n>`, which is a single one.
        seed: of a random mask, else None.
        unit: positions, heads or layers.
    """

    label: int
    percent: float
    masked: str
    seed: int | None = None
    unit: str = POSITIONS

    @property
    def layer(self) -> int | None:
        """The only layer in which positions are masked, from 1 on; None where all are."""
        kind, _, number = self.masked.rpartition(":")
        return int(number) if kind in ("layer", "random-layer") else None


def trials_of(label: int, classes: list[str], layers: int, percents: Iterable[float], layers_at: float | None) -> list[Trial]:
    """The masks of one class's positions that are no draws, in the order in which they are measured."""
    trials = [Trial(label, 0.0, NOTHING)]
    others = [f"other:{name}" for number, name in enumerate(classes) if number != label]
    for percent in sorted(set(percents)):
        trials += [Trial(label, percent, masked) for masked in ("target", *others, "least", "attended")]
    if layers_at is not None:
        for layer in range(1, layers + 1):
            trials += [Trial(label, layers_at, f"layer:{layer}"), Trial(label, layers_at, f"random-layer:{layer}", 0)]
    return [*trials, Trial(label, 100.0, EVERYTHING)]


def draws_of(label: int, percents: Sequence[float], seeds: int, unit: str = POSITIONS) -> list[list[Trial]]:
    """The random masks of one class, up to each look at them and from there on."""
    ends = [*(draws for draws in LOOKS if draws < seeds), seeds]
    return [
        [Trial(label, percent, RANDOM, seed, unit) for seed in range(start, end) for percent in percents]
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def row_of(name: str, trial: Trial, record: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, from what the journal holds of a mask."""
    kept, others, damages = np.array(record["kept"]), record["others_kept"], record["damages"]
    low, high = share_interval(kept)
    shares = {"samples": len(kept), "extractable": float(kept.mean()), "extractable_low": low, "extractable_high": high}
    means = {"others": float(np.mean(others)) if others else None, "damage": float(np.mean(damages)) if damages else None}
    return {"class": name, "unit": trial.unit, "q": trial.percent, "masked": trial.masked, "seed": trial.seed, **record, **shares, **means}


def rows(trials: Iterable[Trial], classes: Sequence[str], journal: Journal) -> pl.DataFrame:
    """The table of trials that were measured."""
    return pl.DataFrame([row_of(classes[trial.label], trial, journal.done[trial]) for trial in trials], schema=SCHEMA)


def finished_table(path: Path, key: str) -> pl.DataFrame | None:
    """The table of an equal experiment, or None; a damaged file is none."""
    try:
        table, metadata = read_table(path)
        return table if json.loads(metadata["memgrid"])["key"] == key else None
    except DamagedError as error:
        replace_damaged(error)
        return None
    except (OSError, KeyError, ValueError):
        return None


def write_table(table: pl.DataFrame, path: Path, noted: dict[str, Any]) -> None:
    """Write the table, and in its metadata what it was made of: `key`, `settings` and the `ids` of every class's samples."""
    write_parquet(table, path, metadata={"memgrid": json.dumps(noted)})


class Journal:
    """What has been measured: a line of JSON per mask with its digest, appended as soon as it is known.

    What follows on a damaged line, or a torn one, is measured again.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.done: dict[Trial, dict[str, Any]] = {}
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        if lines and lines[0] == key.encode():
            for line in lines[1:]:
                if not is_sound(line, old=False):
                    break
                *trial, record, _ = json.loads(line)
                self.done[Trial(*trial)] = record
        whole = [key.encode(), *lines[1 : len(self.done) + 1]] if self.done else [key.encode()]
        write_bytes(b"\n".join(whole) + b"\n", path)

    def add(self, trial: Trial, record: dict[str, Any]) -> None:
        """Keep what was measured of a mask."""
        self.done[trial] = record
        with self.path.open("ab") as file:
            line = json.dumps([*astuple(trial), record, {KEY: UNSEALED}])
            file.write(bytes(sealed(line.encode())) + b"\n")
