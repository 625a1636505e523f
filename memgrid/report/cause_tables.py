"""Tables of where networks decide and of what switching that off does, in percent, from the records of all runs, best runs first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Generic

import polars as pl

from memgrid.report.read import read_or_told
from memgrid.report.rows import NamedRun
from memgrid.results.findings import last_correlation
from memgrid.results.folder import RunFolder
from memgrid.results.records import InterveneRecord, LocalizeRecord, Record

NAMES = {"setting": pl.String, "llm": pl.String, "seed": pl.Int64, "method": pl.String, "class": pl.String, "samples": pl.Int64}
WHERE = ("layer_share", "within_prefix", "suffix_to_prefix", "within_suffix", "half")
# The columns `sanity_…` are those of the randomization test.
RANDOMIZED = ("sanity_decisiveness", "sanity_delta")
LOCALIZED = pl.Schema({**NAMES, "layer": pl.Int64, **dict.fromkeys((*WHERE, *RANDOMIZED), pl.Float64), "folder": pl.String})
# In percent; `share` is the control's.
SHARES = ("target", "removed", "share", "lowest", "highest", "control_removed", "overlap", "difference", "low", "high")
INTERVENTIONS = pl.Schema(
    {
        **{**NAMES, "q": pl.Float64, "control": pl.String, "draws": pl.Int64},
        **dict.fromkeys((*SHARES, "chance", "adjusted"), pl.Float64),
        **dict.fromkeys(("verdict", "folder"), pl.String),
    }
)


WAYS = pl.Schema(
    {
        **NAMES,
        **dict.fromkeys(("unit", "way", "name"), pl.String),
        **dict.fromkeys(("area", "low", "high"), pl.Float64),
        "folder": pl.String,
    }
)


@dataclass(frozen=True)
class RecordedRun(Generic[Record]):
    """A run and the record that one of its stages after training left."""

    run: NamedRun
    record: Record

    @property
    def folder(self) -> RunFolder:
        """Of the run."""
        return self.run.folder

    @property
    def method(self) -> str:
        """The method of attribution."""
        return self.record.method

    @property
    def name(self) -> str:
        """Such as `Non-Memo, Guess, Recall · toy · seed 0`, and the method where it is not the usual one."""
        method = "" if self.method == "guided" else f" · {self.method}"
        return f"{self.run.setting} · {self.run.llm} · seed {self.run.settings['seed']}{method}"

    @property
    def columns(self) -> dict[str, str | int]:
        """Those that both tables have, but for the class."""
        names = {"setting": self.run.setting, "llm": self.run.llm, "seed": self.run.settings["seed"], "method": self.method}
        return {**names, "folder": str(self.folder.path)}


def localized(runs: Iterable[NamedRun]) -> list[RecordedRun[LocalizeRecord]]:
    """Every method of every run that was localized, the highest min-F1 first."""
    return [
        RecordedRun(run, record)
        for run in best_first(runs)
        for method in run.folder.methods()
        if (record := read_or_told(partial(run.folder.localize_record, method))) is not None
    ]


def intervened(runs: Iterable[NamedRun]) -> list[RecordedRun[InterveneRecord]]:
    """Every run with an intervention, the highest min-F1 first."""
    return [RecordedRun(run, record) for run in best_first(runs) if (record := read_or_told(run.folder.intervene_record)) is not None]


def best_first(runs: Iterable[NamedRun]) -> list[NamedRun]:
    """Runs by min-F1."""
    return sorted(runs, key=lambda run: -run.result.panel.min_f1.mean)


def localized_table(localizations: Iterable[RecordedRun[LocalizeRecord]]) -> pl.DataFrame:
    """A row per run, method and class; `sanity_…`: rank correlation with the maps of networks with random weights."""
    rows = []
    for localization in localizations:
        for regions in localization.record.classes:
            curves = {title: curve for title, curve in localization.record.randomization_test.items() if title == regions.title}
            correlations = {
                "sanity_decisiveness": last_correlation(curves, "decisiveness") if curves else None,
                "sanity_delta": last_correlation(curves, "decision_map") if curves else None,
            }
            numbers = {key: getattr(regions, key) for key in LOCALIZED if hasattr(regions, key)}
            rows.append({**localization.columns, **correlations, "class": regions.title, **numbers})
    return pl.DataFrame(rows, schema=LOCALIZED)


def interventions_table(interventions: Iterable[RecordedRun[InterveneRecord]]) -> pl.DataFrame:
    """A row per run, class, dose and control: what stays extractable under the target and under the control, and how they differ."""
    rows = []
    for intervention in interventions:
        for outcome in intervention.record.verdicts:
            for dose in outcome.doses:
                place = {"class": outcome.title, "samples": outcome.samples, "q": dose.q}
                for one in dose.comparisons:
                    numbers = {**asdict(one), "control_removed": one.removed, "target": dose.target, "removed": dose.removed}
                    rows.append({**intervention.columns, **place, **numbers, **{key: 100 * numbers[key] for key in SHARES}})
    return pl.DataFrame([{key: row[key] for key in INTERVENTIONS} for row in rows], schema=INTERVENTIONS)


def ways_table(interventions: Iterable[RecordedRun[InterveneRecord]]) -> pl.DataFrame:
    """A row per run, class and way to choose what is switched off: what stays extractable of the class at equal damage, in percent."""
    rows = []
    for intervention in interventions:
        for one in intervention.record.selectivity:
            for way in one.ways:
                shares = {key: 100 * getattr(way, key) for key in ("area", "low", "high")}
                rows.append({**intervention.columns, "class": one.title, "samples": one.samples, **asdict(way), **shares})
    return pl.DataFrame([{key: row[key] for key in WAYS} for row in rows], schema=WAYS)
