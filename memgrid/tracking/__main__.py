"""`python -m memgrid.tracking`: push offline runs, or save the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memgrid.config.schema import RunConfig
from memgrid.errors import UserError
from memgrid.io.commands import HELP, Command, explained, key, parsed, start
from memgrid.tracking.log import own_environment
from memgrid.tracking.server import log_in
from memgrid.tracking.sync import sync


@dataclass(frozen=True)
class Sync:
    """What `memgrid tracking sync` understands."""

    root: Path = key("<folder>", "where runs and audits are kept", Path(RunConfig().root), Path)


@dataclass(frozen=True)
class Dashboard:
    """What `memgrid tracking dashboard` understands."""

    entity: str | None = key("<name>", "the wandb user or team; the account's own if nothing is said", None)
    project: str = key("<name>", "the wandb project", RunConfig().wandb.project)


COMMAND = Command(
    "tracking",
    "sync pushes wandb runs that were recorded offline, each once; dashboard saves a view of the project's runs on wandb "
    "(memgrid[dashboard]).",
    {"sync": Sync, "dashboard": Dashboard},
    {"tracking sync": "everything below memgrid-runs", "tracking dashboard entity=my-team": "a dashboard for a team"},
)


def main(arguments: list[str]) -> None:
    """Do what the command line asks for.

    Raises:
        UserError: a word is unknown, or the dashboard's package is not there.
    """
    if HELP & set(arguments):
        print(explained(COMMAND))
        return
    words = parsed(COMMAND, arguments)
    if isinstance(words, Sync):
        sync(words.root)
        return
    try:
        from memgrid.tracking.dashboard import save
    except ModuleNotFoundError as error:
        raise UserError(f"the dashboard needs {error.name}: `pip install wandb-workspaces`") from None
    with own_environment():
        log_in(verify=True)
        print(f"The dashboard is at {save(words.entity, words.project)}")


if __name__ == "__main__":
    start(main)
