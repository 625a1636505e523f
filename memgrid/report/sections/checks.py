"""What the report's page says of what scores rest on: flow, attention itself, protocols, controls, single CNNs, what is missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from omegaconf import OmegaConf

from memgrid.config.names import called
from memgrid.errors import UserError
from memgrid.io.display import plural
from memgrid.io.files import copy_file
from memgrid.io.paths import CONF
from memgrid.report.facts import Report
from memgrid.report.figures import ranking as charts
from memgrid.report.figures.flow import draw_flow, flow
from memgrid.report.page import ROWS, Fold, Part, Section, interval, listing, picture
from memgrid.report.rows import USUAL, NamedRun
from memgrid.report.sections.labelled import Side, labels_of, read_features
from memgrid.report.sections.scores import DRAWN
from memgrid.report.tables import REFERENCES
from memgrid.results.states import STATES, counts, full_name, to_tell
from memgrid.taxonomy.taxonomy import Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

SPREAD = 20  # settings whose single CNNs are drawn
FLOWS = 6
EXAMPLES, EXAMPLE = 4, "attention.png"  # figures of examples on the page, and how a run calls its own


def sections(report: Report) -> list[Section]:
    """The sections after those on scores; one that has nothing to show says why."""
    return [flows(report), examples(report), side_by_side(report), control(report), spread(report), not_done(report)]


def flows(report: Report) -> Section:
    """How sequences go from the classes of one taxonomy to those of another (the paper's Figure 2)."""
    left, right = (taxonomy_named(name, report.runs) for name in report.pair)
    title, text = f"From {left.name} to {right.name}", []
    parts: list[Part] = []
    for (llm, name, corpus, fingerprint), runs in by_weights(report.runs).items():
        sides = [(taxonomy, usual_of(taxonomy, runs)) for taxonomy in (left, right)]
        features, why = read_features(labels_of(report.root, name, corpus, fingerprint), sides)
        if features is None:
            text.append(f"No flow for {llm} on {corpus}: {why}.")
        elif len(parts) < FLOWS:
            counts = flow(features, *sides)
            heads = [f"{taxonomy.name}{limits(taxonomy, thresholds)}" for taxonomy, thresholds in sides]
            caption = (
                f"All {counts.sum():,} memorized sequences of {corpus} for {llm}: on the left as {heads[0]} divides them, on the right as "
                f"{heads[1]} does; a ribbon is as thick as the number of sequences that are in both classes."
            )
            if counts.any():
                parts.append(report.drawn(f"flow-{llm}-{corpus}", flow_drawing(counts, sides), title, caption))
    return Section("flow", title, text, parts)


def flow_drawing(counts: np.ndarray, sides: list[Side]) -> Callable[[Path], None]:
    """What draws a flow, without the classes that are empty.

    Args:
        counts: int (left classes, right classes), of both sides.
    """
    kept = [counts.sum(1 - axis) > 0 for axis in (0, 1)]
    left, right = (
        (f"{taxonomy.name}{limits(taxonomy, thresholds)}", [title for title, any_ in zip(taxonomy.classes, some, strict=True) if any_])
        for (taxonomy, thresholds), some in zip(sides, kept, strict=True)
    )
    return partial(draw_flow, counts[np.ix_(*kept)], left, right)


def by_weights(runs: list[NamedRun]) -> dict[tuple[str, str, str, str | None], list[NamedRun]]:
    """The runs by what the model's weights are called, by its name, corpus and fingerprint (None: not known)."""
    known: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        if run.result.origin is not None:
            known[run.llm, run.settings["corpus"]["name"]].add(run.result.origin.llm)
    groups: dict[tuple[str, str, str, str | None], list[NamedRun]] = defaultdict(list)
    for run in runs:
        name, corpus = run.llm, run.settings["corpus"]["name"]
        prints = known[name, corpus]
        if len(prints) > 1 and run.result.origin is not None:
            groups[called(run.settings["llm"]), name, corpus, run.result.origin.llm].append(run)
        else:
            groups[name, name, corpus, next(iter(prints)) if len(prints) == 1 else None].append(run)
    return groups


def taxonomy_named(name: str, runs: list[NamedRun]) -> Taxonomy:
    """The taxonomy as the runs had it, or else as conf/ has it.

    Raises:
        UserError: neither knows it.
    """
    for run in runs:
        if run.settings["taxonomy"]["name"] == name:
            return Taxonomy.written(run.settings["taxonomy"])
    path = CONF / "taxonomy" / f"{name}.yaml"
    if not path.is_file():
        names = sorted({run.settings["taxonomy"]["name"] for run in runs} | {file.stem for file in path.parent.glob("*.yaml")})
        raise UserError(f"flow={name} is no known taxonomy: use two of {', '.join(names)}, such as flow=prashanth,rasy")
    written: Any = OmegaConf.to_container(OmegaConf.load(path))
    return Taxonomy.written(written)


def usual_of(taxonomy: Taxonomy, runs: list[NamedRun]) -> Thresholds:
    """The thresholds that most runs have: those of this taxonomy first, then any."""
    own = sorted(runs, key=lambda run: run.settings["taxonomy"]["name"] != taxonomy.name)
    deltas = [run.divided.delta for run in own if run.divided.delta is not None]
    rhos = [(run.divided.rho, run.divided.rouge) for run in own if run.divided.rho is not None and run.divided.rouge is not None]
    delta = USUAL.delta if USUAL.delta in deltas or not deltas else Counter(deltas).most_common(1)[0][0]
    usual = (USUAL.rho, USUAL.rouge)
    rho, rouge = usual if usual in rhos or not rhos else Counter(rhos).most_common(1)[0][0]
    return Thresholds(delta, rho or USUAL.rho, rouge)


def side_of(name: str, runs: list[NamedRun]) -> Side:
    """A taxonomy by its name, at the usual thresholds; raises as `taxonomy_named`."""
    taxonomy = taxonomy_named(name, runs)
    return taxonomy, usual_of(taxonomy, runs)


def limits(taxonomy: Taxonomy, thresholds: Thresholds) -> str:
    """The thresholds that matter to it, such as ` (δ=50)`."""
    phrase = taxonomy.partition(thresholds).thresholds.phrase()
    return f" ({phrase})" if phrase else ""


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
