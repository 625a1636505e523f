"""What a report's page is made of: sections with tables, figures, and parts that are alive."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import polars as pl
from PIL import Image

from memgrid.io.display import markdown_text
from memgrid.io.files import write_text

ROWS = 1000  # of a table on the page; the files have them all
CSS_WIDTH = 0.62  # CSS pixels per pixel of a figure at 200 dpi: its text of 8 pt comes out as 13 px
LONG = {"setting", "detail", "error", "meaning"}  # columns that need room
MONO = {"folder", "run"}
INTERVAL = {"min_f1": "interval"}  # what is said of a score where nothing else is

# How columns of floats are written that are no scores.
DIGITS = {
    **{"rho": "g", "q": "g", "p": "g", "eval_loss": ".3f", "paper_eval_loss": ".4f", "sanity_delta": ".2f", "sanity_decisiveness": ".2f"},
    **{"p_beaten": ".2g", "global_auc": ".2f", "psmi": ".2f"},
}


@dataclass
class Entry:
    """A cell of a table: its text, smaller lines below it, how it looks, and what it says when it is pointed at, such as an interval.

    `command`: what is typed to get the row, which is folded away below the text. `anchor`: the id of the row.
    """

    value: str
    small: Sequence[str] = ()
    style: str = ""
    hint: str = ""
    command: str = ""
    anchor: str = ""


@dataclass
class Column:
    """A column's heading, whether it holds text, and its name, by which a link to a sorted table knows it."""

    heading: str
    text: bool
    name: str = ""


@dataclass
class Group:
    """Rows of a table under a common heading."""

    heading: str
    rows: list[list[Entry]]


@dataclass
class Listing:
    """A table of the page; `file` is the stem of the files that hold it whole, `key` is its id, which `render` gives."""

    title: str
    caption: str
    columns: list[Column]
    groups: list[Group]
    file: str = ""
    more: str = ""
    key: str = ""
    kind: str = "table"

    @property
    def height(self) -> int:
        """How many rows it has."""
        return sum(len(group.rows) for group in self.groups)


@dataclass
class Picture:
    """A figure of the page: its PNG, base64, where its PDF lies beside the page, and its id, which `render` gives."""

    title: str
    caption: str
    alt: str
    png: str
    width: int
    pdf: str = ""
    key: str = ""
    kind: str = "figure"


@dataclass
class Fold:
    """Parts that are folded away under a title until somebody wants them; printing unfolds them."""

    title: str
    parts: Sequence[Listing | Picture | Embedded]
    kind: str = "fold"


@dataclass
class Embedded:
    """A part that is alive: markup, the data that it shows, and the scripts that make it move.

    Attributes:
        key: the id of its element on the page, unlike any other.
        markup: trusted HTML, written into the page as it is: what comes from outside belongs into `data`.
        data: anything that JSON knows; a script finds it by `page.data(document.getElementById(key))`.
        scripts, styles: files below `memgrid/assets/`, each written into the page once, after those of the page itself.
    """

    key: str
    title: str
    caption: str
    markup: str
    data: Any
    scripts: Sequence[str] = ()
    styles: Sequence[str] = ()
    kind: str = "embedded"


Part = Listing | Picture | Fold | Embedded


@dataclass
class Section:
    """A part of the page with a heading; without parts it only says why.

    Attributes:
        found: those sentences of the text, or others, that say what came out: the page begins with them.
        fill: what is typed after `python -m memgrid.run` and a run's own settings to have something to show; nothing if no command does.
    """

    key: str
    title: str
    text: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    fill: Sequence[str] = ()


def picture(png: Path, title: str, caption: str, alt: str, pdf: str = "") -> Picture:
    """A figure for the page from a PNG file, in 256 colours: a third of the bytes, and nobody sees the difference on a screen."""
    content = BytesIO()
    with Image.open(png) as full:
        full.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(content, "PNG")
        return Picture(title, caption, alt, base64.b64encode(content.getvalue()).decode(), round(full.width * CSS_WIDTH), pdf)


def listing(
    table: pl.DataFrame,
    columns: Mapping[str, str],
    title: str,
    caption: str,
    file: str = "",
    group: str | None = None,
    small: Sequence[str] = (),
    best: str | None = None,
    hints: Mapping[str, str] = INTERVAL,
    rows_are: str = "",
) -> Listing:
    """A table for the page, at most `ROWS` rows of it.

    Args:
        columns: which columns of the table, and their headings.
        group: a column; rows are put under its values, in the order in which they come.
        small: columns whose text is put, smaller, under the first column.
        best: a column whose highest value in every group is set in bold.
        hints: columns of which another column says more, such as the interval of a score, when a value is pointed at.
        rows_are: the column that tells rows apart, if links lead to them; the column `command`, if there is one, is shown with each row.
    """
    rows = table.head(ROWS)
    parts = [("", rows)] if group is None else [(str(values[0]), part) for values, part in rows.group_by(group, maintain_order=True)]
    kinds = [Column(heading.replace("-F1", "\u2011F1"), is_text(table.schema[name], name), name) for name, heading in columns.items()]
    groups = [
        Group(heading, [row_cells(row, columns, small, top(part, best), hints, rows_are) for row in part.iter_rows(named=True)])
        for heading, part in parts
    ]
    more = f"The first {rows.height} of {table.height} rows." if rows.height < table.height else ""
    return Listing(title, caption, kinds, groups, file, more)


def is_text(dtype: pl.DataType, name: str) -> bool:
    """Whether a column stands at the left."""
    return dtype in (pl.String, pl.Boolean) and not name.endswith("interval")


def top(part: pl.DataFrame, best: str | None) -> dict[str, Any]:
    """The highest value of the column to be marked; a single row has no best."""
    return {best: part[best].max()} if best and part.height > 1 else {}


def row_cells(
    row: Mapping[str, Any],
    columns: Mapping[str, str],
    small: Sequence[str],
    marked: Mapping[str, Any],
    hints: Mapping[str, str],
    rows_are: str,
) -> list[Entry]:
    """A row's cells."""
    cells = []
    for place, name in enumerate(columns):
        value = row[name]
        styles = ["text"] * (isinstance(value, str | bool) and not name.endswith("interval"))
        styles += ["long"] * (name in LONG) + ["mono"] * (name in MONO)
        styles += ["best"] * (name in marked and value == marked[name])
        lines = [f"{SMALL.get(key, '')}{row[key]}" for key in small if row[key]] if place == 0 else []
        hint = "" if value is None else row.get(hints.get(name, "")) or ""
        hint = f"95 % interval {hint}" if hint and hints is INTERVAL else hint
        cells.append(Entry("–" if value is None else shown(name, value), lines, " ".join(styles), hint))
    if rows_are:
        cells[0].anchor, cells[0].command = f"row-{crc32(str(row[rows_are]).encode()):08x}", row.get("command") or ""
    return cells


SMALL = {"also": "= also: ", "compat": "compat="}


def interval(low: str = "low", high: str = "high") -> pl.Expr:
    """The column `interval`, such as `84.1–90.2`."""
    return pl.format("{}–{}", pl.col(low).round(1).cast(pl.String), pl.col(high).round(1).cast(pl.String)).alias("interval")


def write_markdown(table: pl.DataFrame, path: Path) -> None:
    """The table as Markdown, values as `shown` gives them."""
    write_text(markdown_text(table, shown), path)


def shown(column: str, value: Any) -> str:
    """A table's value for people: scores with one decimal, losses with three (the paper's with four), probabilities with two
    digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = (
            "+.3f"
            if column.startswith("adds_")
            else ".2f"
            if column.startswith("auc")
            else ".2g"
            if "p_extract" in column
            else DIGITS.get(column, ".1f")
        )
        return f"{value:{digits}}"
    return str(value)
