"""The shard's promises: no more bytes than its maps need, nothing written that does not fit, no damaged or foreign byte taken for data."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from older_shards import make_older

from memgrid.errors import StoreError, StoreWarning
from memgrid.store import shard
from memgrid.store.shard import FORMAT_VERSION, MEASURED, POOLS, TABLES, Identity, Maps
from memgrid.store.store import Store

SMALL = Identity(llm="toy", revision="main", fingerprint="0f3a", corpus="tales", k=4, length=8, layers=3)
WIDE = replace(SMALL, k=32, length=64, layers=6)


def make(ids: object, identity: Identity = SMALL) -> Maps:
    """Maps that depend on nothing but the id, so that any process can tell what a sample must hold."""
    numbers = np.asarray(ids, np.int64)
    cells = identity.length * (identity.length + 1) // 2
    decoded, pools = [], []
    for number in numbers:
        rng = np.random.default_rng(abs(int(number)))
        decoded.append(rng.integers(0, 50_000, identity.length))
        pools.append(rng.random((2, cells, identity.layers)).astype(np.float16))
    both = np.stack(pools) if pools else np.empty((0, 2, cells, identity.layers), np.float16)
    tokens = np.array(decoded, np.int32).reshape(-1, identity.length)
    return Maps(
        numbers,
        tokens,
        (numbers % 7 / 7).astype(np.float32),
        {"mean": both[:, 0].copy(), "max": both[:, 1].copy()},
        logprob=(-tokens / 5000).astype(np.float16),
        min_k=(numbers % 5 - 2).astype(np.float32),
        zlib=(numbers % 100 + 40).astype(np.float32),
    )


def same(one: Maps, other: Maps) -> bool:
    """Bit by bit, so that NaN equals itself."""
    tables = all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in TABLES)
    for name in one.measured.keys() & other.measured.keys():  # who reads maps seldom asks for these
        tables &= one.measured[name].tobytes() == other.measured[name].tobytes()
    return tables and one.pools.keys() == other.pools.keys() and all(one.pools[p].tobytes() == other.pools[p].tobytes() for p in one.pools)


def refusal(call: Callable[[], object]) -> str:
    """The message of the StoreError that the call raises, checked to be one line."""
    with pytest.raises(StoreError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few rows, so that small shards have many."""
    monkeypatch.setattr(shard, "CHUNK_BYTES", 512)


# Bytes


def test_unknown_confidence_and_odd_identity_survive(tmp_path: Path) -> None:
    identity = replace(SMALL, revision="", corpus="contes d'été")
    maps = make([2, 1])
    maps.confidence[:] = np.nan
    Store(tmp_path, identity).write(maps)
    assert same(Store(tmp_path, identity).read([2, 1]), maps)


def test_what_was_measured_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path, SMALL)
    store.write(make(range(5)))
    assert store.read([3, 1]).measured == {}
    read = store.read([3, 1], (), measured=True)
    assert set(read.measured) == set(MEASURED)
    assert same(read, replace(make([3, 1]), pools={}))


def test_a_shard_of_an_earlier_version_is_read_and_says_nothing_of_its_tokens(tmp_path: Path) -> None:
    store = Store(tmp_path, SMALL)
    make_older(store.write(make(range(5))))
    store.write(make([7, 8]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.ids().tolist() == [0, 1, 2, 3, 4, 7, 8]
        assert store.verify() == []
    assert same(store.read([8, 2]), make([8, 2]))
    for name, values in store.read([2, 8, 1], measured=True).measured.items():
        assert np.isnan(values[[0, 2]]).all()
        assert values[1].tobytes() == getattr(make([8]), name)[0].tobytes()


def test_an_earlier_version_reads_what_is_written_now(tmp_path: Path) -> None:
    """It seals all attributes that it finds, and digests the four tables that it knows."""
    maps = make(range(5))
    with h5py.File(Store(tmp_path, SMALL).write(maps), "r") as file:
        attributes = {name: value.decode() if isinstance(value, bytes) else int(value) for name, value in file.attrs.items()}
        tables = [file[name][()] for name in ("sequence_id", "decoded", "confidence", "checksum")]
    digest = attributes.pop("digest")
    assert attributes["format_version"] == 1
    assert digest[:64] == hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()
    assert digest[64:] == hashlib.sha256(b"".join(table.tobytes() for table in tables)).hexdigest()


def test_what_was_not_measured_is_unknown(tmp_path: Path) -> None:
    store = Store(tmp_path, SMALL)
    store.write(replace(make([4]), logprob=None, min_k=None, zlib=None))
    assert all(np.isnan(values).all() for values in store.read([4], measured=True).measured.values())


@pytest.mark.parametrize(("rows", "compress"), [(64, False), (61, False), (64, True)])
def test_bytes_per_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, compress: bool) -> None:
    monkeypatch.undo()
    path = Store(tmp_path, WIDE, compress).write(make(range(rows), WIDE))
    assert path.stat().st_size <= 1.03 * 8320 * WIDE.layers * rows


def test_the_file_format_sums_its_metadata(tmp_path: Path) -> None:
    """Superblock version 3: in the older format a flipped chunk address makes HDF5 read another chunk, whose own sum is right."""
    paths = [Store(tmp_path, SMALL).write(make(ids)) for ids in (range(20), range(39, 14, -1), range(100, 110))]
    assert {path.read_bytes()[8] for path in paths} == {3}


def test_compressed_shards_are_smaller_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    maps = make(range(30))
    for pool in POOLS:
        maps.pools[pool][:, 5:] = 0
    plain = Store(tmp_path / "plain", SMALL).write(maps)
    packed = Store(tmp_path / "packed", SMALL, compress=True).write(maps)
    assert packed.stat().st_size < plain.stat().st_size
    assert same(Store(tmp_path / "packed", SMALL).read(range(30)), maps)
    code = "import pickle, sys; pickle.load(sys.stdin.buffer).read([3]); assert 'hdf5plugin' in sys.modules"
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(Store(tmp_path / "packed", SMALL)), check=True)


# What cannot be written


def broken(change: Callable[[Maps], None]) -> Maps:
    maps = make([7, 8, 9])
    change(maps)
    return maps


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.pools["max"].__setitem__((1, 2, 0), np.nan), "max map of sequence 8"),
        (lambda m: m.pools["mean"].__setitem__((2, 0, 0), np.inf), "mean map of sequence 9"),
        (lambda m: m.sequence_id.__setitem__(2, 7), "sequence 7 2 times"),
        (lambda m: m.pools.pop("max"), "with pools mean, max"),
        (lambda m: m.pools.update(mean=m.pools["mean"].astype(np.float32)), "Cannot write mean as float32"),
        (lambda m: setattr(m, "decoded", m.decoded[:, :-1]), "Cannot write decoded as int32 (3, 7)"),
        (lambda m: setattr(m, "confidence", m.confidence[:2]), "Cannot write confidence"),
        (lambda m: setattr(m, "logprob", m.logprob.astype(np.float32)), "Cannot write logprob as float32 (3, 8)"),
        (lambda m: setattr(m, "sequence_id", m.sequence_id[:0]), "Cannot write 0 samples"),
    ],
)
def test_write_refuses(tmp_path: Path, change: Callable[[Maps], None], says: str) -> None:
    assert says in refusal(lambda: Store(tmp_path, SMALL).write(broken(change)))
    assert not list(tmp_path.iterdir())


# Foreign shards


@pytest.mark.parametrize("field", list(asdict(SMALL)))
def test_a_foreign_shard_is_refused_and_stays(tmp_path: Path, field: str) -> None:
    value = asdict(SMALL)[field]
    other = Identity(**asdict(SMALL) | {field: value + 1 if isinstance(value, int) else value + "-other"})
    path = Store(tmp_path, other).write(make([1], other))
    message = refusal(Store(tmp_path, SMALL).ids)
    assert str(path) in message
    assert repr(value) in message
    assert repr(getattr(other, field)) in message
    assert "use another root" in message
    assert path.exists()
    path.unlink()
    Store(tmp_path, SMALL).write(make([2]))
    assert Store(tmp_path, SMALL).ids().tolist() == [2]


def test_an_unknown_version_is_refused_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "FORMAT_VERSION", FORMAT_VERSION + 1)
    path = Store(tmp_path, SMALL).write(make([1]))
    monkeypatch.undo()
    assert f"format_version {FORMAT_VERSION + 1} where {FORMAT_VERSION}" in refusal(Store(tmp_path, SMALL).ids)
    assert path.exists()


# Damage


def set_attribute(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value


def set_values(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "r+") as file:
        file[name][0] = value


def drop(path: Path, name: str = "max") -> None:
    with h5py.File(path, "r+") as file:
        del file[name]


def forget(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs[shard.LATER]


def reshape(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        data = file["max"][:, 1:]
        del file["max"]
        file["max"] = data


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("sequence,mean,max\n1,0.5,0.5\n" * 99),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: set_attribute(path, "llm", np.bytes_(b"tox")),  # a changed identity without its digest is damage, not another model
        lambda path: set_attribute(path, "format_version", 2),
        lambda path: set_values(path, "sequence_id", 4321),
        lambda path: set_values(path, "decoded", 1),
        lambda path: set_values(path, "confidence", 0.25),
        lambda path: set_values(path, "logprob", -0.25),
        lambda path: set_values(path, "zlib", 1),
        lambda path: set_attribute(path, shard.LATER, np.bytes_(b"0" * 64)),
        lambda path: drop(path, "min_k"),
        forget,
        drop,
        reshape,
    ],
)
def test_a_damaged_shard_is_set_aside_by_the_scan(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    store = Store(tmp_path, SMALL)
    path, _ = store.write(make(range(5))), store.write(make([8]))
    harm(path)
    with pytest.warns(StoreWarning, match=path.name):
        assert store.ids().tolist() == [8]
    assert (tmp_path / "damaged" / path.name).exists()
    assert not path.exists()
    assert store.missing([8, 3]).tolist() == [3]


def flip_map(path: Path) -> None:
    """Flip one bit of a value in the last map."""
    raw = bytearray(path.read_bytes())
    needle = make([4]).pools["max"].tobytes()[:64]
    raw[raw.index(needle) + 9] ^= 4
    path.write_bytes(raw)


def test_a_flipped_map_value_is_found_by_read(tmp_path: Path) -> None:
    store = Store(tmp_path, SMALL)
    path = store.write(make(range(5)))
    flip_map(path)
    message = refusal(lambda: store.read(range(5)))
    assert path.name in message
    assert "run again" in message
    assert (tmp_path / "damaged" / path.name).exists()
    assert store.missing(range(6)).tolist() == list(range(6))
    store.write(make(range(5)))
    assert same(store.read(range(5)), make(range(5)))


@pytest.mark.parametrize("layers", [3, 1])
@pytest.mark.parametrize("find", [lambda store: refusal(lambda: store.read([3, 1], pools=["max"])), lambda store: " ".join(store.verify())])
def test_zeros_turned_into_ones_are_found(tmp_path: Path, layers: int, find: Callable[[Store], str]) -> None:
    """Fletcher-32 takes 0x0000 and 0xFFFF for the same."""
    identity = replace(SMALL, length=5, layers=layers)  # with one layer, a map is no multiple of eight bytes
    maps = make([1, 2, 3], identity)
    maps.pools["max"][1:] = 0
    path = Store(tmp_path, identity).write(maps)
    raw = path.read_bytes()
    at = raw.index(maps.pools["max"][0].tobytes()) + 2 * maps.pools["max"][0].nbytes
    path.write_bytes(raw[: at + 4] + b"\xff" * 6 + raw[at + 10 :])
    with h5py.File(path, "r") as file:
        assert np.isnan(file["max"][2]).sum() == 3  # HDF5 sees nothing wrong
    assert "does not match its checksum" in find(Store(tmp_path, identity))
    assert (tmp_path / "damaged" / path.name).exists()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "packed"])
def sound(request: pytest.FixtureRequest) -> Iterator[tuple[Path, bytes, Maps]]:
    """A scratch folder, and the bytes of a sound shard with its maps."""
    scratch = Path(tempfile.mkdtemp())
    maps = make(range(9))
    maps.pools["mean"][3:6] = 0  # zeros are what Fletcher-32 confuses with ones, and what compresses
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "CHUNK_BYTES", 512)
        yield scratch, Store(scratch, SMALL, request.param).write(maps).read_bytes(), maps
    shutil.rmtree(scratch)


DAMAGE = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True), st.just(0)),
    st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
    st.tuples(st.just("flip"), st.floats(0, 0.3), st.integers(1, 255)),
    st.tuples(st.sampled_from(["zero", "ones", "noise"]), st.floats(0, 1, exclude_max=True), st.sampled_from([2, 8, 64, 512, 4096])),
    st.tuples(st.just("text"), st.just(0.0), st.integers(0, 9)),
)


def harmed(raw: bytes, kind: str, where: float, amount: int) -> bytes:
    at = int(where * len(raw))
    if kind == "cut":
        return raw[:at]
    if kind == "text":
        return b"not a shard\n" * amount
    if kind == "flip":
        fill = bytes([raw[at] ^ amount])
    else:
        size = len(raw[at : at + amount])
        fill = {"zero": bytes(size), "ones": b"\xff" * size, "noise": random.Random(at).randbytes(size)}[kind]
    return raw[:at] + fill + raw[at + len(fill) :]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.tuples(DAMAGE, st.booleans()))
def test_no_damage_passes_for_data(sound: tuple[Path, bytes, Maps], damage: tuple[tuple[str, float, int], bool]) -> None:
    """Each of 2 x 150 damaged shards is either set aside and named, or still gives every bit of the original."""
    scratch, raw, maps = sound
    folder = Path(tempfile.mkdtemp(dir=scratch))
    path = folder / "0-8.h5"
    path.write_bytes(harmed(raw, *damage[0]))
    store, reports = Store(folder, SMALL), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = store.ids()
    reports += [str(warning.message) for warning in caught]
    if damage[1]:  # found by verify, or by the first reader
        reports += store.verify()
    elif len(found):
        try:
            assert same(store.read(found, measured=True), maps)
        except StoreError as error:
            reports.append(str(error))
    if reports:
        assert len(reports) == 1
        assert str(path) in reports[0]
        assert "damaged" in reports[0]
        assert len(store.ids()) == 0
        assert not path.exists()
        assert (folder / "damaged" / path.name).exists()
    else:
        assert same(store.read(range(9)), maps)
        assert path.exists()
        assert store.verify() == []
    store._close()
    shutil.rmtree(folder)
