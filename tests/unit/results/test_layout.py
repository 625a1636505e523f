"""The files of a run are named once, in the package `results`; everybody else asks the folder."""

import ast
import re

from filelock import FileLock
from runs_maker import composed

from memgrid.config.names import run_folder, work_folder
from memgrid.io.paths import PACKAGE
from memgrid.results.folder import RunFolder, runs_below, work_folder_of
from memgrid.results.work import WorkFolder

NAMES = re.compile(
    r"(^|/)(metrics\.json|(samples|epochs|predictions|baselines|intervene|intervene-units)\.parquet|(intervene|transfer)\.json"
    r"|intervene\.partial\.jsonl|last\.ckpt"
    r"|\.lock|config\.yaml|failed\.json|job\.json|queued\.json|doing\.json|\.doing\.lock|checkpoints|figures|localize-\S*)$"
)
# Where the names stand; `train.reuse` and `store.sharing` have locks that are no run's.
OWNERS = {
    "io/paths.py",
    "results/folder.py",
    "results/work.py",
    "results/result.py",
    "audit/result.py",
    "results/audit_folder.py",
    "train/reuse.py",
    "store/sharing.py",
}
# A report, of runs or of an audit, has a folder for its own figures.
OTHERS = ("report/",)


def literals(path):
    """The string constants of a module but for its docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and isinstance(node.body[0], ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


def test_the_files_of_a_run_are_named_in_one_place():
    elsewhere = {}
    for path in PACKAGE.rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        if name not in OWNERS and not name.startswith(OTHERS):
            elsewhere[name] = [literal for literal in literals(path) if NAMES.search(literal)]
    assert {name: found for name, found in elsewhere.items() if found} == {}


def test_the_names_are_those_that_were_always_written(tmp_path):
    folder = RunFolder(tmp_path)
    names = {
        "metrics": "metrics.json",
        "samples": "samples.parquet",
        "epochs": "epochs.parquet",
        "predictions": "predictions.parquet",
        "baselines": "baselines.parquet",
        "checkpoint": "checkpoints/last.ckpt",
        "control_checkpoints": "control/checkpoints",
        "figures": "figures",
        "wandb": "wandb",
        "intervention": "intervene.parquet",
        "intervention_units": "intervene-units.parquet",
        "intervention_journal": "intervene.partial.jsonl",
        "intervention_record": "intervene.json",
        "transfers": "transfer.json",
        "lock_file": ".lock",
        "config": "config.yaml",
        "failure_file": "failed.json",
        "job_file": "job.json",
        "queued_file": "queued.json",
    }
    assert {name: getattr(folder, name) for name in names} == {name: tmp_path / file for name, file in names.items()}
    assert folder.decision_maps("gradcam") == tmp_path / "localize-gradcam.h5"
    assert folder.decision_record("gradcam") == tmp_path / "localize-gradcam.json"


def test_a_runs_folder_is_the_one_that_its_settings_name(tmp_path):
    run = composed((f"root={tmp_path}",))
    assert RunFolder.of(run).path == run_folder(run)
    assert work_folder_of(run).path == work_folder(run)
    assert runs_below(tmp_path) in run_folder(run).parents


def test_files_of_a_stage_begin_with_its_record(tmp_path):
    run, folder = composed(()), RunFolder(tmp_path)
    assert [path.name for path in folder.stage_files(run, "localize")] == ["localize-guided.json", "localize-guided.h5"]
    assert [path.name for path in folder.stage_files(run, "intervene")] == [
        "intervene.json",
        "intervene.parquet",
        "intervene-units.parquet",
        "intervene.partial.jsonl",
    ]
    assert folder.stage_files(run, "transfer") == [folder.transfers] == [folder.record_path(run, "transfer")]


def test_a_lock_is_seen_and_looking_leaves_nothing(tmp_path):
    folder = WorkFolder(tmp_path)
    assert not folder.is_locked()
    assert list(tmp_path.iterdir()) == []
    with folder.lock(0):
        assert folder.is_locked()
    with FileLock(folder.lock_file):
        assert folder.is_locked()
    assert not folder.is_locked()


def test_jobs_are_noted_and_forgotten(tmp_path):
    folder = WorkFolder(tmp_path)
    assert (folder.job_log(), folder.queued_as()) == (None, None)
    folder.note_job(tmp_path / "a.out")
    folder.note_queued("7_1", tmp_path / "result")
    assert (folder.job_log(), folder.queued_as()) == (tmp_path / "a.out", "7_1")
    (tmp_path / "result").touch()
    folder.note_job(None)
    assert (folder.job_log(), folder.queued_as()) == (None, None)
    folder.queued_file.write_text("[")
    folder.job_file.write_text("{}")
    assert (folder.job_log(), folder.queued_as()) == (None, None)
