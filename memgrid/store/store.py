"""Store of pooled attention maps: a folder of HDF5 shards that are whole or absent, for many writers and many readers at once.

A shard is a file `*.h5`, whose bytes and checks are the job of `store.shard`. This module writes shards so that a killed writer leaves
nothing that looks like one, knows which shard holds which sample, and moves damaged shards aside to `damaged/`.

A `Store` crosses to other processes by fork or pickling. Use it from one thread of a process; only `write` may be called from a second one.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from memgrid.config.names import ATTENTION, Owner, find_home
from memgrid.errors import FAULTS, StoreError, StoreWarning, UserError
from memgrid.io.files import fill, reason, set_aside, stop_if_unreadable, sweep_leftovers, whole
from memgrid.store import shard
from memgrid.store.shard import DIGESTED, MEASURED, POOLS, TABLES, Identity, Maps

__all__ = ["Identity", "Maps", "Store", "StoreError", "StoreWarning"]

OPEN_FILES = 64


# The folder: names, leftovers, reasons.


def store_name(corpus: str, decoded: str) -> str:
    """What a store's folder is called below that of its LLM: the corpus, or `<corpus>@suffix` (no corpus has an @)."""
    return corpus if decoded == "continuation" else f"{corpus}@{decoded}"


def store_folder(root: Path, llm: str, corpus: str, decoded: str, fingerprint: str | None) -> Path:
    """Where the attention of one LLM and corpus lies, `<root>/attention/<llm>/<corpus>`.

    Args:
        fingerprint: of its weights, of whose checkpoint it has to be; None if that is not known.
    """
    name = store_name(corpus, decoded)
    home = find_home(root / ATTENTION, llm, name, fingerprint, owner_of_store) if fingerprint is not None else None
    return home[0] if home is not None else root / ATTENTION / llm / name


def owner_of_store(folder: Path) -> Owner | None:
    """Whose the shards of an earlier version are, by the first that can be read; None if there is none."""
    for path in sorted(folder.glob("[!.]*.h5")):
        try:
            sets = shard.opened(path)
            with sets["sequence_id"].file:
                identity = shard.identity_of(sets, path)
        except (UserError, *FAULTS):
            continue  # whoever reads the store names it
        return Owner(identity.fingerprint, identity.revision)
    return None


class Store:
    """The shards of one LLM and corpus in `folder`; with `compress`, new maps are packed by Blosc2 (lz4 after bit shuffle)."""

    def __init__(self, folder: Path, identity: Identity, compress: bool = False) -> None:
        self.folder, self.identity, self.compress = Path(folder), identity, compress
        self._shards: dict[str, tuple[tuple[int, int], np.ndarray]] = {}  # name to (mtime in ns, bytes) and its ids, row by row
        self._names: list[str] = []
        self._ids = self._shard = self._row = np.empty(0, np.int64)  # sorted unique ids, and where each lies
        self._open: OrderedDict[str, dict[str, h5py.Dataset]] = OrderedDict()
        self._pid = os.getpid()
        self._swept = False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}  # handles never cross processes

    def ids(self) -> np.ndarray:
        """Sorted unique ids, int64, of the valid shards now in the folder; damaged ones are set aside with a StoreWarning.

        Raises: StoreError for a shard of another format version or identity, which stays where it is, and where the disk fails.
        """
        for sentence in self._scan():
            warnings.warn(sentence, StoreWarning, stacklevel=2)
        return self._ids.copy()

    def missing(self, wanted: Sequence[int] | np.ndarray) -> np.ndarray:
        """The wanted ids that the store lacks, int64, each once, in the order given. Raises: as `ids`."""
        asked = np.asarray(wanted, np.int64).reshape(-1)
        asked = asked[np.sort(np.unique(asked, return_index=True)[1])]
        return asked[~np.isin(asked, self.ids())]

    def write(self, maps: Maps) -> Path:
        """Write one shard, whole or not at all, and return its path.

        Raises: StoreError if the maps do not fit the identity or are not finite, or the folder cannot take them.
        """
        shard.validate(maps, self.identity)
        image = shard.image(maps, self.identity, self.compress)
        if not self._swept:
            sweep_leftovers(self.folder)
            self._swept = True
        # The name is new: nothing is overwritten.
        final = self.folder / f"{maps.sequence_id.min():010d}-{maps.sequence_id.max():010d}-{uuid.uuid4().hex}.h5"
        with whole(final, StoreError, sweep=False) as partial:
            fill(partial, image)
        return final

    def remove(self, unwanted: Sequence[int] | np.ndarray) -> np.ndarray:
        """Remove the shards that hold any of some ids; returns the other ids that were in them, int64. Raises: as `ids`."""
        self.ids()
        gone = [(name, ids) for name, (_, ids) in self._shards.items() if np.isin(ids, unwanted).any()]
        for name, _ in gone:
            if name in self._open:
                self._open.pop(name)["sequence_id"].file.close()
            (self.folder / name).unlink(missing_ok=True)
        return np.setdiff1d(np.concatenate([np.empty(0, np.int64), *(ids for _, ids in gone)]), unwanted)

    def read(self, ids: Sequence[int] | np.ndarray, pools: Sequence[str] = POOLS, measured: bool = False) -> Maps:
        """The samples of `ids` in their order (an id may be repeated), with the named pools.

        With `measured` also `shard.MEASURED`, NaN for samples of shards that lack them.

        Raises: StoreError if ids are missing, a pool is unknown, or a shard turns out damaged (it is set aside first).
        """
        if unknown := [pool for pool in pools if pool not in POOLS]:
            raise StoreError(f"Unknown pool {unknown[0]!r}: choose from {', '.join(POOLS)}.")
        wanted = np.asarray(ids, np.int64).reshape(-1)
        at = self._locate(wanted)
        layout, later = shard.layout(self.identity), MEASURED if measured else ()
        out = {name: np.empty((len(wanted), *layout[name][1]), layout[name][0]) for name in (*DIGESTED, *later, *pools)}
        order = np.lexsort((self._row[at], self._shard[at]))
        cuts, rows = np.flatnonzero(np.diff(self._shard[at][order])) + 1, self._row[at]
        for places in np.split(order, cuts) if len(order) else []:
            name = self._names[self._shard[at[places[0]]]]
            try:
                sets = self._datasets(name)
                for key, target in out.items():
                    if key in sets:
                        shard.gather(sets[key], rows[places], target, places)
                    else:
                        target[places] = np.nan
                if not np.array_equal(out["sequence_id"][places], wanted[places]):
                    raise ValueError("sequence ids changed since they were checked")
            except StoreError:
                raise
            except FAULTS as error:
                raise StoreError(self._set_aside(name, error)) from None
        for pool in pools:
            wrong = np.flatnonzero(shard.checksum(out[pool]) != out["checksum"][:, POOLS.index(pool)])
            if len(wrong):
                fault = ValueError(f"the {pool} map of sequence {wanted[wrong[0]]} does not match its checksum")
                raise StoreError(self._set_aside(self._names[self._shard[at[wrong[0]]]], fault))
        return Maps(**{name: out[name] for name in (*TABLES, *later)}, pools={pool: out[pool] for pool in pools})

    def verify(self) -> list[str]:
        """Read and check every byte of every shard anew; returns one sentence for each shard set aside. Raises: as `ids`."""
        self._close()
        self._shards.clear()
        self._index()
        sentences = self._scan()
        for name, (_, ids) in list(self._shards.items()):
            try:
                if len(ids):
                    shard.check_maps(self._datasets(name))
            except StoreError:
                raise
            except FAULTS as error:
                sentences.append(self._set_aside(name, error))
        return sentences

    def _scan(self) -> list[str]:
        """Bring the index up to date with the folder; returns a sentence for each shard set aside."""
        listed, sentences = self._listing(), []
        current = {name: entry for name, entry in self._shards.items() if listed.get(name) == entry[0]}
        stale, self._shards = len(current) < len(self._shards) or len(current) < len(listed), current
        try:
            for name in [name for name in listed if name not in current]:
                try:
                    sets = shard.opened(self.folder / name)
                    with sets["sequence_id"].file:
                        self._shards[name] = (listed[name], shard.check(sets, self.folder / name, self.identity))
                except StoreError:
                    raise
                except FileNotFoundError:
                    continue  # another process set it aside meanwhile
                except FAULTS as error:
                    self._shards[name] = (listed[name], np.empty(0, np.int64))
                    sentences.append(self._set_aside(name, error))
        finally:
            if stale:
                self._index()
        return sentences

    def _listing(self) -> dict[str, tuple[int, int]]:
        """Names of the shards, sorted, with (mtime in ns, bytes). A folder that cannot be read is no empty one: StoreError."""
        listed = {}
        try:
            for name in sorted(os.listdir(self.folder)):
                if name.endswith(".h5") and not name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        status = os.stat(self.folder / name)
                        listed[name] = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(f"Cannot read {self.folder} ({reason(error)}): set that right or choose another root.") from None
        return listed

    def _index(self) -> None:
        """Tabulate where each id lies; of an id in several shards, the first by name counts."""
        self._names = sorted(self._shards)
        parts = [self._shards[name][1] for name in self._names]
        every = np.concatenate([np.empty(0, np.int64), *parts])
        self._ids, first = np.unique(every, return_index=True)
        self._shard = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[first]
        self._row = np.concatenate([np.empty(0, np.int64), *(np.arange(len(part)) for part in parts)])[first]

    def _locate(self, wanted: np.ndarray) -> np.ndarray:
        """Positions of the wanted ids in the index, scanning anew if some are unknown; StoreError names those still missing."""
        for scan in (False, True):
            if scan:
                self.ids()
            at = np.searchsorted(self._ids, wanted)
            lost = wanted[self._ids[np.minimum(at, len(self._ids) - 1)] != wanted] if len(self._ids) else wanted
            if not len(lost):
                return at
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise StoreError(f"Sequences {', '.join(map(str, lost[:3]))}{more} are not in {self.folder}: extract them first.")

    def _datasets(self, name: str) -> dict[str, h5py.Dataset]:
        """The datasets of a shard, opened in this process; beyond OPEN_FILES, the least recently used shard is closed."""
        if self._pid != os.getpid():
            self._close()  # inherited by fork: HDF5 would hand out the parent's descriptors again
        if name not in self._open:
            self._open[name] = shard.opened(self.folder / name)
        self._open.move_to_end(name)
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1]["sequence_id"].file.close()
        return self._open[name]

    def _close(self) -> None:
        while self._open:
            self._open.popitem()[1]["sequence_id"].file.close()
        self._pid = os.getpid()

    def _set_aside(self, name: str, error: Exception) -> str:
        """Move a damaged shard to `damaged/` and forget its ids; returns the sentence. StoreError if it was the disk that failed."""
        path = self.folder / name
        stop_if_unreadable(path, error)
        if name in self._open:
            self._open.pop(name)["sequence_id"].file.close()
        self._shards[name] = (self._shards[name][0], np.empty(0, np.int64))
        self._index()
        return f"{path} is damaged ({reason(error)}) and {set_aside(path)}: if this run does not extract its sequences anew, run again."
