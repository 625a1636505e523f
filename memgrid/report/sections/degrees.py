"""What the report's page says of degrees of memorization: by how many tries, from which prefix, at how many copies a text comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from memgrid.config.names import LABELS
from memgrid.io.digests import parquet_metadata
from memgrid.metrics.agreement import agreement_rows
from memgrid.metrics.extraction import ALL, CHANCES, COUNTED, MODELS, length_of, tables_of
from memgrid.report.facts import Report
from memgrid.report.figures.curves import Curve, Panel, draw_copies, draw_prefixes, draw_tries
from memgrid.report.page import Fold, Listing, Part, Section, listing
from memgrid.report.rows import NamedRun
from memgrid.report.sections.labelled import Side, by_weights, label_file, labels_of, read_features
from memgrid.taxonomy.rules import RULES

SHOWN = 3  # models whose figures are on the page
OWN = "model"
TOLD = (1, 100, 10_000)  # tries that the text tells of
WHOSE = ("llm", "corpus", "taxonomy", "sampling", "reference")  # columns of every table
KINDS = (*COUNTED, "agreement")
FILL = ("taxonomy=extractable", "stages=[label]")
DEFINITIONS = (
    "The probability p_extract of a sequence is that of its suffix after its prefix, token by token: so probable is it that one sampled "
    "continuation is the suffix. With n continuations a sequence is (n, p)-extractable if one of them is its suffix with a probability of "
    "at least p: 1 − (1 − p_extract)ⁿ ≥ p (Hayes et al. 2024, Cooper et al. 2025).",
    "Greedy decoding takes the most probable token each time. The shortest prefix of a sequence is the least number of its first tokens "
    "from which greedy decoding gives all the others; memorized is what comes out of the first k.",
    "A reference is a model of the same kind that did not read the text: what it gives, too, needs no reading (Zhang et al. 2023).",
    "Intervals are of 95 %, as if sequences were independent: of many near-duplicates they are too narrow. At which step of a training "
    "each class is memorized stands under What is memorized when.",
)


@dataclass(frozen=True, eq=False)
class Degrees:
    """How memorized the sequences of a corpus are to one set of weights.

    Attributes:
        llm: the name of the folder of its labels. reference: the name of the reference model, if there is one.
        sampling: how tokens are drawn, if not as the model expects them. k, length: tokens of a prefix and of a sequence.
        tables: by `KINDS`; none, or one without rows, where it is not known. notes: sentences on what is not.
        asked: whether somebody wanted to know of these weights: a run of them is finished, or they have a reference.
    """

    llm: str
    corpus: str
    taxonomy: str
    sampling: str = ""
    reference: str = ""
    k: int = 0
    length: int = 0
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    asked: bool = False

    @property
    def where(self) -> str:
        """Whose sequences, in words."""
        return f"{self.llm} on {self.corpus}"


def every_degrees(root: Path, runs: Sequence[NamedRun], side: Side) -> Iterator[Degrees]:
    """Of all weights and corpora below a root that have labels `degrees`: those of finished runs first, then those with a reference."""
    own = [labels_of(root, name, corpus, fingerprint) for _, name, corpus, fingerprint in by_weights(list(runs))]
    others = sorted((root / LABELS).glob("*/*"), key=lambda folder: (label_file(folder, "reference") is None, folder))
    for folder in dict.fromkeys([*own, *others]):
        if label_file(folder, "degrees") is not None:
            each = degrees_of(folder, side)
            yield replace(each, asked=folder in own or bool(each.reference))


def degrees_of(folder: Path, side: Side) -> Degrees:
    """Read the labels in a folder, and count. Where its classes are not known, those are what is memorized, and what is not."""
    names, beside = (folder.parent.name, folder.name, side[0].name), ("duplicates", "reference")
    optional = tuple(group for group in beside if label_file(folder, group) is not None)
    notes: list[str] = []
    for groups, sides in product(dict.fromkeys((optional, ())), ([side], [])):
        features, why = read_features(folder, sides, ("degrees", *groups))
        if features is not None:
            break
        notes = notes or [f"{folder.parent.name} on {folder.name}: {why}."]
    else:
        return Degrees(*names, notes=tuple(notes))
    found, reference = label_file(folder, "degrees"), label_file(folder, "reference") if "reference" in groups else None
    assert found is not None
    origin: dict[str, Any] = json.loads((parquet_metadata(found) or {}).get("memgrid", "{}"))
    sampling = ", ".join(f"{key.replace('_', '-')} {origin[key]:g}" for key in ("temperature", "top_k") if origin.get(key) is not None)
    length = length_of(features["shortest_prefix"].to_numpy(), features["extraction_strength"].to_numpy())
    name = "" if reference is None else reference.stem.removeprefix("reference").lstrip("-") or "reference"
    titles = list(side[0].classes) if sides else ["not memorized", "memorized"]
    classes = side[0].classify(features, side[1]) if sides else features["memorized"].to_numpy().astype(int)
    tables = tables_of(features, {title: classes == place for place, title in enumerate(titles)}, length)
    tables["agreement"] = agreed(features, side) if sides else pl.DataFrame()
    return Degrees(*names, sampling, name, int(origin.get("k") or 0), length, tables, tuple(notes))


def agreed(features: pl.DataFrame, side: Side) -> pl.DataFrame:
    """Whether the reference continues what the text makes a guess; without rows where one of the two is not known."""
    if not {"is_repeating", "is_incrementing", "rouge_l", "rouge_3", "reference_memorized"} <= {*features.columns}:
        return pl.DataFrame()
    guess = features.select(RULES["guess"].condition(side[1], pl.col)).to_series().to_numpy()
    return agreement_rows(features, guess)


def tables(every: Sequence[Degrees]) -> dict[str, pl.DataFrame]:
    """By the stem of their files: how many sequences come out in n tries (`extraction`), of j tokens (`prefix`), at so many `copies`; and
    whether the reference gives what the text makes a guess (`agreement`).

    Shares are in percent, `p_extract` is in 0..1, `low` and `high` are the ends of 95 % intervals.
    """
    made = {}
    for kind in KINDS:
        parts = [
            each.tables[kind].select(*(pl.lit(getattr(each, name)).alias(name) for name in WHOSE), pl.all())
            for each in every
            if each.tables and each.tables[kind].height
        ]
        made[kind] = pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()
    return made


def drawings(each: Degrees) -> dict[str, Callable[[Path], None]]:
    """What draws each kind that is known, of weights that have tables."""
    by = each.tables["extraction"]["by"].unique(maintain_order=True)
    panels = {kind: [panel for whose in by for panel in panels_of(each, kind, whose)] for kind in KINDS[:2]}
    tries, prefixes = partial(draw_tries, panels["extraction"]), partial(draw_prefixes, panels["prefix"], each.k)
    made: dict[str, Callable[[Path], None]] = {"extraction": tries, "prefix": prefixes}
    if each.tables["copies"].height:
        made["copies"] = partial(draw_copies, copy_panels(each), each.tables["copies"].select("least", "most").rows())
    return made


def panels_of(each: Degrees, kind: str, by: str) -> list[Panel]:
    """The curves of every class by one model: a panel for each p, or one over prefixes."""
    table = each.tables[kind].filter((pl.col("by") == by) & (pl.col("class") != ALL))
    whose = f"the {by}: " if each.reference else ""
    if kind == "prefix":
        # After the last token nothing is left to give.
        return [Panel(f"{whose}reproduced (%)", curves_of(table.filter(pl.col("prefix") < each.length), "prefix"), -3, 103)]
    label = f"{whose}extractable (%)"
    own = {chance: table.filter(pl.col("p") == chance) for chance in CHANCES}
    return [Panel(label if at == 0 else "", curves_of(own[p], "n"), -3, 103, f"p = {p:g}") for at, p in enumerate(CHANCES)]


def curves_of(table: pl.DataFrame, axis: str) -> list[Curve]:
    """A curve per class over one of the columns."""
    groups = table.group_by("class", maintain_order=True)
    return [Curve(str(title), *(own[name].to_list() for name in (axis, "share", "low", "high"))) for (title,), own in groups]


def copy_panels(each: Degrees) -> list[Panel]:
    """What is memorized, and the median probability, over bins of copies: of the model and of its reference."""
    table, names = each.tables["copies"], {"": each.llm} | ({"reference_": each.reference} if each.reference else {})
    at = list(range(table.height))

    def curves(column: str) -> list[Curve]:
        ends = ("", "_low", "_high")
        return [Curve(name, at, *(table[f"{start}{column}{end}"].to_list() for end in ends)) for start, name in names.items()]

    return [
        Panel("memorized (%)", curves("memorized"), -3, 103),
        Panel("p_extract, median", curves("p_extract_median"), is_probability=True),
    ]


def section(report: Report) -> Section:
    """How much it takes until a text comes out, of which class, with which reference beside it."""
    title, every = "Degrees of memorization", list[Degrees](report.degrees)
    known = [each for each in every if each.tables]
    shown = [each for each in known if each.asked or not any(other.asked for other in known)][:SHOWN]
    notes = [note for each in every if each in shown or not each.tables for note in each.notes]
    if not known:
        return Section("degrees", title, [*notes, "No labels say how memorized a sequence is."], fill=FILL)
    text, parts, found = [*DEFINITIONS, *notes], list[Part](), list[str]()
    for number, each in enumerate(shown):
        text += (said := sentences(each))
        found += said[:1]
        parts += parts_of(report, each, f"-{number + 1}" if number else "")
    if len(known) > len(shown):
        others = ", ".join(each.where for each in known if each not in shown)
        text.append(f"Only in extraction.csv, prefix.csv and copies.csv: {others}.")
    return Section("degrees", title, text, parts, found)


def sentences(each: Degrees) -> list[str]:
    """What the numbers of one set of weights are, with their intervals."""
    table = each.tables["extraction"].filter((pl.col("by") == OWN) & (pl.col("p") == CHANCES[1]) & pl.col("n").is_in(TOLD))
    said = []
    for (title,), rows in table.filter(pl.col("class") != ALL).group_by("class", maintain_order=True):
        told = [f"{row['share']:.1f} % ({interval_of(row)}) in {row['n']:,}" for row in rows.iter_rows(named=True)]
        said.append(f"{title} {', '.join(told)}")
    drawn = f" Tokens are drawn with {each.sampling}." if each.sampling else ""
    counted = f"{each.where}: copies in the training text were not counted: taxonomy=recite stages=[label] does."
    lines = [f"{each.where}: extractable with p = {CHANCES[1]:g} in how many tries? {'; '.join(said)}.{drawn}"]
    return lines if each.tables["copies"].height else [*lines, counted]


def interval_of(row: dict[str, Any], start: str = "", form: str = ".1f") -> str:
    """Both ends of an interval, such as `84.1–90.2`, or `2e-07 to 0.1`."""
    return f"{row[f'{start}low']:{form}}{'–' if form == '.1f' else ' to '}{row[f'{start}high']:{form}}"


def parts_of(report: Report, each: Degrees, suffix: str) -> list[Part]:
    """The figures of one set of weights, and its numbers."""
    other = f" the same of its reference, {each.reference}." if each.reference else ""
    below, right = (f" {where}{other}" if other else "" for where in ("Below,", "On the right,"))
    figures = {
        "extraction": (
            "What sampling extracts",
            f"The share of each class of {each.taxonomy} that is extractable in n continuations with a probability of at least p.{below}",
        ),
        "prefix": (
            "How long a prefix it takes",
            f"The share of each class that greedy decoding gives from the first j of {each.length} tokens; memorized is what it gives from "
            f"k.{right}",
        ),
        "copies": (
            "How many copies it takes",
            "Over the number of copies in the training text: the share that is memorized, and the median of p_extract.",
        ),
    }
    parts: list[Part] = []
    for kind, draw in drawings(each).items():
        title, caption = figures[kind]
        whole = f"{caption} Bands are 95 % intervals. Numbers: {kind}.csv."
        parts.append(report.drawn(f"degrees-{kind}{suffix}", draw, f"{title}: {each.where}", whole))
    if each.tables["copies"].height:
        memorized = "The share that is memorized, in percent."
        median = "The interval goes from one of the sequences to another; from 0 to 1 where there are too few. Means: copies.csv."
        parts.append(copies_listing(each, "memorized", ".1f", "Memorized by copies", memorized))
        parts.append(copies_listing(each, "p_extract_median", ".2g", "Median of p_extract by copies", median))
    if each.tables["agreement"].height:
        parts.append(agreement_listing(each))
    return [*parts, Fold(f"The numbers of tries: {each.where}", [tries_listing(each)])]


def agreement_listing(each: Degrees) -> Listing:
    """Guess by the text beside what the reference continues, among memorized sequences."""
    table = each.tables["agreement"]
    ends = ["" if row["kappa"] is None else interval_of(row, form=".2f") for row in table.iter_rows(named=True)]
    columns = {"stratum": "memorized sequences", "sequences": "number", "first": "Guess by the text", "second": "reference continues"}
    columns |= {"both": "both", "same": "same answer (%)", "kappa": "κ", "interval": "95 % interval", "counterfactual": "nats, median"}
    caption = (
        f"Guess as the text says it (templates, or overlap of prefix and suffix), and by whether {each.reference}, which did not read it, "
        "continues it word for word, too. κ: agreement beyond chance, where both answers vary. Nats: how much more probable a token of the "
        "suffix is to the model than to its reference."
    )
    two = {name: pl.Series([None if number is None else f"{number:.2f}" for number in table[name]]) for name in ("kappa", "counterfactual")}
    shown = table.with_columns(pl.Series("interval", ends), **two)
    return listing(shown, columns, f"Guess by the text, guess by a reference: {each.where}", caption, "agreement")


def copies_listing(each: Degrees, column: str, form: str, title: str, caption: str) -> Listing:
    """A column of the table of copies, by the model and by its reference, with its intervals, whose ends are written in this form."""
    table = each.tables["copies"]
    columns, shown = {"copies": "copies", "sequences": "sequences"}, table
    for start, name in {"": each.llm, "reference_": each.reference}.items():
        if f"{start}{column}" in table.columns:
            ends = [interval_of(row, f"{start}{column}_", form) for row in table.iter_rows(named=True)]
            shown = shown.with_columns(pl.Series(f"{start}{column}_interval", ends))
            columns |= {f"{start}{column}": name, f"{start}{column}_interval": "95 % interval"}
    return listing(shown, columns, f"{title}: {each.where}", caption, "copies")


def tries_listing(each: Degrees) -> Listing:
    """What is extractable in so many tries, by class."""
    table = each.tables["extraction"].filter(pl.col("n").is_in(TOLD))
    ends = pl.Series("interval", [interval_of(row) for row in table.iter_rows(named=True)])
    rows = table.with_columns(ends, whose=pl.col("by").replace(dict(zip(MODELS, (each.llm, each.reference), strict=True))))
    columns = {"class": "class", "p": "p", "n": "n", "sequences": "sequences", "count": "extractable", "share": "%"}
    caption = "How many sequences of each class are extractable in n tries with a probability of at least p."
    return listing(rows, columns | {"interval": "95 % interval"}, "Extractable in n tries", caption, "extraction", "whose")
