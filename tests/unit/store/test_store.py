"""The store's promises: shards whole or absent, nothing lost, nothing silently different."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path

import forks
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_shard import SMALL, flip_map, make, refusal, same

from memgrid.errors import StoreWarning
from memgrid.io.files import host
from memgrid.store import shard
from memgrid.store import store as module
from memgrid.store.store import Store


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few rows, so that small shards have many."""
    monkeypatch.setattr(shard, "CHUNK_BYTES", 512)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three shards: ids 0..19, 15..39 and 100..109."""
    folder = tmp_path_factory.mktemp("shelf")
    for ids in (range(20), range(39, 14, -1), range(100, 110)):
        Store(folder, SMALL).write(make(ids))
    return folder


PRESENT = [*range(40), *range(100, 110)]


# Reading and writing


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.sampled_from(PRESENT), max_size=40))
def test_read_returns_rows_in_the_order_of_the_ids(shelf: Path, ids: list[int]) -> None:
    assert same(Store(shelf, SMALL).read(ids), make(ids))


def test_ids_are_sorted_and_unique_across_shards(shelf: Path) -> None:
    store = Store(shelf, SMALL)
    assert store.ids().tolist() == PRESENT
    assert store.ids().dtype == np.int64
    assert store.missing([200, 3, -5, 200, 100]).tolist() == [200, -5]
    assert store.verify() == []


def test_one_pool_can_be_read_alone(shelf: Path) -> None:
    assert list(Store(shelf, SMALL).read([3, 1], pools=["max"]).pools) == ["max"]
    assert "'median'" in refusal(lambda: Store(shelf, SMALL).read([3], pools=["median"]))


def test_missing_ids_are_named(shelf: Path) -> None:
    assert "Sequences 41, 42, 43 and 1 more are not in" in refusal(lambda: Store(shelf, SMALL).read([1, 41, 42, 43, 44]))
    assert len(Store(shelf / "none", SMALL).ids()) == 0


def test_new_shards_are_seen_without_a_new_store(tmp_path: Path) -> None:
    store = Store(tmp_path, SMALL)
    assert len(store.ids()) == 0
    Store(tmp_path, SMALL).write(make([5]))
    assert same(store.read([5]), make([5]))
    assert store.ids().tolist() == [5]


def test_what_is_removed_goes_with_its_shards_and_the_others_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path, SMALL)
    for ids in ([1, 2, 3], [3, 4], [5, 6]):
        store.write(make(ids))
    store.read([1, 5])
    assert store.remove([3, 9]).tolist() == [1, 2, 4]
    assert store.ids().tolist() == [5, 6]
    assert store.read([6, 5]).sequence_id.tolist() == [6, 5]
    assert store.remove([]).tolist() == []


def test_a_scan_opens_no_shard_twice(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(shelf, SMALL)
    store.ids()
    monkeypatch.setattr(shard, "opened", lambda path: pytest.fail(f"opened {path} again"))
    assert store.ids().tolist() == PRESENT


def test_open_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_FILES", 3)
    store = Store(tmp_path, SMALL)
    for number in range(8):
        store.write(make([number]))
    before = len(os.listdir("/proc/self/fd"))
    assert same(store.read(range(8)), make(range(8)))
    assert len(os.listdir("/proc/self/fd")) <= before + 3


# Folders that fail


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    assert str(file) in refusal(lambda: Store(file, SMALL).write(make([1])))
    assert str(file) in refusal(Store(file, SMALL).ids)
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        assert "Permission denied" in refusal(lambda: Store(tmp_path, SMALL).write(make([1])))


DISK_FULL = """
import pickle, resource, sys
store, maps = pickle.load(sys.stdin.buffer)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
try:
    store.write(maps)
except Exception as error:
    print(type(error).__name__, error)
import os
print(sorted(os.listdir(store.folder)))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.write(maps)
"""


def test_a_full_disk_is_one_sentence_and_room_mends_it(tmp_path: Path) -> None:
    data = pickle.dumps((Store(tmp_path, SMALL), make(range(9))))
    done = subprocess.run([sys.executable, "-c", DISK_FULL], input=data, capture_output=True, check=True)
    says, listing = done.stdout.decode().splitlines()
    assert says.startswith("StoreError Cannot write to")
    assert "File too large" in says
    assert listing == "[]"
    assert done.stderr == b""
    assert same(Store(tmp_path, SMALL).read(range(9)), make(range(9)))


def test_a_failing_system_is_no_damage(tmp_path: Path) -> None:
    path = Store(tmp_path, SMALL).write(make([1]))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    hold = [os.open("/dev/null", os.O_RDONLY) for _ in range(used)]
    store = Store(tmp_path, SMALL)
    listing = store._listing()
    store._listing = lambda: listing  # type: ignore[method-assign]  # listing needs a descriptor too
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        message = refusal(store.ids)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in hold:
            os.close(descriptor)
    assert "Too many open files" in message
    assert path.exists()


# Damage


def test_verify_reads_every_byte(tmp_path: Path) -> None:
    store = Store(tmp_path, SMALL)
    paths = [store.write(make([number, 4])) for number in range(3)]
    assert store.verify() == []
    stamp = paths[0].stat()
    flip_map(paths[0])
    os.utime(paths[0], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as when the disk itself goes bad
    paths[1].write_bytes(b"")
    sentences = store.verify()
    assert sorted(path.name for path in paths[:2] for sentence in sentences if path.name in sentence) == sorted(p.name for p in paths[:2])
    assert len(sentences) == 2
    assert store.ids().tolist() == [2, 4]
    assert store.verify() == []


def test_damage_without_the_right_to_move_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Store(tmp_path, SMALL).write(make([1]))
    path.write_bytes(b"")
    (tmp_path / "damaged").write_text("in the way")
    store = Store(tmp_path, SMALL)
    with pytest.warns(StoreWarning, match="passed over"):
        assert store.missing([1]).tolist() == [1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(store.ids()) == 0


# Many processes


def write_all(folder: Path, ids: list[int]) -> None:
    store = Store(folder, SMALL)
    for start in range(0, len(ids), 3):
        store.write(make(ids[start : start + 3]))


WRITER = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_store import write_all
write_all(Path(sys.argv[1]), list(range(3000)))
"""


def test_a_killed_writer_leaves_whole_shards(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent
    for seed in range(6):
        begun = len(list(tmp_path.glob("*.h5")))
        writer = forks.Started(["-c", WRITER, tmp_path, root, root.parents[1], root.parents[2]], light=True)
        while len(list(tmp_path.glob("*.h5"))) == begun and writer.poll() is None:  # on a busy machine, a shard takes its time
            time.sleep(0.001)
        time.sleep(random.Random(seed).uniform(0.005, 0.15))
        writer.kill()
        assert writer.wait(60) == -signal.SIGKILL
    (tmp_path / ".partial-999999999-elsewhere-0").write_bytes(b"half")
    (tmp_path / f".partial-{os.getpid()}-{host()}-0").write_bytes(b"half")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = Store(tmp_path, SMALL)
        ids = store.ids()
        assert len(ids)
        assert store.verify() == []
        assert same(store.read(ids), make(ids))
    store.write(make([5000]))
    left = sorted(path.name for path in tmp_path.glob(".partial-*"))  # of dead writers here nothing, of others and the living all
    assert left == sorted([".partial-999999999-elsewhere-0", f".partial-{os.getpid()}-{host()}-0"])


KILLED = """
import os, pickle, sys
store, maps = pickle.load(sys.stdin.buffer)
setattr(os, sys.argv[1], lambda *_: os.kill(os.getpid(), 9))
store.write(maps)
"""


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_nothing_is_visible_before_it_is_whole(tmp_path: Path, step: str) -> None:
    data = pickle.dumps((Store(tmp_path, SMALL), make(range(9))))
    done = subprocess.run([sys.executable, "-c", KILLED, step], input=data)
    assert done.returncode == -signal.SIGKILL
    assert [path.name.startswith(".partial-") for path in tmp_path.iterdir()] == [True]
    store = Store(tmp_path, SMALL)
    assert store.missing(range(9)).tolist() == list(range(9))
    path = store.write(make(range(9)))
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_other_hosts_go_after_an_hour(tmp_path: Path) -> None:
    for name, age in (("old", 4000), ("new", 3000)):
        path = tmp_path / f".partial-1-elsewhere-{name}"
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    Store(tmp_path, SMALL).write(make([1]))
    assert [path.name for path in tmp_path.glob(".partial-*")] == [".partial-1-elsewhere-new"]


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    parts = [list(range(start, start + 30)) for start in (0, 20, 40, 10)]
    writers = [context.Process(target=write_all, args=(tmp_path, part)) for part in parts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0] * 4
    store = Store(tmp_path, SMALL)
    assert store.ids().tolist() == list(range(70))
    assert store.verify() == []
    assert same(store.read(range(70)), make(range(70)))
    assert len(list(tmp_path.glob("*.h5"))) == 40
    assert not list(tmp_path.glob(".partial-*"))


def read_back(store: Store, ids: list[int], out: multiprocessing.queues.Queue[tuple[bool, bool]]) -> None:
    own = all(sets["sequence_id"].id.valid for sets in store._open.values()) and store._pid == os.getpid()
    maps = store.read(ids)
    out.put((same(maps, make(ids)), not own and store._pid == os.getpid()))


@pytest.mark.parametrize("context", [multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")], ids=["fork", "spawn"])
def test_readers_in_other_processes(shelf: Path, context: ForkContext | SpawnContext) -> None:
    store = Store(shelf, SMALL)
    assert same(store.read(PRESENT), make(PRESENT))  # handles are open when the workers start
    assert not pickle.loads(pickle.dumps(store))._open
    out = context.Queue()
    readers = [context.Process(target=read_back, args=(store, PRESENT[part::2], out)) for part in range(2)]
    for reader in readers:
        reader.start()
    assert same(store.read(PRESENT), make(PRESENT))
    assert [out.get(timeout=30) for _ in readers] == [(True, True)] * 2
    for reader in readers:
        reader.join(30)
