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
    finish(Run(folder, seed=3, classes={"Nicht-Gedächtnis": "non_memorized", "Erraten ☃": "guess", "記憶": "memorized"}))
    leave(Run(folder, seed=1), "failed")
    return folder


def shell(line, **environment):
    """A line of bash, in which $MEMGRID is the command."""
    names = {"MEMGRID": f"{sys.executable} -m memgrid", "COLUMNS": "160", **environment}
    return subprocess.run(["bash", "-c", line], capture_output=True, env={**os.environ, **names}, timeout=300)


@pytest.mark.parametrize(
    "line", ["$MEMGRID root={root}", "$MEMGRID status root={root}", "$MEMGRID report root={root}", "$MEMGRID run --help"]
)
@pytest.mark.parametrize("encoding", [ASCII, {"PYTHONIOENCODING": "ascii"}], ids=["a locale without UTF-8", "ascii alone"])
def test_a_stream_that_cannot_show_a_character_shows_its_number(line, encoding, root):
    done = shell(line.format(root=root), **encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
    assert len(done.stdout) > 100


@pytest.mark.parametrize(
    "line", ["$MEMGRID status root={root} state=done", "$MEMGRID run --help", "$MEMGRID root={root}", "$MEMGRID --help"]
)
@pytest.mark.parametrize("reader", ["head -c 1 > /dev/null", "true"])
def test_a_reader_that_goes_away_ends_a_command_quietly(line, reader, root):
    done = shell(f"{line.format(root=root)} | {reader}; echo ${{PIPESTATUS[0]}}")
    assert done.stderr == b""
    assert done.stdout in (b"141\n", b"0\n")  # 0: it had printed all before


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_swallow_what_is_printed(closed, root, tmp_path):
    done = shell(f"$MEMGRID report root={root} out={tmp_path}/page {closed}; echo $?")
    assert done.stdout.endswith(b"0\n")
    assert done.stderr == b""
    assert (tmp_path / "page" / "index.html").read_text().startswith("<!DOCTYPE html>")


def test_a_word_that_no_file_can_be_named_by_is_refused(tmp_path):
    done = shell(f"$MEMGRID root={tmp_path}/ü stages=[fetch]", **ASCII)
    assert done.returncode == 1
    assert b"\\udcc3\\udcbc is not in the encoding of this environment, ascii: set PYTHONUTF8=1" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [(), ("-m",), ("-m", "seed=0,1", "hydra.sweep.subdir=x${hydra.job.num}")], ids=["one", "a sweep", "in folders of their own"]
)
def test_hydra_may_change_the_folder_and_results_are_where_they_were_asked_for(words, tmp_path):
    memgrid_here("root=here", "stages=[fetch]", "hydra.job.chdir=true", *words, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert {path.name for path in (tmp_path / "here").iterdir()} <= {"jobs", "multirun"}
    assert not list(tmp_path.glob("here/multirun/**/here"))


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
    assert "dataset.path=/no/such/folder has no sound data_batch_1" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_in_a_sweep_what_failed_is_noted(tmp_path):
    done = memgrid_here("-m", "root=here", "corpus=tables", "corpus.name=x", "corpus.path=/no/such", "seed=0", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert len(list(tmp_path.glob("here/runs/*/*/*/failed.json"))) == 1
