"""What a ranking says in sentences: the best setting, doubts about networks, and where null taxonomies land."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from memgrid.io.display import plural
from memgrid.report.facts import NoiseFloor, Report
from memgrid.results.findings import verdicts

NAMED = 5  # of the rows that a sentence is about
DOUBTS = {
    "constant": "with a network that gives the same answer to every sample, so that their score says nothing of the classes",
    "undertrained": "with a network that learned less of its training samples than a linear probe tells of others (use more cnn.epochs)",
}


def doubt_text(table: pl.DataFrame) -> list[str]:
    """Which rows of a ranking have scores that say less than they seem to; nothing where none has."""
    text = []
    for word, why in DOUBTS.items():
        rows = table.filter(pl.col("doubt").str.contains(word))
        if rows.height:
            names = "; ".join(rows["label"].head(NAMED)) + (f" and {rows.height - NAMED} more" if rows.height > NAMED else "")
            text.append(f"{plural(rows.height, 'setting')} {'is' if rows.height == 1 else 'are'} {word}, {why}: {names}.")
    return text


def null_text(table: pl.DataFrame) -> list[str]:
    """Where the null taxonomies land; nothing where none was run."""
    table = table.with_row_index("place", offset=1)
    rows = table.filter(family="null")
    if not rows.height:
        return []
    landed = "; ".join(f"{row['label']}: {row['min_f1']:.1f}, place {row['place']}" for row in rows.iter_rows(named=True))
    return [
        "Null taxonomies split what is memorized for no reason, by a coin or at the median of its duplicates, and land here of "
        f"{plural(table.height, 'setting')}: {landed}. What stands below a coin tells nothing of how text is memorized."
    ]


def best_text(table: pl.DataFrame, noises: Mapping[str, NoiseFloor]) -> list[str]:
    """The first setting of a ranking with its interval, and whether the next one is further away than trainings of one partition are."""
    first, *others = table.head(2).iter_rows(named=True)
    start = f"Of {table.height} settings the best is {in_short(first)}" if others else in_short(first)
    pair = "" if first["worst_pair"] is None else f"; its worst pair of classes is told apart in {first['worst_pair']:.1f} % (a guess: 50)"
    text = f"{start}: min-F1 {first['min_f1']:.1f} % (95 % interval {first['low']:.1f} to {first['high']:.1f}){pair}."
    for second in others:
        apart, noise = first["min_f1"] - second["min_f1"], noises.get(first["compat"])
        far = (
            "how much trainings of one partition differ is not known"
            if noise is None
            else f"{'more' if apart > noise.most else 'no more'} than the {noise.most:.1f} by which trainings of one partition differ in "
            "19 of 20 pairs"
        )
        text += f" The next is {in_short(second)} with {second['min_f1']:.1f}: {apart:.1f} points less, {far}."
    return [text]


def in_short(row: Mapping[str, Any]) -> str:
    """What a row is called in a sentence: of many keys in which it differs only the first one is named."""
    variant = row["variant"].split(", ")
    if len(variant) < 3:
        return str(row["label"])
    return f"{row['label'].removesuffix(row['variant'])}{variant[0]} (and {len(variant) - 1} keys more)"


def verdict_text(report: Report) -> list[str]:
    """What a run of the best setting says: which classes are told apart, whether by chance, and attention against confidence."""
    run = report.best
    return [f"{run.setting} on {run.llm}, seed {run.settings['seed']}: {' '.join(verdicts(run.result))}"]
