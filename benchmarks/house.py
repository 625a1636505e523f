"""`python -m benchmarks.house [CHECKOUT]`: count the house, say which limits hold, exit 1 where one is broken.

Counted from the files of a checkout's package and the imports between its modules (grimp, as import-linter has them: those within functions
and those for types alone are imports too). A module is a .py file; a name at the top is a package or a module right below `memgrid`.
"""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grimp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PACKAGE = "memgrid"
NOT_COUNTED = {"__init__", "__main__"}  # among the modules of a folder and the names at the top: every package may have these
MOST_NAMES, MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES = 21, 8, 300, 40
MOST_TOPS = 112  # pairs of names at the top; the flat house of 73 names had 294
Arrow = tuple[str, str]  # importer, imported


@dataclass(frozen=True)
class Count:
    """One number of the house, where it is reached, and the most that it may be; None: it has no limit."""

    name: str
    value: int | None
    most: int | None = None
    where: str = ""

    @property
    def holds(self) -> bool:
        """Whether the limit holds; what cannot be counted breaks none."""
        return self.most is None or self.value is None or self.value <= self.most


def arrows(checkout: Path) -> set[Arrow]:
    """Pairs of modules of which the first imports the second, however often."""
    loaded = sys.modules.pop(PACKAGE, None)  # the package of another checkout would be found instead
    sys.path.insert(0, str(checkout.resolve()))
    importlib.invalidate_caches()
    try:
        graph = grimp.build_graph(PACKAGE, cache_dir=None)
    finally:
        sys.path.pop(0)
        if loaded is not None:
            sys.modules[PACKAGE] = loaded
    return {(importer, imported) for importer in graph.modules for imported in graph.find_modules_directly_imported_by(importer)}


def top(module: str) -> str:
    """The name at the top that a module lies below: `store` for `memgrid.store.shard`; the package itself for its own `__init__`."""
    return [*module.split("."), PACKAGE][1]


def between_tops(pairs: Iterable[Arrow]) -> set[Arrow]:
    """The arrows that lead from one name at the top to another; those from and to the package itself count for none."""
    return {pair for pair in pairs if len({top(module) for module in pair}) == 2 and PACKAGE not in pair}


def layers(checkout: Path) -> list[set[str]]:
    """The layers of import-linter's contract in pyproject.toml, the lowest first; empty without a contract."""
    contracts = tomllib.loads((checkout / "pyproject.toml").read_text()).get("tool", {}).get("importlinter", {}).get("contracts", [])
    stated = next((contract["layers"] for contract in contracts if contract["type"] == "layers"), [])
    return [{name.strip() for name in layer.split("|")} for layer in reversed(stated)]


def back_arrows(pairs: Iterable[Arrow], floors: list[set[str]]) -> list[Arrow]:
    """The arrows that do not lead to a lower layer, sorted; names that are in no layer have no arrows to speak of."""
    floor = {name: number for number, names in enumerate(floors) for name in names}
    placed = [pair for pair in between_tops(pairs) if all(top(module) in floor for module in pair)]
    return sorted(pair for pair in placed if floor[top(pair[1])] >= floor[top(pair[0])])


def circles(pairs: Iterable[Arrow]) -> list[list[str]]:
    """Groups of names that all reach each other, largest first."""
    pairs = sorted({pair for pair in pairs if pair[0] != pair[1]})
    names = sorted({name for pair in pairs for name in pair})
    place = {name: number for number, name in enumerate(names)}
    ends = np.array([[place[name] for name in pair] for pair in pairs], int).reshape(-1, 2).T
    matrix = coo_array((np.ones(len(pairs)), ends), (len(names), len(names)))
    _, group = connected_components(matrix, connection="strong")
    members = [[name for name, number in zip(names, group, strict=True) if number == which] for which in np.unique(group)]
    return sorted((names for names in members if len(names) > 1), key=len, reverse=True)


def functions(path: Path) -> list[tuple[int, str]]:
    """Lines, from `def` to the last one, docstring included, and name of every function and method of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [(int(node.end_lineno or 0) - node.lineno + 1, node.name) for node in nodes if isinstance(node, ast.FunctionDef)]


def counted_modules(folder: Path) -> list[str]:
    """The modules of a folder, but for those that every package may have."""
    return sorted(path.stem for path in folder.glob("*.py") if path.stem not in NOT_COUNTED)


def count(checkout: Path) -> list[Count]:
    """The numbers of a checkout."""
    package = checkout / PACKAGE
    files = sorted(package.rglob("*.py"))
    pairs, floors = arrows(checkout), layers(checkout)
    across = between_tops(pairs)
    tops = {(top(importer), top(imported)) for importer, imported in across}
    back, rings, top_rings = back_arrows(pairs, floors), circles(pairs), circles(tops)
    at_top = [*counted_modules(package), *(path.name for path in package.iterdir() if (path / "__init__.py").exists())]
    folder = max({path.parent for path in files}, key=lambda path: len(counted_modules(path)))
    lines = {path: len(path.read_text().splitlines()) for path in files}
    longest = max(files, key=lambda path: lines[path])
    size, name, path = max((*function, path) for path in files for function in functions(path))
    return [
        Count("modules", len(files)),
        Count("imports between modules (pairs of importer and imported)", len(pairs)),
        Count("of these, between different names at the top", len(across), None),
        Count("pairs of names at the top of which one imports the other", len(tops), MOST_TOPS),
        Count("imports against the layers", len(back) if floors else None, 0, ", ".join(f"{a} -> {b}" for a, b in back[:3])),
        Count("circles of modules", len(rings), 0, " ".join(rings[0]) if rings else ""),
        Count("circles of names at the top", len(top_rings), 0, " ".join(top_rings[0]) if top_rings else ""),
        Count("names at the top", len(at_top), MOST_NAMES),
        Count("modules in the longest folder", len(counted_modules(folder)), MOST_MODULES, str(folder.relative_to(checkout))),
        Count("lines of the longest module", lines[longest], MOST_LINES, str(longest.relative_to(checkout))),
        Count("lines of the longest function", size, MOST_FUNCTION_LINES, f"{name} in {path.relative_to(checkout)}"),
    ]


def main(arguments: list[str]) -> int:
    """Print the numbers; 1 where a limit is broken, else 0."""
    if len(arguments) > 1 or not (checkout := Path(*arguments)).joinpath(PACKAGE).is_dir():
        print(f"{' '.join(arguments) or '.'} is no checkout: give the folder that holds {PACKAGE}/, or start in it")
        return 2
    numbers = count(checkout)
    table = Table("what", "number", "at most", "where")
    for number in numbers:
        value, most = ("–" if figure is None else str(figure) for figure in (number.value, number.most))
        table.add_row(number.name, value, most, number.where, style="" if number.holds else "red")
    Console(width=None if sys.stdout.isatty() else 170).print(table)
    broken = [number.name for number in numbers if not number.holds]
    print(f"broken: {', '.join(broken)}" if broken else "every limit holds")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
