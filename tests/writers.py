"""The kinds of files that memgrid writes, each with what writes one, and folders in which such a file stands already."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from omegaconf import OmegaConf

from memgrid.audit.shadow.arrays import write_arrays
from memgrid.io.checkpoints import save
from memgrid.io.digests import write_json, write_parquet, write_yaml
from memgrid.io.files import copy_file, whole, write_bytes, write_text
from memgrid.localize.maps import write_decision_maps
from memgrid.report.figures.style import figure

OLD = b"what stood there before"


def write_figure(path: Path) -> None:
    with figure(path.with_suffix(""), 1, 1) as drawing:
        drawing.text(0.5, 0.5, "text")


def write_maps(path: Path) -> None:
    write_decision_maps(path, {"members": ["a"], "classes": ["c"]}, np.zeros((1, 1, 2, 8, 8), np.float32), [np.zeros(3, np.int64)])


def write_open_file(path: Path) -> None:
    with whole(path) as partial, partial.open("wb") as file:
        file.write(b"x" * 1000)


# The kind of every file that is written, and what writes it.
WRITERS: dict[str, Callable[[Path], None]] = {
    "a.json": lambda path: write_json({"text": "x" * 1000}, path),
    "a.yaml": lambda path: write_yaml(OmegaConf.create({"text": "x" * 1000}), path),
    "a.parquet": lambda path: write_parquet(pl.DataFrame({"a": np.arange(1000)}), path, metadata={"memgrid": "b"}),
    "a.txt": lambda path: write_text("δ" * 1000, path),
    "a.bin": lambda path: write_bytes(b"x" * 1000, path),
    "b.bin": write_open_file,
    "copy.py": lambda path: copy_file(Path(__file__), path),
    "maps.h5": write_maps,
    "arrays.h5": lambda path: write_arrays(path, "it", {}, {"a": np.arange(1000)}),
    "a.ckpt": lambda path: save({"a": torch.zeros(1000)}, path),
    "a.png": write_figure,
}


def folder_with_old_file(parent: Path, name: str) -> Path:
    folder = parent / f"of-{name}"
    folder.mkdir()
    (folder / name).write_bytes(OLD)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
