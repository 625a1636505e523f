"""The launchers' own parts; test_slurm.py has them at work."""

import pytest
from conftest import memgrid_here

from memgrid.launcher import reason


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("hydra.launcher.at_once=0", "hydra.launcher.at_once=0 is too small"),
        ("hydra.launcher.partition=gpu", "partition"),
        ("hydra.launcher.tasks_per_node=2", "hydra.launcher asks for 2 tasks in a job, and a run is one"),
    ],
)
def test_what_the_local_launcher_cannot_do_is_refused(given, told, quick, tmp_path):
    process = memgrid_here("-m", *quick, "hydra/launcher=local", given, f"root={tmp_path}", check=False)
    assert process.returncode == 1
    assert told in process.stderr
    assert process.stderr.count("\n") == 1


def test_without_slurm_the_slurm_launcher_says_so(quick, tmp_path):
    process = memgrid_here("-m", *quick, "hydra/launcher=slurm", f"root={tmp_path}", check=False, env={"PATH": "/nowhere"})
    assert process.returncode == 1
    assert "hydra/launcher=slurm finds no sbatch here" in process.stderr


@pytest.mark.parametrize("given", ["hydra/launcher=slurm", "hydra/launcher=local", "cluster=cpu"])
def test_a_launcher_without_a_sweep_is_refused(given, quick, tmp_path):
    process = memgrid_here(*quick, given, f"root={tmp_path / 'root'}", check=False)
    assert process.returncode == 1
    assert "submits the runs of a sweep: add -m" in process.stderr
    assert not (tmp_path / "root").exists()


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
