"""Finished runs in Python: one of them with its figures, or all below a root with the tables and figures of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import overload

import numpy as np
import polars as pl

from memgrid.errors import UserError
from memgrid.lm.triangle import Triangle
from memgrid.pipeline.view import RunData
from memgrid.report import baseline_tables, tables
from memgrid.report.facts import NoiseFloor, noise_floor
from memgrid.report.figures.drawing import Drawing, drawing
from memgrid.report.read import FinishedRun, finished_runs
from memgrid.report.rows import Row, named, ranking_rows
from memgrid.results import findings
from memgrid.results.folder import RunFolder, folders_below
from memgrid.results.states import states

MATRICES = 12  # on one drawing
# Why a table is empty, and what fills it.
MAKES = {
    "rho": ("no taxonomy was run at several values of ρ", "-m", "rho=0.3,0.5,0.7"),
    "controls": ("no run has controls", "control.members=1"),
    "added": ("no run has predictions of what needs no attention", "force=true"),
    "learning": ("no setting was run with several numbers of samples", "-m", "select.train_per_class=100,200,400"),
}


def open_run(folder: str | Path, root: str | Path | None = None) -> Run:
    """A finished run.

    Args:
        folder: of the run; with `root`, the last parts of its path below `<root>/runs`, such as its name.

    Raises:
        UserError: there is no such run, it is not finished, or its result cannot be read.
    """
    path = Path(folder)
    if root is not None:
        paths = [other for other in folders_below(Path(root)) if other.parts[-len(path.parts) :] == path.parts]
        if len(paths) != 1:
            there = "no run" if not paths else f"{len(paths)} runs"
            ask = f"run `python -m memgrid.run root={root}`" if not paths else "write <llm>/<taxonomy>/<name>"
            raise UserError(f"root={root} has {there} with the name {folder}: {ask}")
        path = paths[0]
    run = Run(RunFolder(path))
    if not run.folder.is_finished():
        started = run.folder.config.exists()
        ask = f"finish it with {run.command()}" if started else "give the folder of a run, which `python -m memgrid.run` makes and names"
        raise UserError(f"{path} holds {'a run without a result' if started else 'no run'}: {ask}")
    _ = run.metrics
    return run


class Run(RunData):
    """A finished run: what it found, and its figures."""

    def draw(self, name: str, *, title: str | None = None, pool: str = "mean", method: str | None = None) -> Drawing:
        """A figure of the run, in memory. Where the run lacks what it shows, the drawing says so in a sentence.

        Args:
            name: confusion · attention (an eval sequence of each class), mean-attention (the mean over all) · decision-maps (summed over
                layers), layer-shares, decision-map (one class, layer by layer), randomization-test · doses, dose-layers (what is left of
                the text when the decisive attention is switched off).
            title: of the class of `decision-map`; the first without it.
            pool: of the attention. method: of the decision maps.

        Raises:
            UserError: there is no drawing of that name.
        """
        drawings: dict[str, Callable[[Path], object]] = {
            "confusion": self._draw_confusion,
            "attention": partial(self._draw_attention, pool, 1),
            "mean-attention": partial(self._draw_attention, pool, None),
            "decision-maps": partial(self._draw_maps, "teaser", method, title),
            "layer-shares": partial(self._draw_maps, "shares", method, title),
            "decision-map": partial(self._draw_maps, "layers", method, title),
            "randomization-test": partial(self._draw_randomization, method),
            **{name: partial(self._draw_trials, name) for name in ("doses", "dose-prices", "dose-layers")},
        }
        return drawing(name, drawings)

    def _draw_confusion(self, path: Path) -> None:
        from memgrid.report.figures.run import draw_confusion

        caption = f"{findings.describe(self.metrics.settings)}: min-F1 {self.metrics.panel.min_f1.mean:.1f}"
        draw_confusion(np.array(self.metrics.confusion), self.classes, caption, path)

    def _draw_attention(self, pool: str, many: int | None, path: Path) -> None:
        from memgrid.report.figures.run import draw_maps

        evaluated, maps, identity = self.samples.filter(side="eval"), {}, self.store.identity
        for title in self.classes:
            ids = evaluated.filter(title=title)["sequence_id"].head(many or evaluated.height)
            name = title if many is None else f"{title}: sequence {ids[0]}"
            maps[name] = Triangle(identity.length).pack(self.attention_of(ids, pool).mean(0)).T
        draw_maps(maps, identity.length, identity.k, pool, path)

    def _draw_maps(self, what: str, method: str | None, title: str | None, path: Path) -> None:
        from memgrid.report.figures.maps import draw_decision_maps, draw_layer_shares, draw_teaser

        found, name = self.decision_maps(method), title or self.classes[0]
        if name not in found.classes:
            raise UserError(f"there is no class {name!r}: use {', '.join(found.classes)}")
        titles = list(found.classes)
        if what == "teaser":
            draw_teaser(found.maps, titles, found.k, path)
        elif what == "shares":
            draw_layer_shares(found.maps, titles, path)
        else:
            draw_decision_maps(found[name], name, found.k, path)

    def _draw_randomization(self, method: str | None, path: Path) -> None:
        from memgrid.report.figures.maps import draw_randomization

        used = self.decision_maps(method).method
        record = self.folder.localize_record(used)
        if record is None or not record.randomization_test:
            raise self.lacks("randomization test", f"localize.method={used}", "localize.sanity=16", "stages=[localize]")
        draw_randomization(findings.mean_curves(record.randomization_test), path)

    def _draw_trials(self, what: str, path: Path) -> None:
        from memgrid.report.figures.doses import DRAWINGS

        if what == "dose-layers" and not self.trials["masked"].str.contains(r"^layer:\d+$").any():
            raise self.lacks("intervention on single layers", "intervene.layers_at=3", "stages=[localize,intervene]")
        DRAWINGS[what](self.trials, path)


def runs(root: str | Path = "memgrid-runs") -> Runs:
    """All finished runs below a root; those that cannot be read are named on stderr, each with the reason.

    Raises:
        UserError: there is none.
    """
    return Runs(Path(root), [Run(run.folder) for run in finished_runs(Path(root))])


@dataclass(frozen=True, repr=False, eq=False)
class Runs(Sequence[Run]):
    """Finished runs below one root, sorted by folder; tables and figures are those of the report.

    In the tables, a setting is all runs that differ only in model and seed; scores are in percent.
    """

    root: Path
    every: Sequence[Run]

    def __repr__(self) -> str:
        return "\n".join([f"{len(self)} finished run{'s' * (len(self) > 1)} below {self.root}", *map(repr, self)])

    def __len__(self) -> int:
        return len(self.every)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.every)

    @overload
    def __getitem__(self, at: int) -> Run: ...

    @overload
    def __getitem__(self, at: slice) -> Runs: ...

    def __getitem__(self, at: int | slice) -> Run | Runs:
        return Runs(self.root, self.every[at]) if isinstance(at, slice) else self.every[at]

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the ranking, in no particular order."""
        return ranking_rows(named([FinishedRun(run.folder, run.metrics) for run in self]))

    def best(self, *stages: str) -> Run:
        """The run with the highest min-F1, of those in which these later stages are done (localize, intervene), if there are any."""
        done = [run for run in self if all(run.has(stage) for stage in stages)]
        return max(done or self, key=lambda run: run.metrics.panel.min_f1.mean)

    def ranking(self, llm: str | None = None) -> pl.DataFrame:
        """A row per setting, best min-F1 first, over all models or of one."""
        return tables.ranking(self.rows, llm)

    def rho(self) -> pl.DataFrame:
        """A row per ρ and the ROUGE that it is applied to, of taxonomies that were run at several; else empty."""
        return tables.rho_table(self.rows)

    def confusions(self) -> pl.DataFrame:
        """A row per true and predicted class of every setting and model: how many eval samples, and which share of the true class."""
        return tables.confusions_table(self.rows)

    def members(self) -> pl.DataFrame:
        """The min-F1 of every network of every run."""
        return tables.members_table(self.rows)

    def controls(self) -> pl.DataFrame:
        """The min-F1 from attention beside that of its controls and of what needs no attention."""
        return tables.controls(self.rows)

    def protocols(self) -> pl.DataFrame:
        """Our min-F1 beside the paper's, which is computed from the confusion matrices of three epochs in one."""
        return tables.protocols(self.rows)

    def added(self) -> pl.DataFrame:
        """What attention adds, for each pair of classes, to the best that needs none; empty where no run knows."""
        return baseline_tables.added(self.rows)

    def learning(self) -> pl.DataFrame:
        """The min-F1 by samples per class, of runs that differ in nothing else; else empty."""
        return baseline_tables.learning(self.rows)

    def states(self) -> pl.DataFrame:
        """A row per run below the root, finished or not, with its state and what is to be said of it."""
        return states(self.root)

    def noise(self) -> NoiseFloor | None:
        """How far trainings of the same partition lie apart in min-F1; None where none was trained more than once."""
        return noise_floor(self.rows)

    def draw(self, name: str, *, taxonomies: tuple[str, str] = ("prashanth", "rasy")) -> Drawing:
        """A figure of the runs, in memory. Where they lack what it shows, the drawing says so in a sentence.

        Args:
            name: ranking · rho · panel · protocols · controls · added · learning: of the table with that name (`panel`: of `members`);
                confusions (of the best runs) · flow (memorized sequences by two taxonomies).
            taxonomies: names of those of the flow.

        Raises:
            UserError: there is no drawing of that name.
        """
        from memgrid.report.figures import curves, ranking

        noise, table = self.noise(), self._table
        drawings: dict[str, Callable[[Path], object]] = {
            "ranking": lambda path: ranking.draw_ranking(self.ranking(), path, noise=noise.mean if noise else None),
            "rho": lambda path: ranking.draw_rho_curve(table("rho"), path),
            "panel": lambda path: ranking.draw_spread(self.members(), path),
            "protocols": lambda path: ranking.draw_protocols(self.protocols(), path),
            "controls": lambda path: ranking.draw_controls(table("controls"), path),
            "added": lambda path: ranking.draw_added(table("added"), path),
            "learning": lambda path: curves.draw_learning(table("learning"), path),
            "confusions": self._draw_confusions,
            "flow": partial(self._draw_flow, taxonomies),
        }
        return drawing(name, drawings)

    def _table(self, name: str) -> pl.DataFrame:
        """One of the tables; where it is empty, a sentence with the command that would fill it."""
        filled: pl.DataFrame = getattr(self, name)()
        if not filled.height:
            what, *words = MAKES[name]
            raise UserError(f"{what}: run {self.best().command(*words)}")
        return filled

    def _draw_confusions(self, path: Path) -> None:
        from memgrid.report.figures.style import draw_confusions

        first = sorted(self, key=lambda run: -run.metrics.panel.min_f1.mean)[:MATRICES]
        draw_confusions(
            [
                (
                    f"{run.metrics.settings['taxonomy']['name']}: min-F1 {run.metrics.panel.min_f1.mean:.1f}",
                    np.array(run.metrics.confusion),
                    run.classes,
                )
                for run in first
            ],
            path,
        )

    def _draw_flow(self, names: tuple[str, str], path: Path) -> None:
        from memgrid.report.figures.flow import draw_flow, flow
        from memgrid.report.sections import checks
        from memgrid.report.sections.labelled import labels_of, read_features

        best = self.best().metrics.settings
        llm, corpus = best["llm"]["name"], best["corpus"]["name"]
        every = [run for row in self.rows for run in row.runs]
        sides = [(taxonomy, checks.usual_of(taxonomy, every)) for taxonomy in (checks.taxonomy_named(name, every) for name in names)]
        origin = self.best().metrics.origin
        features, why = read_features(labels_of(self.root, llm, corpus, None if origin is None else origin.llm), sides)
        if features is None:
            ask = self.best().command("-m", f"taxonomy={','.join(names)}", "stages=[label]")
            raise UserError(f"there is no flow, for {why}: run {ask}")
        counts = flow(features, *sides)
        kept = [np.flatnonzero(counts.sum(1 - side)) for side in (0, 1)]
        heads = [
            (f"{taxonomy.name}{checks.limits(taxonomy, thresholds)}", [list(taxonomy.classes)[at] for at in present])
            for (taxonomy, thresholds), present in zip(sides, kept, strict=True)
        ]
        draw_flow(counts[np.ix_(*kept)], heads[0], heads[1], path)
