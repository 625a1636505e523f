"""An export as a folder: tables in files, the card, and a list of all files, by which an export is known again."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from memgrid.errors import DamagedError, UserError
from memgrid.io.digests import read_json, write_json, write_parquet
from memgrid.io.display import csv_text, progress_bar
from memgrid.io.files import whole_folder, write_text
from memgrid.io.paths import VERSION
from memgrid.pipeline.face.export.card import CARD, Facts, Written, card
from memgrid.pipeline.face.export.columns import TABLES
from memgrid.pipeline.face.export.tables import Part, digests_of, homes_of, tables_of
from memgrid.pipeline.face.view import RunData

LIST = "memgrid-export.json"  # in an export: its files, each with its SHA-256
FORMATS = ("parquet", "csv")
FILE_BYTES = 2**24  # of rows in memory, from which on they become a file
UNITED = "labels"  # whose columns differ between models: written at the end, with all of them


@dataclass
class Tables:
    """Files of tables, written while their rows come; as many rows are kept in memory as one file has."""

    folder: Path
    format: str
    waiting: dict[tuple[str, str], list[pl.DataFrame]] = field(default_factory=lambda: defaultdict(list))
    written: dict[str, Written] = field(default_factory=dict)

    def add(self, part: Part) -> None:
        """Take some rows."""
        rows = flat(part.table, part.rows) if self.format == "csv" else part.rows
        if rows.is_empty():
            return
        waiting = self.waiting[part.table, part.split]
        waiting.append(rows)
        if part.table != UNITED and sum(table.estimated_size() for table in waiting) > FILE_BYTES:
            self.write(part.table, part.split)

    def write(self, table: str, split: str) -> None:
        """Put the rows that wait for it into a file."""
        rows = pl.concat(self.waiting.pop((table, split)), how="diagonal_relaxed")
        known = self.written.setdefault(table, Written(rows.schema))
        number = known.files[split] = known.files.get(split, 0) + 1
        known.rows[split] = known.rows.get(split, 0) + rows.height
        path = self.folder / table / f"{split}-{number - 1:05d}.{self.format}"
        if self.format == "csv":
            write_text(csv_text(rows), path)
        else:
            write_parquet(rows, path)

    def finish(self) -> dict[str, Written]:
        """Write what is left, and tell what there is, in the order of `TABLES`."""
        for table, split in list(self.waiting):
            self.write(table, split)
        return {name: self.written[name] for name in TABLES if name in self.written}


def flat(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows as CSV can hold them: a row per class of a prediction, and per place of a decision map; other lists as JSON."""
    if table == "predictions":
        return rows.explode("classes", "probabilities").rename({"classes": "answer", "probabilities": "probability"})
    if table == "decision_maps":
        own, parts = rows.drop("map"), []
        for at, of_class in enumerate(rows["map"].to_list()):
            values = np.array(of_class, np.float32)
            places = np.nonzero(values)
            names = ("layer", "query", "key")
            by_place = pl.DataFrame({**dict(zip(names, places, strict=True)), "value": values[places]})
            parts.append(own[at].join(by_place, how="cross"))
        return pl.concat(parts)
    lists = [name for name, kind in rows.schema.items() if isinstance(kind, pl.List)]
    return rows.with_columns(pl.Series(name, [json.dumps(value) for value in rows[name].to_list()], pl.String) for name in lists)


def write_export(runs: Sequence[RunData], folder: Path, format: str, text: bool, licence: str) -> None:
    """Write the files of an export into an empty folder, the list of them last."""
    tables, homes = Tables(folder, format), homes_of(runs)
    with progress_bar() as bar:
        task = bar.add_task("runs", total=len(runs))
        for part in tables_of(runs, homes, text):
            tables.add(part)
            bar.update(task, advance=part.table == "runs")
    corpora = sorted({home.corpus for home in homes.values()})
    facts = Facts(runs, corpora, tables.finish(), format, text, licence, digests_of(homes.values()))
    write_text(card(facts), folder / CARD)
    write_json({"memgrid": VERSION, "files": digests_in(folder)}, folder / LIST)


def digests_in(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder but its list, by path; of what is no file, that it is none."""
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    names = {path.relative_to(folder).as_posix(): path for path in found if path != folder / LIST}
    return {name: digest(path) if path.is_file() and not path.is_symlink() else "no file" for name, path in names.items()}


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_out(out: Path, root: Path) -> None:
    """Refuse a folder that an export cannot be written to, before any work.

    Raises:
        UserError: it lies in the root, or is there and no export, or not any more.
    """
    goal, kept = out.resolve(), root.resolve()
    if goal == kept or kept in goal.parents:
        raise UserError(f"out={out} lies in root={root}, where memgrid keeps its own folders: choose a folder outside of it")
    if not out.is_symlink() and not out.exists():
        return
    try:
        listed = read_json(out / LIST)["files"]
    except (OSError, DamagedError, KeyError):
        raise UserError(f"out={out} exists and is no export of memgrid: choose another name, or remove it") from None
    if out.is_symlink():
        raise UserError(f"out={out} is a link: name the folder itself, or choose another name")
    there = digests_in(out)
    if strange := sorted(name for name in {*there, *listed} if there.get(name) != listed.get(name)):
        raise UserError(f"out={out} was changed since it was exported ({strange[0]}): move it away, or choose another name")


def export_folder(runs: Sequence[RunData], root: Path, out: Path, format: str, text: bool, licence: str) -> None:
    """Write an export whole or not at all; one that is there is replaced at once.

    Raises:
        UserError: as `refuse_out`; a run lacks a file, or has a damaged one; or the disk cannot take it.
    """
    refuse_out(out, root)
    with whole_folder(out, check(out, root)) as partial:
        write_export(runs, partial, format, text, licence)


def check(out: Path, root: Path) -> Callable[[], None]:
    """What has to hold still when the export takes its place."""
    return lambda: refuse_out(out, root)
