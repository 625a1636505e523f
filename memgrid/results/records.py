"""What the stages after training have done to a run: each leaves a mark, a JSON file that it writes last, with its settings and numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.files import write_json

LATER = ("localize", "intervene")


def delta_path(run: RunConfig, folder: Path) -> Path:
    """Where the Δ maps of the run's method lie."""
    return folder / f"localize-{run.localize.method}.h5"


def mark_path(run: RunConfig, folder: Path, stage: str) -> Path:
    """The mark of a stage: one for every method of localization, one of the intervention."""
    return delta_path(run, folder).with_suffix(".json") if stage == "localize" else folder / "intervene.json"


def results_of(run: RunConfig, folder: Path, stage: str) -> list[Path]:
    """The files of a stage that count as its result, the mark first."""
    table = folder / "intervene.parquet"
    others = [delta_path(run, folder)] if stage == "localize" else [table, folder / "intervene.partial.jsonl"]
    return [mark_path(run, folder, stage), *others]


def write_mark(run: RunConfig, folder: Path, stage: str, inputs: str, content: dict[str, Any]) -> None:
    """Note that a stage is done.

    Args:
        inputs: digest of what the Δ maps were made from.
        content: what there is to tell.
    """
    write_json(
        {"method": run.localize.method, "settings": settings_of(run, stage), "inputs": inputs, **content}, mark_path(run, folder, stage)
    )


def settings_of(run: RunConfig, stage: str) -> dict[str, Any]:
    """The settings that decide a stage's result, but for the method."""
    if stage == "intervene":
        return asdict(run.intervene)
    return {key: value for key, value in asdict(run.localize).items() if key != "method"}


def read_mark(path: Path) -> dict[str, Any] | None:
    """A mark, or None where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    needed = {"method", "settings", "inputs", *({"verdict"} if path.name == "intervene.json" else {"samples", "classes", "sanity"})}
    return found if isinstance(found, dict) and needed <= found.keys() else None


def is_done(run: RunConfig, folder: Path, stage: str) -> bool:
    """Whether a stage after training has its result, made with the run's settings; an intervention, also from the Δ maps that are there."""
    mark = read_mark(mark_path(run, folder, stage))
    if mark is None or (mark["method"], mark["settings"]) != (run.localize.method, settings_of(run, stage)):
        return False
    if stage == "localize":
        return delta_path(run, folder).exists()
    located = read_mark(mark_path(run, folder, "localize"))
    return located is not None and located["inputs"] == mark["inputs"] and (folder / "intervene.parquet").exists()


def undone(run: RunConfig, folder: Path) -> list[str]:
    """The stages after training that the run asks for and that are not done."""
    return [stage for stage in LATER if stage in run.stages and not is_done(run, folder, stage)]


def named(stage: str, given: dict[str, Any]) -> dict[str, Any]:
    """A stage's settings under the names that they are typed with."""
    return {f"{stage}.{key}": value for key, value in given.items()}


def refuse_rivals(runs: Iterable[RunConfig], folder_of: Callable[[RunConfig], Path]) -> None:
    """A run keeps one result of each stage after training: two of a sweep would take each other's place, again and again.

    Raises:
        UserError: two runs differ in nothing but settings of such a stage.
    """
    seen: dict[Path, tuple[str, dict[str, Any]]] = {}
    for run in runs:
        for stage in (stage for stage in LATER if stage in run.stages):
            path, wanted = mark_path(run, folder_of(run), stage), (run.localize.method, settings_of(run, stage))
            other = seen.setdefault(path, wanted)
            if other != wanted:
                before, now = ({"localize.method": method, **named(stage, given)} for method, given in (other, wanted))
                key = next(key for key in now if now[key] != before[key])
                raise UserError(
                    f"{key}={before[key]} and {key}={now[key]} of the same run cannot be swept over: {path} holds one result, so give each "
                    "a root of its own (labels and attention can be copied or linked)"
                )
