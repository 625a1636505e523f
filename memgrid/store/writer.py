"""The writer of a store: gathers blocks of samples into shards."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from memgrid.store.shard import Maps
from memgrid.store.store import Store


class ShardWriter:
    """Gathers blocks of samples into shards, written by a thread of its own while the model computes the next.

    Never more than one shard waits in memory. Leaving the context writes the rest; an error inside it throws the rest away.
    """

    def __init__(self, store: Store, shard_samples: int) -> None:
        self.store, self.shard_samples = store, shard_samples
        self.shard: Maps | None = None
        self.filled = 0
        self.thread = ThreadPoolExecutor(max_workers=1)
        self.writing: Future[Path] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def add(self, part: Maps) -> None:
        """Copy a block into the shard; whenever that is full, it is written."""
        taken, samples = 0, len(part.sequence_id)
        while taken < samples:
            if self.shard is None:
                self.shard = room(self.shard_samples, part)
            count = min(samples - taken, self.shard_samples - self.filled)
            for target, source in zip(arrays(self.shard), arrays(part), strict=True):
                target[self.filled : self.filled + count] = source[taken : taken + count]
            taken, self.filled = taken + count, self.filled + count
            if self.filled == self.shard_samples:
                self.flush()

    def flush(self) -> None:
        """Hand what is there to the thread, after the shard before it is on disk.

        Raises:
            StoreError: that shard could not be written.
        """
        self.wait()
        if self.shard is not None:
            self.writing = self.thread.submit(self.store.write, self.shard.each(lambda array: array[: self.filled]))
            self.shard, self.filled = None, 0

    def wait(self) -> None:
        """Until the shard that is being written is on disk."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.flush()
                self.wait()
        finally:
            self.thread.shutdown()


def arrays(maps: Maps) -> list[np.ndarray]:
    """Everything that has a row per sample."""
    return [maps.sequence_id, maps.decoded, maps.confidence, *(maps.pools[pool] for pool in sorted(maps.pools)), *maps.measured.values()]


def room(samples: int, like: Maps) -> Maps:
    """Empty arrays for so many samples: one allocation per shard, since many small blocks would fragment the heap."""
    return like.each(lambda array: np.empty((samples, *array.shape[1:]), array.dtype))
