"""The section of the page in which sequences are opened."""

from __future__ import annotations

from shlex import quote

from memgrid.io.paths import PACKAGE
from memgrid.report.facts import Report
from memgrid.report.page import Embedded, Section
from memgrid.report.viewer.content import Opened, opened_runs

KEY, TITLE = "sequences", "Inside the sequences"
MARKUP = PACKAGE / "assets" / "page" / "viewer.html"
SCRIPTS, STYLES = ("page/viewer.js", "page/cells.js"), ("page/viewer.css",)
CAPTION = "Point at a token, or go through them by the arrow keys: blue is what it attends to, orange what attends to it."


def section(report: Report) -> Section:
    """Tokens, attention and Δ of some sequences of the best runs, and the sequences of every cell of their confusion matrices."""
    runs = opened_runs(report)
    if not runs:
        why = "No run of the ranking has left its predictions (predictions.parquet in its folder), so no sequence can be opened."
        return Section(KEY, TITLE, [why], fill=("force=true",))
    for run in runs:
        run.data["hint"] = hint(run, report)
    text = [line for run in runs for line in run.text]
    viewer = Embedded(
        "viewer",
        "Tokens, attention and Δ",
        CAPTION,
        MARKUP.read_text(encoding="utf-8"),
        {"runs": [run.data for run in runs]},
        SCRIPTS,
        STYLES,
    )
    return Section(KEY, TITLE, text, [viewer])


def hint(run: Opened, report: Report) -> str:
    """What stands above the tokens: why they are numbers, or that there is no attention to be seen."""
    if not run.data["sequences"]:
        what = "only what is said of it" + (" and Δ" if run.data["delta"] else "")
        return f"The attention of this run is not on the page: of a sequence there is {what}."
    if run.with_text:
        return ""
    command = f"python -m memgrid.report root={quote(str(report.root))} text=true"
    return f"Tokens are numbers, since text that a model was trained on can be personal: {command} shows it."
