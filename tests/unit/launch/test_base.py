"""The launchers' own parts; test_slurm.py has them at work."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import memgrid_here
from hypothesis import given
from hypothesis import strategies as st

from memgrid.errors import UserError
from memgrid.launch import base as launcher
from memgrid.launch.handover import answer_file
from memgrid.launch.progress.board import Board
from memgrid.launch.queues import LocalLauncher, SlurmLauncher
from memgrid.launch.tasks import Task


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("hydra.launcher.at_once=0", "hydra.launcher.at_once=0 is too small"),
        ("hydra.launcher.runs_per_job=0", "hydra.launcher.runs_per_job=0 is too small"),
        ("hydra.launcher.partition=gpu", "partition"),
        ("+hydra.launcher.nonsense=1", "hydra.launcher has a key that it does not know (Unknown argument 'nonsense'"),
        ("hydra.launcher.tasks_per_node=2", "hydra.launcher asks for 2 tasks in a job, and a run is one"),
        ("hydra.sweep.dir=${root}/100%/j", "has a % in its name, which SLURM replaces: give another root, or choose another one with"),
        ("hydra.launcher.submitit_folder=.", "close it to others (chmod 700), or choose another one with hydra.launcher.submitit_folder="),
    ],
)
def test_what_the_local_launcher_cannot_do_is_refused(given, told, quick, tmp_path):
    process = memgrid_here("-m", *quick, "hydra/launcher=local", given, f"root={tmp_path}", check=False)
    assert process.returncode == 1
    assert told in process.stderr
    assert process.stderr.count("\n") == 1


@given(st.lists(st.integers(1, 5), max_size=30), st.integers(1, 9))
def test_runs_that_share_their_work_are_in_one_job_and_jobs_have_as_many_runs_as_asked_for(sizes, wanted):
    numbers = iter(range(200))
    works = [[Task(next(numbers), [], None) for _ in range(size)] for size in sizes]
    jobs = LocalLauncher(1, wanted, submitit_folder=".").bundled([list(work) for work in works])
    assert [task.number for job in jobs for task in job] == list(range(sum(sizes)))
    where = {task.number: place for place, job in enumerate(jobs) for task in job}
    assert all(len({where[task.number] for task in work}) == 1 for work in works)
    assert all(len(job) >= wanted for job in jobs[:-1])
    assert all(len(job) < wanted + 5 for job in jobs)
    assert wanted > 1 or jobs == works


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


class Undone:
    """Runs of which none is done, nor worked on."""

    def name(self, run):
        return "it"

    def result(self, run):
        return None

    def folder(self, run):
        return Path("nowhere")

    def busy(self, run):
        return False


class Limited(SlurmLauncher):
    """A site where a user may have `most` jobs."""

    def __init__(self, most, folder):
        self.most, self.folder, self.max_array_size, self.target = most, folder, 1000, Undone()
        self.batches, self.active, self.refusals, self.looks = [], [], 0, 0

    def submit(self, batch):
        if len(self.active) + len(batch) > self.most:
            self.refusals += 1
            raise UserError("SLURM refused the jobs: QOSMaxSubmitJobPerUserLimit")
        self.batches.append(len(batch))
        jobs = {
            str(tasks[0].number): (SimpleNamespace(paths=SimpleNamespace(result_pickle=self.folder / f"{tasks[0].number}.pkl")), tasks)
            for tasks in batch
        }
        self.active += [answer_file(job.paths) for job, _ in jobs.values()]
        return jobs

    def queue(self):
        return None

    def waiting(self):
        return set()

    def time_passes(self, _):
        """Every now and then the oldest jobs end."""
        self.looks += 1
        if self.looks % 12 == 0:
            for path in self.active[:7]:
                path.touch()
            self.active = self.active[7:]


@pytest.mark.parametrize("most", [1, 100, 153])
def test_an_array_that_a_site_refuses_is_submitted_in_parts(most, tmp_path, monkeypatch, capsys):
    limited, told = Limited(most, tmp_path), []
    monkeypatch.setattr(launcher, "collect", lambda job, tasks, target, failures, ended: told.append(tasks[0].number) or [])
    monkeypatch.setattr(launcher.time, "sleep", limited.time_passes)
    limited.work_off([[Task(number, [], None)] for number in range(153)], [], Board())
    assert sorted(told) == list(range(153))
    assert sum(limited.batches) == 153
    assert max(limited.batches) == {1: 1, 100: 76, 153: 153}[most]
    assert ("jobs wait until others have ended" in capsys.readouterr().out) == (most < 153)
    assert limited.refusals < 2 * len(limited.batches) + 8


def test_a_site_that_takes_no_job_at_all_ends_the_sweep(tmp_path):
    with pytest.raises(UserError, match="QOSMaxSubmit"):
        Limited(0, tmp_path).work_off([[Task(number, [], None)] for number in range(5)], [], Board())
