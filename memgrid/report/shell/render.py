"""One self-contained HTML file from the sections of a page: its styles, scripts, figures and tables are all within."""

from __future__ import annotations

import base64
import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from memgrid.io.paths import PACKAGE, VERSION
from memgrid.report.page import Embedded, Fold, Listing, Picture, Section

ASSETS = PACKAGE / "assets"
TEMPLATE = "page/page.html.j2"
# Of every page: the first script runs before anything is painted, the others behind everything.
STYLES, FIRST, SCRIPTS = ("page/page.css",), "page/theme.js", ("page/page.js", "page/tables.js")
FOUND, LACKING = "What came out", "What is not on this page"
MOST_BYTES = 8_000_000  # of a page
FEW_ROWS = 100  # that a table keeps where there is no room for more


@dataclass(frozen=True)
class Lacking:
    """A section that has nothing to show: why, and the command that fills it."""

    key: str
    title: str
    text: Sequence[str]
    command: str


def render(
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    footer: str,
    files: Mapping[str, str] | None = None,
    typed: Callable[[Sequence[str]], str] = lambda words: " ".join(["python -m memgrid.run", *words]),
    most_bytes: int = MOST_BYTES,
) -> str:
    """The page as HTML; every text is escaped, but for the markup of embedded parts.

    It begins with what came out, and ends with a list of the sections that have nothing to show. What there is no room for is left out,
    and the page says so.

    Args:
        files: the content of CSV files by their stems, which the page hands over.
        typed: the command that does what a section's `fill` asks for.
    """
    named(sections)
    packed = {name: pack(content) for name, content in (files or {}).items()}
    context = {
        **{"title": title, "subtitle": subtitle, "footer": footer, "version": VERSION, "asset": asset, "first": FIRST},
        **{"sections": [section for section in sections if section.parts], "found_title": FOUND, "lacking_title": LACKING},
        "points": [(section, section.found) for section in sections if section.found],
        "lacking": [
            Lacking(section.key, section.title, section.text, typed(section.fill) if section.fill else "")
            for section in sections
            if not section.parts
        ],
    }
    return fitted(context, sections, packed, most_bytes)


def fitted(context: Mapping[str, Any], sections: Sequence[Section], files: dict[str, str], most_bytes: int) -> str:
    """The page without what there is no room for, the least needed first."""
    template, left_out = environment().get_template(TEMPLATE), list[str]()
    spare = spared(sections, files)
    while True:
        alive = [part for part in every(sections) if isinstance(part, Embedded)]
        html = template.render(
            **context,
            files=files,
            left_out=f"Left out to keep this page small, and beside it: {', '.join(left_out)}." if left_out else "",
            styles=dict.fromkeys([*STYLES, *(name for part in alive for name in part.styles)]),
            scripts=dict.fromkeys([*SCRIPTS, *(name for part in alive for name in part.scripts)]),
        )
        over, before = len(html.encode()) - most_bytes, len(left_out)
        while over > 0 and (next_one := next(spare, None)) is not None:
            name, freed = next_one
            left_out.append(name)
            over -= freed
        if len(left_out) == before:
            return html


def spared(sections: Sequence[Section], files: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Take one thing after the other from the page: the name of each, and about how many bytes that frees.

    First the largest files, then rows of tables, then figures that are folded away, then the other figures from the last one on.
    """
    for name in sorted(files, key=lambda name: -len(files[name])):
        yield f"{name}.csv", len(files.pop(name))
    parts = list(every(sections))
    for part in sorted((part for part in parts if isinstance(part, Listing)), key=lambda part: -part.height):
        if part.height > FEW_ROWS:
            yield f"rows of {part.title}", cut(part)
    folded = {id(part) for section in sections for fold in section.parts if isinstance(fold, Fold) for part in fold.parts}
    figures = [part for part in parts if isinstance(part, Picture)]
    figures.reverse()
    for figure in sorted(figures, key=lambda figure: id(figure) not in folded):
        freed, figure.png = len(figure.png), ""
        yield figure.title, freed


def cut(part: Listing) -> int:
    """Leave a table its first rows; returns about how many bytes that frees."""
    left, before = FEW_ROWS, part.height
    for group in part.groups:
        group.rows = group.rows[:left]
        left -= len(group.rows)
    part.groups = [group for group in part.groups if group.rows]
    part.more = f"The first {part.height} of {before} rows: there was no room for more."
    return (before - part.height) * len(part.columns) * 40


def named(sections: Sequence[Section]) -> None:
    """Give tables and figures the ids by which links find them: the names of their files, or of their titles."""
    used = Counter(section.key for section in sections)
    for part in every(sections):
        if not isinstance(part, Listing | Picture) or part.key:
            continue
        stem = part.pdf.rpartition("/")[2].removesuffix(".pdf") if isinstance(part, Picture) else part.file
        kind = "figure" if isinstance(part, Picture) else "table"
        key = f"{kind}-{re.sub(r'[^a-z0-9]+', '-', (stem or part.title).lower()).strip('-')}"
        used[key] += 1
        part.key = key if used[key] == 1 else f"{key}-{used[key]}"


def every(sections: Iterable[Section]) -> Iterator[Listing | Picture | Embedded]:
    """The parts of some sections, folded ones too."""
    for section in sections:
        for part in section.parts:
            yield from part.parts if isinstance(part, Fold) else (part,)


def environment() -> jinja2.Environment:
    """What makes pages of the template."""
    made = jinja2.Environment(loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined)
    made.filters["curly"] = curly
    return made


def pack(text: str) -> str:
    """A file as the page holds it: gzip, the same for the same text, in base64."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def asset(name: str) -> str:
    """The text of a style or a script of the package."""
    return (ASSETS / name).read_text(encoding="utf-8").strip()


def curly(text: str) -> str:
    """The text with typographic apostrophes."""
    return re.sub(r"(?<=\w)'(?=s\b)|(?<=s)'(?=[ .,:;]|$)", "’", text)
