"""Terminals that cannot show a character, readers that go away, streams that are closed, and where Hydra may not lead a run."""

import os
import subprocess
import sys

import pytest
from conftest import memgrid_here
from runs_maker import Run, finish, leave

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root with a finished run whose classes no ASCII can show, and a failed one."""
    folder = tmp_path_factory.mktemp("environments")
    finish(Run(folder))
    finish(Run(folder, seed=3, classes={"Nicht-Gedächtnis": "non_memorized", "Erraten ☃": "guess", "Воспоминание": "memorized"}))
    leave(Run(folder, seed=1), "failed")
    return folder


def shell(line, **environment):
    """A line of bash, in which $MEMGRID is the command."""
    names = {"MEMGRID": f"{sys.executable} -m memgrid", "COLUMNS": "160", **environment}
    return subprocess.run(["bash", "-c", line], capture_output=True, env={**os.environ, **names}, timeout=300)


@pytest.mark.parametrize(
    ("line", "environment"),
    [
        ("root={root}", ASCII),
        ("status root={root}", ASCII),
        ("report root={root}", ASCII),
        ("run --help", ASCII),
        ("status root={root}", {"PYTHONIOENCODING": "ascii"}),
    ],
)
def test_a_stream_that_cannot_show_a_character_shows_its_number(line, environment, root):
    done = shell(f"$MEMGRID {line.format(root=root)}", **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    assert len(done.stdout) > 100


@pytest.mark.parametrize("line", ["status root={root} state=done", "run --help", "root={root}", "--help"])
def test_a_reader_that_goes_away_ends_a_command_quietly(line, root):
    done = shell(f"$MEMGRID {line.format(root=root)} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == (b"141\n", b"")


@pytest.mark.parametrize(
    ("line", "closed"),
    [("status root={root}", ">&-"), ("status root={root}", "2>&-"), ("report root={root} out={out}", "<&- >&- 2>&-")],
)
def test_closed_streams_swallow_what_is_printed(line, closed, root, tmp_path):
    done = shell(f"$MEMGRID {line.format(root=root, out=tmp_path)} {closed}; echo $?")
    assert done.stdout.endswith(b"0\n")
    assert done.stderr == b""
    assert all(path.read_text().startswith("<!DOCTYPE html>") for path in tmp_path.glob("*.html"))


def test_a_word_that_no_file_can_be_named_by_is_refused(tmp_path):
    done = shell(f"$MEMGRID root={tmp_path}/ü stages=[fetch]", **ASCII)
    assert done.returncode == 1
    assert b"\\udcc3\\udcbc is not in the encoding of this environment, ascii: set PYTHONUTF8=1" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("-m", "seed=0,1", "hydra.sweep.subdir=x${hydra.job.num}")], ids=["one", "a sweep"])
def test_hydra_may_change_the_folder_and_results_are_where_they_were_asked_for(words, tmp_path):
    name = "hier ü ☃ [b](x) it's"  # nobody's favourite name, but a folder may have it
    memgrid_here(f'root="{name}"', "stages=[fetch]", "hydra.job.chdir=true", *words, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in (tmp_path / name).iterdir()} <= {"jobs", "multirun"}
    assert not [path for path in tmp_path.rglob("*") if path.name == name and path.parent != tmp_path]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("corpus=tables", "corpus.name=x", "corpus.path=/no/such/folder"), "/no/such/folder"),
        (("llm=hf", "llm.name=x", "llm.path=/no/such/model"), "/no/such/model"),
        (("llm=hf", "llm.name=x", "llm.path=/no/such/model", "stages=[extract]"), "/no/such/model"),
        (("stages=[localize]",), "add train to stages"),
        (("wandb.project=a/b",), "wandb.project=a/b is no name for wandb"),
    ],
)
def test_a_wrong_word_leaves_nothing(words, told, tmp_path):
    done = memgrid_here("root=here", *words, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_word_of_an_audit_leaves_nothing(tmp_path):
    done = memgrid_here("root=here", "dataset=cifar10", "dataset.path=/no/such/folder", module="audit", cwd=tmp_path, check=False)
    assert "dataset.path=/no/such/folder does not exist: give the folder cifar-10-batches-py" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_in_a_sweep_what_failed_is_noted(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/sequences.parquet").write_bytes(b"no parquet")  # which only the run that reads it can see
    done = memgrid_here("-m", "root=here", "corpus=tables", "corpus.name=x", "corpus.path=broken", "seed=0", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert len(list(tmp_path.glob("here/runs/*/*/*/failed.json"))) == 1
