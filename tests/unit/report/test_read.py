"""What a report reads: each result once, through the boundary of results, and each partition once."""

import ast
from pathlib import Path

import pytest
from conftest import refusal
from runs_maker import Run, finish, grid, result_of

from memgrid.io.paths import PACKAGE
from memgrid.report import rows
from memgrid.report.read import FinishedRun, finished_runs, read_runs
from memgrid.report.rows import named, partition_of, partitions_of
from memgrid.results.folder import RunFolder


def test_a_run_is_its_folder_and_its_result(tmp_path):
    made = Run(tmp_path)
    finish(made)
    (run,) = finished_runs(tmp_path)
    assert run.folder == RunFolder(made.folder)
    assert run.result == run.folder.result()
    assert (run.result.classes, run.settings) == (made.classes, made.settings)
    (with_name,) = named([run])
    assert (with_name.folder, with_name.result) == (run.folder, run.result)


def test_the_folder_of_runs_in_place_of_its_root_is_named(tmp_path):
    finish(Run(tmp_path))
    assert refusal(finished_runs, tmp_path / "runs") == f"root={tmp_path / 'runs'} is the folder of runs in a root: write root={tmp_path}"


def test_a_result_that_cannot_be_opened_is_left_out(tmp_path):
    kept, other = (finish(Run(tmp_path, seed=seed)) for seed in (0, 1))
    path = RunFolder(other).metrics
    path.unlink()
    path.mkdir()
    runs, left_out = read_runs(tmp_path)
    assert [run.folder.path for run in runs] == [kept]
    assert left_out == {str(other): "its metrics.json cannot be read (Is a directory)"}


def test_a_damaged_result_says_what_to_do(tmp_path):
    folder = finish(Run(tmp_path))
    RunFolder(folder).metrics.write_text("{")
    assert read_runs(tmp_path) == ([], {str(folder): "its metrics.json is damaged: run it again with force=true"})


@pytest.mark.parametrize("compat", ["none", "paper"])
def test_each_partition_is_computed_once_and_is_the_run_s(tmp_path, monkeypatch, compat):
    settings = [run.settings for run in grid(tmp_path, taxonomies=("rasy", "recite"), deltas=(5, 50), seeds=(0, 1, 2), compat=compat)]
    expected = [partition_of(given) for given in settings]
    asked = []
    monkeypatch.setattr(rows, "partition_of", lambda given: asked.append(given) or partition_of(given))
    assert partitions_of(settings) == expected
    assert len(asked) == (3 if compat == "none" else 4)
    asked.clear()
    named([FinishedRun(RunFolder(run.folder), result_of(run)) for run in grid(tmp_path, taxonomies=("rasy",), seeds=(0, 1), compat=compat)])
    assert len(asked) == (1 if compat == "none" else 3)


def test_the_report_knows_no_file_of_a_run_by_itself():
    """What a run's files are called is said in `memgrid.results.folder` alone."""
    folder = RunFolder(Path("run"))
    paths = [getattr(folder, name) for name, of in vars(RunFolder).items() if isinstance(of, property)]
    names = {path.name for path in paths if isinstance(path, Path) and path.suffix}
    assert {"metrics.json", "predictions.parquet", "intervene.json"} <= names
    for module in (PACKAGE / "report").rglob("*.py"):
        literals = {node.value for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Constant)}
        assert not names & literals, module
