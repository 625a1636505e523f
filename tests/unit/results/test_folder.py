import dataclasses
import json

import pytest
from runs_maker import Run, composed, finish, grid, leave, make_runs, rewrite

from memgrid.config.names import run_folder, settings, training_key
from memgrid.errors import UserError
from memgrid.report.read import WARNED, finished_runs, read_runs
from memgrid.results.folder import RunFolder, folders_below
from memgrid.results.work import WorkFolder


def test_made_runs_lie_where_real_ones_would(tmp_path):
    """The maker's folders, settings and keys are those of the real functions."""
    for changes in ({}, {"rho": 0.3, "rouge": "l"}, {"compat": "paper", "delta": 5}):
        made = Run(tmp_path, "pythia-12b", "rasy", seed=3, **changes)
        config = composed(())
        real = dataclasses.replace(config, root=str(tmp_path), seed=3, llm=dataclasses.replace(config.llm, name="pythia-12b"), **changes)
        assert made.folder == run_folder(real)
        assert made.settings == settings(real)
        assert made.key == training_key(real)


def test_all_finished_runs_are_read_in_the_order_of_their_folders(tmp_path):
    folders = make_runs(tmp_path, llms=("b", "a"), taxonomies=("rasy", "recite"), deltas=(5,))
    leave(Run(tmp_path, "a", "prashanth", delta=5), "failed")
    (tmp_path / "runs" / ".trainings").mkdir()
    (tmp_path / "runs" / "stray.txt").touch()
    found, left_out = read_runs(tmp_path)
    assert [run.folder.path for run in found] == sorted(folders)
    assert found[0].result == RunFolder(min(folders)).result()
    assert left_out == {}
    assert len(folders_below(tmp_path)) == 5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"members_min_f1": ...}, "no members_min_f1"),
        ({"paper_protocol": {"min_f1": 50.0}}, "no paper_protocol.precision"),
        ({"settings": {"taxonomy": {"name": "x", "classes": {"A": "a rule of tomorrow"}}, "compat": "none"}}, "a rule of tomorrow"),
        ({"settings": {"taxonomy": {"name": "x", "classes": {}}}}, "no settings.compat"),
    ],
)
def test_results_of_another_version_are_left_out_with_a_warning(tmp_path, capsys, changes, told):
    kept, old = make_runs(tmp_path, taxonomies=("rasy", "recite"), deltas=(5,))
    metrics = json.loads((old / "metrics.json").read_text()) | changes
    (old / "metrics.json").write_text(json.dumps({key: value for key, value in metrics.items() if value is not ...}))
    assert [run.folder.path for run in finished_runs(tmp_path)] == [kept]
    (line,) = capsys.readouterr().err.splitlines()
    assert str(old) in line
    assert told in line


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00"])
def test_a_damaged_result_is_left_out_with_a_warning(tmp_path, capsys, content):
    _, damaged = make_runs(tmp_path, taxonomies=("rasy", "recite"), deltas=(5,))
    (damaged / "metrics.json").write_text(content)
    assert len(finished_runs(tmp_path)) == 1
    assert f"{damaged} is left out: its metrics.json is damaged" in capsys.readouterr().err


def test_many_warnings_are_counted(tmp_path, capsys):
    for folder in make_runs(tmp_path, taxonomies=("rasy",), seeds=range(WARNED + 3)):
        rewrite(folder, settings={})
    with pytest.raises(UserError, match=r"holds no finished run that this version can read \(8 that it cannot\)"):
        finished_runs(tmp_path)
    assert "3 more are left out" in capsys.readouterr().err.splitlines()[-1]


def test_a_failure_is_noted_and_forgotten(tmp_path):
    folder = WorkFolder(tmp_path)
    assert folder.failure() is None
    folder.note_failure("Traceback ...\n  line 3\nValueError: too few samples \n", tmp_path / "run.log")
    failure = folder.failure()
    assert failure.error == "ValueError: too few samples"
    assert failure.log == tmp_path / "run.log"
    assert failure.time.startswith("20")
    assert str(failure) == f"ValueError: too few samples (log: {tmp_path / 'run.log'})"
    folder.clear_failure()
    folder.clear_failure()
    assert folder.failure() is None


@pytest.mark.parametrize("content", ["", "[1]", "null"])
def test_a_damaged_failure_is_still_a_failure(tmp_path, content):
    (tmp_path / "failed.json").write_text(content)
    assert "damaged" in WorkFolder(tmp_path).failure().error


def test_a_failure_without_words(tmp_path):
    WorkFolder(tmp_path).note_failure("  \n")
    assert WorkFolder(tmp_path).failure().error == "no message"
    assert WorkFolder(tmp_path).failure().log is None


def test_the_grid_has_every_cell_once(tmp_path):
    folders = [run.folder for run in grid(tmp_path)]
    assert len(folders) == len(set(folders)) == 58  # 22 taxonomies at three δ, less four that do not depend on δ
    assert finish(grid(tmp_path)[0]).is_dir()
