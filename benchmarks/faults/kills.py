"""Processes that are ended from outside, at random moments: by SIGKILL, as out of memory and power cuts do, and by SIGTERM and Ctrl-C."""

from __future__ import annotations

import importlib.util
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.cases import CASES, WRITING, Case
from benchmarks.faults.contents import contents, differences
from benchmarks.faults.ground import Ground, last
from benchmarks.faults.starting import KILL, LONGEST, Conditions
from benchmarks.faults.table import Job, Tried, drawn

TOLD = ("label", "extract", "train", "train, wandb offline", "localize", "intervene", "audit train", "pretrain")
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: 128 + signal.SIGINT}
END_SECONDS = 20.0  # within which a process that is told to has to have ended
REMOVALS = 24  # few commands remove so many files
LAST_SECONDS = 1.0  # for which one that has done all may need to end with 0; who goes on for longer has not heard

End = Callable[[Ground, Case, signal.Signals, float], Tried | None]


def jobs(tries: int) -> Iterator[Job]:
    """A row for each signal and command."""
    for name in (*WRITING, "status forget"):  # which writes nothing, and removes
        yield row(name, signal.SIGKILL, tries, end)
    yield row("tracking sync", signal.SIGKILL, tries, end_sync)
    for name in WRITING:
        if not CASES[name].once:  # such a command writes one file and removes none
            yield at_removals(name, -(-tries // 3))
    for name in TOLD:
        yield row(name, signal.SIGTERM, -(-tries // 2), end)
    yield row("train", signal.SIGINT, -(-tries // 2), end)


def row(name: str, number: signal.Signals, tries: int, work: End) -> Job:
    """The row of one signal and command, at random moments."""
    draw = random.Random(f"{name} {number}")

    def once(ground: Ground, factor: float) -> Tried | None:
        """What is drawn is a share of the time that the command takes."""
        return work(ground, CASES[name], number, factor * draw.random())

    return Job(number.name, name, lambda ground: [partial(drawn, partial(once, ground))] * tries)


def at_removals(name: str, tries: int) -> Job:
    """The row of one command that is killed just before it removes a file: what is done leaves nothing behind, now or at the next start."""
    draw = random.Random(name)

    def once(ground: Ground, factor: float) -> Tried | None:
        """Killed after a number of removals, of which there are fewer with every draw; None if it removed no more than those."""
        ground.restore(case := CASES[name])
        ended = ground.run(case, Conditions(failing=("unlink", int(factor * draw.randrange(REMOVALS)), KILL)))
        return None if ended.status == 0 or finished(ground, case) else (ground.wrong_after(case), "")

    return Job("SIGKILL at a removal", name, lambda ground: [partial(drawn, partial(once, ground))] * tries)


def end(ground: Ground, case: Case, number: signal.Signals, share: float) -> Tried | None:
    """End a command after a share of the time that it takes, and start it again; None if it was over before."""
    moment = share * ground.outcome(case.name).seconds
    ground.restore(case)
    started = ground.begin(case)
    hit, told = started.send(number, moment), time.monotonic()
    ended = started.end(END_SECONDS if hit else LONGEST)
    if not hit or (ended.status == 0 and time.monotonic() - told < LAST_SECONDS):  # it was over, or nothing was left to do
        return None
    if finished(ground, case):
        return None
    early = ended.status == -number  # before it was ready to end in its own way
    if ended.status != STATUS[number] and not early:
        return f"the status is {ended.status} after {moment:.1f} s: {last(ended.said)}", ""
    return ground.wrong_after(case), ""


def finished(ground: Ground, case: Case) -> bool:
    """Whether all is done of a command that is refused a second time."""
    return case.once and ground.wrong_now(case) is None


def end_sync(ground: Ground, case: Case, number: signal.Signals, share: float) -> Tried | None:
    """End the pushing of a run to a server of wandb's, as far as the tests have one, and start it again: every row arrives once."""
    seconds = pushing(ground, case)
    ground.restore(case)
    with fake_server() as server:
        conditions = conditions_of(ground, server)
        started = ground.begin(case, conditions)
        hit = started.send(number, share * seconds)
        ended = started.end()
        if not hit or ended.status == 0:
            return None
        again = ground.run(case, conditions)
        if again.status != 0 and "holds no offline wandb run" not in again.said:  # killed when all had arrived
            return f"the next start ends with {again.status}: {last(again.said)}", ""
        steps = [[json.loads(line)["_step"] for line in lines] for lines in server.rows.values()]
    if [sorted(set(of_run)) for of_run in steps] != steps or not steps or steps[0] != list(range(len(steps[0]))):
        return f"steps {steps} arrived", ""
    if other := differences(contents(ground.root), ground.outcome(case.after or "").contents):
        return f"{other[0]} was changed", ""
    return None, ""


def pushing(ground: Ground, case: Case) -> float:
    """How many seconds the pushing takes that nothing disturbs."""
    if case.name not in ground.seconds:
        ground.restore(case)
        with fake_server() as server:
            began = time.monotonic()
            ended = ground.run(case, conditions_of(ground, server))
            if ended.status != 0:
                raise RuntimeError(f"{case.name} fails undisturbed: {ended.said}")
            ground.seconds[case.name] = time.monotonic() - began
    return ground.seconds[case.name]


def conditions_of(ground: Ground, server: Any) -> Conditions:
    """An environment in which wandb knows that server alone."""
    own = {"HOME": str(ground.folder), "NETRC": str(ground.folder / "none"), "WANDB_CONFIG_DIR": str(ground.folder)}
    return Conditions(environment={**server.environment, **own})


@contextmanager
def fake_server() -> Iterator[Any]:
    """The server of tests/stand_in_wandb.py."""
    spec = importlib.util.spec_from_file_location("stand_in_wandb", Path(__file__).parents[2] / "tests" / "stand_in_wandb.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.Server() as server:
        yield server
        server.shutdown()
