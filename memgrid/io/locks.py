"""Locks between processes, of one user or of several, and the sentence for a right that is missing."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from memgrid.errors import UserError

DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
# Where libraries that keep no file name beside their error have it: polars at the end, HDF5 in the middle.
NAMED = re.compile(r"name = '([^']+)'|\(os error \d+\): (/.*)$", re.M)
SHARING = "share it by umask 002 and a common group (chmod -R g+rwX, and g+s on its folders), or use another root"


class Lock(FileLock):
    """A lock that ends with its process. Where the umask lets the group write, its file can be taken by the group's other users too.

    Raises:
        filelock.Timeout: another process held it for so long. UserError: this user may not take it.
    """

    def acquire(self, *given: Any, **named: Any) -> Any:
        """As `filelock.FileLock.acquire`."""
        try:
            return super().acquire(*given, **named)
        except Timeout:
            raise
        except OSError as error:
            raise UserError(missing_right(error, self.lock_file) or f"{self.lock_file} cannot be locked ({error.strerror})") from None


def lock(path: Path, timeout: float = -1) -> Lock:
    """The lock of a file, which is made in a folder that exists.

    Args:
        timeout: so many seconds another process is waited for; for ever, if negative.
    """
    return Lock(path, timeout=timeout)


@contextmanager
def exclusive(path: Path, timeout: float) -> Iterator[None]:
    """Inside, nobody else works on the folder in which the lock lies; it is made if need be.

    Raises:
        UserError: somebody does, for so many seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = lock(path, timeout)
    try:
        held.acquire()
    except Timeout:
        raise UserError(f"another process is working on {path.parent}: wait for it, or stop it") from None
    try:
        yield
    finally:
        held.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file, whoever's it is: looking needs the right to read alone, and leaves no file behind."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # there is none, or it is closed to this user
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # no locks here
        return False
    finally:
        os.close(descriptor)


def missing_right(error: BaseException, path: str | Path | None = None) -> str | None:
    """The sentence for an error that says that this user may not do something with a file; None for any other error.

    Args:
        path: which file, if the error does not know.
    """
    if not isinstance(error, PermissionError) and not (isinstance(error, OSError) and error.errno in DENIED):
        return None
    reason = os.strerror(error.errno or errno.EACCES)
    named = error.filename2 or error.filename or path
    if not named and (match := NAMED.search(str(error))):
        named = match[1] or match[2]
    if not isinstance(named, str | os.PathLike):
        return f"a file may not be used ({reason}): {SHARING}"
    return refusal(Path(os.path.abspath(named)), error.errno, reason)


def refusal(path: Path, number: int | None, reason: str) -> str:
    """Which of a file and the folders above it is closed, whose it is, and what helps."""
    place = next((above for above in (path, *path.parents) if os.path.exists(above)), path)
    if number == errno.EROFS:
        return f"{place} cannot be written to ({reason}): use another root"
    if place == path and os.path.isfile(place) and os.access(place, os.R_OK | os.W_OK, effective_ids=True):
        place = place.parent  # it is to be replaced or removed
    try:
        whose = place.stat()
    except OSError:
        return f"{place} may not be used ({reason}): {SHARING}"
    if whose.st_uid == os.geteuid():
        return f"{place} is closed to its own owner ({reason}): give yourself the right, such as by chmod -R u+rwX {place}"
    return f"{place} belongs to {user(whose.st_uid)} and is closed to {user(os.geteuid())} ({reason}): {SHARING}"


def user(number: int) -> str:
    """A user's name; the number where there is none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
