"""Tables of transfers, in percent and in points of min-F1: from the records of all runs, and of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from memgrid.config.names import called
from memgrid.report.read import read_or_told
from memgrid.report.rows import NamedRun
from memgrid.results.transfers.record import PANEL, SourceRun, Transfer, TransferRecord
from memgrid.results.transfers.sentences import verdict

SCORES = ("min_f1", "low", "high", "own", "ratio")
GAP = ("points", "points_low", "points_high", "points_p")
BESIDE = ("probe", "probe_own", "together", "together_own", "best", "best_own")
TRANSFERS = pl.Schema(
    {
        **dict.fromkeys(("classes", "trained_on", "tried_on"), pl.String),
        **dict.fromkeys(("samples", "left_out"), pl.Int64),
        **dict.fromkeys((*SCORES, "p", *GAP, *BESIDE), pl.Float64),
        **dict.fromkeys(("best_name", "verdict", "source", "folder"), pl.String),
    }
)
CLASSIFIERS = pl.Schema(
    {
        **dict.fromkeys(("source", "classifier"), pl.String),
        **dict.fromkeys(("samples", "left_out"), pl.Int64),
        **dict.fromkeys((*SCORES, "p", *GAP), pl.Float64),
    }
)


@dataclass(frozen=True)
class TransferredRun:
    """A run and what came of the sources whose networks were tried on it."""

    run: NamedRun
    record: TransferRecord

    @property
    def place(self) -> str:
        """The run's folder as a source would name it."""
        return "/".join(self.run.folder.path.parts[-3:])


def transferred(runs: Iterable[NamedRun]) -> list[TransferredRun]:
    """Every run on which the networks of others were tried, in the order of their folders."""
    return [TransferredRun(run, record) for run in runs if (record := read_or_told(run.folder.transfer_record)) is not None]


def transfers_table(every: Iterable[TransferredRun]) -> pl.DataFrame:
    """A row per source and run that it was tried on; `p` is against chance, `points_p` against the run's own networks, both by Holm."""
    every = list(every)
    names, rows = names_of(every), []
    for one in every:
        for transfer in one.record.transfers:
            probe, best, together = transfer.best(probes=True), transfer.best(probes=False), transfer.classifiers.get("together")
            beside = {"probe": probe and probe[1], "together": together, "best": best and best[1]}
            rows.append(
                {
                    "classes": ", ".join(one.record.classes),
                    "trained_on": names[transfer.source.folder],
                    "tried_on": names[one.place],
                    **numbers(transfer, PANEL),
                    **{name: found.scores.min_f1.mean if found else None for name, found in beside.items()},
                    **{f"{name}_own": found.own.min_f1.mean if found else None for name, found in beside.items()},
                    "best_name": best and best[0],
                    "verdict": verdict(transfer),
                    "source": transfer.source.folder,
                    "folder": str(one.run.folder.path),
                }
            )
    return pl.DataFrame(rows, schema=TRANSFERS)


def classifiers_table(record: TransferRecord) -> pl.DataFrame:
    """A row per source and classifier, the networks first (`panel`); what is tested is null of the others."""
    rows = [{"source": one.source.folder, "classifier": name, **numbers(one, name)} for one in record.transfers for name in one.classifiers]
    return pl.DataFrame(rows, schema=CLASSIFIERS)


def numbers(transfer: Transfer, name: str) -> dict[str, float | int | None]:
    """The columns that both tables have, of one classifier."""
    found, gap = transfer.classifiers[name], transfer.difference
    score = found.scores.min_f1
    tested = (transfer.adjusted, gap.points, gap.low, gap.high, gap.adjusted) if name == PANEL else (None,) * 5
    return {
        "samples": sum(transfer.samples),
        "left_out": sum(transfer.known),
        **dict(zip(SCORES, (score.mean, score.low, score.high, found.own.min_f1.mean, found.ratio), strict=True)),
        **dict(zip(("p", *GAP), tested, strict=True)),
    }


def names_of(every: Iterable[TransferredRun]) -> dict[str, str]:
    """What each run is called, by its folder: its model and seed, its corpus where there are several, its hash where that is needed."""
    places: dict[str, tuple[str, str, int]] = {}
    for one in every:
        for source in (transfer.source for transfer in one.record.transfers):
            places[source.folder] = of_source(source)
        settings = one.run.settings
        places[one.place] = (called(settings["llm"]), settings["corpus"]["name"], settings["seed"])
    several = len({corpus for _, corpus, _ in places.values()}) > 1
    names = {folder: " · ".join((llm, *([corpus] if several else []), f"seed {seed}")) for folder, (llm, corpus, seed) in places.items()}
    number = Counter(names.values())
    return {folder: name if number[name] == 1 else f"{name} ({folder.rpartition('-')[2]})" for folder, name in names.items()}


def of_source(source: SourceRun) -> tuple[str, str, int]:
    """Model, corpus and seed."""
    return source.llm, source.corpus, source.seed
