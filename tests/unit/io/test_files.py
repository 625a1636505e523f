"""Every file that memgrid writes is whole or absent, whatever happens in the middle."""

import errno
import json
import os
import re
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import forks
import h5py
import numpy as np
import polars as pl
import pytest
import torch
from omegaconf import OmegaConf

from memgrid.audit.shadow.arrays import write_arrays
from memgrid.errors import StoreError, UserError
from memgrid.io.checkpoints import save
from memgrid.io.digests import read_json, write_json, write_parquet, write_yaml
from memgrid.io.files import copy_file, host, remove, sweep_leftovers, whole, write_bytes, write_text
from memgrid.io.paths import PACKAGE
from memgrid.localize.maps import write_decision_maps
from memgrid.report.figures.style import figure

OLD = b"what stood there before"
LIMIT = 64  # bytes, of the full disk


def write_figure(path: Path) -> None:
    with figure(path.with_suffix(""), 1, 1) as drawing:
        drawing.text(0.5, 0.5, "text")


def write_maps(path: Path) -> None:
    write_decision_maps(path, {"members": ["a"], "classes": ["c"]}, np.zeros((1, 1, 2, 8, 8), np.float32), [np.zeros(3, np.int64)])


def write_open_file(path: Path) -> None:
    with whole(path) as partial, partial.open("wb") as file:
        file.write(b"x" * 1000)


# The kind of every file that is written, and what writes it.
WRITERS: dict[str, Callable[[Path], None]] = {
    "a.json": lambda path: write_json({"text": "x" * 1000}, path),
    "a.yaml": lambda path: write_yaml(OmegaConf.create({"text": "x" * 1000}), path),
    "a.parquet": lambda path: write_parquet(pl.DataFrame({"a": np.arange(1000)}), path, metadata={"memgrid": "b"}),
    "a.txt": lambda path: write_text("δ" * 1000, path),
    "a.bin": lambda path: write_bytes(b"x" * 1000, path),
    "b.bin": write_open_file,
    "copy.py": lambda path: copy_file(Path(__file__), path),
    "maps.h5": write_maps,
    "arrays.h5": lambda path: write_arrays(path, "it", {}, {"a": np.arange(1000)}),
    "a.ckpt": lambda path: save({"a": torch.zeros(1000)}, path),
    "a.png": write_figure,
}


def folder_with_old_file(parent: Path, name: str) -> Path:
    folder = parent / f"of-{name}"
    folder.mkdir()
    (folder / name).write_bytes(OLD)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_failing_step_leaves_the_old_file_alone_and_is_one_sentence(name, step, tmp_path, monkeypatch):
    folder = folder_with_old_file(tmp_path, name)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(UserError, match=rf"^Cannot write to {folder} \(No space left on device\): make room") as trouble:
            WRITERS[name](folder / name)
    assert "\n" not in str(trouble.value)
    assert contents(folder) == {name: OLD}
    WRITERS[name](folder / name)  # room mends it
    assert (folder / name).read_bytes() != OLD


@pytest.mark.parametrize("trouble", [ValueError("a mistake"), KeyboardInterrupt()])
def test_an_error_in_the_body_passes_and_leaves_nothing(trouble, tmp_path):
    folder = folder_with_old_file(tmp_path, "a.txt")

    def interrupted() -> None:
        with whole(folder / "a.txt") as partial:
            partial.write_text("half")
            raise trouble

    with pytest.raises(type(trouble)):
        interrupted()
    assert contents(folder) == {"a.txt": OLD}


def test_what_cannot_be_encoded_is_found_before_anything_is_written(tmp_path):
    folder = folder_with_old_file(tmp_path, "a.json")
    with pytest.raises(TypeError):
        write_json({"a": object()}, folder / "a.json")
    assert contents(folder) == {"a.json": OLD}


def test_the_store_has_an_error_of_its_own_and_a_new_folder_is_made(tmp_path):
    with whole(tmp_path / "new" / "a", StoreError) as partial:
        partial.touch()
    assert contents(tmp_path / "new") == {"a": b""}
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Cannot write to"), whole(tmp_path / "file" / "a", StoreError):
        pass


IN_A_PROCESS_OF_ITS_OWN = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
import test_files
getattr(test_files, sys.argv[1])(Path(sys.argv[2]))
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


def test_only_what_dead_writers_left_is_swept(tmp_path):
    kept = [f".partial-{os.getpid()}-{host()}-0", ".partial-999999999-elsewhere-0", ".partial-notes", "a.partial-1-elsewhere-0", "run.json"]
    swept = [f".partial-999999999-{host()}-0", ".partial-1-elsewhere-old"]
    for name in (*kept, *swept):
        (tmp_path / name).touch()
    os.utime(tmp_path / swept[1], (time.time() - 4000,) * 2)
    sweep_leftovers(tmp_path)
    assert set(contents(tmp_path)) == set(kept)
    sweep_leftovers(tmp_path / "missing")


def test_what_is_written_can_be_read(tmp_path):
    for name, write in WRITERS.items():
        write(tmp_path / name)
    assert read_json(tmp_path / "a.json") == {"text": "x" * 1000}
    assert OmegaConf.load(tmp_path / "a.yaml").text == "x" * 1000
    assert pl.read_parquet(tmp_path / "a.parquet")["a"].to_list() == list(range(1000))
    assert pl.read_parquet_metadata(tmp_path / "a.parquet")["memgrid"] == "b"
    assert (tmp_path / "a.txt").read_text() == "δ" * 1000
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["a"].shape == (1000,)
    with h5py.File(tmp_path / "arrays.h5") as file:
        assert file["a"][:].tolist() == list(range(1000))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


# Who may call what writes a file directly: `whole` itself, what it is given to, and what appends.
OTHER_WAYS = re.compile(
    r"\.write_parquet\(|\.write_text\(|\.write_bytes\(|os\.(replace|rename)\(|copyfile\(|\.savefig\(|json\.dump\(|\.save\(|\.tmp\""
)
ALLOWED = {
    "corpus/counting.py",  # in a folder for temporary files
    "io/files.py",
    "store/store.py",  # writes to what `whole` gives
    "report/figures/style.py",  # writes to what `whole` gives
    "io/digests.py",  # polars writes into memory
    "io/checkpoints.py",  # torch too; the checkpoint before the last one is moved
    "report/figures/drawing.py",  # in a folder for temporary files
    "report/page.py",  # pictures in memory
    "tracking/dashboard.py",  # saves on wandb's server
}


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (tmp_path / "to_folder").symlink_to(kept)
    (tmp_path / "to_nothing").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder" / "deeper").mkdir(parents=True)
    (tmp_path / "folder" / "deeper" / "to_folder").symlink_to(kept)
    for name in ("to_folder", "to_nothing", "folder", "never_there"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "x"


def test_there_is_no_other_way_to_write_a_file():
    others = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if OTHER_WAYS.search(path.read_text())}
    assert others <= ALLOWED
