"""Which tests notice a mutant: pytest collects the tests once, and each mutant is tried in a fork of that process.

A fork has torch and all tests imported, so that a mutant costs little more than the tests that it takes. What changes inside a function is
put into the function that is there, whoever has imported it; decorators and references stay as they are.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import dropwhile
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from benchmarks.mutants.changes import Mutant

SECONDS, TIMES = 20, 10  # of CPU, besides so many times what the tests usually take
ASLEEP = 300  # seconds after which a mutant that sleeps all the time is given up: one that waits for a turn on the CPU does not sleep
OTHERWISE = ("import", "time", "crash")  # how a mutant is noticed, but by a test
Calls = dict[str, tuple[float, list[str]]]  # of each test: seconds of CPU, and the functions that it calls, as `module.function`


class Trials:
    """A plugin of pytest that tries mutants instead of running the tests.

    Args:
        sources: the modules and their files. work: is given this, when the tests are collected.
    """

    def __init__(self, sources: dict[str, Path], work: Callable[[Trials], None]) -> None:
        self.sources, self.work = {str(path): module for module, path in sources.items()}, work
        self.items: dict[str, pytest.Item] = {}
        self.functions: dict[str, list[FunctionType]] = defaultdict(list)
        self.failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test fails when its fixtures fail, too."""
        if report.failed:
            self.failed = str(report.longrepr)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the tests."""
        if session.testsfailed:
            raise session.Interrupted("tests cannot be collected")
        self.items = {item.nodeid: item for item in session.items}
        session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # one folder for all forks
        gc.unfreeze()
        for each in gc.get_objects():
            if type(each) is FunctionType and (module := self.sources.get(each.__code__.co_filename)):
                self.functions[f"{module}.{each.__code__.co_qualname}"].append(each)
        gc.freeze()
        if any(path.read_text().startswith("polars-0") for path in Path("/proc/self/task").glob("*/comm")):
            raise session.Interrupted("a module of tests uses polars when it is imported, and would wait for ever in a fork")
        self.work(self)
        return True

    def calls(self, path: Path, files: dict[str, str]) -> Calls:
        """Run tests once, as they are, and keep what each of them calls, until its file is another one.

        Args:
            files: digests of the files of tests.

        Raises:
            SystemExit: a test fails without any mutant.
        """
        kept = json.loads(path.read_text()) if path.exists() else {}
        kept = {name: row for name, row in kept.items() if name in self.items and row[2] == files[name.partition("::")[0]]}
        if unknown := [name for name in self.items if name not in kept]:

            def observe() -> None:
                found = {name: (*row, files[name.partition("::")[0]]) for name, row in self.observed(unknown)}
                path.write_text(json.dumps(kept | found))

            if self.forked(observe):
                raise SystemExit("the tests do not pass as they are")
            kept = json.loads(path.read_text())
        return {name: (seconds, called) for name, (seconds, called, _) in kept.items()}

    def observed(self, tests: Sequence[str]) -> Iterator[tuple[str, tuple[float, list[str]]]]:
        """Of each test what `Calls` says."""
        called: set[CodeType] = set()

        def trace(frame: FrameType, *_: object) -> None:
            if frame.f_code.co_filename in self.sources:
                called.add(frame.f_code)

        sys.settrace(trace)
        start = time.process_time()
        for name in self.run(tests):
            if self.failed:
                raise SystemExit(f"{self.failed}\n{name} fails without any mutant")
            own = {(self.sources[code.co_filename], code.co_qualname) for code in called}
            names = sorted({f"{module}.{function.partition('.<locals>')[0]}" for module, function in own})
            yield name, (time.process_time() - start, names)
            called.clear()
            start = time.process_time()

    def run(self, names: Sequence[str]) -> Iterator[str]:
        """One test after the other, as pytest does it; the name of each that has run."""
        items = [self.items[name] for name in names]
        for item, following in zip(items, [*items[1:], None], strict=False):  # of no tests: none
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            yield item.nodeid

    def tried(self, mutant: Mutant, tests: Sequence[str], usual: float) -> str:
        """The test that notices a mutant, or one of `OTHERWISE`; nothing where none does."""
        read, write = os.pipe()

        def trial() -> None:
            """What the fork does: put the mutant in its place, and name the test that fails."""
            resource.setrlimit(resource.RLIMIT_CPU, (limit := int(time.process_time() + SECONDS + TIMES * usual), limit + 5))
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            try:
                self.put(mutant)
            except Exception:
                os.write(write, b"import")
                return
            for test in self.run(tests):
                if self.failed:
                    os.write(write, test.encode())
                    return

        ended = self.forked(trial)
        os.close(write)
        with os.fdopen(read) as pipe:
            return pipe.read() or ("" if ended == 0 else "time" if -ended in (signal.SIGXCPU, signal.SIGKILL) else "crash")

    def forked(self, work: Callable[[], object]) -> int:
        """Do something in a fork; its exit status, negative where a signal ended it."""
        if not (pid := os.fork()):
            status = 1
            try:
                work()
                status = 0
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(status)
        awake = time.monotonic()
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            time.sleep(0.02)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "S":
                awake = time.monotonic()
            elif time.monotonic() - awake > ASLEEP:
                os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(ended[1])

    def put(self, mutant: Mutant) -> None:
        """Make this process's module the mutant."""
        module, part = sys.modules[mutant.module], mutant.part
        if isinstance(part, ast.FunctionDef):
            code = compile(ast.fix_missing_locations(mutant.tree), str(module.__file__), "exec")
            part.decorator_list = []
            new = executed(part, module)[part.name]
            for each in self.functions[f"{mutant.module}.{mutant.function}"]:
                each.__code__ = named(code, mutant.function)
                each.__defaults__, each.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
        stale = {mutant.function}
        # What is bound when the module is imported, and hangs on what changes; a line before that reads it when it is called, if at all.
        for line in dropwhile(lambda line: line is not part, mutant.tree.body):
            if not isinstance(line, ast.Assign | ast.AnnAssign) or not (line is part or stale & read_by(line)):
                continue
            for name, value in executed(line, module).items():
                stale.add(name)
                old = vars(module)[name]
                for other in list(sys.modules.values()):
                    if isinstance(other, ModuleType) and vars(other).get(name) is old and takes(other, name, module):
                        setattr(other, name, value)


def executed(line: ast.stmt, module: ModuleType) -> dict[str, Any]:
    """What a line of a module binds, were it executed now; without doing so in the module."""
    names = dict(vars(module))
    exec(compile(ast.fix_missing_locations(ast.Module([line], [])), str(module.__file__), "exec"), names)
    return {name: value for name, value in names.items() if name not in vars(module) or value is not vars(module)[name]}


def read_by(line: ast.stmt) -> set[str]:
    """The names that a line reads."""
    return {node.id for node in ast.walk(line) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def takes(other: ModuleType, name: str, module: ModuleType) -> bool:
    """Whether a module has a name from that one: equal numbers are one object, whoever names them."""
    if other is module or not str(getattr(other, "__file__", "")).endswith(".py"):
        return other is module
    imports = (node for node in ast.walk(ast.parse(Path(str(other.__file__)).read_text())) if isinstance(node, ast.ImportFrom))
    return any(node.module == module.__name__ and name in {each.name for each in node.names} for node in imports)


def named(code: CodeType, name: str) -> CodeType:
    """The code of a function or a method of a module."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if each.co_qualname == name:
                return each
            if name.startswith(each.co_qualname + "."):
                return named(each, name)
    raise KeyError(name)
