"""The card of an export, its README.md: what the Hugging Face hub and its library read, and what people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from memgrid.io.display import plural
from memgrid.io.paths import VERSION
from memgrid.pipeline.face.export.columns import TABLES, meaning
from memgrid.pipeline.face.export.tables import command_of, name_of
from memgrid.pipeline.face.view import RunData

CARD = "README.md"
SHOWN = 20  # runs and files of labels that the card names one by one
SIZES = (("K", 10**3), ("M", 10**6), ("B", 10**9), ("T", 10**12))
PAPER = "https://arxiv.org/abs/2508.02573"
OF_TEXTS = (
    "**Text of others.** The table `texts` holds tokens and text of the corpora {corpora}. They belong to those who wrote them, under the "
    "licence of the corpus, which the licence of this card says nothing of; what a model was trained on can be personal data. "
    "Look at both before you pass it on."
)
NO_TEXTS = "No token and no text of a sequence is in here: `sequence_id` finds it in its corpus ({corpora})."


@dataclass
class Written:
    """A table that was written: its columns, and by split how many files and rows it has."""

    schema: pl.Schema
    files: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What a card tells.

    Attributes:
        corpora: their names. tables: by name. format: of the files, parquet or csv. text: whether there are texts.
        licence: as the hub calls it. labels: the digest of each file of labels, by name.
    """

    runs: Sequence[RunData]
    corpora: Sequence[str]
    tables: Mapping[str, Written]
    format: str
    text: bool
    licence: str
    labels: Mapping[str, str]


def card(facts: Facts) -> str:
    """The content of README.md."""
    import yaml

    front = yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True, width=10**6)
    parts = [introduction(facts), *(section(name, table) for name, table in facts.tables.items()), how_made(facts)]
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def front_matter(facts: Facts) -> dict[str, Any]:
    """What the hub and its library read: licence, size, and the files and columns of every table."""
    configs = []
    for name, table in facts.tables.items():
        files = [{"split": split, "path": f"{name}/{split}-*.{facts.format}"} for split in table.rows]
        configs.append({"config_name": name, **({"default": True} if name == "runs" else {}), "data_files": files})
    features = [
        {"config_name": name, "features": [{"name": column, **feature(kind)} for column, kind in table.schema.items()]}
        for name, table in facts.tables.items()
    ]
    total = sum(sum(table.rows.values()) for table in facts.tables.values())
    return {
        "pretty_name": title(facts),
        "license": facts.licence,
        "size_categories": [size(total)],
        "tags": ["memgrid", "memorization", "interpretability"],
        "configs": configs,
        "dataset_info": features,
    }


def feature(kind: Any) -> dict[str, Any]:
    """A column's type as the library `datasets` names it."""
    if isinstance(kind, pl.List):
        inner = feature(kind.inner)
        return {"list": inner.get("dtype", inner)}
    return {"dtype": {"boolean": "bool"}.get(name := str(kind).lower(), name)}


def size(rows: int) -> str:
    """A number of rows as the hub sorts data sets by it, such as `10K<n<100K`."""
    steps = ["n<1K"]
    for unit, number in SIZES:
        bounds = [f"{ten}{unit}" for ten in (1, 10, 100)]
        following = next((f"1{bigger}" for bigger, more in SIZES if more > number), None)
        steps += [f"{low}<n<{high}" for low, high in zip(bounds, [*bounds[1:], following], strict=True) if high]
    return steps[min(len(steps) - 1, max(0, len(str(rows)) - 3))]


def title(facts: Facts) -> str:
    """What it is, in a line."""
    return f"memgrid: {plural(len(facts.runs), 'run')}"


def introduction(facts: Facts) -> str:
    """What it is, how it is read, and whether text is in it."""
    corpora = ", ".join(f"`{name}`" for name in facts.corpora)
    read = 'datasets.load_dataset("<this folder, or its name on the hub>", "predictions")'
    lines = [
        f"# {title(facts)}",
        f"Results of memgrid, by the method of [this paper]({PAPER}): it asks how a language model reproduces its training text. Sequences "
        "are divided into classes by a taxonomy, and small networks tell the classes apart from the model's attention alone.",
        f"    {read}",
        "The names of the tables are those below; a table that is not divided has the one split `train`, as is usual on the hub.",
        (OF_TEXTS if facts.text else NO_TEXTS).format(corpora=corpora),
    ]
    if facts.format == "csv":
        lines.append("Text that a spreadsheet would take for a formula has an apostrophe before it.")
    return "\n\n".join(lines)


def section(name: str, table: Written) -> str:
    """A table: what it holds, how much, and what its columns mean."""
    rows = ", ".join(f"{plural(count, 'row')} in `{split}`" for split, count in table.rows.items())
    columns = "\n".join(f"| `{column}` | {meaning(name, column)} |" for column in table.schema)
    return f"## {name}\n\n{TABLES[name]} {rows[0].upper() + rows[1:]}.\n\n| column | is |\n|---|---|\n{columns}"


def how_made(facts: Facts) -> str:
    """Which version made it, by which commands and settings, from which labels."""
    shown = facts.runs[:SHOWN]
    lines = [f"## How it was made\n\nExported by memgrid {VERSION}. The runs were made by these commands:"]
    lines.append("\n".join(f"    {command_of(run)}   # {name_of(run)}" for run in shown))
    if len(shown) < len(facts.runs):
        lines.append(f"and {len(facts.runs) - len(shown):,} more, each in the column `command` of `runs`.")
    lines.append("All settings and results are in the columns `settings` and `metrics` of `runs`, as JSON.")
    if facts.labels:
        digests = "\n".join(f"    {digest}  {name}" for name, digest in list(facts.labels.items())[:SHOWN])
        more = f"\n\nand {len(facts.labels) - SHOWN:,} more." if len(facts.labels) > SHOWN else ""
        lines.append(f"Labels are of these files, each with its digest:\n\n{digests}{more}")
    return "\n\n".join(lines)
