"""The font in the PDFs of tests: the same part of it for all, which is cut out once.

A PDF holds those glyphs of a font that it shows, and to cut them out takes three times as long as all else that is in it. Here a few more
glyphs than any figure shows are cut out when the first is drawn, and every PDF of the process, and of those forked from it, holds these.
"""

import inspect
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import SimpleNamespace

from matplotlib.backends import _backend_pdf_ps as cutter
from matplotlib.font_manager import findfont, get_font  # noqa: F401

USUAL = frozenset([*range(0x20, 0x7F), *range(0xA1, 0x100), *map(ord, "Δδρ–—…⟶→≤≥≠⁰¹²³⁴⁵⁶⁷⁸⁹⁻−□␣↵‘’“”·")])
cut_out = cutter.get_glyphs_subset


@cache
def usual(font) -> frozenset[int]:
    """The glyphs of the usual characters, as far as a font has them."""
    known = get_font(font).get_charmap()
    return frozenset(known[code] for code in USUAL & known.keys())


@cache
def part(font, glyphs: frozenset[int]) -> SimpleNamespace:
    """These glyphs of a font, as matplotlib expects them: with the bytes of a file, and where each glyph is in it."""
    with cut_out(font, set(glyphs)) as cut:
        content = cutter.font_as_file(cut.font).getvalue()
        return SimpleNamespace(font=SimpleNamespace(save=lambda file, **_: file.write(content)), glyph_index_map=cut.glyph_index_map)


def with_the_usual(font, glyphs) -> AbstractContextManager[SimpleNamespace]:
    return nullcontext(part(font, usual(font).union(glyphs)))


def cut_once() -> None:
    """From now on; with another version of matplotlib, which has another such function, everything stays as it is."""
    if list(inspect.signature(cut_out).parameters) == ["fontfile", "glyphs"]:
        cutter.get_glyphs_subset = with_the_usual
