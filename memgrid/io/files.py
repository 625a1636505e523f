"""Files that are whole or absent, and room for them.

`whole` is the one way in which memgrid writes a file that somebody reads later. Whatever happens meanwhile, an error, a full disk, a kill,
a power cut: under the file's name stands what stood there before, or all of the new content, on any file system.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import socket
import stat
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from memgrid.errors import DamagedError, DamageWarning, StoreError, UserError
from memgrid.io.locks import missing_right

STALE_SECONDS = 3600.0
DAMAGED = "damaged"  # the folder, beside a damaged file, into which it is moved
PARTIAL = re.compile(r"\.partial-(?P<pid>\d+)-(?P<host>.+)-[^-]+")  # the names under which `whole` lets a file grow
OS_ERROR = re.compile(r"(?:\(os error |\berrno = )(\d+)")  # how libraries in Rust, and HDF5, tell an error of the operating system
PRIVATE, PRIVATE_FOLDER = (
    0o660,
    0o770,
)  # as far as the umask lets it: what a model was trained on can be personal data, and nothing here is for the world


@contextlib.contextmanager
def whole(path: Path, error: type[UserError] = UserError, sweep: bool = True, durable: bool = True) -> Iterator[Path]:
    """A file whole or not at all: the body writes it under the temporary name that it is given, in the same folder.

    If the body ends well, the content is forced to the disk, renamed to `path`, and the folder forced to the disk. If it does not, `path`
    stays as it was and nothing else is left. Owner and group may read the file, as far as the umask lets them, and nobody else.

    Args:
        error: what to raise where the folder cannot take the file.
        sweep: remove first what killed writers left in the folder; a caller that writes many files into one does that once, by itself.
        durable: force it to the disk. What nobody reads after a power cut need not be: whoever reads meanwhile sees it whole either way.

    Raises:
        UserError, or what `error` says: the folder cannot take the file.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if sweep:
            sweep_leftovers(path.parent)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
        yield partial
        if durable:
            force_to_disk(partial)
        os.rename(partial, path)
    except OSError as trouble:
        stop = "." if issubclass(error, StoreError) else ""  # the store's sentences have a full stop, the others none
        sentence = f"Cannot write to {path.parent} ({reason(trouble)}): make room or use another folder, and run again"
        raise error(f"{missing_right(trouble, path.parent) or sentence}{stop}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    if not durable:
        return
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        force_to_disk(path.parent)


def partial_of(path: Path) -> Path:
    """The name under which something grows beside `path` until it is whole."""
    return path.parent / f".partial-{os.getpid()}-{host()}-{uuid.uuid4().hex}"


@contextlib.contextmanager
def whole_folder(path: Path, check: Callable[[], None]) -> Iterator[Path]:
    """A folder whole or not at all: the body fills the new one that it is given, beside `path`, with files that `whole` writes.

    If the body ends well, the folder takes the place of what stands under its name, at once, and that is removed.

    Args:
        check: called just before that; raises where what stands there must not be replaced.

    Raises:
        UserError: the folder above cannot take it.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_leftovers(path.parent)
        partial.mkdir(PRIVATE_FOLDER)
        yield partial
        for folder in (*(below for below in partial.rglob("*") if below.is_dir()), partial):
            force_to_disk(folder)
        check()
        if path.exists():
            exchange(partial, path)
        else:
            os.rename(partial, path)
    except UserError as error:  # of a file in it
        if str(partial) not in str(error):
            raise
        raise UserError(str(error).replace(str(partial), str(path))) from None
    except OSError as trouble:
        sentence = f"Cannot write to {path.parent} ({reason(trouble)}): make room or use another folder, and run again"
        raise UserError(missing_right(trouble, path.parent) or sentence) from None
    finally:
        with contextlib.suppress(OSError):
            remove(partial)
    with contextlib.suppress(OSError):
        force_to_disk(path.parent)


def exchange(new: Path, old: Path) -> None:
    """Let two folders take each other's place; at no moment is there nothing under either name, where the file system can do that.

    Where it cannot, the old one stands aside for a moment, as `.replaced-<name>`, and nobody sweeps it.
    """
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    with contextlib.suppress(AttributeError):  # another system's library
        if ctypes.CDLL(None).renameat2(here, os.fsencode(new), here, os.fsencode(old), swap) == 0:
            return
    aside = old.with_name(f".replaced-{old.name}")
    os.rename(old, aside)
    os.rename(new, old)
    os.rename(aside, new)


def force_to_disk(path: Path) -> None:
    """Return when the content of a file, or the names in a folder, would outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(content: bytes | memoryview, path: Path) -> None:
    """Write bytes, as `whole` does."""
    with whole(path) as partial:
        fill(partial, content)


def fill(partial: Path, content: bytes | memoryview) -> None:
    """Write the file that `whole` has given; not through a link that somebody has put in its place, who may write in the folder too."""
    with open(os.open(partial, os.O_WRONLY | os.O_NOFOLLOW), "wb") as file:
        file.write(content)


def write_text(text: str, path: Path) -> None:
    """Write text in UTF-8, as `whole` does."""
    write_bytes(text.encode(), path)


def content_of(path: Path, most: int | None = None) -> bytes:
    """The bytes of a file; nobody is kept waiting by a pipe that lies under its name, nor fed by a device without an end.

    Args:
        most: after so many bytes one more is read, which tells whoever asks that there are more.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if stat.S_ISDIR(kind := os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "It is no regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(-1 if most is None else most + 1)
    finally:
        os.close(descriptor)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file's content, as `whole` writes."""
    write_bytes(source.read_bytes(), path)


def host() -> str:
    """This host and its process namespace, within which process ids can be compared."""
    try:
        return f"{socket.gethostname()}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def is_alive(pid: int) -> bool:
    """Whether this host has a process of that id."""
    if os.name != "posix":  # there, signal 0 is no harmless question
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # a number that no process has
        return False
    except OSError:
        pass  # another user's process
    return True


def sweep_leftovers(folder: Path) -> None:
    """Remove what writers left that were killed: an hour old, or of a process of this host that is no more."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if name := PARTIAL.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    dead = name["host"] == host() and not is_alive(int(name["pid"]))
                    parts = Path(entry.path).rglob("*") if entry.is_dir(follow_symlinks=False) else ()  # of a folder that grows
                    if dead or time.time() - max(entry.stat().st_mtime, *(part.stat().st_mtime for part in parts), 0) > STALE_SECONDS:
                        remove(Path(entry.path))


def reason(error: BaseException) -> str:
    """What an error says, as far as it fits into a sentence."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error.args[0] if error.args else type(error).__name__).split("\n")[0].rstrip(".")


def told(error: BaseException) -> str:
    """An error of somebody else's code within a sentence of ours: its kind, and the first sentence that it says."""
    first = reason(error).split(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {''.join(filter(str.isprintable, first))}"


def disk_trouble(error: BaseException, where: Path | None = None) -> UserError | None:
    """The sentence for what a disk or a right has refused, whichever library says so in its way; None for an error of another kind.

    Args:
        where: the folder at work, where the error itself names no file.
    """
    if closed := missing_right(error, where):
        return UserError(closed)
    told = OS_ERROR.search(str(error))
    number = error.errno if isinstance(error, OSError) and error.errno else int(told[1]) if told else None
    if number is None or isinstance(error, UserError | BrokenPipeError | ConnectionError | TimeoutError | ChildProcessError):
        return None
    path = getattr(error, "filename", None) or where or "a file"
    return UserError(f"{path} cannot be read or written ({os.strerror(number)}): set that right and start again")


def stop_if_unreadable(path: Path, error: BaseException) -> None:
    """Raise StoreError if it was the disk or a right that failed, and not the bytes of the shard."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, FileNotFoundError):
        raise StoreError(f"Cannot read {path} ({reason(error)}): set that right and run again; it was left in place.") from None


def set_aside(path: Path) -> str:
    """Move a damaged file into the folder `DAMAGED` beside it; returns what has become of it, as a clause."""
    goal = path.parent / DAMAGED / path.name
    try:
        if goal.parent.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        goal.parent.mkdir(exist_ok=True)
        if goal.exists():
            goal = goal.with_name(f"{path.name}.{uuid.uuid4().hex}")
        os.rename(path, goal)
    except FileNotFoundError:
        return "is no longer there"
    except OSError as trouble:
        return f"could not be moved to {goal.parent} ({reason(trouble)}) and is passed over"
    return f"was moved to {goal}"


def replace_damaged(error: DamagedError) -> None:
    """Set a damaged file aside, and say so: whoever calls this makes it anew, or does without."""
    warnings.warn(f"{error.path} is damaged ({error.fault}) and {set_aside(error.path)}", DamageWarning, stacklevel=3)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link, but never what a link leads to; what is not there is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
