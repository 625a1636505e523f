"""The runs that `transfer.from` names: found on the disk, and refused, each in a sentence, where their networks cannot be tried."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from memgrid.config.derive import sources
from memgrid.config.names import digest_of
from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.files import content_of
from memgrid.results.result import NAME, RunResult, from_json

SHAPE = {"length": "tokens", "k": "tokens in the prefix"}  # settings of a corpus that maps of two runs must have in common


@dataclass
class Sources:
    """The runs that `transfer.from` names.

    Attributes:
        folders: of each, with its result, in the order in which they are named; of a pattern sorted.
        by_name: those of them that are named one by one, and not by a pattern.
        passed_over: folders of finished runs that a pattern matches and that do not fit → why.
    """

    folders: dict[Path, RunResult] = field(default_factory=dict)
    by_name: set[Path] = field(default_factory=set)
    passed_over: dict[Path, str] = field(default_factory=dict)


def is_pattern(name: str) -> bool:
    """Whether a name stands for all the finished runs that match it."""
    return any(sign in name for sign in "*?")


def places(name: str, root: Path) -> Iterator[Path]:
    """Where a name may lead: from here, from the root, from the folder of all runs; once if it is absolute."""
    yield from dict.fromkeys(base / name for base in (Path(), root, root / "runs"))


def matching(name: str, root: Path) -> list[Path]:
    """The folders of finished runs that a name, or a pattern, leads to, sorted; those of the first place that has any."""
    for place in places(name, root):
        found = sorted(map(Path, glob(str(place)))) if is_pattern(name) else [place]
        if finished := [path for path in found if (path / NAME).is_file()]:
            return finished
    return []


def fault(result: RunResult, run: RunConfig) -> str:
    """Why the networks of a result cannot be tried on a run's samples, as the end of a sentence about it; empty if they can."""
    wanted, has = list(run.taxonomy.classes), result.classes
    if set(wanted) != set(has):
        return f"has the classes {', '.join(has)}, and this run {', '.join(wanted)}: name a run with the same"
    for key, what in SHAPE.items():
        theirs, own = result.settings["corpus"][key], getattr(run.corpus, key)
        if theirs != own:
            return f"has corpus.{key}={theirs} {what}, and this run {own}: name a run with as many"
    return ""


def find_sources(run: RunConfig, own: Path) -> Sources:
    """The runs that a run's `transfer.from` names.

    Args:
        own: the run's folder, which no pattern means.

    Raises:
        UserError: one is not there, is not finished, or does not fit; or a pattern matches none that fits.
    """
    found = Sources()
    for name in sources(run):
        some = {path.resolve(): path for path in matching(name, Path(run.root))}
        if is_pattern(name):
            some.pop(own.resolve(), None)
        elif not some:
            raise UserError(missing(name, Path(run.root)))
        fits = 0
        for path in some.values():
            result = read_result(path)
            why = fault(result, run)
            if why and not is_pattern(name):
                raise UserError(f"transfer.from={name} {why}")
            if why:
                found.passed_over[path] = why
            else:
                found.folders[path] = result
                found.by_name |= set() if is_pattern(name) else {path}
            fits += not why
        if not fits:
            raise UserError(unmatched(name, run, len(some)))
    return found


def read_result(path: Path) -> RunResult:
    """The result of a finished run; UserError, which names its folder, if it cannot be read."""
    try:
        return from_json(content_of(path / NAME))
    except UserError as error:
        raise UserError(f"transfer.from: {path}: {error}") from None
    except OSError as error:
        raise UserError(f"transfer.from: {path / NAME} cannot be read ({error.strerror}): set that right, or name another run") from None


def missing(name: str, root: Path) -> str:
    """The sentence for a name that leads to no finished run."""
    if any(place.is_dir() for place in places(name, root)):
        return f"transfer.from={name} holds no finished run: start that run first, and then this one again"
    return f"transfer.from={name} is no folder of a run, neither here nor in {root} nor in {root / 'runs'}: `memgrid status` lists them"


def unmatched(name: str, run: RunConfig, others: int) -> str:
    """The sentence for a pattern without a run that could be tried."""
    some = f" ({others} match that have others)" if others else ""
    return (
        f"transfer.from={name} matches no other finished run with the classes {', '.join(run.taxonomy.classes)}{some}: finish one first, "
        "and then start the stage transfer again"
    )


def inputs_of(folders: list[Path], own: Path) -> str:
    """A digest of the results of a run and of those whose networks are tried, by what is on the disk now."""
    return digest_of([hashlib.sha256(content_of(path / NAME)).hexdigest() for path in (own, *folders)])
