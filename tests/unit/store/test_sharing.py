"""Claims: several processes do all of the work once, and a dead one's share falls to the others."""

import multiprocessing
import os
import time
from contextlib import closing

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from memgrid.store.sharing import SLICES, part_of, shared_work, slices

IDS = np.arange(1000, 5000, 7, dtype=np.int64)


@given(st.lists(st.integers(0, 2**62), unique=True, max_size=200), st.integers(1, SLICES))
def test_parts_are_disjoint_and_complete(ids, parts):
    ids = np.array(ids, np.int64)
    divided = [part_of(ids, part, parts) for part in range(parts)]
    assert sorted(np.concatenate(divided).tolist()) == sorted(ids.tolist())


def test_parts_are_about_equal():
    sizes = [len(part_of(np.arange(100_000), part, 8)) for part in range(8)]
    assert max(sizes) < 1.1 * min(sizes)


def test_slices_are_the_same_for_ever():
    """Jobs of two versions may work side by side."""
    assert slices(np.array([0, 1, 12345678901], np.int64)).tolist() == KNOWN


KNOWN = [211, 242, 55]


def disk(folder):
    """Which ids are on a made-up disk, where an id is a file."""
    return np.array([int(name) for name in os.listdir(folder)], np.int64)


def work(folder, locks, wanted, done):
    """Write a file for each id that is missing; doing one twice fails."""
    count = 0
    with closing(shared_work(locks, wanted, lambda ids: ids[~np.isin(ids, disk(folder))], 40)) as turns:
        for ids in turns:
            for one in ids.tolist():
                (folder / str(one)).touch(exist_ok=False)
                time.sleep(0.0005)
                count += 1
    done.put(count)


def test_many_processes_do_everything_once(tmp_path):
    folder, locks = tmp_path / "disk", tmp_path / "locks"
    folder.mkdir()
    context = multiprocessing.get_context("fork")
    done = context.Queue()
    # What they want overlaps.
    wanted = [IDS, IDS[::2], IDS[100:], IDS[::-1]]
    workers = [context.Process(target=work, args=(folder, locks, ids, done)) for ids in wanted]
    for worker in workers:
        worker.start()
    counts = [done.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert sum(counts) == len(IDS)
    assert sorted(disk(folder).tolist()) == IDS.tolist()
    assert min(counts[0], max(counts)) > 0


def test_work_of_a_process_that_died_is_taken_over(tmp_path):
    pid = os.fork()
    if pid == 0:
        next(shared_work(tmp_path, IDS, lambda ids: ids, 100))
        os._exit(1)  # without letting go
    os.waitpid(pid, 0)
    taken = np.concatenate(list(shared_work(tmp_path, IDS, lambda ids: ids, 100)))
    assert sorted(taken.tolist()) == IDS.tolist()


def test_turns_are_about_as_large_as_asked_and_empty_ones_are_not_made(tmp_path):
    sizes = [len(ids) for ids in shared_work(tmp_path, IDS, lambda ids: ids, 100)]
    assert sum(sizes) == len(IDS)
    assert all(100 <= size < 120 for size in sizes[:-1])
    assert list(shared_work(tmp_path, IDS, lambda ids: ids[:0], 100)) == []
    assert list(shared_work(tmp_path, IDS[:0], lambda ids: ids, 100)) == []


def test_what_is_not_chosen_of_a_full_turn_comes_later_and_once(tmp_path):
    turns = list(shared_work(tmp_path, IDS, lambda ids: ids, 100, lambda ids: np.sort(ids)[: len(ids) - len(ids) % 16]))
    assert sorted(np.concatenate(turns).tolist()) == IDS.tolist()
    assert all(len(ids) % 16 == 0 for ids in turns[:-1])


@pytest.mark.parametrize("ends_well", [True, False])
def test_locks_are_let_go(tmp_path, ends_well):
    with closing(shared_work(tmp_path, IDS, lambda ids: ids, 10**6)) as turns:
        next(turns)
        if ends_well:
            assert next(turns, None) is None
    for number in range(SLICES):
        with FileLock(tmp_path / f"{number:03d}.lock", timeout=0):
            pass
