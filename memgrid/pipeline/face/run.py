"""One finished run in Python, with its figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from memgrid.config.overrides import command_of
from memgrid.errors import UserError
from memgrid.lm.triangle import Triangle
from memgrid.pipeline.face.view import RunData
from memgrid.report.figures.drawing import Drawing, drawing
from memgrid.results import findings
from memgrid.results.folder import RunFolder, folders_below

if TYPE_CHECKING:
    from memgrid.pipeline.face.hooks import Switch


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
            ask = f"run `{command_of('run', root)}`" if not paths else "write <llm>/<taxonomy>/<name>"
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
    """A finished run: what it found, its figures, and what it switches off, for other tools."""

    def chosen(
        self, title: str, unit: str = "heads", way: str | None = None, number: int | None = None, percent: float | None = None
    ) -> pl.DataFrame:
        """The units that the intervention takes first for a class, the most important first, all places from 0 on.

        Columns: layer and head, or layer, or layer, query and key; worth, by which they are ranked; hook, the name of the layer's pattern
        in TransformerLens.

        Args:
            unit: heads, layers or positions. way: of ranking them, as `trials` has it; the first (attribution of heads, ablation of layers,
                target of positions) without it. number: of heads or layers. percent: of positions, q.

        Raises:
            UserError: there is no such class, unit or way, the run did not switch them off, or there are not so many.
        """
        from memgrid.pipeline.face.hooks import choose

        return choose(self, title, unit, way, number, percent).table

    def hooks(
        self, title: str, unit: str = "heads", way: str | None = None, number: int | None = None, percent: float | None = None
    ) -> list[tuple[str, Switch]]:
        """What switches the units of `chosen` off elsewhere: `model.run_with_hooks(tokens, fwd_hooks=run.hooks(...))` in TransformerLens.

        A function for each of their layers, with the name of the hook: of a pattern (batch, heads, query, key) it makes the one that
        memgrid reads under the same mask (`intervene.queries` and `intervene.replace` are those of the run). `function.layer` is the
        layer, from 0 on.

        Raises:
            UserError: as `chosen`; or the run put a mean in the place of what it switched off, which it did not keep.
        """
        from memgrid.pipeline.face.hooks import choose, hooks_of

        return hooks_of(self, choose(self, title, unit, way, number, percent))

    def export(
        self, out: str | Path, format: str = "parquet", *, text: bool = False, license: str = "unknown", public: bool = False
    ) -> str:
        """Write the run as a data set that `datasets.load_dataset` reads, and say where it is; see docs/sharing.md.

        Args:
            out: a folder outside of the root, or `hub:owner/name`. format: parquet or csv. text: with tokens and text of the samples.
            license: of the data set, as the hub calls it. public: on the hub, for everybody to see.

        Raises:
            UserError: a value is of no use, the run lacks a file, or the disk or the hub does not take it.
        """
        from memgrid.pipeline.face.export.export import export

        return export([self], self.root, out, format, text, license, public)

    def draw(self, name: str, *, title: str | None = None, pool: str = "mean", method: str | None = None) -> Drawing:
        """A figure of the run, in memory. Where the run lacks what it shows, the drawing says so in a sentence.

        Args:
            name: confusion · attention (an eval sequence of each class), mean-attention (the mean over all) · decision-maps (summed over
                layers), layer-shares, decision-map (one class, layer by layer), randomization-test · doses, dose-prices, dose-layers (what
                is left of the text when the decisive attention is switched off), where (positions, heads and layers at equal damage),
                heads (what each class owes them).
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
            "where": self._draw_where,
            "heads": self._draw_heads,
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
        from memgrid.report.figures.causes.maps import draw_decision_maps, draw_layer_shares, draw_teaser

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
        from memgrid.report.figures.causes.maps import draw_randomization

        used = self.decision_maps(method).method
        record = self.folder.localize_record(used)
        if record is None or not record.randomization_test:
            raise self.lacks("randomization test", f"localize.method={used}", "localize.sanity=16", "stages=[localize]")
        draw_randomization(findings.mean_curves(record.randomization_test), path)

    def _draw_trials(self, what: str, path: Path) -> None:
        from memgrid.report.figures.causes.doses import DRAWINGS

        if what == "dose-layers" and not self.trials["masked"].str.contains(r"^layer:\d+$").any():
            raise self.lacks("intervention on single layers", "intervene.layers_at=3", "stages=[localize,intervene]")
        DRAWINGS[what](self.trials, path)

    def _draw_where(self, path: Path) -> None:
        from memgrid.report.figures.causes.where import draw_where, has_ways

        record = self.folder.intervene_record()
        if record is None or not has_ways(record.selectivity):
            raise self.lacks("intervention on heads or layers", "intervene.unit=[positions,heads,layers]", "stages=[localize,intervene]")
        draw_where(self.trials, record.selectivity, path)

    def _draw_heads(self, path: Path) -> None:
        from memgrid.report.figures.causes.where import draw_heads

        if self.units.filter(unit="heads").is_empty():
            raise self.lacks("intervention on heads", "intervene.unit=[positions,heads]", "stages=[localize,intervene]")
        draw_heads(self.units, path)
