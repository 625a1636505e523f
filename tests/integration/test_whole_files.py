"""Whoever writes a file and is killed, or meets a full disk, leaves it as it was."""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import forks
from writers import OLD, WRITERS, contents, folder_with_old_file

from memgrid.io.paths import PACKAGE

LIMIT = 64  # bytes, of the full disk
IN_A_PROCESS_OF_ITS_OWN = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
import test_whole_files
getattr(test_whole_files, sys.argv[1])(Path(sys.argv[2]))
"""


def killed_writers(parent: Path) -> None:
    """Print as JSON how each writer ended that is killed at each step. Forks before any library has started a thread."""
    ends = {}
    for name, write in WRITERS.items():
        for step in ("fsync", "rename"):
            child = os.fork()
            if not child:
                setattr(os, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
                write(parent / f"of-{name}" / name)
                os._exit(0)
            ends[f"{name} {step}"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(ends))


def full_disk_writers(parent: Path) -> None:
    """Print as JSON what each writer says where no file may be longer than LIMIT."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    said = {}
    for name, write in WRITERS.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
        try:
            write(parent / f"of-{name}" / name)
            said[name] = "nothing"
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(json.dumps(said))


def in_a_process(function: Callable[[Path], None], parent: Path) -> dict[str, object]:
    paths = (Path(__file__).parent, Path(forks.__file__).parent, PACKAGE.parent)
    done = forks.run(["-c", IN_A_PROCESS_OF_ITS_OWN, function.__name__, parent, *paths])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_sweeps(tmp_path):
    folders = {name: folder_with_old_file(tmp_path, name) for name in WRITERS}
    ends = in_a_process(killed_writers, tmp_path)
    assert set(ends.values()) == {-signal.SIGKILL}, ends
    for name, folder in folders.items():
        found = contents(folder)
        assert found.pop(name) == OLD
        assert found, "the kill came before anything was written: this test tests nothing"
        assert all(left.startswith(".partial-") for left in found)
        WRITERS[name](folder / name)
        assert not [left for left in contents(folder) if left.startswith(".")]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    folders = {name: folder_with_old_file(tmp_path, name) for name in WRITERS}
    for name, sentence in in_a_process(full_disk_writers, tmp_path).items():
        assert sentence.startswith(f"UserError: Cannot write to {folders[name]} (File too large): make room"), (name, sentence)
        assert contents(folders[name]) == {name: OLD}
