"""What the report's page says of where networks decide, and of whether the model needs that: from Δ maps and interventions on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import polars as pl

from memgrid.errors import UserError
from memgrid.io.display import plural
from memgrid.localize.maps import DecisionMaps, read_decision_maps
from memgrid.report.cause_tables import RecordedRun, intervened, localized
from memgrid.report.facts import PAPER, Report
from memgrid.report.figures.causes.doses import draw_doses, draw_layers, draw_prices
from memgrid.report.figures.causes.maps import draw_decision_maps, draw_layer_shares, draw_randomization, draw_teaser
from memgrid.report.figures.causes.paper import draw_side_by_side
from memgrid.report.figures.causes.where import draw_heads, draw_where, has_ways
from memgrid.report.page import Fold, Part, Picture, Section, listing, picture
from memgrid.report.read import tell_left_out
from memgrid.results.findings import by_dose, conclusions, mean_curves, randomization_sentences
from memgrid.results.records import InterveneRecord, LocalizeRecord

SHOWN = 3  # runs whose figures are on the page
PAGES = 9  # of maps layer by layer, of the best run
CHAIN = "stages=[label,extract,train,localize,intervene]"
WHERE = {
    **{"class": "class", "samples": "samples", "layer": "most decisive layer", "layer_share": "its share"},
    **{"within_prefix": "prefix to itself", "suffix_to_prefix": "suffix to prefix", "within_suffix": "suffix to itself"},
    **{"half": "half of Δ lies on", "sanity_decisiveness": "D, random weights", "sanity_delta": "Δ, random weights"},
}
DOSES = {
    **{"class": "class", "samples": "samples", "q": "q", "removed": "of attention", "target": "most decisive"},
    **{
        "control": "control",
        "share": "control's",
        "difference": "difference",
        "interval": "95 % interval",
        "adjusted": "p",
        "verdict": "it",
    },
}


AREAS = {"class": "class", "samples": "samples", "name": "switched off", "area": "still extractable", "interval": "95 % interval"}


def sections(report: Report) -> list[Section]:
    """The sections on causes; one that has nothing to show says why."""
    return [where(report), causal(report), parts_of_the_model(report)]


def where(report: Report) -> Section:
    """Δ maps: classes side by side, shares of layers, layer by layer, and whether they are about the networks at all."""
    title, text = "Where it decides", list[str]()
    parts: list[Part] = []
    every = localized(report.runs)
    if not every:
        return Section("where", title, ["No run was localized."], fill=(CHAIN,))
    shown: list[RecordedRun[LocalizeRecord]] = []
    looked_at = 0
    for localization in every:
        if len(shown) == SHOWN:
            break
        looked_at += 1
        try:
            maps = read_decision_maps(localization.folder.decision_maps(localization.method))
        except UserError as error:
            tell_left_out(error)
            text.append(f"{localization.name} is left out: {error}.")
            continue
        shown.append(localization)
        parts += maps_of(report, localization, maps, len(shown))
    for localization in shown:
        text += [f"{localization.name}. {line}" if len(every) > 1 else line for line in randomization_sentences(localization.record)]
    text.append("A sequence of each class, token by token, is also in figures/ of a run's folder (sequence-*).")
    text += rest(len(every) - looked_at, "localized", "teaser-*, layers-* and delta-*")
    table = with_group(report.tables["localized"])
    caption = (
        "Shares of a class's Δ in percent; “half of Δ lies on” so many percent of all positions. The last columns are rank correlations "
        "with the maps of networks with random weights in all layers: 1 would say that maps are not about the networks; Δ keeps the "
        "attention whatever the networks are, D does not."
    )
    parts.append(listing(table, WHERE, "Where each class is decided", caption, "localized", "group"))
    return Section("where", title, text, parts)


def maps_of(report: Report, localization: RecordedRun[LocalizeRecord], maps: DecisionMaps, number: int) -> list[Part]:
    """The figures of one run's Δ maps."""
    name, record = localization.name, localization.record
    titles, ending = list(maps.classes), f"-{number}" if number > 1 else ""
    figures: list[Part] = [
        *teasers(report, localization, maps, ending),
        report.drawn(
            f"layers{ending}",
            partial(draw_layer_shares, maps.values, titles),
            "Layers",
            f"{name}: how much of each class's Δ lies in each layer; the thin line: as much in all.",
        ),
    ]
    if record.randomization_test:
        caption = (
            f"{name}: rank correlation with the trained networks' maps, when more and more layers have random weights (mean over "
            "classes). Maps that are about the networks fall far below 1."
        )
        draw = partial(draw_randomization, mean_curves(record.randomization_test))
        figures.append(report.drawn(f"randomisation{ending}", draw, "Maps of networks with random weights", caption))
    return [*figures, *pages(report, maps)] if number == 1 else figures


def teasers(report: Report, localization: RecordedRun[LocalizeRecord], maps: DecisionMaps, ending: str) -> list[Part]:
    """The classes side by side: each on a scale of its own and, folded away, all on one (the paper's Figure 6); in its style that alone."""
    parts: list[Part] = []
    for one_scale in (True,) if report.style == PAPER else (False, True):
        of = "largest value of all classes" if one_scale else "class's largest value"
        caption = (
            f"{localization.name}: where the networks' decision for each class comes from (Δ by {maps.method}, summed over layers, mean "
            f"over {localization.record.samples}), as a share of the {of}. Rows are queries, columns keys; lines: where the suffix begins."
        )
        title = "Where each class is decided" + (", on one scale" if one_scale else "")
        draw = partial(draw_teaser, maps.values, list(maps.classes), maps.k, one_scale=one_scale)
        figure = report.drawn(f"teaser{'-one-scale' * one_scale}{ending}", draw, title, caption)
        parts.append(Fold("All classes on one scale", [figure]) if one_scale and report.style != PAPER else figure)
    return parts


def pages(report: Report, maps: DecisionMaps) -> list[Part]:
    """Layer by layer, folded away: a class on a page, or, in the paper's style, classes side by side."""
    if report.style == PAPER:
        caption = "Six layers on a page, classes side by side, each layer in shares of its largest value in any class."
        made = draw_side_by_side(maps.values, list(maps.classes), maps.k, report.out / "figures" / "delta-layers")
        title = "Δ, layer by layer"
        side_by_side = [
            picture(path.with_name(f"{path.name}.png"), title, caption, f"{title}. {caption}", f"figures/{path.name}.pdf")
            for path in made[:PAGES]
        ]
        return [Fold("Layer by layer", side_by_side)]
    drawn: list[Picture] = []
    for number, (title, by_layer) in enumerate(zip(maps.classes, maps.values, strict=True), 1):
        for path in draw_decision_maps(by_layer, title, maps.k, report.out / "figures" / f"delta-{number}"):
            if len(drawn) < PAGES:
                caption = "Six layers on a page, all layers of a class on one scale."
                name = path.name
                drawn.append(
                    picture(path.with_name(f"{name}.png"), f"Δ of {title}", caption, f"Δ of {title}. {caption}", f"figures/{name}.pdf")
                )
    return [Fold("Layer by layer", drawn)]


def causal(report: Report) -> Section:
    """Interventions: what stays extractable when the decisive attention is switched off, against controls of as much attention."""
    title, text, parts = "Is it causal?", list[str](), list[Part]()
    every = [one for one in intervened(report.runs) if one.record.verdicts]
    if not every:
        return Section("causal", title, ["No run has an intervention."], fill=(CHAIN,))
    text.append(
        "The most decisive q % of a class's positions are switched off while the model decodes the class's samples, and beside them "
        "other positions that get as much attention in each layer. Each sentence compares the shares that stay extractable; p is "
        "corrected for all doses and classes, so that one in twenty runs at most claims something against a kind of control where there "
        "is nothing."
    )
    found, shown, looked_at = list[str](), 0, 0
    for intervention in every:
        if shown == SHOWN:
            break
        looked_at += 1
        try:
            table = intervention.folder.table(intervention.folder.intervention)
        except UserError as error:
            tell_left_out(error)
            text.append(f"{intervention.name} is left out: its {intervention.folder.intervention.name} is missing or damaged.")
            continue
        shown += 1
        told = (by_dose if shown == 1 else conclusions)(intervention.record)  # of the others the table has the rest
        text += [f"{intervention.name}. {line}" if len(every) > 1 else line for line in told]
        found = found or [f"{intervention.name}:", *told_first(verdict.sentences[-2:] for verdict in intervention.record.verdicts)]
        parts += doses_of(report, intervention, table, shown)
    text += rest(len(every) - looked_at, "interventions", "doses and dose-layers")
    caption = (
        "Percent of samples that stay extractable when the most decisive attention is masked, and under controls of as much attention in "
        "each layer: random positions that are alike in layer, distance and attention (mean over draws), the most attended, the least "
        "decisive, and those that are most decisive for another class. Differences are most decisive less control: below 0, the decisive "
        "matters more. p is Holm's."
    )
    interval = pl.format("{} to {}", pl.col("low").round(0).cast(pl.Int64), pl.col("high").round(0).cast(pl.Int64)).alias("interval")
    p = pl.when(pl.col("adjusted") < 0.001).then(pl.lit("< 0.001")).otherwise(pl.col("adjusted").round(3).cast(pl.String)).alias("adjusted")
    numbers = with_group(report.tables["interventions"]).with_columns(interval, p)
    parts.append(listing(numbers, DOSES, "Doses", caption, "interventions", "group"))
    return Section("causal", title, text, parts, found)


def doses_of(report: Report, intervention: RecordedRun[InterveneRecord], table: pl.DataFrame, number: int) -> list[Part]:
    """The figures of one run's intervention."""
    name, ending = intervention.name, f"-{number}" if number > 1 else ""
    damaged = intervention.record.damage_on
    caption = (
        f"{name}: what is left when the most decisive q % of a class's attention is switched off, and controls. From the left: "
        "samples still extractable, log-probability of the suffix, and what the same masks do to "
        f"{damaged}. Bands and bars are 95 % intervals over samples, of random masks from the lowest to "
        "the highest of their seeds. Dotted: nothing masked."
    )
    figures: list[Part] = [report.drawn(f"doses{ending}", partial(draw_doses, table), "What is left, dose by dose", caption)]
    caption = (
        f"{name}: the samples still extractable, against the share of all attention that a mask takes away, and against what it does to "
        f"{damaged}; a point per dose, of random masks the mean over draws. What lies lower costs the class more at the same price."
    )
    figures.append(report.drawn(f"dose-prices{ending}", partial(draw_prices, table), "What is left, and at what price", caption))
    if table["masked"].str.contains(r"^layer:\d+$").any():
        caption = (
            f"{name}: the share that is lost when the decisive positions of a single layer are switched off; beside it random ones, alike."
        )
        figures.append(report.drawn(f"dose-layers{ending}", partial(draw_layers, table), "Layer by layer", caption))
    return figures


def parts_of_the_model(report: Report) -> Section:
    """Positions, heads and layers at equal damage."""
    title, text = "Which part of the attention?", list[str]()
    parts: list[Part] = []
    every = [one for one in intervened(report.runs) if any(each.beyond_positions for each in one.record.selectivity)]
    if not every:
        return Section("parts", title, ["No run compares positions, heads and layers."], fill=("experiment=where",))
    text.append(
        "Positions, heads or layers are switched off, more and more of them, ranked in several ways, heads and layers on other samples "
        "than those that are read. A way is better the less of a class's text stays extractable at equal damage to ordinary text: its "
        "area is the mean share up to the damage that makes ordinary text twice as perplexing. Areas are compared on resamples of samples "
        "and texts, with Holm's correction over all pairs; what is specific to a class spares the other classes more than random heads, "
        "layers or positions do that are alike."
    )
    found, shown = list[str](), 0
    for intervention in every[:SHOWN]:
        try:
            table, units = (
                intervention.folder.table(path) for path in (intervention.folder.intervention, intervention.folder.intervention_units)
            )
        except UserError as error:
            tell_left_out(error)
            text.append(f"{intervention.name} is left out: its tables are missing or damaged.")
            continue
        shown += 1
        lines = [f"{line}." for one in intervention.record.selectivity for line in one.sentences]
        text += [f"{intervention.name}. {line}" if len(every) > 1 else line for line in lines]
        found = found or [f"{intervention.name}:", *told_first(one.sentences[:1] for one in intervention.record.selectivity)]
        parts += units_of(report, intervention, table, units, shown)
    text += rest(len(every[SHOWN:]), "ways", "where and heads")
    caption = (
        "Percent of a class's samples that stay extractable, on average over damages from none to ln 2 nats per token of ordinary text "
        "(twice the perplexity), with a 95 % interval; of random ones the mean of three draws. Less is better."
    )
    interval = pl.format("{} to {}", pl.col("low").round(0).cast(pl.Int64), pl.col("high").round(0).cast(pl.Int64)).alias("interval")
    table = with_group(report.tables["ways"].sort("folder", "class", "area", maintain_order=True)).with_columns(interval)
    parts.append(listing(table, AREAS, "At equal damage", caption, "ways", "group"))
    return Section("parts", title, text, parts, found)


def units_of(
    report: Report, intervention: RecordedRun[InterveneRecord], table: pl.DataFrame, units: pl.DataFrame, number: int
) -> list[Part]:
    """The figures of one run's heads and layers."""
    name, ending = intervention.name, f"-{number}" if number > 1 else ""
    caption = (
        f"{name}: left, the share of a class's samples that is still extractable over the damage to {intervention.record.damage_on}, "
        "a line per way to choose what is switched off, a point per dose, bars are 95 % intervals over samples; dotted: twice the "
        "perplexity. Right, the area below each line up to there, with 95 % intervals over samples and texts."
    )
    found, figures = intervention.record.selectivity, list[Part]()
    if has_ways(found):
        figures.append(report.drawn(f"where{ending}", partial(draw_where, table, found), "At equal damage", caption))
    if not units.filter(pl.col("unit") == "heads").is_empty():
        caption = (
            f"{name}: what a class owes each head: by how much the log-probability of its suffixes falls by the gradient, by switching "
            "the head off alone (both in nats per token), and how much of Δ lies where the head looks. White: nothing, or less."
        )
        figures.append(report.drawn(f"heads{ending}", partial(draw_heads, units), "Heads", caption))
    return figures


def told_first(by_class: Iterable[Sequence[str]]) -> list[str]:
    """The sentences that the page begins with: some of each class, in one paragraph."""
    return [" ".join(f"{line}." for line in lines) for lines in by_class if lines]


def with_group(table: pl.DataFrame) -> pl.DataFrame:
    """The table with a heading for the rows of each run and method, and classes that are not broken at their hyphens."""
    whole = pl.col("class").str.replace_all("-", "\u2011")
    return table.with_columns(whole, group=pl.format("{} · {} · seed {} · {}", "setting", "llm", "seed", "method"))


def rest(number: int, file: str, figures: str) -> list[str]:
    """Where those lie that are not shown."""
    if not number:
        return []
    return [f"The figures of {plural(number, 'more run')} ({figures}) lie in the folders that {file}.csv names."]
