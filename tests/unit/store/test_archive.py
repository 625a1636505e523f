"""Stores from the shell: what is checked, told and carried home, and what is refused in one sentence."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import forks
import h5py
import numpy as np
import polars as pl
import pytest
from test_shard import SMALL, flip_map, make, same

from memgrid.store import archive, shard
from memgrid.store.__main__ import main
from memgrid.store.shard import Identity
from memgrid.store.store import Store

OTHER = replace(SMALL, llm="other", layers=2)
IDS = [*range(30), *range(100, 110)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few rows and blocks of a few chunks, so that small shards have many."""
    monkeypatch.setattr(shard, "CHUNK_BYTES", 512)
    monkeypatch.setattr(archive, "BLOCK_BYTES", 2000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two stores: toy/tales with ids 0..19, 29..15 and 100..109, other/tales with id 1."""
    for ids in (range(20), range(29, 14, -1), range(100, 110)):
        Store(tmp_path / "attention/toy/tales", SMALL).write(make(ids))
    Store(tmp_path / "attention/other/tales", OTHER).write(make([1], OTHER))
    return tmp_path / "attention"


@pytest.fixture
def toy(root: Path) -> Path:
    """The folder of the first store."""
    return root / "toy/tales"


Captured = pytest.CaptureFixture[str]


def refused(arguments: list[str], capsys: Captured) -> str:
    """What the command says when it is refused, checked to be one line."""
    capsys.readouterr()
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("memgrid: ")
    assert err.count("\n") == 1
    return err


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# verify


def test_whole_stores_get_a_line_each(root: Path, toy: Path, capsys: Captured) -> None:
    assert main(["verify", f"root={root}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = sum(path.stat().st_size for path in toy.iterdir())
    assert len(lines) == 2
    assert "1 shard, 1 sample, " in lines[0]
    assert lines[1] == f"{toy}: 3 shards, 40 samples, {size:,} bytes, all whole"
    assert main(["verify", f"root={root.parent}"]) == 0  # the root of the runs will do
    assert main(["verify", f"folder={toy}", f"folder={root / 'other/tales'}"]) == 0


def test_files_of_runs_and_audits_are_no_shards(root: Path, capsys: Captured) -> None:
    """They are HDF5 too, and lie below the root of the runs: they must not be taken for damaged shards and set aside."""
    others = [root.parent / "audits/digits/mlp/name/shadows/shadow-0000.h5", root.parent / "runs/toy/rasy/name/localize-guided.h5"]
    for path in others:
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            file["a"] = [1]
    for command in ("verify", "info"):
        assert main([command, f"root={root.parent}"]) == 0
    assert "damaged" not in capsys.readouterr().out
    assert all(path.exists() for path in others)


def test_without_arguments_the_usual_root_is_meant(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    assert "root=memgrid-runs/attention" in refused(["verify"], capsys)
    (tmp_path / "memgrid-runs").mkdir()
    root.rename(tmp_path / "memgrid-runs/attention")
    assert main(["verify"]) == 0


def test_damage_is_told_once_and_the_others_are_still_checked(root: Path, toy: Path, capsys: Captured) -> None:
    bad = sorted(toy.iterdir())[0]
    flip_map(bad)
    assert main(["verify", f"folder={toy}", f"folder={root / 'other/tales'}"]) == 1
    told, other = capsys.readouterr().out.splitlines()
    assert told.startswith(f"{bad} is damaged")
    assert "was moved to" in told
    assert "all whole" in other
    assert main(["verify", f"root={root}"]) == 0
    assert "damaged" not in capsys.readouterr().out


def test_a_store_without_one_readable_shard_is_verified(toy: Path, capsys: Captured) -> None:
    for path in toy.iterdir():
        path.write_text("text")
    assert "no whole shard" in refused(["info", f"folder={toy}"], capsys)
    assert "no whole shard" in refused(["export", f"folder={toy}", "ids=1", f"out={toy.parent / 'a.h5'}"], capsys)
    assert main(["verify", f"folder={toy}"]) == 1
    assert capsys.readouterr().out.count("was moved to") == 3
    assert "holds no shards" in refused(["verify", f"folder={toy}"], capsys)


# info


def test_info_tells_what_a_store_holds(toy: Path, root: Path, capsys: Captured) -> None:
    Store(toy, SMALL, compress=True).write(make([200]))
    broken = toy / "broken.h5"
    broken.write_bytes(b"")
    before = content(root)
    assert main(["info", f"folder={toy}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line[2:20].strip(): line[20:] for line in lines[1:] if line}
    whole = sum(path.stat().st_size for path in toy.iterdir())
    expected = {
        "llm": "toy",
        "revision": "main",
        "fingerprint": "0f3a",
        "corpus": "tales",
        "k": "4",
        "length": "8",
        "layers": "3",
        "shards": "4",
        "samples": "41",
        "bytes per sample": f"{whole / 46:,.0f}",
        "compressed": "1 of 4 shards",
        "stored again": "5",
        "damaged": f"1 shard: run `python -m memgrid.store verify folder={toy}`",
    }
    assert lines[0] == str(toy)
    assert table == expected
    assert content(root) == before
    assert main(["info", f"root={root}"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ") and line] == [
        str(root / "other/tales"),
        str(toy),
    ]


# export


def exported(out: Path, identity: Identity = SMALL) -> Store:
    """A store of its own around one exported shard."""
    home = out.parent / "home"
    home.mkdir()
    out.rename(home / out.name)
    store = Store(home, identity)
    assert store.verify() == []
    return store


@pytest.mark.parametrize("kind", ["comma", "text", "parquet"])
def test_a_subset_becomes_a_store_of_its_own(toy: Path, tmp_path: Path, kind: str, capsys: Captured) -> None:
    wanted = [105, 3, 17, 29, 3, 0, 18, 19, 20, 21, 100]
    given = {"comma": ",".join(map(str, wanted)), "text": str(tmp_path / "ids.txt"), "parquet": str(tmp_path / "samples.parquet")}[kind]
    (tmp_path / "ids.txt").write_text("\n".join(map(str, wanted)) + "\r\n\n")
    pl.DataFrame({"label": wanted, "sequence_id": wanted}).write_parquet(tmp_path / "samples.parquet")
    before = content(toy)
    out = tmp_path / "carry/subset.h5"
    assert main(["export", f"ids={given}", f"out={out}", f"folder={toy}"]) == 0
    assert "10 samples" in capsys.readouterr().out
    assert os.listdir(out.parent) == ["subset.h5"]
    assert content(toy) == before
    store = exported(out)
    assert store.ids().tolist() == sorted(set(wanted))
    assert same(store.read(wanted), make(wanted))


def test_a_streamed_shard_equals_one_written_at_once(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 3000, 2**26):
        monkeypatch.setattr(archive, "BLOCK_BYTES", size)
        out = tmp_path / f"{size}.h5"
        assert main(["export", f"ids={','.join(map(str, IDS))}", f"out={out}", f"folder={toy}"]) == 0
        assert abs(out.stat().st_size - len(shard.image(make(IDS), SMALL, False))) < 2000
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            store = exported(out)
        assert same(store.read(IDS), make(IDS))
        (tmp_path / "home" / out.name).unlink()
        (tmp_path / "home").rmdir()


def test_a_compressed_store_is_carried_home_compressed(tmp_path: Path) -> None:
    Store(tmp_path / "packed", SMALL, compress=True).write(make(range(40)))
    out = tmp_path / "out.h5"
    assert main(["export", "ids=7,39", f"out={out}", f"folder={tmp_path / 'packed'}"]) == 0
    sets = shard.opened(out)
    with sets["sequence_id"].file:
        assert shard.packed(sets)
    assert same(exported(out).read([39, 7]), make([39, 7]))


def test_a_damaged_shard_ends_an_export_without_a_file(toy: Path, tmp_path: Path, capsys: Captured) -> None:
    flip_map(sorted(toy.iterdir())[0])
    before = set(os.listdir(tmp_path))
    everything = f"ids={','.join(map(str, range(15)))}"
    assert "is damaged" in refused(["export", everything, f"out={tmp_path / 'out.h5'}", f"folder={toy}"], capsys)
    assert set(os.listdir(tmp_path)) == before
    (toy / "broken.h5").write_text("text")
    assert main(["export", "ids=100", f"out={tmp_path / 'out.h5'}", f"folder={toy}"]) == 0
    assert "broken.h5 is damaged" in capsys.readouterr().err


DISK_FULL = """
import pickle, resource, sys
from memgrid.store import __main__ as command, archive, shard
arguments, limit = pickle.load(sys.stdin.buffer)
shard.CHUNK_BYTES, archive.BLOCK_BYTES = 512, 2000
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
print(command.main(arguments))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
import os
print(sorted(os.listdir("carry")))
print(command.main(arguments))
"""


@pytest.mark.parametrize("limit", [0, 100, 9_000, 20_000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(toy: Path, tmp_path: Path, limit: int) -> None:
    out = tmp_path / "carry/out.h5"
    arguments = ["export", f"ids={','.join(map(str, IDS))}", f"out={out}", f"folder={toy}"]
    code = [sys.executable, "-c", DISK_FULL]
    done = subprocess.run(code, input=pickle.dumps((arguments, limit)), capture_output=True, check=True, cwd=tmp_path)
    says = done.stderr.decode().splitlines()
    assert len(says) == 1
    assert says[0].startswith(f"memgrid: Cannot write to {out.parent} (File too large)")
    assert done.stdout.decode().splitlines()[:2] == ["1", "[]"]
    assert done.stdout.decode().splitlines()[-1] == "0"
    assert same(exported(out).read(IDS), make(IDS))


# Bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "'' is no command: use verify, info, export"),
        (["check"], "'check' is no command"),
        (["verify", "toy"], "store verify knows only folder=<store> and root=<folder>, not toy"),
        (["verify", "ids=1"], "store verify knows only folder=<store> and root=<folder>, not ids=1"),
        (["info", "folder="], "folder= gives store info no value"),
        (["info", "root=a", "root=b"], "root= is given 2 times"),
        (["info", "root=a", "folder=b"], "both given"),
        (["verify", "folder=none"], "folder=none cannot be read (No such file or directory)"),
        (["verify", "folder=file"], "folder=file cannot be read (Not a directory)"),
        (["info", "root=none"], "root=none cannot be searched"),
        (["info", "folder=."], "folder=. holds no shards"),
        (["export", "folder=TOY", "out=a.h5"], "export needs ids=..."),
        (["export", "folder=.", "ids=1", "out=a.h5"], "holds no shards"),
        (["export", "folder=TOY", "folder=TOY", "ids=1", "out=a.h5"], "folder= is given 2 times"),
        (["export", "folder=TOY", "ids=1,-5,2000,2001", "out=a.h5"], "lacks 3 of the 4 ids, the first is -5"),
        (["export", "folder=TOY", "ids=none.txt", "out=a.h5"], "ids=none.txt cannot be read (No such file or directory)"),
        (["export", "folder=TOY", "ids=none.parquet", "out=a.h5"], "ids=none.parquet cannot be read (no such file)"),
        (["export", "folder=TOY", "ids=file.parquet", "out=a.h5"], "ids=file.parquet cannot be read ("),
        (["export", "folder=TOY", "ids=foreign.parquet", "out=a.h5"], "with a column sequence_id"),
        (["export", "folder=TOY", "ids=words.parquet", "out=a.h5"], "must hold integers"),
        (["export", "folder=TOY", "ids=huge.parquet", "out=a.h5"], "ids=huge.parquet cannot be read ("),
        (["export", "folder=TOY", "ids=file", "out=a.h5"], "'text'"),
        (["export", "folder=TOY", "ids=empty.txt", "out=a.h5"], "holds no ids"),
        (["export", "folder=TOY", "ids=TOY", "out=a.h5"], "cannot be read (Is a directory)"),
        (["export", "folder=TOY", f"ids={2**64}", "out=a.h5"], "something else than sequence ids"),
        (["export", "folder=TOY", "ids=1", "out=kept/there.h5"], "out=kept/there.h5 exists and is not overwritten"),
        (["export", "folder=TOY", "ids=1", "out=a.hdf5"], "ends in .h5"),
        (["export", "folder=TOY", "ids=1", "out=file/a.h5"], "Cannot write to file ("),
    ],
)
def test_bad_input_is_one_sentence(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept").mkdir()
    for name in ("file", "file.parquet", "kept/there.h5"):
        Path(name).write_text("text")
    Path("empty.txt").write_text("\n")
    pl.DataFrame({"label": [1]}).write_parquet("foreign.parquet")
    pl.DataFrame({"sequence_id": ["one"]}).write_parquet("words.parquet")
    pl.DataFrame({"sequence_id": [2**64 - 1]}, schema={"sequence_id": pl.UInt64}).write_parquet("huge.parquet")
    before = content(tmp_path)
    assert says in refused([argument.replace("TOY", str(toy)) for argument in arguments], capsys)
    assert content(tmp_path) == before


@pytest.mark.skipif(not os.geteuid(), reason="root may write anywhere")
def test_a_folder_without_rights_is_one_sentence(toy: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "Permission denied" in refused(["export", f"folder={toy}", "ids=1", f"out={tmp_path}/closed/a.h5"], capsys)
    next(toy.glob("*.h5")).chmod(0)
    for command in ("verify", "info"):
        assert "Permission denied" in refused([command, f"folder={toy}"], capsys)
    assert len(list(toy.glob("*.h5"))) == 3


@pytest.mark.parametrize("command", ["verify", "info", "export"])
def test_a_mixed_store_is_refused_by_name(toy: Path, tmp_path: Path, capsys: Captured, command: str) -> None:
    odd = Store(toy, replace(SMALL, revision="step1")).write(make([500]))
    more = ["ids=1", f"out={tmp_path / 'a.h5'}"] if command == "export" else []
    message = refused([command, f"folder={toy}", *more], capsys)
    assert f"{toy} mixes shards" in message
    assert f"'step1' in {odd.name}" in message


def test_another_version_is_refused_and_stays(toy: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "FORMAT_VERSION", 2)
    assert "has format_version 1 where 2 is expected" in refused(["verify", f"folder={toy}"], capsys)
    assert len(list(toy.glob("*.h5"))) == 3


def test_an_output_that_appears_meanwhile_is_kept(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    out, compose = tmp_path / "out.h5", shard.compose

    def slow(*arguments: object) -> None:
        compose(*arguments)  # type: ignore[arg-type]
        out.write_text("mine")

    monkeypatch.setattr(shard, "compose", slow)
    assert "exists" in refused(["export", f"folder={toy}", "ids=1", f"out={out}"], capsys)
    assert out.read_text() == "mine"
    assert not list(tmp_path.glob(".partial-*"))


def test_the_command_line_needs_no_torch(toy: Path, tmp_path: Path) -> None:
    def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
        return forks.run(["-m", "memgrid.store", *arguments], light=True)

    command = [sys.executable, "-X", "importtime", "-m", "memgrid.store", "verify", f"folder={toy}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.endswith("all whole\n")
    assert "| torch" not in done.stderr
    done = shell("export", f"folder={toy}", "ids=1,2", f"out={tmp_path / 'a.h5'}")
    assert done.returncode == 0
    assert np.array_equal(exported(tmp_path / "a.h5").ids(), [1, 2])
    done = shell("verify", f"folder={tmp_path / 'none'}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert shell("--help").stdout.startswith("memgrid store: check, describe")
