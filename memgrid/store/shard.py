"""One shard of the store: the layout of its HDF5 file, how its bytes are made, and the checks they must pass to be believed.

Layout of a shard, format version 1 (N samples, positions = length * (length + 1) / 2): `sequence_id` int64 (N,), `decoded` int32
(N, length), `mean` and `max` float16 (N, positions, layers), the lower triangle of every map row by row (`memgrid.lm.triangle`), and two
datasets besides: `confidence` float32 (N,), the mean probability that the model gave to the decoded suffix, and `checksum` uint64 (N, 2),
a sum of the words of each map, of `mean` and of `max`. Root attributes (integers, fixed-length UTF-8) name what the maps were made from;
`digest` is two SHA-256 sums in hex, of the other attributes and of the datasets but the maps. The first keeps its rule in every format
version: it tells a shard of another model or version from a damaged one.

Later came what else the pass measures (`MEASURED`): `logprob` float16 (N, length), `min_k` and `zlib` float32 (N,). A reader that does not
know them sees a sound shard, and shards without them are read: `digest_measured`, the SHA-256 of these three, is one of the other
attributes, and says that they are there.

No damaged byte passes for data: datasets carry Fletcher-32 sums, HDF5's 1.10 file format sums its metadata, and `checksum` sees what
Fletcher-32 cannot, words of 0x0000 that turn into 0xFFFF (as in erased flash memory) or back.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from memgrid.errors import StoreError
from memgrid.io.paths import VERSION
from memgrid.lm.triangle import Triangle

FORMAT_VERSION = 1
POOLS = ("mean", "max")
TABLES = ("sequence_id", "decoded", "confidence")
DIGESTED = (*TABLES, "checksum")
MEASURED = ("logprob", "min_k", "zlib")  # shards of earlier versions have none of these
LATER = "digest_measured"
CHUNK_BYTES = 2**17  # measured: runs of rows read equally fast from 64 KiB to 1 MiB, scattered rows the faster the smaller the chunk
BLOSC2 = 32026  # its number in the HDF Group's registry of filters


@dataclass(frozen=True)
class Identity:
    """What every shard of a store must have been made from; kept as root attributes."""

    llm: str
    revision: str
    fingerprint: str
    corpus: str
    k: int
    length: int
    layers: int


@dataclass
class Maps:
    """A block of samples, rows aligned.

    sequence_id: int64 (N,). decoded: int32 (N, length).
    confidence: float32 (N,), mean probability that the model gave to the decoded suffix, NaN where unknown.
    pools: "mean", "max" to float16 (N, length * (length + 1) / 2, layers), attention weights in 0..1, lower triangle row by row.
    logprob: float16 (N, length), as `memgrid.lm.scores.scores.Scores` has it. min_k: float32 (N,), its `min_k_plus`.
    zlib: float32 (N,), bytes of the decoded text when zlib has compressed it. These three: NaN where unknown, None where not asked for.
    """

    sequence_id: np.ndarray
    decoded: np.ndarray
    confidence: np.ndarray
    pools: dict[str, np.ndarray]
    logprob: np.ndarray | None = None
    min_k: np.ndarray | None = None
    zlib: np.ndarray | None = None

    @property
    def measured(self) -> dict[str, np.ndarray]:
        """Those of `MEASURED` that are known."""
        return {name: array for name in MEASURED if (array := getattr(self, name)) is not None}

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Maps:
        """Every array changed alike."""
        tables = {name: change(array) for name, array in {**{name: getattr(self, name) for name in TABLES}, **self.measured}.items()}
        return Maps(**tables, pools={pool: change(values) for pool, values in self.pools.items()})


def layout(identity: Identity) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Dataset name to dtype and shape of one sample."""
    maps = (np.dtype("<f2"), (len(Triangle(identity.length)), identity.layers))
    tables: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
        "sequence_id": (np.dtype("<i8"), ()),
        "decoded": (np.dtype("<i4"), (identity.length,)),
        "confidence": (np.dtype("<f4"), ()),
        "checksum": (np.dtype("<u8"), (len(POOLS),)),
        "logprob": (np.dtype("<f2"), (identity.length,)),
        "min_k": (np.dtype("<f4"), ()),
        "zlib": (np.dtype("<f4"), ()),
    }
    return tables | dict.fromkeys(POOLS, maps)


def _attributes(identity: Identity) -> dict[str, str | int]:
    """Root attributes of a shard, all but the digest; the version comes first, so that it is compared first."""
    return {"format_version": FORMAT_VERSION, **asdict(identity), "pools": ",".join(POOLS), "created_by": f"memgrid {VERSION}"}


def _seal(attributes: dict[str, str | int]) -> str:
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()


def _digest(tables: Sequence[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(table.tobytes() for table in tables)).hexdigest()


def checksum(maps: np.ndarray) -> np.ndarray:
    """Sum modulo 2^64 of the words of each map, uint64 (N,): of 8 bytes, or of 2 bytes if 8 do not divide the map's bytes."""
    flat = np.ascontiguousarray(maps).reshape(len(maps), math.prod(maps.shape[1:]))
    return flat.view("<u8" if flat.shape[1] % 4 == 0 else "<u2").sum(axis=1, dtype=np.uint64)


def _chunk_rows(rows: int, row_bytes: int) -> int:
    """Rows in a chunk of about CHUNK_BYTES, chosen to pad the last chunk least (HDF5 always stores whole chunks)."""
    ideal = max(1, CHUNK_BYTES // row_bytes)
    if rows <= ideal:
        return rows
    return min(range(max(1, ideal // 2), min(rows, 2 * ideal) + 1), key=lambda size: (-rows % size, abs(size - ideal)))


def validate(maps: Maps, identity: Identity) -> None:
    """Raise StoreError unless shapes, dtypes, ids and values are those of a shard."""
    arrays: dict[str, np.ndarray] = {name: getattr(maps, name) for name in TABLES} | maps.measured | maps.pools
    rows = len(maps.sequence_id)
    if rows == 0 or set(maps.pools) != set(POOLS):
        raise StoreError(f"Cannot write {rows} samples with pools {sorted(maps.pools)}: give at least one, with pools {', '.join(POOLS)}.")
    fields = layout(identity)
    for name, array in arrays.items():
        dtype, shape = fields[name]
        if array.dtype != dtype or array.shape != (rows, *shape):
            raise StoreError(f"Cannot write {name} as {array.dtype} {array.shape}: {rows} samples need {dtype} {(rows, *shape)}.")
    ids, counts = np.unique(maps.sequence_id, return_counts=True)
    if counts.max() > 1:
        raise StoreError(f"Cannot write sequence {ids[counts.argmax()]} {counts.max()} times in one shard: give each sequence once.")
    for pool in POOLS:
        for name, values in zip(maps.sequence_id, maps.pools[pool], strict=True):  # by row: a mask of all of them takes much memory
            if (values.view(np.uint16) & 0x7C00).max() == 0x7C00:  # all exponent bits set; np.isfinite is eight times slower on float16
                raise StoreError(f"The {pool} map of sequence {name} holds NaN or infinity: compute the model's attention in float32.")


def image(maps: Maps, identity: Identity, compress: bool) -> bytes:
    """The bytes of a shard. Made in memory, since HDF5 cannot give up a file that the disk has no room for."""
    buffer = io.BytesIO()
    compose(buffer, identity, compress, len(maps.sequence_id), [maps])
    return buffer.getvalue()  # no copy; a view of it in the frames of an error would outlive the buffer


def block_rows(identity: Identity, rows: int, size: int) -> int:
    """How many samples of a shard of `rows` to hand to `compose` at once: whole chunks, of about `size` bytes."""
    row_bytes = math.prod((*layout(identity)[POOLS[0]][1], 2))
    chunk = _chunk_rows(rows, row_bytes)
    return chunk * max(1, size // (len(POOLS) * chunk * row_bytes))


def compose(target: BinaryIO, identity: Identity, compress: bool, rows: int, blocks: Iterable[Maps]) -> None:
    """Write a shard of `rows` samples, that come in blocks, to an empty file; the maps must be as `validate` asks."""
    packing: dict[str, Any] = {}
    if compress:
        plugin = _plugin("write with compress=True")
        packing = dict(plugin.Blosc2(cname="lz4", clevel=5, filters=plugin.Blosc2.BITSHUFFLE))
    tables = {name: np.empty((rows, *shape), dtype) for name, (dtype, shape) in layout(identity).items() if name not in POOLS}
    with h5py.File(target, "w", libver=("v110", "v110")) as file:  # sums its metadata, older formats do not
        sets = {}
        for name, (dtype, shape) in layout(identity).items():
            chunks = (_chunk_rows(rows, dtype.itemsize * math.prod(shape)), *shape)
            extra = packing if name in POOLS else {}
            sets[name] = file.create_dataset(name, (rows, *shape), dtype, chunks=chunks, fletcher32=True, **extra)
        start = 0
        for block in blocks:
            part = np.s_[start : start + len(block.sequence_id)]
            for at, pool in enumerate(POOLS):
                sets[pool][part] = block.pools[pool]
                tables["checksum"][part, at] = checksum(block.pools[pool])
            for name in TABLES:
                tables[name][part] = getattr(block, name)
            for name in MEASURED:
                tables[name][part] = block.measured.get(name, np.nan)
            start = part.stop
        for name, table in tables.items():
            sets[name][...] = table
        attributes = _attributes(identity) | {LATER: _digest([tables[name] for name in MEASURED])}
        attributes["digest"] = _seal(attributes) + _digest([tables[name] for name in DIGESTED])
        for name, value in attributes.items():
            if isinstance(value, str):  # fixed length: strings of variable length lie outside the summed metadata
                file.attrs.create(name, value.encode(), dtype=h5py.string_dtype("utf-8", max(1, len(value.encode()))))
            else:
                file.attrs[name] = np.int64(value)


def _plugin(task: str) -> Any:
    try:
        import hdf5plugin  # here and not above: only compressed shards need it
    except ImportError:
        raise StoreError(f"To {task}, hdf5plugin is needed: pip install hdf5plugin.") from None
    return hdf5plugin


def opened(path: Path) -> dict[str, h5py.Dataset]:
    """The datasets of a shard, opened without file locks (Lustre, NFS) and without a chunk cache (blocks are read once)."""
    file = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
    try:
        sets = {name: file[name] for name in (*DIGESTED, *POOLS, *(MEASURED if LATER in file.attrs else ()))}
        if packed(sets):
            _plugin(f"read {path}")
    except BaseException:
        file.close()
        raise
    return sets


def packed(sets: dict[str, h5py.Dataset]) -> bool:
    """Whether maps of a shard are compressed."""
    plists = [data.id.get_create_plist() for data in sets.values()]
    return BLOSC2 in {plist.get_filter(at)[0] for plist in plists for at in range(plist.get_nfilters())}


def _sealed(sets: dict[str, h5py.Dataset]) -> tuple[dict[str, Any], str]:
    """The root attributes of a shard and its digest. Raises: one of FAULTS if they do not belong together."""
    attributes = {
        name: value.decode() if isinstance(value, bytes) else int(value) for name, value in sets["sequence_id"].file.attrs.items()
    }
    digest = str(attributes.pop("digest", ""))
    if digest[:64] != _seal(attributes):
        raise ValueError("root attributes do not match their digest")
    return attributes, digest


def identity_of(sets: dict[str, h5py.Dataset], path: Path) -> Identity:
    """What a shard says that it was made from. Raises: one of FAULTS if it is damaged, StoreError if it is of another version."""
    attributes, _ = _sealed(sets)
    if attributes["format_version"] != FORMAT_VERSION:
        other = f"{path} has format_version {attributes['format_version']} where {FORMAT_VERSION} is expected"
        raise StoreError(f"{other}: read it with {attributes.get('created_by', 'the program')} that wrote it.")
    return Identity(**{field.name: attributes[field.name] for field in fields(Identity)})


def check(sets: dict[str, h5py.Dataset], path: Path, identity: Identity) -> np.ndarray:
    """The ids of a shard, after every check but the sums of its maps.

    Raises: one of FAULTS if it is damaged, StoreError if it is sound but of another version or identity.
    """
    attributes, digest = _sealed(sets)
    for name, value in _attributes(identity).items():
        if name != "created_by" and attributes.get(name) != value:
            other = f"{path} has {name} {attributes.get(name)!r} where {value!r} is expected"
            raise StoreError(f"{other}: use another root, or delete {path.parent} to extract its maps anew.")
    rows = len(sets["sequence_id"])
    for name, (dtype, shape) in layout(identity).items():
        if name in MEASURED and LATER not in attributes:
            continue
        if sets[name].dtype != dtype or sets[name].shape != (rows, *shape):
            raise ValueError(f"{name} is {sets[name].dtype} {sets[name].shape} where {dtype} {(rows, *shape)} is expected")
    tables: list[np.ndarray] = [sets[name][()] for name in DIGESTED]
    if digest[64:] != _digest(tables):
        raise ValueError("ids, tokens, confidences or checksums do not match their digest")
    if LATER in attributes and attributes[LATER] != _digest([sets[name][()] for name in MEASURED]):
        raise ValueError("log-probabilities, Min-K or lengths for zlib do not match their digest")
    return tables[0]


def check_maps(sets: dict[str, h5py.Dataset]) -> None:
    """Read every map of a shard against its sums. Raises: one of FAULTS if it is damaged."""
    for at, pool in enumerate(POOLS):
        data, step = sets[pool], sets[pool].chunks[0]
        for start in range(0, len(data), step):
            if not np.array_equal(checksum(data[start : start + step]), sets["checksum"][start : start + step, at]):
                raise ValueError(f"a {pool} map does not match its checksum")


def gather(source: h5py.Dataset, rows: np.ndarray, target: np.ndarray, places: np.ndarray) -> None:
    """Copy ascending rows of a dataset to places of an array, by block slices: HDF5's fancy indexing is a hundred times slower."""
    chunk = rows // source.chunks[0]
    run = (np.diff(rows) == 1) & (np.diff(places) == 1)
    cuts = [0, *(np.flatnonzero((np.diff(chunk) != 0) & ~run) + 1), len(rows)]
    for start, stop in itertools.pairwise(cuts):
        first, last = rows[start], rows[stop - 1] + 1
        if run[start : stop - 1].all():
            source.read_direct(target, np.s_[first:last], np.s_[places[start] : places[stop - 1] + 1])
        else:
            target[places[start:stop]] = source[first:last][rows[start:stop] - first]
