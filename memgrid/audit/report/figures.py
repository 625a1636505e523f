"""Figures of an audit: how well memorization is predicted, when, and how canaries of each kind lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from sklearn.metrics import roc_curve

from memgrid.audit.evaluation import ETAS, GRID, Evidence, areas, mean_roc, question
from memgrid.audit.shadow.population import KINDS
from memgrid.audit.shadow.predictors import PREDICTORS
from memgrid.report.figures.style import COLOURS, DOUBLE, KEY_LINE, Legend, draw_key, figure, key_lines, place

Looks = dict[str, tuple[str, Any]]  # colour and line style by key
NAMES = {"psmi": "PSMI", "loss": "loss", "gap": "logit gap", "mahalanobis": "Mahalanobis distance"}
LOOKS: Looks = dict(zip(PREDICTORS, zip(COLOURS, ("-", "--", "-.", ":"), strict=False), strict=False))
KIND_NAMES = {"ordinary": "ordinary", "clean": "clean canaries", "label_noise": "mislabelled", "ood": "out of domain"}
KIND_LOOKS: Looks = dict(zip(KINDS, (("0.45", "-"), (COLOURS[0], "-"), (COLOURS[3], "--"), (COLOURS[2], "-.")), strict=True))
MOMENT_NAMES = {"start": "untrained", "trigger": "trigger", "end": "trained"}
LEFT, GAP, BELOW = 0.6, 0.62, 0.46


def handles(looks: Looks, names: dict[str, str], some: Sequence[str]) -> Legend:
    """A legend of lines."""
    return [[(Line2D([], [], color=looks[key][0], linestyle=looks[key][1], linewidth=1.3), names[key]) for key in some]]


def dress(axes: Axes, x: str, y: str, title: str = "") -> None:
    """What all panels share."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", pad=4)
    axes.tick_params(length=2)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)


def draw_rocs(seen: Evidence, questions: Sequence[float | str], moment: str, path: Path) -> None:
    """A panel per question: the ROC curve of every predictor, the mean over models."""
    columns = 3
    lines = -(-len(questions) // columns)
    key = key_lines(handles(LOOKS, NAMES, list(PREDICTORS)), DOUBLE - 0.2)
    side = (DOUBLE - LEFT - 0.15 - GAP * (columns - 1)) / columns
    top = 0.12 + KEY_LINE * len(key)
    with figure(path, DOUBLE, top + lines * (side + 0.3 + BELOW)) as made:
        draw_key(made, key)
        for index, eta in enumerate(questions):
            row, column = divmod(index, columns)
            axes = place(made, LEFT + column * (side + GAP), top + 0.3 + row * (side + 0.3 + BELOW), side, side)
            axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
            for name, (colour, style) in LOOKS.items():
                if (curve := mean_roc(seen, eta, moment, name)) is not None:
                    axes.plot(GRID, curve, color=colour, linestyle=style, linewidth=1.3)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1))
                axis.set_ticks([0, 0.5, 1])
            dress(axes, "false positives", "true positives" if column == 0 else "", question(eta))


def draw_areas(seen: Evidence, moment: str, path: Path) -> None:
    """At the left the area under the ROC curve against η, bands one deviation over models; at the right how many samples are memorized."""
    key = key_lines(handles(LOOKS, NAMES, list(PREDICTORS)), DOUBLE - 0.2)
    top, tall, wide, narrow = 0.15 + KEY_LINE * len(key), 2.0, 3.7, 1.75
    with figure(path, DOUBLE, top + tall + BELOW) as made:
        draw_key(made, key)
        axes = place(made, LEFT, top, wide, tall)
        axes.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
        for name, (colour, style) in LOOKS.items():
            found = [areas(seen, float(eta), moment, name) for eta in ETAS]
            known = np.array([len(one) > 0 for one in found])
            mean, spread = (np.array([getattr(one, what)() if len(one) else np.nan for one in found]) for what in ("mean", "std"))
            axes.fill_between(ETAS[known], (mean - spread)[known], (mean + spread)[known], color=colour, alpha=0.12, linewidth=0)
            axes.plot(ETAS[known], mean[known], color=colour, linestyle=style, linewidth=1.3)
        dress(axes, "η: memorized if Λ ≥ η", f"AUC at the {moment}")
        number = place(made, LEFT + wide + 0.75, top, narrow, tall)
        inside = seen.ratio[seen.members & np.isfinite(seen.ratio)]
        number.plot(ETAS, [(inside >= eta).mean() for eta in ETAS], color="0.2", linewidth=1.3)
        number.yaxis.set_major_formatter(PercentFormatter(1))
        number.set_ylim(bottom=0)
        dress(number, "η", "audited members\nwith Λ ≥ η")


def draw_moments(seen: Evidence, questions: Sequence[float | str], path: Path) -> None:
    """A panel per question: the area under the ROC curve of every predictor, untrained, at the trigger and trained."""
    key = key_lines(handles(LOOKS, NAMES, list(PREDICTORS)), DOUBLE - 0.2)
    top, tall = 0.12 + KEY_LINE * len(key), 1.7
    wide = (DOUBLE - LEFT - 0.15 - GAP * (len(questions) - 1)) / len(questions)
    moments = list(MOMENT_NAMES)
    with figure(path, DOUBLE, top + 0.3 + tall + 0.3) as made:
        draw_key(made, key)
        for column, eta in enumerate(questions):
            axes = place(made, LEFT + column * (wide + GAP), top + 0.3, wide, tall)
            axes.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
            for name, (colour, style) in LOOKS.items():
                found = [areas(seen, eta, moment, name) for moment in moments]
                at = [index for index, one in enumerate(found) if len(one)]
                mean, spread = [found[index].mean() for index in at], [found[index].std() for index in at]
                axes.errorbar(
                    at, mean, spread, color=colour, linestyle=style, linewidth=1.2, marker="o", markersize=3, elinewidth=0.6, capsize=1.5
                )
            axes.set_xticks(range(len(moments)), MOMENT_NAMES.values())
            axes.set_xlim(-0.25, len(moments) - 0.75)
            dress(axes, "", "AUC" if column == 0 else "", question(eta))


def draw_kinds(seen: Evidence, etas: Sequence[float], moment: str, path: Path) -> None:
    """Distribution functions by kind of sample: PSMI of members, and Λ of audited members."""
    some = [name for at, name in enumerate(KINDS) if (seen.kind == at).any()]
    key = key_lines(handles(KIND_LOOKS, KIND_NAMES, some), DOUBLE - 0.2)
    top, tall, gap = 0.15 + KEY_LINE * len(key), 2.0, 0.75
    wide = (DOUBLE - LEFT - 0.15 - gap) / 2
    with figure(path, DOUBLE, top + tall + BELOW) as made:
        draw_key(made, key)
        panels = ((seen.found[moment, "psmi"], f"PSMI at the {moment}", [0.0]), (seen.ratio, "Λ", list(etas)))
        for column, (values, label, marks) in enumerate(panels):
            axes = place(made, LEFT + column * (wide + gap), top, wide, tall)
            shown = []
            for name in some:
                mine = np.sort(values[seen.members & np.isfinite(values) & (seen.kind == KINDS.index(name))])
                if len(mine):
                    axes.plot(
                        mine,
                        np.arange(1, len(mine) + 1) / len(mine),
                        color=KIND_LOOKS[name][0],
                        linestyle=KIND_LOOKS[name][1],
                        linewidth=1.3,
                    )
                    shown.append(np.percentile(mine, [0.5, 99.5]))
            for mark in marks:
                axes.axvline(mark, color="0.6", linewidth=0.7, linestyle=":")
            if shown:
                low, high = np.min(shown), np.max(shown)
                axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            dress(axes, label, "members below" if column == 0 else "")


def draw_attack(seen: Evidence, path: Path) -> None:
    """The attack's own ROC curve on logarithmic axes, for each kind of audited sample."""
    audited = np.isfinite(seen.ratio)
    some = [name for at, name in enumerate(KINDS) if audited[:, seen.kind == at].any()]
    key = key_lines(handles(KIND_LOOKS, KIND_NAMES, some), 3.3)
    top, side = 0.15 + KEY_LINE * len(key), 2.5
    with figure(path, 3.4, top + side + BELOW) as made:
        draw_key(made, key)
        axes = place(made, 0.65, top, side, side)
        low = 1.0
        for name in some:
            chosen = audited & (seen.kind == KINDS.index(name))
            false, true, _ = roc_curve(seen.members[chosen], seen.ratio[chosen])
            low = min(low, 1 / max(1, int((~seen.members[chosen]).sum())))
            axes.plot(false, true, color=KIND_LOOKS[name][0], linestyle=KIND_LOOKS[name][1], linewidth=1.3)
        axes.plot([low, 1], [low, 1], color="0.6", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", yscale="log", xlim=(low, 1.1), ylim=(low, 1.1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(10))
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
            axis.set_minor_locator(NullLocator())
        dress(axes, "false-positive rate", "true-positive rate")
