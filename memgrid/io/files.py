"""Files that are whole or absent, and room for them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from omegaconf import DictConfig, OmegaConf

from memgrid.errors import StoreError, UserError

STALE_SECONDS = 3600.0


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_config(config: DictConfig, folder: Path) -> None:
    """Write a run's `config.yaml` whole or not at all."""
    temporary = folder / f".config.{os.getpid()}.tmp"
    OmegaConf.save(config, temporary)
    os.replace(temporary, folder / "config.yaml")


def _node() -> str:
    """This host and its process namespace, within which process ids can be compared."""
    try:
        return f"{socket.gethostname()}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _alive(pid: int) -> bool:
    if os.name != "posix":  # there, signal 0 is no harmless question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's process
    return True


def _sweep(folder: Path) -> None:
    """Remove what writers left that were killed: an hour old, or of a process of this host that is no more."""
    for path in folder.glob(".partial-*"):
        with contextlib.suppress(OSError, ValueError):
            pid, rest = path.name.removeprefix(".partial-").split("-", 1)
            dead = rest.rpartition("-")[0] == _node() and not _alive(int(pid))
            if dead or time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error.args[0] if error.args else type(error).__name__).split("\n")[0].rstrip(".")


def stop_if_unreadable(path: Path, error: BaseException) -> None:
    """Raise StoreError if it was the disk or a right that failed, and not the bytes of the shard."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, FileNotFoundError):
        raise StoreError(f"Cannot read {path} ({_reason(error)}): set that right and run again; it was left in place.") from None


def write_whole(final: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Make a file whole or not at all: `fill` writes it under a temporary name. Raises: StoreError if the folder cannot take it."""
    partial = final.parent / f".partial-{os.getpid()}-{_node()}-{uuid.uuid4().hex}"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "x+b") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, final)
    except OSError as error:
        raise StoreError(f"Cannot write to {final.parent} ({_reason(error)}): make room or use another folder, and run again.") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_room(root: Path, needed: int, what: str) -> None:
    """Refuse work that the disk cannot hold.

    Args:
        needed: bytes.
        what: what needs them, for the sentence.

    Raises:
        UserError: less is free.
    """
    free = shutil.disk_usage(root).free
    if needed > free:
        raise UserError(f"root={root} has {free / 1e9:.2f} GB free, but {what} needs {needed / 1e9:.2f} GB: make room, or use another root")
