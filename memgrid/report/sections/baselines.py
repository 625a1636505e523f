"""What the report's page says of what attention adds to what needs none, of hard negatives, and of more samples."""

from __future__ import annotations

from functools import partial

import polars as pl

from memgrid.io.display import plural
from memgrid.report.baseline_tables import ADDS, ALIKE, BETTER, EVERY, SIZES, WORSE, grouped, train_samples
from memgrid.report.facts import Report
from memgrid.report.figures.curves import draw_learning
from memgrid.report.figures.ranking import draw_added
from memgrid.report.page import Fold, Listing, Part, Section, interval, listing
from memgrid.report.sections.scores import DRAWN, MATRICES
from memgrid.report.tables import REFERENCES
from memgrid.results.folder import BASELINES

AGAIN = "run them again with force=true"
ADDED = (
    "By how many nats the log-loss of a sample of two classes falls when a logistic regression that sees the answers of all that needs no "
    "attention (a bag of the decoded tokens, the overlap of prefix and suffix, the model's own confidence, how likely the prefix is to the "
    "model, Min-K %++ and the likelihood over the compressed length of what is decoded, a small network on the probability of each token, "
    "and a classifier on all of these) sees those of the CNNs, too: cross-fitted over eval samples, with a 95 % interval over them; "
    "and the same beside one of them alone. What says nothing adds a little less than 0. A dash: not known."
)
INSTEAD = (
    "Accuracy in percent on the eval samples of two classes, asked which of the two it is (a guess: 50): of the CNNs, and of what needs no "
    "attention. The difference is that from the best of them on the same samples, which favours them a little; its 95 % interval is drawn "
    "over eval samples, paired."
)
HEADINGS = {name: REFERENCES[name].heading for name in BASELINES}


def sections(report: Report) -> list[Section]:
    """The sections on what results have to be read beside; one that has nothing to show says why."""
    return [adds(report), hard(report), curve(report)]


def adds(report: Report) -> Section:
    """Each pair of classes: what attention adds to all that needs none, and how good it is instead of that."""
    title, table = "What attention adds", report.tables["added"]
    # Of a learning curve, only the run with most samples.
    fewer = {row.label for group in grouped(report.rows, SIZES) for row in sorted(group, key=train_samples)[:-1]}
    labels = [row.label for row in report.benchmark if row.label not in fewer]
    table = table.filter(pl.col("setting").is_in(labels)) if table.height else table
    without = len(labels) - (table["setting"].n_unique() if table.height else 0)
    missing = f"{plural(without, 'setting')} {'has' if without == 1 else 'have'} no answers of baselines on disk: {AGAIN}."
    if not table.height:
        return Section("adds", title, [missing[0].upper() + missing[1:]], fill=("force=true",))
    order = {label: place for place, label in enumerate(report.ranked()["label"])}
    table = table.sort(pl.col("setting").replace_strict(order, default=len(order)), maintain_order=True)
    several = table["setting"].n_unique() > 1
    names = {row.label: row.setting for row in report.benchmark}
    # Where all have the same classes, the pair names them: only what differs besides is said.
    alike = len({names[label] for label in table["setting"]}) == 1
    besides = (
        pl.col("setting").map_elements(lambda label: label.removeprefix(names[label]), pl.String)
        if alike
        else pl.format(" · {}", "setting")
    )
    drawn = table.head(DRAWN).with_columns(pair=pl.format("{}{}", "pair", besides) if several else pl.col("pair"))
    first = f" The first {DRAWN} of {table.height} pairs." if table.height > DRAWN else ""
    what = (
        "A point whose line lies right of 0.001: attention knows something of which of the two classes it is that all that needs none does "
        f"not know.{first}"
    )
    figure = report.drawn("added", partial(draw_added, drawn), title, what)
    said = counted(table)
    return Section("adds", title, [said, *([missing] if without else [])], [figure, *pair_lists(table, several)], [said])


def pair_lists(table: pl.DataFrame, several: bool) -> list[Listing]:
    """What attention adds for each pair of classes, and what it is instead of what needs none; under their settings where need be."""
    whole = pl.col("pair").str.replace_all(" ", "\u00a0").str.replace_all("-", "\u2011")  # names of a few words stay in one line
    every = [pl.col(f"adds_{EVERY}{end}").map_elements("{:+.3f}".format, pl.String) for end in ("", "_low", "_high")]
    ends = [pl.col(name).round(1).cast(pl.String) for name in ("low", "high")]  # a dash between negative numbers could not be read
    shown = table.with_columns(
        pl.format("{} ({} to {})", *every).alias("every_interval"),
        *(said_of(name) for name in HEADINGS),
        pl.format("{} to {}", *ends).alias("interval"),
        pair=whole,
    )
    group = "setting" if several else None
    known = {f"adds_{name}": heading for name, heading in HEADINGS.items() if table[f"adds_{name}"].count()}
    columns = {"pair": "pair", "meaning": "what it says", "every_interval": "all of it (95 % interval)", **known}
    hints = {f"adds_{name}": f"adds_{name}_said" for name in HEADINGS}
    numbers = listing(shown, columns, "Nats that attention adds", ADDED, "added", group, hints=hints)
    columns = {"pair": "pair", "attention": "attention", **HEADINGS, "difference": "difference", "interval": "95 % interval"}
    return [
        numbers,
        listing(shown, {**columns, "instead": "attention is"}, "Attention instead of what needs none", INSTEAD, "added", group),
    ]


def said_of(name: str) -> pl.Expr:
    """What is said of how much attention adds to one baseline, when that is pointed at."""
    ends = [pl.col(f"adds_{name}_{end}").cast(pl.Float64).map_elements("{:+.3f}".format, pl.String) for end in ("low", "high")]
    return pl.format("95 % interval {} to {}", *ends).alias(f"adds_{name}_said")


def counted(table: pl.DataFrame) -> str:
    """How many pairs of each verdict there are, the clearest one, and what attention is instead of what needs none."""
    adding = table.filter(verdict=ADDS)
    alone = {word: table.filter(instead=word).height for word in (BETTER, ALIKE, WORSE)}
    text = (
        f"Of {plural(table.height, 'pair')} of classes, attention adds something to all that needs no attention in {adding.height}; of "
        "pairs to which it adds nothing, one in twenty at most would be counted by chance."
    )
    if adding.height:
        row = adding.sort(f"adds_{EVERY}", descending=True).row(0, named=True)
        text += f" The largest: {row['pair']} ({row['setting']}): {row['meaning']}."
    return (
        f"{text} Instead of the best that needs no attention it is better in {alone[BETTER]}, worse in {alone[WORSE]}, and not seen to "
        f"differ in {alone[ALIKE]}."
    )


def hard(report: Report) -> Section:
    """Hard negatives beside ordinary ones."""
    title, table = "Hard negatives", report.tables["negatives"]
    if not table.height:
        way = ("-m", "select.non_memorized=any,matched", "select.decoded=continuation,suffix")
        return Section("negatives", title, ["No setting was run with harder negatives than usual."], fill=way)
    caption = (
        "The same setting with other sequences that are not memorized. Drawn: from any, or matched (in pairs with sequences of the "
        "memorized class that has most duplicates, equally frequent in the training corpus). Read with: the model's own words, or the "
        "true suffix. Min-F1 over all classes, F1 of the negatives, how many of them are called what they are, and what the others are "
        "called most often."
    )
    columns = {"setting": "setting", "drawn": "drawn", "read": "read with", "train": "train", "runs": "runs", "min_f1": "min-F1"}
    columns |= {"interval": "95 % interval", "f1": "F1 of negatives", "kept": "called so", "mistake": "mistaken for"}
    mistake = pl.format("{} ({} %)", "called", pl.col("mistaken").round(0).cast(pl.Int64))
    numbers = listing(table.with_columns(interval(), mistake=mistake), columns, title, caption, "negatives")
    said = changes(table)
    return Section("negatives", title, said, [numbers], said)


def changes(table: pl.DataFrame) -> list[str]:
    """A sentence per hard variant of each setting, against the ordinary one if that was run."""
    text = []
    for _, group in table.group_by("group", maintain_order=True):
        usual, *others = group.iter_rows(named=True)
        if (usual["drawn"], usual["read"]) != ("any", "own words"):
            text.append(f"{usual['setting']}: the ordinary run is missing, so that nothing can be said of what hard negatives change.")
            continue
        for row in others:
            names = [f"{row['negative']} matched in duplicates"] * (row["drawn"] == "matched")
            names += [f"{row['negative']} read with its true suffix"] * (row["read"] == "true suffix")
            change = row["min_f1"] - usual["min_f1"]
            apart = row["low"] > usual["high"] or row["high"] < usual["low"]
            doubt = "" if apart else ", within the intervals of both"
            text.append(
                f"{row['setting']}, {' and '.join(names)}: the min-F1 is {row['min_f1']:.1f} instead of {usual['min_f1']:.1f} "
                f"({change:+.1f} points{doubt}); {row['mistaken']:.0f} % of these negatives are called {row['called']}, ordinarily "
                f"{usual['mistaken']:.0f} % are called {usual['called']}."
            )
    return text


def curve(report: Report) -> Section:
    """How scores grow with train samples."""
    title, table = "More samples", report.tables["learning"]
    if not table.height:
        way = ("-m", "select.train_per_class=50,100,200,400")
        return Section("learning", title, ["No setting was run with several numbers of samples per class."], fill=way)
    caption = (
        "Min-F1 over the train samples per class: of the CNNs, with the 95 % interval, of a linear probe on attention, "
        "of the model's confidence, and of all that needs no attention. A curve that still rises says that more samples would help."
    )
    parts: list[Part] = []
    for index, (_, points) in enumerate(table.group_by("setting", maintain_order=True)):
        if index < MATRICES:
            name = f"learning-{index + 1}" if index else "learning"
            parts.append(report.drawn(name, partial(draw_learning, points), f"More samples: {points['setting'][0]}", caption))
    columns = {"setting": "setting", "train": "train", "eval": "eval", "runs": "runs", "min_f1": "min-F1", "interval": "95 % interval"}
    columns |= {name: REFERENCES[name].heading for name in ("probe", "confidence")} | {"together": REFERENCES["together"].curve}
    numbers = listing(table.with_columns(interval()), columns, title, "Samples per class, and min-F1 in percent.", "learning")
    return Section("learning", title, [], [*parts, Fold("The numbers", [numbers])])
