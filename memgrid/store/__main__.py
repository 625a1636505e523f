"""Stores from the shell, without the model: `python -m memgrid.store verify|info|export` checks, describes and carries home.

    python -m memgrid.store verify [folder=<store> ...] [root=memgrid-runs/attention]
    python -m memgrid.store info   [folder=<store> ...] [root=memgrid-runs/attention]
    python -m memgrid.store export folder=<store> ids=<1,2,3 | file.txt | file.parquet> out=<file.h5>

A store is a folder of shards, `<root>/attention/<llm>/<corpus>`; without `folder`, every store below `root` is meant. `verify` reads every
byte and sets damaged shards aside; `info` reads no maps and moves nothing; `export` writes the named samples as one shard.
"""

from __future__ import annotations

import sys
from pathlib import Path

from memgrid.config.schema import RunConfig
from memgrid.errors import StoreError, UserError
from memgrid.store.archive import export, info, stores_below, verify

KEYS = {"verify": ("folder", "root"), "info": ("folder", "root"), "export": ("folder", "ids", "out")}


def parse(arguments: list[str]) -> tuple[str, dict[str, list[str]]]:
    """The command, and the values given to each of its keys.

    Raises:
        UserError: the command or a key is unknown, or a value is missing or given twice.
    """
    command = arguments[0] if arguments else ""
    if command not in KEYS:
        raise UserError(f"{command!r} is no command: use {', '.join(KEYS)}, such as `python -m memgrid.store verify`")
    given: dict[str, list[str]] = {}
    for argument in arguments[1:]:
        key, _, value = argument.partition("=")
        if key not in KEYS[command] or not value:
            raise UserError(f"{command} does not understand {argument!r}: it knows {', '.join(f'{key}=...' for key in KEYS[command])}")
        given.setdefault(key, []).append(value)
    several = ("folder",) if "root" in KEYS[command] else ()
    twice = [key for key, values in given.items() if len(values) > 1 and key not in several]
    if twice:
        raise UserError(f"{twice[0]}= is given {len(given[twice[0]])} times to {command}: give it once")
    if "folder" in given and "root" in given:
        raise UserError("folder= and root= are both given: name the stores with folder=, or all stores below a folder with root=")
    return command, given


def run(arguments: list[str]) -> bool:
    """Do one command; False if a store was damaged or could not be checked, which does not keep the others from their turn."""
    command, given = parse(arguments)
    if command == "export":
        lacking = [key for key in KEYS[command] if key not in given]
        if lacking:
            raise UserError(f"export needs {lacking[0]}=...: such as export folder=<store> ids=1,2,3 out=subset.h5")
        export(Path(given["folder"][0]), given["ids"][0], Path(given["out"][0]))
        return True
    root = Path(given["root"][0]) if "root" in given else Path(RunConfig().root) / "attention"
    folders = [Path(folder) for folder in given["folder"]] if "folder" in given else stores_below(root)
    good = True
    for folder in folders:
        try:
            good &= (verify if command == "verify" else info)(folder)
        except (UserError, StoreError) as error:
            print(f"memgrid: {error}", file=sys.stderr)
            good = False
    return good


def main(arguments: list[str]) -> int:
    """Do one command and return the exit status; a failure is one sentence."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        return 0 if run(arguments) else 1
    except (UserError, StoreError) as error:
        print(f"memgrid: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
