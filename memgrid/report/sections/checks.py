"""What the report's page says of what scores rest on: attention itself, protocols, controls, single CNNs, what is missing."""

from __future__ import annotations

from functools import partial

import polars as pl

from memgrid.config.names import called
from memgrid.io.display import plural
from memgrid.io.files import copy_file
from memgrid.report.facts import Report
from memgrid.report.figures import ranking as charts
from memgrid.report.page import ROWS, Fold, Part, Section, interval, listing, picture
from memgrid.report.sections.scores import DRAWN
from memgrid.report.tables import REFERENCES
from memgrid.results.states import STATES, counts, full_name, to_tell

SPREAD = 20  # settings whose single CNNs are drawn
EXAMPLES, EXAMPLE = 4, "attention.png"  # figures of examples on the page, and how a run calls its own


def sections(report: Report) -> list[Section]:
    """The sections after those on scores; one that has nothing to show says why."""
    return [examples(report), side_by_side(report), control(report), spread(report), not_done(report)]


def examples(report: Report) -> Section:
    """An example of attention per class (the paper's Figure 3), from the best run of each LLM that drew one."""
    best = {row.label: row for row in report.benchmark}
    parts: list[Part] = []
    for llm in report.models:
        runs = [run for label in report.ranked(llm)["label"] for run in best[label].of(llm)]
        run = next((run for run in runs if (run.folder.figures / EXAMPLE).is_file()), None)
        if run is None or len(parts) == EXAMPLES:
            continue
        png = run.folder.figures / EXAMPLE
        name = f"attention-{llm}"
        (report.out / "figures").mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".pdf"):
            if png.with_suffix(suffix).is_file():
                copy_file(png.with_suffix(suffix), report.out / "figures" / f"{name}{suffix}")
        where = f"{run.setting}, {called(run.settings['llm'])}, seed {run.settings['seed']}"
        caption = (
            f"One eval sample of each class of {where}: how much every token (rows, queries) attends to every earlier one (columns, keys), "
            "in some layers, on a logarithmic scale. Lines mark where the suffix begins."
        )
        pdf = f"figures/{name}.pdf" if png.with_suffix(".pdf").is_file() else ""
        parts.append(picture(report.out / "figures" / f"{name}.png", f"Attention of {llm}", caption, caption, pdf))
    text = [] if parts else ["No run has left a figure of examples (figures/attention.png in its folder)."]
    return Section("attention", "Attention, an example of each class", text, parts)


def side_by_side(report: Report) -> Section:
    """The paper's protocol beside ours."""
    table = on_page(report, "protocols")
    caption = (
        "The same trainings scored twice. Ours: the last epoch, each CNN for itself, then the mean. The paper's: the confusion matrices of "
        "the last three epochs, all CNNs and all model sizes summed to one, then scored once. A sum evens out single CNNs, so its worst "
        "class looks better when CNNs fail in different classes."
    )
    drawn = table.head(DRAWN)
    title = "The paper's protocol and ours"
    figure = report.drawn("protocols", partial(charts.draw_protocols, drawn), title, caption)
    columns = {"setting": "setting", "runs": "runs", "min_f1": "min-F1", "interval": "95 % interval", "paper_min_f1": "paper's min-F1"}
    columns |= {"difference": "ours − paper's"}
    numbers = listing(table.with_columns(interval()), columns, title, "Min-F1 in percent, best first.", "protocols")
    return Section("protocols", title, [], [figure, Fold("The numbers", [numbers])])


def on_page(report: Report, name: str) -> pl.DataFrame:
    """A table without the points of a sweep over ρ."""
    table = report.tables[name]
    return table.filter(pl.col("setting").is_in([row.label for row in report.benchmark])) if table.height else table


def control(report: Report) -> Section:
    """Shuffled labels, and what the model's confidence alone tells."""
    table, title = on_page(report, "controls"), "Controls"
    if not table.height:
        return Section("controls", title, ["No run had controls."], fill=("control.members=1",))
    text = []
    with_confidence = table.drop_nulls("confidence_min_f1")
    beaten = with_confidence.filter(pl.col("confidence_min_f1") >= pl.col("min_f1")).height
    if beaten:
        settings = plural(with_confidence.height, "setting")
        text.append(
            f"In {beaten} of {settings} the model's own confidence, one number per sequence, tells classes apart "
            "at least as well as attention does: there, nothing shows that attention is needed."
        )
    caption = (
        "Min-F1 of the panel, of the same CNN trained on shuffled labels (must fall to chance or below), of a small decision tree that "
        "sees only how sure the model was while decoding, of all that needs no attention together, and of a linear probe that sees eight "
        "numbers of each layer's attention."
    )
    drawn = table.head(DRAWN)
    figure = report.drawn("controls", partial(charts.draw_controls, drawn), title, caption)
    columns = {"setting": "setting", "runs": "runs", "min_f1": "min-F1", "interval": "95 % interval"}
    columns |= {f"{name}_min_f1": reference.heading for name, reference in REFERENCES.items()}
    columns |= {"confidence_min_f1": "confidence alone", "together_min_f1": "all of these", "chance": "chance"}
    more = "Chance: answering every class equally often. A dash: the control was not run, or the confidence is not known."
    numbers = listing(table.with_columns(interval()), columns, title, more, "controls")
    return Section("controls", title, text, [figure, Fold("The numbers", [numbers])])


def spread(report: Report) -> Section:
    """Every CNN of the panel."""
    table = on_page(report, "members")
    best = report.ranked()["label"].head(SPREAD).to_list()
    place = {label: index for index, label in enumerate(best)}
    some = table.filter(pl.col("setting").is_in(best)).sort(pl.col("setting").replace_strict(place, default=-1), maintain_order=True)
    first = f" The best {SPREAD} settings." if len(report.benchmark) > SPREAD else ""
    caption = (
        "The min-F1 of every CNN of every run, by setting: how much depends on the network, the seed and the model, not on the taxonomy."
        f"{first} All: members.csv."
    )
    title = "The panel's CNNs"
    return Section("panel", title, [], [report.drawn("panel", partial(charts.draw_spread, some), title, caption)])


def not_done(report: Report) -> Section:
    """What is missing, running, stopped or failed, and what could not be read."""
    number, parts = counts(report.states), list[Part]()
    by_state = ", ".join(f"{many:,} {state}" for state, many in number.items() if many)
    text = [f"Of {plural(report.states.height, 'run')} below {report.root}: {by_state}."]
    rows = report.states.filter(to_tell())
    if rows.height:
        order = pl.col("state").replace_strict({state: place for place, state in enumerate(STATES)})
        rows = rows.sort(order, maintain_order=True)
        shown = [full_name(row) for row in rows.head(ROWS).iter_rows(named=True)]
        rows = rows.with_columns(run=pl.Series([*shown, *[""] * (rows.height - len(shown))], dtype=pl.String))
        columns = {"state": "state", "run": "run", "detail": "detail"}
        parts.append(
            listing(rows, columns, "Runs without a result, or with a failure after it", "As python -m memgrid.status lists them.", "states")
        )
    if report.left_out:
        table = pl.DataFrame({"folder": list(report.left_out), "error": list(report.left_out.values())})
        parts.append(listing(table, {"folder": "folder", "error": "why"}, "Results left out", "These could not be read."))
    lacking = report.ranked().drop_nulls("only")
    if lacking.height:
        models = ", ".join(report.models)
        caption = (
            f"Settings that were not run on all of {models}: their rows over all runs are not the mean over the same models as the others'."
        )
        parts.append(listing(lacking, {"setting": "setting", "only": "was run"}, "Settings without some models", caption))
    if not parts:
        text.append("Nothing is missing or failed.")
    return Section("missing", "What is missing or failed", text, parts)
