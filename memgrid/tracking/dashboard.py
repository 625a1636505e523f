"""The wandb workspace of a project: which taxonomy is told apart best, the curve over ρ, how far the panel spreads, controls and curves."""

from __future__ import annotations

from itertools import product

import wandb_workspaces.reports.v2 as panels
import wandb_workspaces.workspaces as workspaces
from wandb_workspaces import expr

from memgrid.config.derive import Member
from memgrid.errors import UserError
from memgrid.taxonomy.thresholds import ROUGE_NAMES
from memgrid.tracking.server import server

NAME = "memgrid"
SCORE = panels.SummaryMetric("min_f1")
TAXONOMY, RHO, DELTA, ROUGE = (panels.Config(key) for key in ("taxonomy.name", "rho", "delta", "rouge"))
PANEL = tuple(Member(*choice).name for choice in product((6, 8), (10, 16), ("mean", "max")))
PERCENT = (0, 100)


def workspace(entity: str, project: str) -> workspaces.Workspace:
    """The workspace, not yet saved: finished runs, grouped by cell, best first."""
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[ranking(), rho_curve(), panel_spread(), controls(), training_curves(), confusion_matrices()],
        settings=workspaces.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=expr.And(expr.Summary("min_f1") >= 0),
            groupby=[expr.Metric("Group")],
            order=[expr.Ordering(expr.Summary("min_f1"), ascending=False)],
            pinned_columns=["summary:min_f1", "summary:min_f1_std", "summary:shuffled_min_f1", "summary:confidence_min_f1"],
        ),
    )


def bars(title: str, metrics: list[str], by: panels.Config | None = None) -> panels.BarPlot:
    """Scores in percent; with `by`, their means over the runs that share a setting, and the range of these."""
    return panels.BarPlot(
        title=title,
        metrics=list(metrics),
        range_x=PERCENT,
        groupby=by,
        groupby_aggfunc="mean" if by else None,
        groupby_rangefunc="minmax" if by else None,
        max_runs_to_show=100,
        max_bars_to_show=100,
    )


def section(name: str, *shown: panels.BarPlot | panels.ScatterPlot | panels.LinePlot | panels.MediaBrowser) -> workspaces.Section:
    """An open section, three panels in a row."""
    rows = -(-len(shown) // 3)
    return workspaces.Section(
        name=name, panels=list(shown), is_open=True, layout_settings=workspaces.SectionLayoutSettings(columns=3, rows=rows)
    )


def ranking() -> workspaces.Section:
    """min-F1 by taxonomy, over all thresholds and seeds, and over δ."""
    return section(
        "Taxonomy ranking",
        bars("min-F1 by taxonomy (mean and range over runs)", ["min_f1"], TAXONOMY),
        bars("min-F1 by taxonomy, the paper's protocol", ["paper_min_f1"], TAXONOMY),
        panels.ScatterPlot(title="min-F1 over δ", x=DELTA, y=SCORE, range_y=PERCENT, log_x=True),
    )


def rho_curve() -> workspaces.Section:
    """min-F1 over ρ, a panel for each ROUGE score that ρ can be applied to; the line is the best so far."""
    plots = [
        panels.ScatterPlot(
            title=f"min-F1 over ρ, rouge={rouge}",
            x=RHO,
            y=panels.SummaryMetric(f"rouge_{rouge}/min_f1"),
            range_x=(0, 1),
            range_y=PERCENT,
            running_ymax=True,
        )
        for rouge in ROUGE_NAMES
    ]
    return section("ρ curve", *plots, bars("min-F1 by ROUGE score", ["min_f1"], ROUGE))


def panel_spread() -> workspaces.Section:
    """How far the CNNs of a panel lie apart, and how sure their mean is."""
    return section(
        "Panel spread",
        bars("Final min-F1 of each CNN", [f"members/{name}/min_f1" for name in PANEL]),
        bars("Mean over the panel, and its 95 % interval", ["min_f1", "min_f1_low", "min_f1_high"]),
        panels.ScatterPlot(title="Standard deviation over CNNs against min-F1", x=SCORE, y=panels.SummaryMetric("min_f1_std")),
    )


def controls() -> workspaces.Section:
    """Attention against shuffled labels, which must fall to chance, and against the model's confidence alone."""
    confidence, shuffled = (panels.SummaryMetric(f"{name}_min_f1") for name in ("confidence", "shuffled"))
    return section(
        "Controls",
        bars("Attention, shuffled labels, confidence alone", ["min_f1", "shuffled_min_f1", "confidence_min_f1"], TAXONOMY),
        panels.ScatterPlot(title="Attention against confidence", x=confidence, y=SCORE, range_x=PERCENT, range_y=PERCENT),
        panels.ScatterPlot(title="Attention against shuffled labels", x=shuffled, y=SCORE, range_x=PERCENT, range_y=PERCENT),
    )


def training_curves() -> workspaces.Section:
    """Every CNN's curves over epochs."""
    titles = {"min_f1": "min-F1 (%)", "train_loss": "training loss (nats)", "eval_loss": "evaluation loss (nats)"}
    return section(
        "Training curves", *(panels.LinePlot(title=title, x="epoch", metric_regex=f"^[^/]+-[^/]+/{key}$") for key, title in titles.items())
    )


def confusion_matrices() -> workspaces.Section:
    """The confusion matrix of each run."""
    return section("Confusion matrices", panels.MediaBrowser(title="Confusion matrices", media_keys=["confusion"], num_columns=3))


def save(entity: str | None, project: str) -> str:
    """Save the workspace in the project of a logged-in user (by default the login's own entity) and return its address.

    Raises:
        UserError: there is no such project, or it may not be changed.
    """
    try:
        saved = workspace(entity or server().default_entity, project).save()
    except Exception:  # whatever the server answers, or does not
        where = f"{entity}/{project}" if entity else project
        raise UserError(
            f"project={where} does not take the dashboard: push a run to it with `python -m memgrid.tracking sync` first"
        ) from None
    address: str = saved.url
    return address
