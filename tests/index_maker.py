"""Indices of infini-gram, built by that package's own program from documents in tokens."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def make_index(folder: Path, documents: Iterable[tuple[np.ndarray, int]], width: int = 2, shards: int = 1) -> Path:
    """An index of documents, each as often as it has copies; `width` bytes a token, dealt out to `shards`."""
    from infini_gram import indexing

    folder.mkdir(parents=True)
    texts: list[bytes] = [b""] * shards
    offsets: list[list[int]] = [[] for _ in range(shards)]
    for number, tokens in enumerate(tokens for tokens, copies in documents for _ in range(copies)):
        offsets[number % shards].append(len(texts[number % shards]))
        texts[number % shards] += b"\xff" * width + tokens.astype(f"<u{width}").tobytes()
    for shard in range(shards):
        (folder / f"tokenized.{shard}").write_bytes(texts[shard])
        np.array(offsets[shard], "<u8").tofile(folder / f"offset.{shard}")
    if width == 4:  # the program would ask for 34 GB, as many entries as there may be tokens: here its table is made by hand
        for shard, text in enumerate(texts):
            size = -(-len(text).bit_length() // 8)
            places = sorted(range(0, len(text), width), key=lambda place: text[place:])
            (folder / f"table.{shard}").write_bytes(b"".join(place.to_bytes(size, "little") for place in places))
        return folder
    here = os.getcwd()
    try:  # it goes to its own folder, where its program lies, and tells what it does
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            place = {"save_dir": str(folder), "temp_dir": str(folder), "worker_id": 0, "workers": 1}
            indexing.build_sa(argparse.Namespace(**place, shards=shards, mem=1, cpus=1, token_width=width))
    finally:
        os.chdir(here)
    return folder
