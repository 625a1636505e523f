"""Tables of where networks decide and of what switching that off does, from the marks of all finished runs: in percent, best runs first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from memgrid.report.rows import NamedRun
from memgrid.results.findings import last_correlation
from memgrid.results.records import read_mark

WHO = {"setting": pl.String, "llm": pl.String, "seed": pl.Int64, "method": pl.String, "class": pl.String, "samples": pl.Int64}
LOCALIZED: dict[str, Any] = {
    **WHO,
    "layer": pl.Int64,
    **dict.fromkeys(("layer_share", "within_prefix", "suffix_to_prefix", "within_suffix", "half"), pl.Float64),
    **dict.fromkeys(("sanity_decisiveness", "sanity_delta"), pl.Float64),
    "folder": pl.String,
}
SHARES = ("target", "random", "difference", "low", "high", "overlap")
ATTENDED = ("attended", "attended_difference", "attended_low", "attended_high", "attended_overlap")
INTERVENTIONS: dict[str, Any] = {
    **WHO,
    "q": pl.Float64,
    **dict.fromkeys((*SHARES, *ATTENDED), pl.Float64),
    **dict.fromkeys(("verdict", "attended_verdict", "folder"), pl.String),
}


@dataclass(frozen=True)
class Told:
    """A run and the mark that one of its later stages left."""

    run: NamedRun
    mark: Any  # LocalizeRecord or InterveneRecord

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.run.metrics["folder"])

    @property
    def name(self) -> str:
        """Such as `Non-Memo, Guess, Recall · toy · seed 0`, and the method where it is not the usual one."""
        method = "" if self.mark.method == "guided" else f" · {self.mark.method}"
        return f"{self.run.setting} · {self.run.llm} · seed {self.run.settings['seed']}{method}"

    @property
    def who(self) -> dict[str, Any]:
        """The columns that both tables begin with, but for the class."""
        who = {"setting": self.run.setting, "llm": self.run.llm, "seed": self.run.settings["seed"], "method": self.mark.method}
        return {**who, "folder": str(self.folder)}


def localized(runs: Iterable[NamedRun]) -> list[Told]:
    """Every method of every run that was localized, the highest min-F1 first."""
    return [
        Told(run, mark)
        for run in best_first(runs)
        for path in sorted(Path(run.metrics["folder"]).glob("localize-*.json"))
        if path.with_suffix(".h5").exists() and (mark := read_mark(path)) is not None
    ]


def intervened(runs: Iterable[NamedRun]) -> list[Told]:
    """Every run with an intervention, the highest min-F1 first."""
    return [Told(run, mark) for run in best_first(runs) if (mark := read_mark(Path(run.metrics["folder"]) / "intervene.json")) is not None]


def best_first(runs: Iterable[NamedRun]) -> list[NamedRun]:
    """Runs by min-F1."""
    return sorted(runs, key=lambda run: -run.metrics["panel"]["min_f1"]["mean"])


def localized_table(found: Sequence[Told]) -> pl.DataFrame:
    """A row per run, method and class; `sanity_…`: rank correlation with the maps of networks with random weights."""
    rows = []
    for told in found:
        for regions in told.mark.classes:
            curves = {title: of_class for title, of_class in told.mark.randomization_test.items() if title == regions.title}
            sanity = {
                "sanity_decisiveness": last_correlation(curves, "decisiveness") if curves else None,
                "sanity_delta": last_correlation(curves, "decision_map") if curves else None,
            }
            numbers = {key: getattr(regions, key) for key in LOCALIZED if hasattr(regions, key)}
            rows.append({**told.who, **sanity, "class": regions.title, **numbers})
    return pl.DataFrame(rows, schema=LOCALIZED)


def interventions_table(found: Sequence[Told]) -> pl.DataFrame:
    """A row per run, class and dose: what stays extractable under the target and under two controls, and the differences."""
    rows = []
    for told in found:
        for verdict in told.mark.verdicts:
            for dose in verdict.doses:
                shares = {key: None if (share := getattr(dose, key)) is None else 100 * share for key in (*SHARES, *ATTENDED)}
                words = {"verdict": dose.verdict, "attended_verdict": dose.attended_verdict}
                rows.append({**told.who, "class": verdict.title, "samples": verdict.samples, "q": dose.q, **shares, **words})
    return pl.DataFrame(rows, schema=INTERVENTIONS)
