"""What the report's page says of scores: ranking, language models, ρ, confusion. Figures are drawn into `<out>/figures`."""

from __future__ import annotations

from functools import partial

import polars as pl

from memgrid.io.display import plural
from memgrid.report.confusions.pages import pages
from memgrid.report.facts import NoiseFloor, Report
from memgrid.report.figures import ranking as charts
from memgrid.report.figures.style import draw_confusions
from memgrid.report.page import Fold, Listing, Part, Picture, Section, interval, listing
from memgrid.report.rows import OWN_NAMES
from memgrid.report.sections.doubts import best_text, doubt_text, null_text, verdict_text
from memgrid.report.tables import ALL, RANKED, REFERENCES, ranking

DRAWN = 80  # rows of a chart
OVER = "over trainings and eval samples (over samples alone where there is one CNN)"
MATRICES = 6
FAMILIES = {
    "4A": "duplication, then completion",
    "4B": "completion, then duplication",
    "3A": "one node",
    "3B": "one node or another",
    "null": "a split for no reason",
}
MORE = (
    "In percent. P and R are precision and recall (of the worst class, and the mean over classes), the loss is in nats per sample. The "
    "paper's min-F1 follows its protocol: confusion matrices of three epochs, all CNNs and model sizes summed, then scored."
)
SCORES = {
    "min_f1": "min-F1",
    "spread": "±",
    "interval": "95 % interval",
    "worst_pair": "worst pair",
    "mean_f1": "mean-F1",
    "min_precision": "min P",
    "mean_precision": "mean P",
    "min_recall": "min R",
    "mean_recall": "mean R",
    "eval_loss": "loss",
    "paper_min_f1": "paper's min-F1",
}
FIRST = ("min_f1", "spread", "interval", "worst_pair")  # beside the names
# Beside each row of the ranking: what else reaches which min-F1.
CONTROLS = {f"{name}_min_f1": reference.heading for name, reference in REFERENCES.items()}
# A page has no room for all: the section on controls has.
FOLDED = tuple(f"{name}_min_f1" for name in ("overlap", "likelihood", "min_k", "zlib", "probabilities"))
SMALL = ("doubt", "what", "also", "only", "corpus_shown", "compat_shown", "variant")
SAID = {"min_f1": "said"}  # what a score says when it is pointed at


def sections(report: Report) -> list[Section]:
    """The sections on scores; one that has nothing to show says why."""
    return [summary(report), overall(report), sizes(report), rho(report), confusions(report)]


def summary(report: Report) -> Section:
    """What was run, the best of each family, and how large the noise is."""
    adopted = sum(run.result.same_as is not None for run in report.runs)
    corpora = sorted({run.settings["corpus"]["name"] for run in report.runs})
    cnns = sum(len(run.result.members) for run in report.runs if run.result.same_as is None)
    twice = f"; {adopted} of them have equal partitions and took over the result of another" if adopted else ""
    text = [
        f"{plural(len(report.runs), 'finished run')} of {plural(len(report.rows), 'setting')} on {', '.join(report.models)} "
        f"(corpus {', '.join(corpora)}){twice}. CNNs trained to tell the classes of a taxonomy apart from attention alone: {cnns:,}.",
        noise_text(report.noises),
    ]
    if report.usual:
        base = dict(report.usual)
        whose = f"experiment={base.pop('experiment')}" if "experiment" in base else "the defaults"
        values = ", ".join(f"{key}={value}" for key, value in base.items())
        text.append(f"Some runs have other settings than {whose}: these are rows of their own and say what differs from {values}.")
    best = report.best_of_families()
    meaning = pl.col("family").replace_strict(FAMILIES, default="other taxonomies").alias("meaning")
    columns = {"setting": "setting", **{key: SCORES[key] for key in list(SCORES)[:3]}, "family": "family", "meaning": "its nodes"}
    best_by = "min-F1, the F1 of the class that is hardest to tell" if report.by == "min_f1" else RANKED[report.by]
    caption = f"The best setting of each family by {best_by}."
    text = [line for line in text if line]
    table = listing(best.with_columns(meaning), columns, "Best of each family", caption, small=SMALL, hints=SAID)
    return Section("summary", "What was run", text, [table])


def noise_text(noises: dict[str, NoiseFloor]) -> str:
    """What differences mean nothing."""
    if not noises:
        return (
            "No partition was trained more than once, so how large the noise is cannot be said: run some settings with other seeds "
            "(seed=0,1,2). In the paper's tables, equal partitions that were trained separately differ by up to 1.5 points."
        )
    parts = []
    for compat, noise in noises.items():
        which = f" (compat={compat})" if len(noises) > 1 or compat != "none" else ""
        parts.append(
            f"by {noise.mean:.1f} points on average and by {noise.largest:.1f} at most{which}, over {plural(noise.pairs, 'pair')}; "
            f"in 19 of 20 pairs by no more than {noise.most:.1f}"
        )
    return (
        "The noise floor: two trainings of the same partition on the same model (other seeds, or equal partitions trained separately) "
        f"differ in min-F1 {'; '.join(parts)}. Between single trainings, smaller differences than that say nothing."
    )


def chart(report: Report, table: pl.DataFrame, name: str, where: str) -> Picture:
    """The ranking as a figure."""
    first = f" The best {DRAWN} of {table.height} are drawn." if table.height > DRAWN else ""
    band = None if report.noise is None else round(report.noise.most, 1)
    shade = " Settings in the grey band are no worse than the best by more than the noise." if band else ""
    caption = (
        f"Each dot is a setting's min-F1, the mean over its CNNs{where}; the thick bar is one standard deviation over the CNNs, the thin "
        f"line the 95 % interval {OVER}. Colours and shapes tell the families; small and grey, what the "
        f"controls reach on the same samples.{shade}{first}"
    )
    drawn = table.head(DRAWN).select(pl.col("label").alias("setting"), "family", "doubt", "min_f1", "spread", "low", "high", *CONTROLS)
    return report.drawn(name, partial(charts.draw_ranking, drawn, noise=band), f"Taxonomies ranked by {RANKED[report.by]}", caption)


def by_classes(table: pl.DataFrame) -> pl.DataFrame:
    """A ranking by number of classes, as in the paper."""
    return table.with_columns(group=pl.format("{} classes", "classes")).sort("classes", descending=True, maintain_order=True)


def beside_list(table: pl.DataFrame, title: str, caption: str, file: str) -> Listing:
    """A ranking as a table: each row beside what else reaches which min-F1."""
    columns = {"setting": "setting", **beside(table), "family": "family", "runs": "runs"}
    keyed = by_classes(table).with_columns(pl.format("{} {}", pl.lit(file), "label").alias("key"))
    return listing(keyed, columns, title, caption, file, "group", SMALL, "min_f1", SAID, "key")


def beside(table: pl.DataFrame) -> dict[str, str]:
    """Columns of the min-F1 and of what else reaches which, as far as that is known."""
    known = {key: name for key, name in CONTROLS.items() if table[key].count() and key not in FOLDED}
    return {**{key: SCORES[key] for key in FIRST if table[key].count()}, **known}


def scores_list(table: pl.DataFrame, file: str) -> Listing:
    """The other scores of a ranking."""
    columns = {"setting": "setting", **{key: name for key, name in SCORES.items() if key not in ("spread", "interval")}}
    return listing(by_classes(table), columns, "Other scores", MORE, file, "group", ("doubt",), "min_f1")


def overall(report: Report) -> Section:
    """The ranking over all LLMs and seeds (the paper's Tables 1 and 3)."""
    table = report.ranked()
    caption = (
        "Min-F1 in percent, means over runs (seeds and models) of the last epoch: ± is the standard deviation over all CNNs, the interval "
        f"is one {OVER}. The worst pair are the two classes that are told apart least when asked which of the two "
        "it is, by the share that is right: a guess has 50 however many classes there are, so that it compares settings of three classes "
        "and of four. Beside it what else reaches which min-F1 on the same samples: the CNN on shuffled labels, what needs "
        "no attention, and a linear probe on attention. Classes after “= also” divide the sequences alike, so they are one row."
    )
    doubts, nulls = doubt_text(table), null_text(table)
    hidden = len(report.rows) - len(report.benchmark)
    text = [f"{plural(hidden, 'row')} of the sweep over ρ stand in a section of their own; ranking.csv holds them too."] if hidden else []
    parts: list[Part] = [
        chart(report, table, "ranking", " and runs"),
        beside_list(table, "Ranking over all runs", caption, "ranking"),
        Fold("More scores of each setting", [scores_list(table, "ranking")]),
    ]
    found = [*best_text(table, report.noises), *verdict_text(report), *doubt_text(table.head(1)), *nulls]
    return Section("ranking", f"Taxonomies ranked by {RANKED[report.by]}", [*doubts, *nulls, *text], parts, found)


def sizes(report: Report) -> Section:
    """The ranking for each LLM (the paper's Tables 5-7)."""
    if len(report.models) < 2:
        return Section("sizes", "Each language model", [f"All runs are on one language model, {report.models[0]}."])
    labels = [row.label for row in report.benchmark]
    table = report.tables["sizes"].filter(pl.col("setting").is_in(labels))
    columns = {"setting": "setting", ALL: "all", **{name: name for name in report.models}}
    parts: list[Part] = [
        listing(table, columns, "Min-F1 by language model", "Best overall first; a dash where the setting was not run.", "sizes")
    ]
    for name in report.models:
        own = report.ranked(name)
        drawn = chart(report, own, f"ranking-{name}", f" and seeds, on {name}")
        numbers = beside_list(own, f"Ranking on {name}", "As the ranking over all runs, for this model alone.", f"ranking-{name}")
        parts.append(Fold(f"Ranking on {name}", [drawn, numbers]))
    return Section("sizes", "Each language model", [], parts)


def rho(report: Report) -> Section:
    """The sweep over ρ (the paper's Table 4)."""
    table, title = report.tables["rho"], "The ROUGE threshold ρ"
    if not table.height:
        return Section("rho", title, ["No taxonomy was run at more than one ρ."], fill=("-m", "taxonomy=rasy", "rho=0.3,0.5,0.7"))
    parts: list[Part] = []
    keys = ["setting", "taxonomy", "corpus", "compat", "variant"]
    for index, (names, swept) in enumerate(table.group_by(keys, maintain_order=True)):
        if index == MATRICES:
            break
        setting = " · ".join(filter(None, map(str, (names[0], "compat=paper" if names[3] == "paper" else "", names[4]))))
        suffix = f"-{index + 1}" if index else ""
        caption = (
            f"Min-F1 of {setting} over ρ: a memorized sequence counts as Guess when the ROUGE between its prefix and suffix is at least ρ. "
            f"A line for each score that ρ is applied to; the band is the 95 % interval {OVER}."
        )
        parts.append(report.drawn(f"rho{suffix}", partial(charts.draw_rho_curve, swept), "Min-F1 over ρ", caption))
        whole = swept.filter(pl.col("llm") == ALL).with_columns(interval())
        columns = {"rouge_l": "ROUGE-L", "rouge_3": "ROUGE-3", "rho": "ρ", "runs": "runs", **beside(whole)}
        what = "Best min-F1 first, over all models, beside what else reaches which min-F1."
        parts.append(listing(whole, columns, f"ρ and ROUGE: {setting}", what, "rho", small=("doubt",), best="min_f1"))
    return Section("rho", title, [], parts)


def confusions(report: Report) -> Section:
    """Confusion matrices of the best of each family and of the named taxonomies (the paper's Figures 5 and 7-12)."""
    order = report.ranked()["label"].to_list()
    labels = report.best_of_families()["label"].to_list()
    by_label = {row.label: row for row in report.benchmark}
    for name in OWN_NAMES:
        own = [label for label in order if by_label[label].first.settings["taxonomy"]["name"] == name]
        labels += own[:1] if not set(own) & set(labels) else []
    chosen = [by_label[label] for label in labels[:MATRICES]]
    parts: list[Part] = []
    for name in (None, *(report.models if len(report.models) > 1 else ())):
        entries = [
            (f"{row.label}: min-F1 {ranking([row], name)['min_f1'][0]:.1f}", row.confusion(runs), row.first.result.classes)
            for row in chosen
            if (runs := row.of(name))
        ]
        if entries:
            where = f"on {name}" if name else "over all models and seeds"
            caption = f"Shares of the true class in percent, {where}: last epoch, all CNNs. Rows are true classes, columns predicted ones."
            stem = f"confusion-{name}" if name else "confusion"
            figure = report.drawn(stem, partial(draw_confusions, entries), f"Confusion {where}", caption)
            parts.append(Fold(figure.title, [figure]) if name else figure)
    more, rest = pages(report)
    text = ["The best setting of each family, and the taxonomies that have names. All cells of all settings: confusions.csv.", *rest]
    return Section("confusion", "Confusion matrices", text, [*parts, *more])
