"""All finished runs below a root in Python, with the tables and figures of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import overload

import numpy as np
import polars as pl

from memgrid.errors import UserError
from memgrid.pipeline.face.run import Run
from memgrid.report import baseline_tables, tables
from memgrid.report.confusions.table import confusions_table
from memgrid.report.facts import NoiseFloor, noise_floor
from memgrid.report.figures.drawing import Drawing, drawing
from memgrid.report.read import FinishedRun, finished_runs
from memgrid.report.rows import NamedRun, Row, named, ranking_rows
from memgrid.results.states import states

MATRICES = 12  # on one drawing
# Why a table is empty, and what fills it.
MAKES = {
    "rho": ("no taxonomy was run at several values of ρ", "-m", "rho=0.3,0.5,0.7"),
    "controls": ("no run has controls", "control.members=1"),
    "added": ("no run has predictions of what needs no attention", "force=true"),
    "learning": ("no setting was run with several numbers of samples", "-m", "select.train_per_class=100,200,400"),
    "extraction": ("no labels say how memorized a sequence is", "taxonomy=extractable", "stages=[label]"),
    "prefix": ("no labels say how memorized a sequence is", "taxonomy=extractable", "stages=[label]"),
    "copies": (
        "no labels say how memorized sequences are and how often each was read",
        "-m",
        "taxonomy=extractable,recite",
        "stages=[label]",
    ),
}


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

    @property
    def named(self) -> list[NamedRun]:
        """The runs with what sets them apart, best first."""
        return sorted((run for row in self.rows for run in row.runs), key=lambda run: -run.result.panel.min_f1.mean)

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
        """A row per true and predicted class of every setting and model: how many eval samples, and which share of the true class.

        `sum` is `ours` (the last epoch) or `paper` (its last three together): filter by it before counting.
        """
        return confusions_table(self.rows)

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

    def extraction(self, taxonomy: str = "rasy") -> pl.DataFrame:
        """How many sequences of each class are extractable in n tries with a probability of p, by every model with such labels."""
        return self._degrees("extraction", taxonomy)

    def prefix(self, taxonomy: str = "rasy") -> pl.DataFrame:
        """How many sequences of each class greedy decoding gives from the first j tokens."""
        return self._degrees("prefix", taxonomy)

    def copies(self) -> pl.DataFrame:
        """What is memorized, and how probable it is, by copies in the training text."""
        return self._degrees("copies", "rasy")

    def states(self) -> pl.DataFrame:
        """A row per run below the root, finished or not, with its state and what is to be said of it."""
        return states(self.root)

    def noise(self) -> NoiseFloor | None:
        """How far trainings of the same partition lie apart in min-F1; None where none was trained more than once."""
        return noise_floor(self.rows)

    def export(
        self, out: str | Path, format: str = "parquet", *, text: bool = False, license: str = "unknown", public: bool = False
    ) -> str:
        """Write all of them as one data set; as `Run.export`."""
        from memgrid.pipeline.face.export.export import export

        return export(self, self.root, out, format, text, license, public)

    def draw(self, name: str, *, taxonomies: tuple[str, str] = ("prashanth", "rasy")) -> Drawing:
        """A figure of the runs, in memory. Where they lack what it shows, the drawing says so in a sentence.

        Args:
            name: ranking · rho · panel · protocols · controls · added · learning: of the table with that name (`panel`: of `members`);
                confusions (of the best runs) · flow (memorized sequences by two taxonomies) · extraction · prefix · copies: of the best run
                whose model has such labels, with its reference.
            taxonomies: names of those of the flow, with thresholds after @ where these are not the runs', such as
                `prashanth@delta=5`; the second one's classes are those of extraction and prefix.

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
            **{name: partial(self._draw_degrees, name, taxonomies[1]) for name in ("extraction", "prefix", "copies")},
        }
        return drawing(name, drawings)

    def _table(self, name: str) -> pl.DataFrame:
        """One of the tables; where it is empty, a sentence with the command that would fill it."""
        filled: pl.DataFrame = getattr(self, name)()
        if not filled.height:
            raise self._lacks(name)
        return filled

    def _lacks(self, name: str) -> UserError:
        what, *words = MAKES[name]
        return UserError(f"{what}: run {self.best().command(*words)}")

    def _degrees(self, kind: str, taxonomy: str) -> pl.DataFrame:
        from memgrid.report.flows.sides import side_of
        from memgrid.report.sections import degrees

        return degrees.tables(list(degrees.every_degrees(self.root, self.named, side_of(taxonomy, self.named))))[kind]

    def _draw_degrees(self, kind: str, taxonomy: str, path: Path) -> None:
        from memgrid.report.flows.sides import side_of
        from memgrid.report.sections import degrees

        every = degrees.every_degrees(self.root, self.named, side_of(taxonomy, self.named))
        made = next((degrees.drawings(each) for each in every if each.tables), {})
        if kind not in made:
            raise self._lacks(kind)
        made[kind](path)

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
        from memgrid.report.flows.section import flow_drawing
        from memgrid.report.flows.sides import side_of
        from memgrid.report.flows.table import counted
        from memgrid.report.sections.labelled import labels_of, read_features

        best, origin = self.best().metrics.settings, self.best().metrics.origin
        sides = [side_of(name, self.named) for name in names]
        folder = labels_of(self.root, best["llm"]["name"], best["corpus"]["name"], None if origin is None else origin.llm)
        features, why = read_features(folder, sides)
        if features is None:
            ask = self.best().command("-m", f"taxonomy={','.join(side[0].name for side in sides)}", "stages=[label]")
            raise UserError(f"there is no flow, for {why}: run {ask}")
        flow_drawing(counted(features, *sides), sides)(path)
