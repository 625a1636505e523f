"""Locks that several users share, and the sentence for a right that is missing."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from conftest import refusal
from filelock import FileLock, Timeout
from users import GROUP, OTHER, OWNER, as_user

from memgrid.io.files import write_text
from memgrid.io.locks import lock, missing_right

two_users = pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as two other users")


@pytest.fixture
def shared():
    """A folder that any user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


def take(path):
    with lock(path, 0):
        pass


@two_users
def test_a_lock_of_another_user_is_refused_in_a_sentence_that_names_whose_it_is(shared):
    shared.chmod(0o755)
    os.chown(shared, OWNER, GROUP)
    with as_user(OWNER):
        take(shared / "a.lock")
    with as_user(OTHER):
        told, above = refusal(take, shared / "a.lock"), refusal(take, shared / "b.lock")
    assert told.startswith(
        f"{shared / 'a.lock'} belongs to user {OWNER} and is closed to user {OTHER} (Permission denied): share it by umask"
    )
    assert above.startswith(f"{shared} belongs to user {OWNER}")


@two_users
def test_a_common_group_and_its_umask_share_locks(shared):
    os.chown(shared, OWNER, GROUP)
    shared.chmod(0o2775)
    for user in (OWNER, OTHER):
        with as_user(user, 0o002):
            take(shared / "a.lock")


def test_a_lock_ends_in_a_timeout_where_it_is_held(tmp_path):
    with lock(tmp_path / "a", 0), pytest.raises(Timeout), FileLock(tmp_path / "a", timeout=0):
        pass
    with FileLock(tmp_path / "a"), pytest.raises(Timeout), lock(tmp_path / "a", 0):
        pass
    with lock(tmp_path / "a"):
        pass


def test_which_errors_say_that_a_right_is_missing(tmp_path):
    assert missing_right(FileNotFoundError(errno.ENOENT, "x", "y")) is None
    assert missing_right(OSError(errno.ENOSPC, "x", "y")) is None
    assert missing_right(ValueError("Permission denied")) is None
    told = missing_right(OSError(errno.EROFS, "x", str(tmp_path / "a" / "b")))
    assert told == f"{tmp_path} cannot be written to (Read-only file system): use another root"
    own = missing_right(PermissionError(errno.EACCES, "x", str(tmp_path / "a")))
    assert own.startswith(f"{tmp_path} is closed to its own owner (Permission denied): give yourself the right")
    # Libraries that tell the file in their sentence alone.
    rust = missing_right(PermissionError(f"Permission denied (os error 13): {tmp_path}/x.parquet"))
    hdf5 = missing_right(PermissionError(f"[Errno 13] Unable to open file (unable to open file: name = '{tmp_path}/x.h5', errno = 13)"))
    assert rust == hdf5 == own
    assert missing_right(PermissionError("no")).startswith("a file may not be used (Permission denied): share it by umask")


@two_users
def test_what_cannot_be_written_says_whose_the_folder_is(shared):
    shared.chmod(0o755)
    with as_user(OTHER):
        assert refusal(write_text, "x", shared / "x").startswith(f"{shared} belongs to root and is closed to user {OTHER}")
    write_text("x", shared / "x")
