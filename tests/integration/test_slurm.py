"""Sweeps on a real SLURM, and everything that goes wrong on a cluster: nothing is lost, and nothing is done twice."""

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forks
import h5py
import numpy as np
import polars as pl
import pytest
from cluster import REQUEUES_SOON, provided, wait_for
from conftest import FEWER, NIGHT, memgrid, memgrid_here
from job_callbacks import held

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

JOB = (
    "-m",
    "hydra/launcher=slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2",
    "hydra.launcher.timeout_min=20",
)
WAITING = "+hydra.launcher.additional_parameters.hold=true"
CAPPED = "hydra.launcher.max_array_size=2"
LONG = ("cnn.epochs=6", "cnn.kernel_size=4", "cnn.features=4", "control.members=0")
SHARDS = (*FEWER, "stages=[extract]", "extract.shard_samples=12")  # four shards


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A SLURM of the tests' own."""
    with provided(tmp_path_factory.mktemp("slurm"), REQUEUES_SOON) as running:
        yield running


@pytest.fixture
def cluster(slurm):
    """That SLURM, on which no other test's job waits or runs."""
    yield slurm
    slurm.cancel_all()


@pytest.fixture(scope="session")
def prepared(done, tmp_path_factory) -> Path:
    """A root with the labels and the attention of `done`, to be copied."""
    root = tmp_path_factory.mktemp("prepared") / "root"
    for name in ("attention", "labels"):
        shutil.copytree(done / name, root / name)
    return root


def results(root: Path) -> dict[str, dict]:
    """Every finished run's metrics, by the name of its folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in root.glob("runs/*/*/*/metrics.json")}


def logs(root: Path) -> list[str]:
    return [path.read_text() for path in sorted(root.glob("multirun/*/*_log.out"))]


def stored(root: Path) -> np.ndarray:
    """The ids in all shards, one after another."""
    found = []
    for path in root.glob("attention/toy/*/*.h5"):
        with h5py.File(path) as shard:
            found.append(shard["sequence_id"][:])
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def assert_same_runs(root: Path, expected: Path) -> None:
    """Metrics, curves and predictions are equal, bit by bit."""
    assert results(root) == results(expected) != {}
    for path in expected.glob("runs/*/*/*/*.parquet"):
        assert pl.read_parquet(root / path.relative_to(expected)).equals(pl.read_parquet(path)), path.name


class Launched:
    """A sweep that was started in the background, whose runs stop once in the middle."""

    def __init__(self, cluster, root: Path, *overrides: str, env: dict[str, str] | None = None) -> None:
        self.cluster, self.root, self.hold = cluster, root, root.with_name(f"{root.name}-hold")
        self.hold.mkdir()
        self.env = env or {**cluster.env, "PYTHONPATH": str(Path(__file__).parents[1])}
        self.printed = root.with_name(f"{root.name}-printed")
        self.words = ["-m", "memgrid.run", *JOB, f"root={root}", held(self.hold), *overrides]
        self.again()

    def again(self) -> None:
        """Type the same command (once more)."""
        with self.printed.open("w") as stream:
            self.process = forks.Started(self.words, env=self.env, stdout=stream, stderr=stream, light=True)

    def output(self, seconds: float = 200) -> str:
        """What it has printed when it has ended."""
        self.process.wait(seconds)
        return self.printed.read_text()

    def until(self, said: str) -> str:
        """What it has printed when it says something."""
        wait_for(lambda: said in self.printed.read_text() or self.process.poll() is not None, 200, self.printed.read_text)
        assert said in self.printed.read_text(), self.printed.read_text()
        return self.printed.read_text()

    def job(self) -> str:
        """The id of its first job, once that is known."""
        wait_for(lambda: list(self.root.glob("multirun/*/*_submitted.pkl")) or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.output()
        return sorted(self.root.glob("multirun/*/*_submitted.pkl"))[-1].name.removesuffix("_submitted.pkl")

    def held(self) -> list[str]:
        """The seeds of the runs that were stopped in the middle: two epochs, or one shard, are done."""
        return [path.name for path in self.hold.iterdir()]

    def in_the_middle(self) -> str:
        """The job's id, when it is there."""
        job = self.job()
        wait_for(self.held, 240, lambda: str(logs(self.root)))
        assert not results(self.root)
        return job

    def go_on(self) -> None:
        """Let those go on that were stopped."""
        (self.hold / "go").touch()


def processes_of(job: str) -> list[int]:
    """The Python processes of a job."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            environment = (folder / "environ").read_bytes().split(b"\0") if folder.name.isdigit() else []
            if f"SLURM_JOB_ID={job}".encode() in environment and b"submitit.core._submit" in (folder / "cmdline").read_bytes().split(b"\0"):
                found += [int(folder.name)] if "python" in os.readlink(folder / "exe") else []
        except OSError:
            continue
    assert found
    return found


def disturb(cluster, how: str, job: str) -> None:
    """Do something bad to a job."""
    if how == "requeue":
        cluster.command("scontrol", "requeue", job)
    elif how == "preempt":
        cluster.command("scancel", "--signal=USR2", job)
    elif how == "terminate":
        cluster.command("scancel", "--signal=TERM", job)
    elif how == "cancel":
        cluster.command("scancel", job)
    elif how == "kill":
        for process in processes_of(job):
            os.kill(process, signal.SIGKILL)


STREAM, FORCE = ("data.mode=stream", "data.workers=1"), ("force=true",)
# What happens to a training, how it reads, and whether its job comes back by itself; otherwise the same command is typed again.
WAYS = {
    "timeout": ("timeout", (), True),  # the first to start, for it waits longest
    "requeue": ("requeue", (), True),
    "preempt": ("preempt", FORCE, True),
    "preempt-streaming": ("preempt", STREAM, True),
    "terminate-streaming": ("terminate", STREAM, False),
    "cancel": ("cancel", (), False),
    "kill": ("kill", (), False),
}
# Whose jobs start as a user's do, in five seconds of CPU each: by night one of each kind of end, by day one. The others start in a moment.
SLOWLY = ("preempt", "kill", "terminate-streaming") if NIGHT else ("terminate-streaming",)


def started_for(cluster, way: str) -> dict[str, str] | None:
    """The environment of a launcher, in which its jobs start slowly or in a moment."""
    return None if way in SLOWLY else cluster.quick


def endure(cluster, prepared: Path, root: Path, way: str, quick: tuple[str, ...]) -> str:
    """Train while something goes wrong; returns what the launcher printed."""
    shutil.copytree(prepared, root)
    how, more, comes_back = WAYS[way]
    env = started_for(cluster, way)
    if how == "timeout":  # SLURM looks at times every 30 seconds: the signal comes 20 to 50 seconds after the start
        launched = Launched(cluster, root, *quick, *LONG, "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=10", env=env)
    else:
        launched = Launched(cluster, root, *quick, *LONG, *more, env=env)
        disturb(cluster, how, launched.in_the_middle())
    out = launched.output(400)
    if not comes_back:
        assert launched.process.returncode == 1, out
        launched.again()
        out += launched.output()
    assert launched.process.returncode == 0, out
    return out


@pytest.fixture(scope="module")
def undisturbed(prepared, quick, tmp_path_factory) -> Path:
    """The long training, left in peace and without SLURM."""
    root = tmp_path_factory.mktemp("peace") / "root"
    shutil.copytree(prepared, root)
    memgrid_here(*quick, *LONG, f"root={root}")
    return root


@pytest.fixture(scope="module")
def disturbed(slurm, prepared, quick, tmp_path_factory):
    """The same training, disturbed in every way, all at the same time: name → (root, what was printed)."""
    base = tmp_path_factory.mktemp("disturbed")
    with ThreadPoolExecutor(len(WAYS)) as pool:
        waiting = {way: pool.submit(endure, slurm, prepared, base / way, way, quick) for way in WAYS}
    return {way: (base / way, future) for way, future in waiting.items()}


@pytest.mark.parametrize("way", WAYS)
def test_a_disturbed_training_ends_like_an_undisturbed_one(way, disturbed, undisturbed):
    root, future = disturbed[way]
    out = future.result()
    assert_same_runs(root, undisturbed)
    how, _, comes_back = WAYS[way]
    log = "\n".join(logs(root))
    assert log.count("epoch 0\n") == 1  # it went on, and did not begin anew
    assert "epoch 5\n" in log
    assert log.count("- Starting with JobEnvironment") >= 2
    if how in ("preempt", "timeout"):
        assert "Caught signal SIGUSR2" in log
        assert ("this job is timed-out" if how == "timeout" else "this job is preempted") in log
    if not comes_back:
        assert "ended without a result" in out
        assert how != "cancel" or "CANCELLED" in out  # the log's last words


def test_extraction_goes_on_after_a_kill_and_after_a_requeue(cluster, done, quick, tmp_path):
    peace = tmp_path / "peace"
    roots = {how: tmp_path / how for how in ("kill", "requeue")}
    for root in (peace, *roots.values()):
        shutil.copytree(done / "labels", root / "labels")
    memgrid_here(*quick, *SHARDS, f"root={peace}")
    launched = {how: Launched(cluster, root, *quick, *SHARDS, env=started_for(cluster, how)) for how, root in roots.items()}
    for how, sweep in launched.items():
        disturb(cluster, how, sweep.in_the_middle())
        assert len(stored(sweep.root)) < len(stored(peace))
    for how, sweep in launched.items():
        out = sweep.output()
        if how == "kill":
            assert sweep.process.returncode == 1
            assert "ended without a result" in out
            sweep.again()
            out = sweep.output()
        assert sweep.process.returncode == 0, out
        ids = stored(sweep.root)
        assert len(ids) == len(np.unique(ids))
        assert_same_store(sweep.root, peace)


def assert_same_store(root: Path, expected: Path) -> None:
    """Equal ids with equal maps, whatever shards they lie in."""

    def content(base: Path) -> dict[int, tuple]:
        found = {}
        for path in base.glob("attention/toy/*/*.h5"):
            with h5py.File(path) as shard:
                for row, sequence in enumerate(shard["sequence_id"][:].tolist()):
                    found[sequence] = tuple(shard[name][row].tobytes() for name in ("decoded", "confidence", "mean", "max"))
        return found

    assert content(root) == content(expected)


def test_a_sweep_is_one_array_with_a_gpu_each_and_gives_what_the_basic_launcher_gives(cluster, prepared, quick, tmp_path):
    for name in ("basic", "slurm", "local"):
        shutil.copytree(prepared, tmp_path / name)
    grid = (*quick, *FEWER, "taxonomy=rasy,recite", "delta=40", "cnn.epochs=1")
    memgrid_here("-m", *grid, f"root={tmp_path / 'basic'}")
    show = 'hydra.launcher.setup=["echo visible=$CUDA_VISIBLE_DEVICES"]'
    process = memgrid(*JOB, "hydra.launcher.gres=gpu:1", "llm.device=cpu", *grid, show, f"root={tmp_path / 'slurm'}", env=cluster.quick)
    assert "2 runs submitted as 2 jobs" in process.stdout
    assert process.stdout.count("done, min-F1") == 2
    (script,) = (tmp_path / "slurm").glob("multirun/*/*_submission.sh")
    assert "--array=0-1" in script.read_text()
    assert {log[log.index("visible=")] + log[log.index("visible=") + 8] for log in logs(tmp_path / "slurm")} == {"v0", "v1"}
    assert_same_runs(tmp_path / "slurm", tmp_path / "basic")
    memgrid("-m", "hydra/launcher=local", "hydra.launcher.at_once=2", *grid, f"root={tmp_path / 'local'}", env=forks.WARM)
    assert len(results(tmp_path / "local")) == 2
    assert results(tmp_path / "local") == results(tmp_path / "basic")


def test_extraction_in_parts_and_then_training(cluster, done, quick, tmp_path):
    shutil.copytree(done / "labels", tmp_path / "labels")
    grid = (*quick, *FEWER, "taxonomy=rasy,recite", "delta=40", "cnn.epochs=1", f"root={tmp_path}")
    process = memgrid(*JOB, *grid, "stages=[label,extract]", "part=range(0,3)", "parts=3", CAPPED, env=cluster.quick)
    assert "4 runs submitted as 2 jobs" in process.stdout  # a part of both taxonomies is one job
    assert "2 runs submitted as job" in process.stdout  # what the first array did not hold
    assert len(logs(tmp_path)) == 3
    ids = stored(tmp_path)
    assert len(ids) == len(np.unique(ids)) > 0
    assert not list(tmp_path.glob("runs/*/*/*"))
    memgrid(*JOB, *grid, env=cluster.quick)
    assert len(results(tmp_path)) == 2
    assert all(" 0 extracted" in log for log in logs(tmp_path)[-2:])
    assert len(stored(tmp_path)) == len(ids)


def test_jobs_that_start_together_share_labels_and_extraction(cluster, quick, tmp_path):
    few = (*FEWER, "extract.shard_samples=16", "cnn.epochs=1")
    grid = (*quick, *few, "taxonomy=recite", "seed=0,1,2", "delta=40", f"root={tmp_path}")
    memgrid(*JOB, *grid, env=cluster.quick)
    assert len(results(tmp_path)) == 3
    ids = stored(tmp_path)
    assert len(ids) == len(np.unique(ids)) > 0
    assert sum(log.count("(memorized") for log in logs(tmp_path)) == 1


def test_one_bad_job_never_costs_the_others(cluster, prepared, quick, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(prepared, root)
    bad = "+hydra.callbacks.hard={_target_: job_callbacks.HardExit}"
    process = memgrid(*JOB, *quick, "taxonomy=prashanth,recite,rasy", "delta=100000", bad, f"root={root}", env=cluster.quick, check=False)
    assert process.returncode == 1, process.stdout
    assert [metrics["settings"]["taxonomy"]["name"] for metrics in results(root).values()] == ["rasy"]
    assert "2 runs of 3 failed:" in process.stdout
    assert f"The report on all runs there: python -m memgrid.report root={root}" in process.stdout
    assert f"python -m memgrid.status state=failed root={root}" in process.stdout
    told = memgrid_here(f"root={root}", module="status").stdout.replace("\n", "")
    assert "failed" in told
    told = memgrid_here(f"root={root}", module="status", env={"COLUMNS": "1000"}).stdout
    (hard,) = [line for line in told.splitlines() if "toy/prashanth/" in line]
    (raised,) = [line for line in told.splitlines() if "toy/recite/" in line]
    assert "ended without a result" in hard
    assert "_log.out" in hard
    assert "class 'Recite' has 0 samples" in raised
    assert "_log.out" in raised


def test_the_launching_process_is_disposable(cluster, prepared, quick, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(prepared, root)
    sweep = Launched(cluster, root, *quick, *LONG, "seed=0,1", WAITING, env=cluster.quick)
    jobs = sweep.job().partition("_")[0]
    wait_for(lambda: len(list(root.glob("runs/*/*/*/queued.json"))) == 2, 60)
    sweep.process.kill()
    sweep.output()
    for state in ("waiting", "running"):
        sweep.again()
        out = sweep.until("waits for 2 runs that are being done elsewhere")
        assert out.count("is in the queue for it") == 2, state
        assert "2 of 2 runs are done or under way" in out
        assert len(cluster.queue()) == 2
        # The queue says what waits, the runs themselves what they do, and where.
        said = memgrid_here(f"root={root}", module="status", env={**cluster.env, "COLUMNS": "400"}).stdout
        told = f"as job {jobs}_0 (PD JobHeldUser)" if state == "waiting" else f"job {jobs}_0 on "
        assert told in said
        assert ("train, epoch " in said) == (state == "running")
        if state == "waiting":
            sweep.process.kill()
            sweep.output()
            cluster.command("scontrol", "release", jobs)
            wait_for(lambda: len(sweep.held()) == 2, 240, lambda: str(logs(root)))
    sweep.go_on()
    out = sweep.output()
    assert sweep.process.returncode == 0
    assert out.count("done, min-F1") == 2
    assert len(results(root)) == 2
    assert len(logs(root)) == 2
    cluster.empty()  # no job was put there again


def test_a_limit_of_the_site_and_a_damaged_result_cost_no_other_run(cluster, prepared, quick, tmp_path):
    """An sbatch that refuses its second call, as one does where a user may have only so many jobs."""
    root, programs = tmp_path / "root", tmp_path / "bin"
    shutil.copytree(prepared, root)
    programs.mkdir()
    refuse = "sbatch: error: QOSMaxSubmitJobPerUserLimit"
    real = shutil.which("sbatch", path=cluster.env["PATH"])
    second = f"echo >> {programs}/calls\n[ $(wc -l < {programs}/calls) = 2 ] && {{ echo {refuse} >&2; exit 1; }}"
    script = f"#!/bin/sh\n{second}\nexec {real} $@\n"
    (programs / "sbatch").write_text(script)
    (programs / "sbatch").chmod(0o755)
    words = (*JOB, *quick, "cnn.epochs=1", f"root={root}", "hydra.launcher.max_array_size=1")
    env = {**cluster.quick, "PATH": f"{programs}:{cluster.env['PATH']}"}
    memgrid_here(*quick, "cnn.epochs=1", f"root={root}", "seed=2")
    (path,) = root.glob("runs/*/*/*/metrics.json")
    path.write_text("{")
    process = memgrid(*words, "seed=0,1,2", env=env, check=False)
    assert process.returncode == 1
    assert "QOSMaxSubmitJobPerUserLimit; 1 jobs wait until others have ended" in process.stdout
    assert process.stdout.count("done, min-F1") == 2
    assert f"{path.parent}: its metrics.json is damaged" in process.stdout


def test_a_job_whose_configuration_changed_says_so_and_stops(cluster, prepared, quick, tmp_path):
    root, conf = tmp_path / "root", tmp_path / "conf" / "cnn" / "mine.yaml"
    shutil.copytree(prepared, root)
    conf.parent.mkdir(parents=True)
    conf.write_text("kernel_size: 6\nfeatures: 10\npooling: mean\nepochs: 2\n")
    mine = [word for word in quick if not word.startswith("cnn")]
    sweep = Launched(cluster, root, "--config-dir", str(tmp_path / "conf"), *mine, "cnn=mine", WAITING, env=cluster.quick)
    job = sweep.job()
    wait_for(lambda: job in cluster.queue(), 30)
    conf.write_text(conf.read_text().replace("epochs: 2", "epochs: 3"))
    cluster.command("scontrol", "release", job)
    out = sweep.output()
    assert sweep.process.returncode == 1
    assert "since this job was submitted, cnn.epochs changed from 2 to 3: submit it again" in out
    assert not results(root)
    assert "cnn.epochs changed" in memgrid_here(f"root={root}", module="status").stdout


def test_a_job_of_several_tasks_is_refused(cluster, prepared, quick, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(prepared, root)
    process = memgrid(*JOB, *quick, "hydra.launcher.tasks_per_node=2", f"root={root}", env=cluster.env, check=False)
    assert process.returncode == 1
    assert "hydra.launcher asks for 2 tasks in a job, and a run is one" in process.stderr
    assert not results(root)


def test_what_slurm_refuses_is_told_in_a_sentence(cluster, quick, tmp_path):
    process = memgrid(*JOB, *quick, "hydra.launcher.gres=gpu:7", f"root={tmp_path}", env=cluster.env, check=False)
    assert process.returncode == 1
    assert "memgrid: SLURM refused the jobs: " in process.stderr
    assert "Requested node configuration is not available" in process.stderr
    assert "Traceback" not in process.stderr


def test_what_needs_the_internet_is_not_submitted(cluster, quick, tmp_path):
    process = memgrid(*JOB, *quick, "stages=[fetch]", f"root={tmp_path}", env=cluster.env, check=False)
    assert process.returncode == 1
    assert "stages has fetch, which needs the internet" in process.stderr
    assert not cluster.queue()


def test_shadow_models_fan_out_as_an_array(cluster, tmp_path):
    given = ("shadows=4", "model.epochs=4", "predictors.directions=50", "wandb=off")
    process = memgrid(*JOB, *given, "shadow=range(0,4)", f'root="{tmp_path}/{{slurm}} 1"', module="audit", env=cluster.quick)
    assert "4 runs submitted as 4 jobs" in process.stdout
    assert process.stdout.count(": done") == 4
    memgrid_here(*given, f"root={tmp_path / 'here'}", module="audit")
    (found,), (expected,) = (
        [json.loads(path.read_text()) for path in (tmp_path / name).glob("audits/*/*/*/attack-*/metrics.json")]
        for name in ("{slurm} 1", "here")
    )
    assert found == expected
