"""No sentence of memgrid takes more than three lines of a hundred characters in a terminal, names and numbers in it counted as ten."""

import ast
from pathlib import Path

import pytest

import memgrid

PACKAGE = Path(memgrid.__file__).parent
TELLS = {"UserError", "StoreError", "BusyError", "DamagedError", "say", "warn", "exit", "print"}
LONGEST, A_VALUE = 300, 10


def sentences(source):
    """Line and length of every text that is raised or told, each branch of a choice for itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in TELLS:
            for told in node.args:
                yield node.lineno, length(told)


def length(node):
    """Characters of an expression that makes a text."""
    if isinstance(node, ast.Constant):
        return len(node.value) if isinstance(node.value, str) else 0
    if isinstance(node, ast.JoinedStr):
        return sum(length(part) if isinstance(part, ast.Constant) else A_VALUE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return length(node.left) + length(node.right)
    if isinstance(node, ast.IfExp):
        return max(length(node.body), length(node.orelse))
    return A_VALUE


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_sentence_fits_into_three_lines(path):
    assert [where for where in sentences(path.read_text(encoding="utf-8")) if where[1] > LONGEST] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"raise UserError('{'a' * 301}')", 301),
        (f"raise UserError(f'{'a' * 280}{{x}}' + f'{{y}}{{z}}')", 310),
        (f"print(('{'a' * 100}' if x else '{'b' * 301}'), 'c')", 301),
        ("log('a')", None),
    ],
)
def test_a_long_one_is_found(source, found):
    assert max((size for _, size in sentences(source)), default=None) == found
