"""`python -m memgrid.tracking`: push offline runs, or save the dashboard."""

from __future__ import annotations

import sys
from pathlib import Path

from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.tracking.log import log_in
from memgrid.tracking.sync import sync

USAGE = "`python -m memgrid.tracking` needs a command: `sync [root=<folder>]` or `dashboard [entity=<name>] [project=<name>]`"


def main(arguments: list[str]) -> None:
    """Do what the command line asks for."""
    command, given = arguments[:1], dict(argument.split("=", 1) for argument in arguments[1:] if "=" in argument)
    allowed = {"sync": {"root"}, "dashboard": {"entity", "project"}}.get("".join(command))
    if allowed is None or set(given) - allowed or len(given) != len(arguments) - 1:
        raise UserError(USAGE + (f", not {' '.join(arguments)}" if arguments else ""))
    if command == ["sync"]:
        sync(Path(given.get("root", RunConfig().root)))
        return
    try:
        from memgrid.tracking.dashboard import save
    except ModuleNotFoundError as error:
        raise UserError(f"the dashboard needs {error.name}: `pip install wandb-workspaces`") from None
    log_in(verify=True)
    print(f"The dashboard is at {save(given.get('entity'), given.get('project', RunConfig().wandb.project))}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"memgrid: {error}")
