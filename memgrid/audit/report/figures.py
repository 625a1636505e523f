"""Figures of an audit: how well memorization is predicted, when, and how canaries of each kind lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from sklearn.metrics import roc_curve

from memgrid.audit.attack.baselines import BASELINES
from memgrid.audit.attack.evaluation import DIRECTIONS, ETAS, GRID, Evidence, areas, below_zero, mean_roc, question
from memgrid.audit.data.population import KINDS
from memgrid.audit.shadow.predictors import PREDICTORS
from memgrid.report.figures.style import COLOURS, DOUBLE, KEY_LINE, Legend, draw_key, figure, key_lines, place

Looks = dict[str, tuple[str, Any]]  # colour and line style by key
PREDICTOR_NAMES = {
    **{"psmi": "PSMI", "loss": "loss", "gap": "logit gap", "mahalanobis": "Mahalanobis distance"},
    **{"pixels": "pixels: class mean", "neighbour": "pixels: neighbours"},
}
PREDICTOR_LOOKS: Looks = {
    **dict(zip(PREDICTORS, zip(COLOURS, ("-", "--", "-.", ":"), strict=False), strict=False)),
    **dict(zip(BASELINES, (("0.45", "-"), ("0.45", "--")), strict=True)),
}
KIND_NAMES = {
    **{"ordinary": "ordinary", "clean": "clean canaries", "label_noise": "mislabelled", "ood": "out of domain"},
    **{"ood_matched": "out of domain, matched", "blank": "blank"},
}
KIND_LOOKS: Looks = {
    **{"ordinary": ("0.45", "-"), "clean": (COLOURS[0], "-"), "label_noise": (COLOURS[3], "--"), "ood": (COLOURS[2], "-.")},
    **{"ood_matched": (COLOURS[4], "-."), "blank": (COLOURS[1], ":")},
}
MOMENT_NAMES = {"start": "untrained", "trigger": "trigger", "end": "trained"}
LEFT, GAP, BELOW = 0.6, 0.62, 0.46


def handles(looks: Looks, names: dict[str, str], keys: Sequence[str]) -> Legend:
    """A legend of lines."""
    return [[(Line2D([], [], color=looks[key][0], linestyle=looks[key][1], linewidth=1.3), names[key]) for key in keys]]


def dress(axes: Axes, x: str, y: str, title: str = "") -> None:
    """What all panels share."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", pad=4)
    axes.tick_params(length=2)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)


def mean_and_spread(areas_of: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over models of each row of areas, float64 (rows,) each; NaN where no model could be asked."""
    mean, spread = (np.array([getattr(area, statistic)() if len(area) else np.nan for area in areas_of]) for statistic in ("mean", "std"))
    return mean, spread


def draw_rocs(evidence: Evidence, questions: Sequence[float | str], moment: str, path: Path) -> None:
    """A panel per question: the ROC curve of every predictor, and a cross at PSMI < 0, which nobody has tuned."""
    columns = 3
    points = below_zero(evidence, [eta for eta in questions if not isinstance(eta, str)], moment)
    crosses = {point.question: (point.fpr, point.tpr) for point in points if point.fpr is not None and point.tpr is not None}
    lines = -(-len(questions) // columns)
    key = key_lines(handles(PREDICTOR_LOOKS, PREDICTOR_NAMES, list(DIRECTIONS)), DOUBLE - 0.2)
    side = (DOUBLE - LEFT - 0.15 - GAP * (columns - 1)) / columns
    top = 0.12 + KEY_LINE * len(key)
    with figure(path, DOUBLE, top + lines * (side + 0.3 + BELOW)) as canvas:
        draw_key(canvas, key)
        for index, eta in enumerate(questions):
            row, column = divmod(index, columns)
            axes = place(canvas, LEFT + column * (side + GAP), top + 0.3 + row * (side + 0.3 + BELOW), side, side)
            axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
            for name, (colour, style) in PREDICTOR_LOOKS.items():
                if (curve := mean_roc(evidence, eta, moment, name)) is not None:
                    axes.plot(GRID, curve, color=colour, linestyle=style, linewidth=1.3)
            if cross := crosses.get(question(eta)):
                axes.plot(cross[0], cross[1], marker="x", color=PREDICTOR_LOOKS["psmi"][0], markersize=6, markeredgewidth=1.6)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(PercentFormatter(1))
                axis.set_ticks([0, 0.5, 1])
            dress(axes, "false positives", "true positives" if column == 0 else "", question(eta))


def draw_areas(evidence: Evidence, moment: str, outside: Mapping[str, float], path: Path) -> None:
    """At the left the area under the ROC curve against η, bands one deviation over models; at the right how many samples are memorized.

    Args:
        outside: of each predictor its area for canaries out of domain, which no η changes; thin lines.
    """
    key = key_lines(handles(PREDICTOR_LOOKS, PREDICTOR_NAMES, list(DIRECTIONS)), DOUBLE - 0.2)
    top, tall, wide, narrow = 0.15 + KEY_LINE * len(key), 2.0, 3.7, 1.75
    with figure(path, DOUBLE, top + tall + BELOW) as canvas:
        draw_key(canvas, key)
        axes = place(canvas, LEFT, top, wide, tall)
        axes.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
        for name, (colour, style) in PREDICTOR_LOOKS.items():
            mean, spread = mean_and_spread([areas(evidence, float(eta), moment, name) for eta in ETAS])
            asked = np.isfinite(mean)
            axes.fill_between(ETAS[asked], (mean - spread)[asked], (mean + spread)[asked], color=colour, alpha=0.12, linewidth=0)
            axes.plot(ETAS[asked], mean[asked], color=colour, linestyle=style, linewidth=1.3)
            if name in outside:
                axes.axhline(outside[name], color=colour, linestyle=(0, (5, 3)), linewidth=0.6)
        dress(axes, "η: memorized if Λ ≥ η", f"AUC at the {moment}")
        number = place(canvas, LEFT + wide + 0.75, top, narrow, tall)
        ratio = evidence.ratio[evidence.members & np.isfinite(evidence.ratio)]
        number.plot(ETAS, [(ratio >= eta).mean() for eta in ETAS], color="0.2", linewidth=1.3)
        number.yaxis.set_major_formatter(PercentFormatter(1))
        number.set_ylim(bottom=0)
        dress(number, "η", "audited members\nwith Λ ≥ η")


def draw_moments(evidence: Evidence, questions: Sequence[float | str], path: Path) -> None:
    """A panel per question: the area under the ROC curve of every predictor, untrained, at the trigger and trained."""
    key = key_lines(handles(PREDICTOR_LOOKS, PREDICTOR_NAMES, list(DIRECTIONS)), DOUBLE - 0.2)
    top, tall = 0.12 + KEY_LINE * len(key), 1.7
    wide = (DOUBLE - LEFT - 0.15 - GAP * (len(questions) - 1)) / len(questions)
    moments = list(MOMENT_NAMES)
    with figure(path, DOUBLE, top + 0.3 + tall + 0.3) as canvas:
        draw_key(canvas, key)
        for column, eta in enumerate(questions):
            axes = place(canvas, LEFT + column * (wide + GAP), top + 0.3, wide, tall)
            axes.axhline(0.5, color="0.6", linewidth=0.8, linestyle=":")
            for name, (colour, style) in PREDICTOR_LOOKS.items():
                mean, spread = mean_and_spread([areas(evidence, eta, moment, name) for moment in moments])
                asked = np.flatnonzero(np.isfinite(mean))
                dots: dict[str, Any] = {"marker": "o", "markersize": 3, "elinewidth": 0.6, "capsize": 1.5}
                axes.errorbar(asked, mean[asked], spread[asked], color=colour, linestyle=style, linewidth=1.2, **dots)
            axes.set_xticks(range(len(moments)), MOMENT_NAMES.values())
            axes.set_xlim(-0.25, len(moments) - 0.75)
            dress(axes, "", "AUC" if column == 0 else "", question(eta))


def draw_kinds(evidence: Evidence, etas: Sequence[float], moment: str, path: Path) -> None:
    """Distribution functions by kind of sample: PSMI of members, and Λ of audited members."""
    kinds = [name for at, name in enumerate(KINDS) if (evidence.kind == at).any()]
    key = key_lines(handles(KIND_LOOKS, KIND_NAMES, kinds), DOUBLE - 0.2)
    top, tall, gap = 0.15 + KEY_LINE * len(key), 2.0, 0.75
    wide = (DOUBLE - LEFT - 0.15 - gap) / 2
    with figure(path, DOUBLE, top + tall + BELOW) as canvas:
        draw_key(canvas, key)
        panels = ((evidence.predictors[moment, "psmi"], f"PSMI at the {moment}", [0.0]), (evidence.ratio, "Λ", list(etas)))
        for column, (values, label, lines) in enumerate(panels):
            axes = place(canvas, LEFT + column * (wide + gap), top, wide, tall)
            ranges = []
            for name in kinds:
                of_kind = np.sort(values[evidence.members & np.isfinite(values) & (evidence.kind == KINDS.index(name))])
                if len(of_kind):
                    axes.plot(
                        of_kind,
                        np.arange(1, len(of_kind) + 1) / len(of_kind),
                        color=KIND_LOOKS[name][0],
                        linestyle=KIND_LOOKS[name][1],
                        linewidth=1.3,
                    )
                    ranges.append(np.percentile(of_kind, [0.5, 99.5]))
            for line in lines:
                axes.axvline(line, color="0.6", linewidth=0.7, linestyle=":")
            if ranges:
                low, high = np.min(ranges), np.max(ranges)
                axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            dress(axes, label, "members below" if column == 0 else "")


def draw_attack(evidence: Evidence, path: Path) -> None:
    """The attack's own ROC curve on logarithmic axes, for each kind of audited sample."""
    audited = np.isfinite(evidence.ratio)
    kinds = [name for at, name in enumerate(KINDS) if audited[:, evidence.kind == at].any()]
    key = key_lines(handles(KIND_LOOKS, KIND_NAMES, kinds), 3.3)
    top, side = 0.15 + KEY_LINE * len(key), 2.5
    with figure(path, 3.4, top + side + BELOW) as canvas:
        draw_key(canvas, key)
        axes = place(canvas, 0.65, top, side, side)
        low = 1.0
        for name in kinds:
            chosen = audited & (evidence.kind == KINDS.index(name))
            false, true, _ = roc_curve(evidence.members[chosen], evidence.ratio[chosen])
            low = min(low, 1 / max(1, int((~evidence.members[chosen]).sum())))
            axes.plot(false, true, color=KIND_LOOKS[name][0], linestyle=KIND_LOOKS[name][1], linewidth=1.3)
        axes.plot([low, 1], [low, 1], color="0.6", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", yscale="log", xlim=(low, 1.1), ylim=(low, 1.1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(10))
            axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
            axis.set_minor_locator(NullLocator())
        dress(axes, "false-positive rate", "true-positive rate")


def draw_samples(images: np.ndarray, captions: Sequence[str], path: Path) -> None:
    """Images in rows of eight, each with a line or two below: (n, height, width) in grey or (n, height, width, 3), from 0 to 1."""
    columns, side, below = 8, 0.72, 0.36
    lines = -(-len(images) // columns)
    gap = (DOUBLE - columns * side) / columns
    with figure(path, DOUBLE, lines * (side + below) + 0.05) as canvas:
        for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
            row, column = divmod(index, columns)
            axes = place(canvas, gap / 2 + column * (side + gap), 0.05 + row * (side + below), side, side)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(caption, fontsize=6, labelpad=2, linespacing=1.1)
