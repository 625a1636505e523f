"""What a launcher tells; test_slurm.py has it tell of real jobs."""

from types import SimpleNamespace

import pytest

from memgrid.launch.base import reason
from memgrid.launch.progress.tally import Tally
from memgrid.launch.tasks import Task, collect


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("sbatch: error: Batch job submission failed: Invalid account\n", "error: Batch job submission failed: Invalid account"),
        ("sbatch: unrecognized option '--hodl'\nTry \"sbatch --help\" for more information\n", "unrecognized option '--hodl'"),
        ("", "no reason was given"),
    ],
)
def test_what_sbatch_says_in_one_line(output, told):
    assert reason(output) == told


@pytest.mark.parametrize("force", [False, True])
def test_an_old_result_is_none_of_a_forced_run_whose_job_died(force, tmp_path, capsys):
    paths = SimpleNamespace(stderr=tmp_path / "log", stdout=tmp_path / "log", result_pickle=tmp_path / "none.pkl")
    (tmp_path / "log").write_text("slurmstepd: error: CANCELLED\n")
    target = SimpleNamespace(done=lambda _: True, folder=lambda _: tmp_path, name=lambda _: "it", ending=lambda _: "done, min-F1 12.3")
    failures: list[str] = []
    tally = Tally(1)
    collect(SimpleNamespace(job_id="3", paths=paths), [Task(0, [], SimpleNamespace(force=force))], target, failures, tally)
    assert (tally.ended, tally.failed) == ({0}, {0} if force else set())
    assert ("done, min-F1" in capsys.readouterr().out) == (not force)
    assert failures == (["job 3 ended without a result: slurmstepd: error: CANCELLED"] if force else [])
    assert (tmp_path / "failed.json").exists() == force
