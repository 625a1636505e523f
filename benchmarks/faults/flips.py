"""Bits that flip in files that a later step reads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.faults.cases import CASES, Case
from benchmarks.faults.contents import contents, differences, name_of
from benchmarks.faults.ground import Ground, last
from benchmarks.faults.table import Job, Tried

# A kind of file, below the outcome that a case starts from → that case, which reads it.
READ = {
    "labels/**/*.parquet": "labels again",
    "labels/**/near.parquet": "labels of edits again",
    "labels/**/reference-*.parquet": "labels of a reference again",
    "corpora/**/*.parquet": "text again",
    "attention/**/*.h5": "train",
    "runs/**/samples.parquet": "localize",
    "runs/**/last.ckpt": "localize",
    "runs/**/localize-*.h5": "intervene",
    "runs/**/intervene.parquet": "a finished run again",
    "runs/**/metrics.json": "a finished run again",
    "runs/**/localize-*.json": "a finished run again",
    "runs/**/intervene.json": "a finished run again",
    "runs/**/transfer.json": "a transfer again",
    "runs/**/config.yaml": "report",
    "runs/**/[!l]*.json": "report",
    "runs/**/[epbi]*.parquet": "report",
    "audits/**/shadow*.h5": "audit attack",
    "audits/**/population.h5": "audit attack",
    "audits/**/attack.h5": "audit report",
    "audits/**/metrics.json": "audit report",
    "documents.parquet": "pretrain again",
}
SLOW = ("train", "localize", "intervene", "report", "audit report")
SILENT = "SILENT"


def jobs(tries: int) -> Iterator[Job]:
    """A row for each kind of file; fewer tries where the reader draws or trains."""
    for pattern, name in READ.items():
        yield Job("a bit flips", f"{pattern} ({name})", partial(attempts, pattern, CASES[name], -(-tries // 4) if name in SLOW else tries))


def attempts(pattern: str, case: Case, tries: int, ground: Ground) -> Iterator[Callable[[], Tried]]:
    """Flips in one kind of file."""
    draw = random.Random(pattern)
    for _ in range(tries):
        yield partial(attempt, ground, case, pattern, draw.getrandbits(62))


def attempt(ground: Ground, case: Case, pattern: str, number: int) -> Tried:
    """Flip a bit, start what reads the file, and compare what it says and writes with what it would have said and written.

    A bit that changes nothing but its own file is harmless: it lies where this command does not look, such as in the pool of attention
    that the training does not read, and who does read it is told.
    """
    expected = ground.outcome(case.name)
    ground.restore(case)
    flipped = flip(ground.root, pattern, number)
    ended = ground.run(case)
    if ended.status not in (0, 1) or (ended.status == 1 and ended.sentence is None):
        return f"{flipped.name}: it ends with {ended.status}: {last(ended.said)}", ""
    if ended.status == 1:
        return None, "refused"
    other = differences(contents(ground.root), expected.contents)
    named = flipped.name in ended.said and "damaged" in ended.said
    if named or (ended.said == expected.said and set(other) <= {name_of(flipped, ground.root)}):
        return None, "made anew" if named else "harmless"
    return f"{flipped.name}: {', '.join(other[:2]) or 'what is printed'} differs, and nothing is said", SILENT


def flip(root: Path, pattern: str, number: int) -> Path:
    """Flip one bit of one file; which, a large random number says. Returns the file."""
    draw = random.Random(number)
    path = draw.choice(sorted(path for path in root.glob(pattern) if path.is_file()))
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return path
