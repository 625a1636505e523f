"""`python -m benchmarks.mutants`: try every mutant of the definitions and say who survives; exit 1 where that is more than is accepted.

`only=<words>,<words>` for mutants whose names hold one of these; `quick=SECONDS` for tests that take no longer; `accepted=again` tries
those that are accepted, too. What is known of a mutant is kept in `.mutants/` until its function changes or the test that noticed it is
gone, and of a survivor until a file of its tests changes: a run that was stopped goes on, and `make clean` forgets all.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.mutants.changes import Mutant, mutants
from benchmarks.mutants.trials import OTHERWISE, Calls, Trials

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".mutants"
LEAST = 95.0  # percent that have to be noticed
UNIT = "tests/unit"
# The modules that define something, and the unit tests that read them.
MODULES = {
    "taxonomy": ("thresholds", "rules", "cases", "taxonomy"),
    "metrics": ("scores", "intervals", "resampling", "pairs", "stacking", "agreement", "extraction"),
    "lm.scores": ("places", "scores"),
    "label": ("rouge", "templates", "features", "labels"),
    "label.selection": ("select", "draw", "groups"),
    "localize": ("attribution",),
    "audit.data": ("canaries", "population"),
    "audit.shadow": ("augmentation", "predictors"),
    "audit.attack": ("lira", "calibration", "baselines", "evaluation", "samples"),
    "intervene": ("positions", "units", "statistics", "selectivity"),
    "intervene.attention": ("masking", "reader", "observation"),
}
TESTS = (
    *(f"{part.replace('.', '/')}/test_{name}.py" for part in ("label", "label.selection") for name in MODULES[part]),
    *("metrics", "localize", "intervene", "taxonomy", "lm/scores"),
    *(
        f"audit/test_audit_{name}.py"
        for part in ("data", "shadow", "attack")
        for name in MODULES[f"audit.{part}"]
        if name != "augmentation"
    ),
    "audit/test_audit_datasets.py",
)


def sources() -> dict[str, Path]:
    """Modules and their files."""
    names = [".".join(filter(None, ("memgrid", package, name))) for package, names in MODULES.items() for name in names]
    return {name: ROOT / (name.replace(".", "/") + ".py") for name in names}


def digests(folder: Path) -> dict[str, str]:
    """Of each file of tests, as pytest calls it: equal as long as the file is."""
    return {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in folder.rglob("*.py")}


def accepted() -> dict[str, str]:
    """Mutants that may survive, and why."""
    return tomllib.loads((Path(__file__).parent / "accepted.toml").read_text())


class Run:
    """One run over all mutants.

    Args:
        only: words that a mutant's name holds. quick: seconds, of the tests that are tried. again: try accepted mutants, too.
    """

    def __init__(self, console: Console, only: str = "", quick: float = float("inf"), again: bool = False) -> None:
        self.console, self.quick, self.again = console, quick, again
        self.accepted = accepted()
        self.only = only
        self.modules = {mutant.name: mutant.module for mutant in self.mutants()}
        self.found: dict[str, str] = {}  # of each name: the test that noticed it

    def mutants(self) -> Iterator[Mutant]:
        """Those that are asked for."""
        return (
            mutant
            for module, path in sources().items()
            for mutant in mutants(module, path)
            if any(words in mutant.name for words in self.only.split(","))
        )

    def __call__(self, trials: Trials) -> None:
        """Try what is not known yet."""
        KEPT.mkdir(exist_ok=True)
        files = digests(ROOT / UNIT)
        calls = trials.calls(KEPT / "calls.json", files)
        log = KEPT / "mutants.jsonl"
        known = {row["digest"]: row for row in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
        with log.open("a", buffering=1) as kept:
            for number, mutant in enumerate(self.mutants()):
                if mutant.name in self.accepted and not self.again:
                    self.found[mutant.name] = ""
                    continue
                chosen = self.chosen(mutant, calls)
                tests = {name: files[name] for name in sorted({test.partition("::")[0] for test in chosen})}
                row = known.get(mutant.digest)
                if row is None or not self.holds(row, tests, calls):
                    start = time.monotonic()
                    by = trials.tried(mutant, chosen, sum(calls[test][0] for test in chosen))
                    row = {"digest": mutant.digest, "name": mutant.name, "by": by, "tests": tests, "quick": self.quick}
                    kept.write(json.dumps({**row, "seconds": round(time.monotonic() - start, 2)}) + "\n")
                    self.console.print(f"{number + 1}/{len(self.modules)} {mutant.name} · {by or 'SURVIVES'}", markup=False, soft_wrap=True)
                self.found[mutant.name] = row["by"]

    def holds(self, row: dict[str, Any], tests: dict[str, str], calls: Calls) -> bool:
        """Whether what is known of a mutant is so still: the test that noticed it is there, or those that did not are as they were."""
        if row["by"]:
            return row["by"] in calls or row["by"] in OTHERWISE
        return bool(row["tests"] == tests and row["quick"] >= self.quick)

    def chosen(self, mutant: Mutant, calls: Calls) -> list[str]:
        """The tests that call what is changed, those of the module itself first, the quick ones first."""
        own = mutant.module.rpartition(".")[2]
        names = {f"{mutant.module}.{mutant.function}"}
        tests = {test for test, (_, called) in calls.items() if names & set(called)}
        if not tests:  # a constant, or what is called at import: all tests of the files that call anything of the module
            near = {
                test.partition("::")[0]
                for test, (_, called) in calls.items()
                if any(name.startswith(f"{mutant.module}.") for name in called)
            }
            tests = {test for test in calls if test.partition("::")[0] in near}
        takes = {test: calls[test][0] for test in tests if calls[test][0] <= self.quick}
        return sorted(takes, key=lambda test: (f"{own}.py" not in test and takes[test] > 0.5, takes[test]))

    def table(self) -> bool:
        """Print what was found; whether that is enough."""
        table = Table("module", "mutants", "killed", "accepted", "survived", "killed, %", title="Mutants")
        rows = [(module, [name for name, own in self.modules.items() if own == module]) for module in sources()]
        for module, names in [*rows, ("all", list(self.found))]:
            if names:
                killed = sum(bool(self.found[name]) for name in names)
                accepted = sum(name in self.accepted and not self.found[name] for name in names)
                numbers = (len(names), killed, accepted, len(names) - killed - accepted)
                table.add_row(module, *map(str, numbers), f"{100 * killed / len(names):.1f}")
        self.console.print(table)
        survivors = [name for name, by in self.found.items() if not by and name not in self.accepted]
        for name in survivors:
            self.console.print("survives:", name, markup=False, soft_wrap=True)
        for name in self.accepted:
            if self.found.get(name):
                self.console.print("accepted, but killed:", name, markup=False, soft_wrap=True)
        return not survivors and 100 * sum(map(bool, self.found.values())) >= LEAST * len(self.found)


def main(arguments: list[str]) -> int:
    """The whole run; the exit status."""
    words = dict(word.split("=", 1) for word in arguments)
    console = Console(file=os.fdopen(os.dup(1), "w"), width=160)
    run = Run(console, words.get("only", ""), float(words.get("quick", "inf")), words.get("accepted") == "again")
    trials = Trials(sources(), run)
    asked = [str(ROOT / UNIT / name) for name in TESTS]
    status = pytest.main(["-p", "no:cacheprovider", "-p", "no:terminal", "-o", "addopts=", "--rootdir", str(ROOT), *asked], [trials])
    return int(not run.table()) if status == 0 else int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
