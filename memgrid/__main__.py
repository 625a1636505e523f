"""`memgrid <command> ...`, which is also `python -m memgrid <command> ...`: starts a command as `python -m memgrid.<command>` starts it."""

from __future__ import annotations

import re
import runpy
import sys

from memgrid.io.commands import COMMANDS, HELP, MODULES, any_terminal, overview, unknown_command
from memgrid.io.paths import VERSION


def main() -> None:
    """The console script `memgrid`; what begins with no command is a run."""
    words = sys.argv[1:]
    first = words[0] if words else ""
    if first in {*HELP, "help"} or first == "--version":
        with any_terminal():
            print(f"memgrid {VERSION}" if first == "--version" else overview())
        return
    named = re.fullmatch(r"\w[\w.-]*", first) is not None  # neither key=value nor an option
    if named and first not in COMMANDS:
        sys.exit(f"memgrid: {unknown_command(first)}")
    sys.argv[1:] = words[named:]
    runpy.run_module(f"memgrid.{MODULES.get(first, first) if named else 'run'}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
