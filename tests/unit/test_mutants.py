"""`make mutate`: which changes are tried, and that each is another program."""

import ast
import importlib.util
import sys

from benchmarks.mutants.__main__ import accepted, sources
from benchmarks.mutants.changes import mutants
from benchmarks.mutants.trials import Trials

MODULE = '''
"""A module."""
LEAST = 3


def share(low: int, counts: list[int] | None = None, *, whole: bool = True) -> float:
    """What lies above."""
    if counts is None:
        raise ValueError(f"{1 + 1} is no list")
    total = 0
    for count in counts:
        total += count
    return max(total, 1) / low if whole and low > LEAST else 0.0


class Draw:
    name: str = "usual"

    def below(self, bound):
        return sum(self.lots < bound, axis=0)
'''


def test_what_is_changed_and_what_is_left_alone(tmp_path):
    path = tmp_path / "made.py"
    path.write_text(MODULE)
    seen = {}
    for mutant in mutants("memgrid.made", path):
        assert mutant.name not in seen
        seen[mutant.name] = ast.unparse(mutant.tree)
    assert [name.removeprefix("made.") for name in seen] == [
        "LEAST: 3 → 4",
        "share: True → False",
        "share: counts is None → counts is not None",
        "share: raise ValueError(f'{1 + 1} is no list') → pass",
        "share: 0 → 1",
        "share: total += count → pass",
        "share: total += count → total -= count",
        "share: whole and low > LEAST → whole or low > LEAST",
        "share: low > LEAST → low >= LEAST",
        "share: max(total, 1) → min(total, 1)",
        "share: max(total, 1) → max(total, 2)",
        "share: max(total, 1) / low → max(total, 1) * low",
        "share: max(total, 1) / low if whole and low > LEAST else 0.0 → max(total, 1) / low if whole and low > LEAST else 1.0",
        "Draw.below: sum(self.lots < bound, axis=0) → mean(self.lots < bound, axis=0)",
        "Draw.below: self.lots < bound → self.lots <= bound",
        "Draw.below: sum(self.lots < bound, axis=0) → sum(self.lots < bound)",
        "Draw.below: axis=0 → axis=1",
    ]
    original = ast.unparse(ast.parse(MODULE))
    assert len({*seen.values(), original}) == len(seen) + 1


def test_what_hangs_on_a_changed_line_changes_too(tmp_path, monkeypatch):
    """What stands behind it when it is imported, and what stands before it when it is called."""
    path = tmp_path / "hanging.py"
    path.write_text("IS_MANY = {'lines': lambda number: number > LEAST}\nLEAST = 3\nTWICE = 2 * LEAST\n")
    spec = importlib.util.spec_from_file_location("memgrid.hanging", path)
    hanging = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "memgrid.hanging", hanging)
    spec.loader.exec_module(hanging)
    mutant = next(mutant for mutant in mutants("memgrid.hanging", path) if mutant.function == "LEAST")
    assert (hanging.IS_MANY["lines"](4), hanging.TWICE) == (True, 6)
    Trials({"memgrid.hanging": path}, lambda _: None).put(mutant)
    assert (hanging.IS_MANY["lines"](4), hanging.TWICE) == (False, 8)


def test_what_is_accepted_is_a_mutant_and_has_a_reason():
    names = {mutant.name for module, path in sources().items() for mutant in mutants(module, path)}
    assert set(accepted()) <= names
    assert all(len(reason) > 10 for reason in accepted().values())


def test_a_mutant_that_no_test_calls_is_noticed_by_none():
    assert list(Trials({}, lambda _: None).run([])) == []
