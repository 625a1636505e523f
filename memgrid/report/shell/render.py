"""One self-contained HTML file from the sections of a page: its styles, scripts, figures and data are all within."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import jinja2

from memgrid.io.paths import PACKAGE, VERSION
from memgrid.report.page import Embedded, Fold, Part, Section

ASSETS = PACKAGE / "assets"
TEMPLATE = "page/page.html.j2"
STYLES, SCRIPTS = ("page/page.css",), ("page/page.js",)  # of every page


def render(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> str:
    """The page as HTML; every text is escaped, but for the markup of embedded parts."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["curly"] = curly
    alive = [part for section in sections for part in embedded(section.parts)]
    return environment.get_template(TEMPLATE).render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        footer=footer,
        version=VERSION,
        styles=dict.fromkeys([*STYLES, *(name for part in alive for name in part.styles)]),
        scripts=dict.fromkeys([*SCRIPTS, *(name for part in alive for name in part.scripts)]),
        asset=asset,
    )


def embedded(parts: Iterable[Part]) -> list[Embedded]:
    """The embedded parts among some, folded ones too."""
    found: list[Embedded] = []
    for part in parts:
        found += embedded(part.parts) if isinstance(part, Fold) else [part] if isinstance(part, Embedded) else []
    return found


def asset(name: str) -> str:
    """The text of a style or a script of the package."""
    return (ASSETS / name).read_text(encoding="utf-8").strip()


def curly(text: str) -> str:
    """The text with typographic apostrophes."""
    return re.sub(r"(?<=\w)'(?=s\b)|(?<=s)'(?=[ .,:;]|$)", "’", text)
