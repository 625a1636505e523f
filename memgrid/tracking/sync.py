"""Pushing offline wandb runs to wandb's server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from filelock import Timeout

from memgrid.errors import UserError
from memgrid.io.files import write_text
from memgrid.results.work import WorkFolder
from memgrid.tracking.files import begun, logged_steps, records
from memgrid.tracking.log import INHERITED, PREFIX, brief, own_environment
from memgrid.tracking.server import arrived, last_step_shown, log_in

PUSH_SECONDS = 900  # how long wandb's server may take to take one part of a run


def unsynced(root: Path) -> dict[Path, list[Path]]:
    """The offline parts of runs and audits below `root` that have not been pushed, in order of time, by the folder of their run."""
    by_folder: dict[Path, list[Path]] = {}
    every = (path for below in ("runs", "audits") for path in (root / below).glob("**/wandb/offline-run-*/run-*.wandb"))
    for path in sorted(every, key=lambda path: path.parent.name):
        if not synced(path).exists() and begun(path):
            by_folder.setdefault(path.parents[2], []).append(path)
    return by_folder


def synced(path: Path) -> Path:
    """The empty file that wandb sets beside a file that it has pushed."""
    return path.with_name(f"{path.name}.synced")


def sync(root: Path) -> None:
    """Push all offline runs below `root` and print how many.

    Raises:
        UserError: not logged in, no server, nothing there, or wandb refused a run.
    """
    with own_environment():
        push_all(root)


def push_all(root: Path) -> None:
    """As `sync`."""
    log_in(verify=False)
    waiting = unsynced(root)
    if not waiting:
        raise UserError(f"root={root} holds no offline wandb run that is not pushed yet: train one with wandb=offline")
    log_in(verify=True)
    pushed = 0
    for folder, parts in waiting.items():
        try:
            with WorkFolder(folder).lock(0):  # held by a run that is going on
                for before, path in zip([None, *parts], parts, strict=False):
                    if before is not None and not arrived(before):
                        push(before)  # the server tells where a part belongs: after nothing, it would replace what came before
                    if reason := push_once(path):
                        raise UserError(f"wandb did not take {path.parent} ({reason}), {pushed} runs were pushed before: start sync again")
                pushed += 1
                print(f"pushed {folder}")
        except Timeout:
            print(f"{folder} is still running: left for the next time")
    print(f"{pushed} of {len(waiting)} runs pushed")


def push_once(path: Path) -> str | None:
    """As `push`, but nothing where an earlier push was cut off after all had arrived: wandb would add the rows to themselves.

    Beside a part stands, while it is pushed, the last step that the server had before.
    """
    note = path.with_name(f"{path.name}.pushing")
    shown, last = last_step_shown(path), max(logged_steps(path), default=-1)
    if shown is not None and note.exists() and shown >= last and note.read_text() in map(str, range(-1, shown)):
        synced(path).touch()
    else:
        note.unlink(missing_ok=True)
        if shown is not None:
            write_text(str(shown), note)
        if reason := push(path):
            return reason
    note.unlink(missing_ok=True)
    return None


def push(path: Path) -> str | None:
    """Push one part of a run; returns why wandb could not, or None.

    Neither wandb's exit status nor its empty file tells: it exits with 0 and sets the file even where the server refused the data.
    """
    whole = max(end for _, end in records(path))
    if path.stat().st_size > whole:  # cut off in the middle of a record: wandb would not go on to the next part
        os.truncate(path, whole)
    synced(path).unlink(missing_ok=True)  # wandb skips what bears it
    # Neither silent, nor another run's, nor within the server of this process, which a timeout would not end.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) or name in INHERITED}
    environment["WANDB_DIR"] = str(path.parents[2])  # where wandb puts what it logs about pushing
    try:
        done = subprocess.run(sync_command(path), capture_output=True, text=True, timeout=PUSH_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return "the server does not answer"
    wrong = [line for line in (done.stdout + done.stderr).splitlines() if re.search(r"\bERROR\b|^Error|^panic", line)]
    if done.returncode == 0 and not wrong and synced(path).exists():
        return None
    synced(path).unlink(missing_ok=True)
    return brief(wrong[0].split("ERROR")[-1]) if wrong else f"exit status {done.returncode}"


def sync_command(path: Path) -> list[str]:
    """The command that pushes one part."""
    return [sys.executable, "-m", "wandb", "sync", str(path.parent.resolve())]
