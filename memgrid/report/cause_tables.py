"""Tables of where networks decide and of what switching that off does, in percent, from the records of all runs, best runs first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from memgrid.report.rows import NamedRun
from memgrid.results.findings import last_correlation
from memgrid.results.folder import RunFolder
from memgrid.results.records import read_mark

NAMES = {"setting": pl.String, "llm": pl.String, "seed": pl.Int64, "method": pl.String, "class": pl.String, "samples": pl.Int64}
WHERE = ("layer_share", "within_prefix", "suffix_to_prefix", "within_suffix", "half")
# The columns `sanity_…` are those of the randomization test.
RANDOMIZED = ("sanity_decisiveness", "sanity_delta")
LOCALIZED = pl.Schema({**NAMES, "layer": pl.Int64, **dict.fromkeys((*WHERE, *RANDOMIZED), pl.Float64), "folder": pl.String})
SHARES = ("target", "random", "difference", "low", "high", "overlap")
ATTENDED = ("attended", "attended_difference", "attended_low", "attended_high", "attended_overlap")
VERDICTS = ("verdict", "attended_verdict")
INTERVENTIONS = pl.Schema(
    {
        **{**NAMES, "q": pl.Float64, **dict.fromkeys((*SHARES, *ATTENDED), pl.Float64)},
        **dict.fromkeys((*VERDICTS, "folder"), pl.String),
    }
)


@dataclass(frozen=True)
class RecordedRun:
    """A run and the record that one of its stages after training left."""

    run: NamedRun
    record: dict[str, Any]

    @property
    def folder(self) -> RunFolder:
        """Of the run."""
        return self.run.folder

    @property
    def method(self) -> str:
        """The method of attribution."""
        return str(self.record["method"])

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


def localized(runs: Iterable[NamedRun]) -> list[RecordedRun]:
    """Every method of every run that was localized, the highest min-F1 first."""
    return [
        RecordedRun(run, record)
        for run in best_first(runs)
        for path in sorted(run.folder.path.glob(run.folder.decision_record("*").name))
        if path.with_suffix(".h5").exists() and (record := read_mark(path)) is not None
    ]


def intervened(runs: Iterable[NamedRun]) -> list[RecordedRun]:
    """Every run with an intervention, the highest min-F1 first."""
    return [RecordedRun(run, record) for run in best_first(runs) if (record := read_mark(run.folder.intervention_record)) is not None]


def best_first(runs: Iterable[NamedRun]) -> list[NamedRun]:
    """Runs by min-F1."""
    return sorted(runs, key=lambda run: -run.result.panel.min_f1.mean)


def localized_table(localizations: Iterable[RecordedRun]) -> pl.DataFrame:
    """A row per run, method and class; `sanity_…`: rank correlation with the maps of networks with random weights."""
    rows = []
    for localization in localizations:
        randomized = localization.record["sanity"]
        for summary in localization.record["classes"]:
            tested = {summary["class"]: randomized[summary["class"]]} if randomized else None
            correlations = {f"sanity_{which}": last_correlation(tested, which) if tested else None for which in ("decisiveness", "delta")}
            numbers = {key: summary[key] for key in LOCALIZED if key in summary}
            rows.append({**localization.columns, **correlations, **numbers})
    return pl.DataFrame(rows, schema=LOCALIZED)


def interventions_table(interventions: Iterable[RecordedRun]) -> pl.DataFrame:
    """A row per run, class and dose: what stays extractable under the target and under two controls, and the differences."""
    rows = []
    for intervention in interventions:
        for outcome in intervention.record["verdict"]:
            for dose in outcome["doses"]:
                shares = {key: None if dose[key] is None else 100 * dose[key] for key in (*SHARES, *ATTENDED)}
                verdicts = {key: dose[key] for key in VERDICTS}
                place = {"class": outcome["class"], "samples": outcome["samples"], "q": dose["q"]}
                rows.append({**intervention.columns, **place, **shares, **verdicts})
    return pl.DataFrame(rows, schema=INTERVENTIONS)
