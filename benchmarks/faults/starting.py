"""Commands in processes of their own, forked from one that has imported what they need: a kill then falls into their work."""

from __future__ import annotations

import faulthandler
import gc
import itertools
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Protocol

from memgrid.report.figures.style import STYLE

# What commands import, and what these import when they first need it.
PRELOADED = (
    "benchmarks.faults.starting",
    "benchmarks.faults.warm",
    "fsspec.implementations.chained",
    "hydra_plugins.memgrid",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "memgrid.audit.sweep",
    "memgrid.audit.stages",
    "memgrid.config.describe",
    "memgrid.pipeline.stages",
    "memgrid.pretrain.stages",
    "memgrid.report.page",
    "memgrid.pipeline.face.runs",
    "memgrid.pipeline.sweep",
    "polars._utils.parquet",
    "PIL.JpegImagePlugin",
    "memgrid.launch.cli",
    "memgrid.report.report",
    "omegaconf._impl",
    "pydantic.dataclasses",
    "pydantic.json_schema",
    "pydantic.type_adapter",
    "requests",
    "sklearn.datasets",
    "torch.utils.serialization",
    "wandb",
    "wandb.apis.public",
)
LOOK_SECONDS = 0.5  # for a command that takes too long to say where it stands
KILL = -1  # in place of an error's number
LONGEST = 120.0  # seconds that a command may take
# How figures are drawn: to cut fonts of the usual kind takes longer than all else that commands of this size do.
SKETCHED = {"pdf.fonttype": 3, "savefig.dpi": 30}


@dataclass(frozen=True)
class Ended:
    """How a command ended: its status (negative: the signal), and what it said on both streams."""

    status: int | None
    said: str

    @property
    def sentence(self) -> str | None:
        """The one sentence with which it refused to go on, or None: it did not, or it said more or something else."""
        told = [line for line in self.said.splitlines() if line.startswith("memgrid: ")]
        return told[-1] if self.status == 1 and told and "Traceback" not in self.said else None


@dataclass(frozen=True)
class Conditions:
    """Under which a command runs: the longest file that it may write, the user that it runs as, its umask, more of its environment.

    Attributes:
        failing: a function of `os`, such as fsync, how many calls of it succeed, and the number of the error of the next one; with KILL
            the next one is where the process is killed.
    """

    longest_file: int | None = None
    failing: tuple[str, int, int] | None = None
    user: int | None = None
    umask: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


UNDISTURBED = Conditions()


class Start(Protocol):
    """What starts a command and waits for its end."""

    def __call__(self, module: str, words: Sequence[str], conditions: Conditions = ..., /) -> Ended:
        """Start `python -m memgrid.<module>` with these words."""


def run(module: str, words: Sequence[str], log: str, conditions: Conditions) -> None:
    """The process: what `python -m memgrid.<module>` does; both streams go into the log."""
    gc.freeze()  # to look through what was imported would take longer than the work
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    faulthandler.register(signal.SIGUSR2)
    if conditions.longest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (conditions.longest_file, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    if conditions.failing is not None:
        fail(*conditions.failing)
    if conditions.umask is not None:
        os.umask(conditions.umask)
    STYLE.update(SKETCHED)
    if conditions.user is not None:
        os.setgroups([])
        os.setgid(conditions.user)
        os.setuid(conditions.user)
    os.environ.update(conditions.environment)
    sys.argv = [f"memgrid.{module}", *words]
    runpy.run_module(f"memgrid.{module}", run_name="__main__", alter_sys=True)


def fail(name: str, good: int, number: int) -> None:
    """As `Conditions.failing` has it; a function fails for good: of one call it may be a note that costs no run."""
    usual, calls = getattr(os, name), itertools.count()

    def until(*arguments: object, **options: object) -> object:
        """The function, or the error."""
        if next(calls) >= good:
            if number == KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            names = [str(given) for given in arguments if isinstance(given, str | Path)]  # a descriptor has none
            raise OSError(number, os.strerror(number), *names[:1])
        return usual(*arguments, **options)

    setattr(os, name, until)


class Starter:
    """Starts commands; their words go into a log in `folder`, which must not be on the disk that is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOADED))
        first = self.context.Process(target=time.sleep, args=(LONGEST,))  # no command is charged with the imports
        first.start()
        self.parent = parent_of(first.pid)  # the process from which commands are forked
        first.kill()
        first.join()

    def begin(self, module: str, words: Sequence[str], conditions: Conditions = UNDISTURBED) -> Started:
        """Start a command and go on."""
        self.number += 1
        log = self.folder / f"{os.getpid()}-{self.number}.log"
        log.touch()  # who is ended at once has said nothing
        process = self.context.Process(target=run, args=(module, list(words), str(log), conditions))
        process.start()
        return Started(process, log)

    def busy(self) -> float:
        """Seconds of CPU that all commands together have taken, those of other starters too, and the imports before them."""
        return sum(map(int, stat(self.parent)[11:15])) / os.sysconf("SC_CLK_TCK")

    def __call__(self, module: str, words: Sequence[str], conditions: Conditions = UNDISTURBED) -> Ended:
        """Start a command and wait for its end."""
        return self.begin(module, words, conditions).end()


def stat(pid: int | None) -> list[str]:
    """What the system says of a process: state, parent, and so on (proc(5), from the third field)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def parent_of(pid: int | None) -> int:
    """The process from which one was forked."""
    return int(stat(pid)[1])


@dataclass(frozen=True)
class Started:
    """A command under way."""

    process: ForkServerProcess
    log: Path

    def send(self, number: int, after: float) -> bool:
        """Wait so many seconds and send a signal; returns whether the command was still under way."""
        self.process.join(after)
        if self.process.exitcode is not None:
            return False
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        return True

    def end(self, within: float = LONGEST) -> Ended:
        """Wait for the end; a command that takes too long is killed, its status is None, and the last that it says is where it stood."""
        self.process.join(within)
        status = self.process.exitcode
        if status is None:
            os.kill(self.process.pid or 0, signal.SIGUSR2)
            self.process.join(LOOK_SECONDS)
            self.process.kill()
            self.process.join()
        return Ended(status, self.log.read_text(errors="replace"))


def timed(start: Start, module: str, words: Sequence[str]) -> tuple[Ended, float]:
    """How a command ends that nothing disturbs, and after how many seconds."""
    began = time.monotonic()
    return start(module, words), time.monotonic() - began
