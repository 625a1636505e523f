"""Whether a folder is being worked on."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout


def locked(folder: Path) -> bool:
    """Whether a process holds the run's lock, now."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # another user's folder, which may be read only: what the disk holds decides
