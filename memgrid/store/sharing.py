"""Work sharing: which process works on which sequences, so that many jobs fill one store and none does another's work.

The work has a fixed number of slices, and every sequence lies in one of them, by a hash of its id. Whoever works on a slice holds its lock;
a lock ends with its process, however that ends, and then another takes over what is left.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from filelock import Timeout

from memgrid.config.schema import MOST_PARTS
from memgrid.corpus.ngrams import sequence_hashes
from memgrid.io.locks import lock

SLICES = MOST_PARTS
SALT = 0x9E3779B97F4A7C15  # the hash must not follow the one that selects samples
SHORTEST_POLL, LONGEST_POLL = 0.2, 5.0  # seconds


def slices(ids: np.ndarray) -> np.ndarray:
    """The slice of each id, int64 in [0, SLICES); the same on every machine."""
    pairs = np.ascontiguousarray(ids, np.int64).view(np.uint32).reshape(-1, 2)
    return (sequence_hashes(pairs, SALT) % np.uint64(SLICES)).astype(np.int64)


def part_of(ids: np.ndarray, part: int, parts: int) -> np.ndarray:
    """The ids of one of `parts` disjoint parts, in their order; all parts together have every id once."""
    return ids[slices(ids) % parts == part]


def take(open_: dict[int, np.ndarray], folder: Path, size: int, held: ExitStack) -> list[int]:
    """Lock slices until they have about `size` ids; returns the numbers of those that nobody else holds."""
    taken: list[int] = []
    ids = 0
    for number, inside in open_.items():
        try:
            held.enter_context(lock(folder / f"{number:03d}.lock", timeout=0))
        except Timeout:
            continue
        taken.append(number)
        ids += len(inside)
        if ids >= size:
            break
    return taken


def shared_work(
    folder: Path,
    wanted: np.ndarray,
    missing: Callable[[np.ndarray], np.ndarray],
    size: int,
    chosen: Callable[[np.ndarray], np.ndarray] = lambda ids: ids,
) -> Generator[np.ndarray]:
    """What this process has to do: ids that are still missing, some slices' at a time, until no wanted one is.

    Their slices are held while the caller works on them. What other processes hold is left to them, and waited for at the end.

    Args:
        folder: where the locks lie, one file per slice.
        wanted: ids, int64.
        missing: tells which of some ids are not on disk, asked again whenever slices are taken.
        size: about how many ids are given at a time.
        chosen: which of at least `size` ids are to be given, at least one; the others come with the next ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of = slices(wanted)
    open_ = {int(number): wanted[of == number] for number in np.unique(of)}
    wait = SHORTEST_POLL
    while open_:
        with ExitStack() as held:
            taken = take(open_, folder, size, held)
            if taken and len(left := missing(np.concatenate([open_.pop(number) for number in taken]))):
                given = chosen(left) if len(left) >= size else left
                yield given
                of_left, rest = slices(left), ~np.isin(left, given)
                open_ = {int(number): left[rest & (of_left == number)] for number in np.unique(of_left[rest])} | open_
        wait = SHORTEST_POLL if taken else min(2 * wait, LONGEST_POLL)
        if not taken:
            time.sleep(wait * random.uniform(0.5, 1.0))
