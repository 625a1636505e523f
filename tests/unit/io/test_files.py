"""Every file that memgrid writes is whole or absent, whatever happens in the middle."""

import errno
import os
import re
import time

import h5py
import polars as pl
import pytest
import torch
from omegaconf import OmegaConf
from writers import OLD, WRITERS, contents, folder_with_old_file

from memgrid.errors import StoreError, UserError
from memgrid.io.digests import read_json, write_json
from memgrid.io.files import content_of, host, remove, sweep_leftovers, whole
from memgrid.io.paths import PACKAGE


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


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_neither_waited_for_nor_read_without_an_end(kind, tmp_path):
    path = tmp_path / "result.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(OSError, match="Is a directory" if kind == "folder" else "It is no regular file"):
        content_of(path)
    other = tmp_path / "other"
    other.write_bytes(b"0123456789")
    assert (content_of(other), content_of(other, 10), content_of(other, 3)) == (b"0123456789", b"0123456789", b"0123")
