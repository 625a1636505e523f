"""Processes that are ended from outside, at random moments: by SIGKILL, as out of memory and power cuts do, and by SIGTERM and Ctrl-C."""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.cases import CASES, WRITING, Case
from benchmarks.faults.contents import contents, differences
from benchmarks.faults.ground import Ground, last
from benchmarks.faults.starting import Conditions
from benchmarks.faults.table import Job, Row, tried

TOLD = ("label", "extract", "train", "train, wandb offline", "localize", "intervene", "audit train", "pretrain")
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: 128 + signal.SIGINT}
EARLIER = 8  # times that a signal which came too late, or was not heard, is sent earlier
END_SECONDS = 20.0  # within which a process that is told to has to have ended


def jobs(tries: int) -> Iterator[Job]:
    """A row for each signal and command."""
    for name in WRITING:
        yield partial(ended, name, signal.SIGKILL, tries)
    yield partial(sync_ended, tries)
    for name in TOLD:
        yield partial(ended, name, signal.SIGTERM, -(-tries // 2))
    yield partial(ended, "train", signal.SIGINT, -(-tries // 2))


def ended(name: str, number: signal.Signals, tries: int, ground: Ground) -> Row:
    """The row of one signal and command, at random moments."""
    draw = random.Random(f"{name} {number}")
    shares = [draw.random() for _ in range(tries)]
    return tried(number.name, name, [partial(attempt, ground, CASES[name], number, share) for share in shares])


def sync_ended(tries: int, ground: Ground) -> Row:
    """The row of the pushing of a run."""
    draw = random.Random(0)
    shares = [draw.random() for _ in range(tries)]
    return tried("SIGKILL", "tracking sync", [partial(cut_sync, ground, CASES["tracking sync"], share) for share in shares])


def cut_sync(ground: Ground, case: Case, share: float) -> tuple[str | None, str]:
    """Kill the pushing of a run to a server of wandb's, as far as the tests have one, and start it again: every row arrives once."""
    seconds = pushing(ground, case)
    for _ in range(EARLIER):
        ground.restore(case)
        with fake_server() as server:
            conditions = conditions_of(ground, server)
            started = ground.begin(case, conditions)
            hit = started.send(signal.SIGKILL, share * seconds)
            started.end()
            if not hit:
                seconds *= 0.7
                continue
            again = ground.run(case, conditions)
            if again.status != 0 and "holds no offline wandb run" not in again.said:  # killed when all had arrived
                return f"the next start ends with {again.status}: {last(again.said)}", ""
            steps = [[json.loads(line)["_step"] for line in lines] for lines in server.rows.values()]
        if [sorted(set(of_run)) for of_run in steps] != steps or not steps or steps[0] != list(range(len(steps[0]))):
            return f"steps {steps} arrived", ""
        if other := differences(contents(ground.root), ground.outcome(case.after or "").contents):
            return f"{other[0]} was changed", ""
        return None, ""
    return None, "over before"


def pushing(ground: Ground, case: Case) -> float:
    """How many seconds the pushing takes that nothing disturbs."""
    ground.restore(case)
    with fake_server() as server:
        began = time.monotonic()
        ground.run(case, conditions_of(ground, server))
        return time.monotonic() - began


def conditions_of(ground: Ground, server: Any) -> Conditions:
    """An environment in which wandb knows that server alone."""
    own = {"HOME": str(ground.folder), "NETRC": str(ground.folder / "none"), "WANDB_CONFIG_DIR": str(ground.folder)}
    return Conditions(environment={**server.environment, **own})


@contextmanager
def fake_server() -> Iterator[Any]:
    """The server of tests/unit/tracking/test_tracking.py."""
    tests = Path(__file__).parents[2] / "tests"
    sys.path[:0] = [str(tests)]
    try:
        spec = importlib.util.spec_from_file_location("test_tracking", tests / "unit" / "tracking" / "test_tracking.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(tests))
    with module.Server() as server:
        yield server
        server.shutdown()


def attempt(ground: Ground, case: Case, number: signal.Signals, share: float) -> tuple[str | None, str]:
    """End a command after a share of the time that it takes, and start it again."""
    moment = share * ground.outcome(case.name).seconds
    for _ in range(EARLIER):  # it may be over sooner than the first time, or be over and wait for somebody to notice
        ground.restore(case)
        started = ground.begin(case)
        hit = started.send(number, moment)
        ended = started.end(END_SECONDS)
        if hit and ended.status != 0:
            break
        moment *= 0.7
    early = ended.status == -number  # before it was ready to end in its own way
    if ended.status != STATUS[number] and not early:
        return f"the status is {ended.status} after {moment:.1f} s: {last(ended.said)}", ""
    return ground.wrong_after(case), ""
