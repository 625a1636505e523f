"""`python -m memgrid.store`: stores from the shell, without the model; `verify`, `info` and `export` check, describe and carry home."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.commands import HELP, Command, explained, key, parsed, start
from memgrid.store.archive import export, info, stores_below, verify

ROOT = Path(RunConfig().root) / "attention"


@dataclass(frozen=True)
class Verify:
    """What `memgrid store verify` understands."""

    folder: list[Path] = key("<store>", "a store, which is a folder of shards: <root>/attention/<llm>/<corpus>", read=Path, several=True)
    root: Path | None = key("<folder>", f"all stores below this folder; {ROOT} if nothing is said", None, Path)


@dataclass(frozen=True)
class Info(Verify):
    """What `memgrid store info` understands."""


@dataclass(frozen=True)
class Export:
    """What `memgrid store export` understands."""

    folder: Path = key("<store>", "the store to take samples from", read=Path)
    ids: str = key("<1,2,3 | file.txt | file.parquet>", "which: numbers, a text file of them, or a table with a column sequence_id")
    out: Path = key("<file.h5>", "the shard to be written; one that exists is not overwritten", read=Path)


COMMAND = Command(
    "store",
    "verify reads every byte and sets damaged shards aside; info reads no maps and moves nothing; export writes the named samples as one "
    "shard.",
    {"verify": Verify, "info": Info, "export": Export},
    {
        "store verify": "every store below memgrid-runs/attention",
        "store info folder=memgrid-runs/attention/toy/toy": "what a store holds",
        "store export folder=memgrid-runs/attention/toy/toy ids=1,2,3 out=subset.h5": "three samples, to be carried home",
    },
)


def run(arguments: list[str]) -> bool:
    """Do one command; False if a store was damaged or could not be checked, which does not keep the others from their turn.

    Raises:
        UserError: the command or a key is unknown, or a value is missing or given twice.
    """
    words = parsed(COMMAND, arguments)
    if isinstance(words, Export):
        export(words.folder, words.ids, words.out)
        return True
    if words.folder and words.root:
        raise UserError("folder= and root= are both given: name the stores with folder=, or all stores below a folder with root=")
    good = True
    for folder in words.folder or stores_below(words.root or ROOT):
        try:
            good &= (info if isinstance(words, Info) else verify)(folder)
        except UserError as error:
            print(f"memgrid: {error}", file=sys.stderr)
            good = False
    return good


def main(arguments: list[str]) -> int:
    """Do one command and return the exit status; a failure is one sentence."""
    if HELP & set(arguments):
        print(explained(COMMAND))
        return 0
    try:
        return 0 if run(arguments) else 1
    except UserError as error:
        print(f"memgrid: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    start(main)
