"""The finished runs below a root, and those that cannot be read, each with the reason."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from memgrid.config.overrides import command_of
from memgrid.errors import UserError
from memgrid.io.files import content_of
from memgrid.results.folder import BASELINES, RunFolder, folders_below
from memgrid.results.result import RunResult, from_json

T = TypeVar("T")
WARNED = 5  # results left out that are named one by one


@dataclass(frozen=True)
class FinishedRun:
    """A run with its result, and the folder in which both lie."""

    folder: RunFolder
    result: RunResult

    @property
    def settings(self) -> dict[str, Any]:
        """What decided the result, as `config.names.settings` gives it."""
        return self.result.settings


def read_runs(root: Path) -> tuple[list[FinishedRun], dict[str, str]]:
    """All finished runs below a root, sorted by folder, and the folders of those that cannot be read, each with the reason."""
    runs, left_out, known = [], {}, dict[str, Any]()
    for path in folders_below(root):
        folder = RunFolder(path)
        try:
            result = from_json(content_of(folder.metrics))
            runs.append(FinishedRun(folder, replace(result, settings=shared(result.settings, known))))
        except FileNotFoundError:
            continue  # not finished yet
        except OSError as error:
            left_out[str(path)] = f"its metrics.json cannot be read ({error.strerror})"
        except UserError as error:
            left_out[str(path)] = str(error)
    return runs, left_out


def shared(settings: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The settings with parts that are in memory once, however many runs have them: thousands of runs differ in few."""
    return {known.setdefault(key, key): known.setdefault(json.dumps([key, value]), value) for key, value in settings.items()}


def finished_runs(root: Path) -> list[FinishedRun]:
    """Every finished run below `<root>/runs`, sorted by folder; a warning names those that cannot be read.

    Raises:
        UserError: there is none.
    """
    runs, left_out = read_runs(root)
    warn_left_out(left_out)
    return some_runs(runs, left_out, root)


def some_runs(runs: list[FinishedRun], left_out: dict[str, str], root: Path) -> list[FinishedRun]:
    """The runs; UserError where there is none."""
    if not runs:
        others = f" that this version can read ({len(left_out)} that it cannot)" if left_out else ""
        if (root.parent / "runs").is_dir() and root.name == "runs":
            raise UserError(f"root={root} is the folder of runs in a root: write root={root.parent}")
        raise UserError(f"root={root} holds no finished run{others}: start one with `{command_of('run', root)}`")
    return runs


def warn_left_out(left_out: dict[str, str]) -> None:
    """A line on stderr for each of the first runs that were left out, and one for the rest."""
    for folder, reason in list(left_out.items())[:WARNED]:
        print(f"memgrid: {folder} is left out: {reason}", file=sys.stderr)
    if len(left_out) > WARNED:
        print(f"memgrid: {len(left_out) - WARNED} more are left out for such reasons", file=sys.stderr)


def tell_left_out(error: UserError) -> None:
    """A line on stderr that a file of a run is of no use, so that the report is written without what it holds."""
    print(f"memgrid: left out of the report: {error}", file=sys.stderr)


def read_or_told(read: Callable[[], T]) -> T | None:
    """What is read of a run, or None where it cannot be, which is told."""
    try:
        return read()
    except UserError as error:
        tell_left_out(error)
        return None


@dataclass(frozen=True)
class Answers:
    """What was said of a run's eval samples.

    Attributes:
        labels: int64 (n,).
        panel: float64 (members, n, classes).
        others: float64 (n, classes) by baseline.
        groups: int64 (n,), equal for near-duplicates; each sample its own where an older run did not keep them.
    """

    labels: np.ndarray
    panel: np.ndarray
    others: dict[str, np.ndarray]
    groups: np.ndarray


def read_answers(run: FinishedRun) -> Answers | None:
    """A run's predictions and those of its baselines; None where an older version left none, or a file is damaged."""
    classes = len(run.result.classes)
    files = (run.folder.predictions, run.folder.baselines)
    if not all(path.exists() for path in files):
        return None
    panel, others = (read_or_told(partial(run.folder.table, path)) for path in files)
    if panel is None or others is None:
        return None
    try:
        baselines = {name: others[name].list.to_array(classes).to_numpy() for name in BASELINES if name in others.columns}
        members = np.stack([panel[name].list.to_array(classes).to_numpy() for name in run.result.members])
    except pl.exceptions.PolarsError:
        return None
    same = panel["sequence_id"].equals(others["sequence_id"]) and bool(baselines)
    return Answers(panel["label"].to_numpy().astype(np.int64), members, baselines, groups_of(run, panel)) if same else None


def groups_of(run: FinishedRun, predictions: pl.DataFrame) -> np.ndarray:
    """The group of near-duplicates that each eval sample is in, int64 (n,)."""
    samples = read_or_told(partial(run.folder.table, run.folder.samples)) if run.folder.samples.exists() else None
    if samples is None or "group" not in samples.columns:
        return np.arange(predictions.height)
    known = predictions.join(samples.select("sequence_id", "group"), on="sequence_id", how="left", maintain_order="left")
    return known["group"].to_numpy().astype(np.int64)
