"""Tables as CSV and Markdown: numbers are numbers, and text is only text, whoever wrote it."""

import csv
import io

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from memgrid.io.display import csv_text, escaped, markdown_text, visible

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "＝1", "＋1", "－1", "＠1", '=HYPERLINK("http://x","y")']
HARMLESS = ["Recite[5]", "a=b", "x-y", "–", "", "'=1", "δ=50 ρ=0.5", "a\tb"]


def read(text):
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_begins_like_a_formula_has_an_apostrophe_before_it(text):
    table = pl.DataFrame({"setting": [text, None], text: [-1.5, 2.0], "n": [-3, None]})
    head, first, second = read(csv_text(table))
    assert first == [f"'{text}", "-1.5", "-3"]
    assert second == ["", "2.0", ""]
    assert head[0::2] == ["setting", "n"]
    assert head[1] == (f"'{text}" if text.strip()[0] in "=+-@＝＋－＠" else text)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays_as_it_is_and_in_its_cell(text):
    table = pl.DataFrame({"setting": [text], "x": ['a;=b,"c"']})
    assert read(csv_text(table))[1] == [text, 'a;=b,"c"']
    # A spreadsheet that splits at another sign finds no formula behind one.
    assert '"a;=b,""c"""' in csv_text(table)


def cells(markdown):
    """The text of every cell of the table in a Markdown document, and the kinds of everything within cells."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    inline = [token for token in parser.parse(markdown) if token.type == "inline"]
    kinds = {child.type for token in inline for child in token.children}
    return ["".join(child.content for child in token.children) for token in inline], kinds


HOSTILE = [
    "[x](http://evil)",
    "![x](http://evil)",
    "<img src=x onerror=alert(1)>",
    "<https://evil>",
    "a|b",
    "`code`",
    "``a`b``",
    "**bold** __bold__ _it_ *it* ___x___",
    "~~gone~~",
    "\\[x\\](y)",
    "a\\",
    "&lt;b&gt; & &#x3c;",
    "[x]: http://evil",
    "Recite[5]",
    "memgrid_runs/a_b/__init__",
    "$\\alpha$",
    "www.evil.com https://evil",
    "# head",
    "- item",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_text_as_it_stands(text):
    table = pl.DataFrame({"setting": [text], text: [1.0]})
    shown, kinds = cells(markdown_text(table, lambda _, value: str(value)))
    assert shown == ["setting", text, text, "1.0"]
    assert kinds <= {"text", "text_special"}


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab12 _*`[]()<>|\\&;#~!$:/.-\n\r\t=") | st.characters(categories=["L", "P", "S"]), max_size=12))
def test_whatever_the_text_it_is_one_cell_of_text(text):
    shown, kinds = cells(markdown_text(pl.DataFrame({"x": [f"a{text}b"]}), lambda _, value: value))
    assert shown == ["x", f"a{text}b".replace("\n", " ").replace("\r", " ").replace("\t", " ")]
    assert kinds <= {"text", "text_special"}


def test_addresses_are_no_links_where_bare_ones_would_be():
    assert escaped("https://x www.x.org ftp://y") == "https\\://x www\\.x.org ftp\\://y"
    assert escaped("3.5 rho0.5-both a_b") == "3.5 rho0.5-both a_b"


def test_no_text_moves_the_cursor():
    assert visible("\u202eexe.txt\u2066") == "\\u202eexe.txt\\u2066"  # letters that a terminal would show in another order
    assert visible("a\x1b[31mb\r\n\x9b\u2028é") == "a\\x1b[31mb\\r\\n\\x9b\\u2028é"
