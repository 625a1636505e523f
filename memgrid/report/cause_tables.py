"""Tables of where networks decide and of what switching that off does, from the marks of all finished runs: in percent, best runs first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from memgrid.report.rows import NamedRun
from memgrid.results.findings import last_correlation
from memgrid.results.folder import RunFolder
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
    mark: dict[str, Any]

    @property
    def folder(self) -> RunFolder:
        """Of the run."""
        return self.run.folder

    @property
    def name(self) -> str:
        """Such as `Non-Memo, Guess, Recall · toy · seed 0`, and the method where it is not the usual one."""
        method = "" if self.mark["method"] == "guided" else f" · {self.mark['method']}"
        return f"{self.run.setting} · {self.run.llm} · seed {self.run.settings['seed']}{method}"

    @property
    def who(self) -> dict[str, Any]:
        """The columns that both tables begin with, but for the class."""
        who = {"setting": self.run.setting, "llm": self.run.llm, "seed": self.run.settings["seed"], "method": self.mark["method"]}
        return {**who, "folder": str(self.folder.path)}


def localized(runs: Iterable[NamedRun]) -> list[Told]:
    """Every method of every run that was localized, the highest min-F1 first."""
    return [
        Told(run, record)
        for run in best_first(runs)
        for path in sorted(run.folder.path.glob(run.folder.decision_record("*").name))
        if path.with_suffix(".h5").exists() and (record := read_mark(path)) is not None
    ]


def intervened(runs: Iterable[NamedRun]) -> list[Told]:
    """Every run with an intervention, the highest min-F1 first."""
    return [Told(run, record) for run in best_first(runs) if (record := read_mark(run.folder.intervention_record)) is not None]


def best_first(runs: Iterable[NamedRun]) -> list[NamedRun]:
    """Runs by min-F1."""
    return sorted(runs, key=lambda run: -run.result.panel.min_f1.mean)


def localized_table(found: Sequence[Told]) -> pl.DataFrame:
    """A row per run, method and class; `sanity_…`: rank correlation with the maps of networks with random weights."""
    rows = []
    for told in found:
        for one in told.mark["classes"]:
            tested = {one["class"]: told.mark["sanity"][one["class"]]} if told.mark["sanity"] else None
            sanity = {f"sanity_{which}": last_correlation(tested, which) if tested else None for which in ("decisiveness", "delta")}
            rows.append({**told.who, **sanity, **{key: one[key] for key in LOCALIZED if key in one}})
    return pl.DataFrame(rows, schema=LOCALIZED)


def interventions_table(found: Sequence[Told]) -> pl.DataFrame:
    """A row per run, class and dose: what stays extractable under the target and under two controls, and the differences."""
    rows = []
    for told in found:
        for one in told.mark["verdict"]:
            for dose in one["doses"]:
                shares = {key: None if dose[key] is None else 100 * dose[key] for key in (*SHARES, *ATTENDED)}
                words = {key: dose[key] for key in ("verdict", "attended_verdict")}
                rows.append({**told.who, "class": one["class"], "samples": one["samples"], "q": dose["q"], **shares, **words})
    return pl.DataFrame(rows, schema=INTERVENTIONS)
