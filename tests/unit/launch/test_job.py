"""Inside a job: what is refused, which log is its own, how it ends on SIGTERM."""

import shutil
import subprocess
import sys
import types
from dataclasses import replace

import pytest
from conftest import refusal

from memgrid.config.schema import LLMConfig, RunConfig, TrainerConfig
from memgrid.io.files import check_room
from memgrid.launch.job import check_tasks, log_file
from memgrid.results.work import last_line
from memgrid.train import devices
from memgrid.train.devices import check_gpu, check_trainer

# Each way to lose what a signal's handler raises, and to clean up after it; `told()` sends the signal to the process itself, at that place.
WAYS = """
import os, signal, sys, threading, time, weakref
from memgrid.launch import job
from memgrid.launch.workspace import Workspace

class Thing: ...

class Dying:
    def __del__(self):
        told()

def weak_reference():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: told())
    del thing

def destructor():
    Dying()

def others_code():
    try:
        told()
    except BaseException:
        pass

def made_an_end_without_status():
    try:
        told()
    except BaseException:
        sys.exit()

def made_an_error():
    try:
        told()
    finally:
        raise RuntimeError("a reader of batches has ended")

def cleaning_up():
    try:
        told()
    finally:
        time.sleep(6 * job.AGAIN_SECONDS)
        os.write(1, b"cleaned up ")

def cleaning_up_in_an_except():
    try:
        told()
    except BaseException:
        try:
            raise OSError
        except OSError:
            time.sleep(6 * job.AGAIN_SECONDS)
            os.write(1, b"cleaned up ")
        raise

def never_done():
    try:
        told()
    finally:
        time.sleep(60)

def a_thread_that_never_ends():
    threading.Thread(target=time.sleep, args=(60,)).start()
    told()

def told_twice():
    try:
        told()
    finally:
        if number == signal.SIGTERM:
            told()
        os.write(1, b"cleaned up ")

# Patience is short only with those that use it up: whoever else is slow, as on a busy machine Python itself is at its end, has all of it.
job.AGAIN_SECONDS, usual, short = 0.05, job.PATIENCE_SECONDS, (never_done, a_thread_that_never_ends)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests in the background has it ignored
for number in (signal.SIGTERM, signal.SIGINT):
    for way in (weak_reference, destructor, others_code, made_an_end_without_status, made_an_error, cleaning_up,
                cleaning_up_in_an_except, never_done, a_thread_that_never_ends, told_twice):
        told = lambda: (os.kill(os.getpid(), number), time.sleep(0.01))
        job.PATIENCE_SECONDS = 1.0 if way in short else usual
        if os.fork() == 0:
            lost = []
            sys.unraisablehook = lost.append  # no code of Python's, in which the next signal could end it
            try:
                with job.ending_on_sigterm(Workspace()):
                    way()
                    time.sleep(60)
            except KeyboardInterrupt:
                sys.exit(job.INTERRUPTED)
            finally:
                os.write(1, b"lost " * len(lost))
            sys.exit("the work went on")
        print(way.__name__, os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture
def in_a_job(monkeypatch):
    for name, value in {"SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": "/logs", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


def test_a_job_of_several_tasks_is_refused(in_a_job, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    check_tasks()
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert "this job has 4 tasks, and a run is one" in refusal(check_tasks)


def test_an_interactive_allocation_is_no_job(monkeypatch):
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    check_tasks()
    assert log_file() is None


def test_the_log_is_the_jobs_own(in_a_job, monkeypatch):
    assert str(log_file()) == "/logs/7_0_log.out"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "6")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert str(log_file()) == "/logs/6_3_0_log.out"


@pytest.mark.parametrize(
    ("run", "asker"),
    [
        (RunConfig(trainer=TrainerConfig(accelerator="gpu"), llm=LLMConfig(device="auto")), "trainer.accelerator=gpu"),
        (RunConfig(llm=LLMConfig(device="cuda:1")), "llm.device=cuda:1"),
    ],
)
def test_a_gpu_that_is_not_visible_is_missed_at_once(run, asker, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(devices, "visible_gpus", lambda: 1)
    check_gpu(run)
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    sentence = refusal(check_gpu, run)
    assert sentence.startswith(f"{asker}, but torch sees no GPU (CUDA_VISIBLE_DEVICES=)")


def test_a_given_gpu_that_torch_does_not_see_is_missed(in_a_job, monkeypatch):
    """A torch without CUDA would compute on the CPU for hours, and say nothing."""
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    run = RunConfig(llm=LLMConfig(device="auto"), stages=["extract"])
    assert refusal(check_gpu, run).startswith(
        "this job was given a GPU and llm.device=auto, but torch sees no GPU (CUDA_VISIBLE_DEVICES=0)"
    )
    for stage in ("label", "plan", "intervene"):
        assert "llm.device=auto, but torch sees no GPU" in refusal(check_gpu, replace(run, stages=[stage]))
    on_cpu = LLMConfig(device="cpu")
    check_gpu(RunConfig(llm=on_cpu, stages=["extract"]))
    told = refusal(check_trainer, TrainerConfig(accelerator="auto"))  # as an audit asks
    assert told.startswith("this job was given a GPU and trainer.accelerator=auto, but torch sees no GPU")
    for stage in ("train", "localize"):
        auto, gpu = (RunConfig(llm=on_cpu, stages=[stage], trainer=TrainerConfig(accelerator=name)) for name in ("auto", "gpu"))
        assert "this job was given a GPU and trainer.accelerator=auto" in refusal(check_gpu, auto)
        assert refusal(check_gpu, gpu).startswith("trainer.accelerator=gpu, but torch sees no GPU")
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    check_gpu(run)
    check_gpu(auto)


def test_extraction_needs_no_gpu_for_its_trainer(monkeypatch):
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    run = RunConfig(trainer=TrainerConfig(accelerator="gpu"), llm=LLMConfig(device="cpu"), stages=["extract"])
    check_gpu(run)
    assert refusal(check_gpu, replace(run, stages=["extract", "train"])).startswith("trainer.accelerator=gpu, but torch sees no GPU")


def test_a_full_disk_is_seen_before_the_work(tmp_path, monkeypatch):
    check_room(tmp_path, 10_000, "the attention of 3 samples")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=5 * 10**9))
    sentence = refusal(check_room, tmp_path, 60 * 10**9, "the attention of 200,000 samples")
    assert "has 5.00 GB free, but the attention of 200,000 samples needs 60.00 GB" in sentence


CUT = """train
slurmstepd-n1: error: *** STEP 3.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***
srun: error: n1: task 0: Terminated
submitit WARNING (2026-01-01) - Bypassing signal SIGCONT
"""


def test_why_a_job_was_cut_off_is_found_above_what_the_tools_add(tmp_path):
    (tmp_path / "log").write_text(CUT)
    assert last_line(tmp_path / "log") == "slurmstepd-n1: error: *** STEP 3.0 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***"


@pytest.mark.parametrize(("text", "expected"), [("one\ntwo\n\n  \n", "two"), ("", ""), ("x" * 9000 + "\nend", "end"), ("é\n\xff", "\xff")])
def test_the_last_line_that_says_something(tmp_path, text, expected):
    (tmp_path / "log").write_text(text)
    assert last_line(tmp_path / "log") == expected


def test_no_log_says_nothing(tmp_path):
    assert last_line(None) == last_line(tmp_path / "none") == ""


def test_the_process_ends_wherever_the_signal_finds_it():
    """In a destructor and in a callback of a weak reference Python drops what a handler raises, and others' code may catch it."""
    done = subprocess.run([sys.executable, "-c", WAYS], capture_output=True, text=True, timeout=200)
    ends = [tuple(line.rsplit(" ", 2)[-2:]) for line in done.stdout.splitlines()]
    assert ends == [(way, status) for status in ("143", "130") for way in dict(ends)], done
    said = {line.split()[-2]: line for line in done.stdout.splitlines()}
    assert len(said) == 10
    assert "lost" in said["weak_reference"]
    assert "lost" in said["destructor"]
    assert all("cleaned up" in said[way] for way in ("cleaning_up", "cleaning_up_in_an_except", "told_twice"))
    assert "the work went on" not in done.stderr


REQUEUED = """
import os, signal, sys, time
from submitit import JobEnvironment
from submitit.core.utils import UncompletedJobError
from memgrid.launch import job
from memgrid.launch.workspace import Workspace

def theirs(number, frame):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(6 * job.AGAIN_SECONDS)
    os.write(1, b"requeued ")
    if how == "refused":
        raise UncompletedJobError("timed-out too many times")
    sys.exit(7)

class Dying:
    def __del__(self):
        os.kill(os.getpid(), JobEnvironment._usr_sig())
        time.sleep(0.01)

job.AGAIN_SECONDS = 0.05
for how in ("allowed", "refused"):
    if os.fork() == 0:
        signal.signal(JobEnvironment._usr_sig(), theirs)
        workspace = Workspace()
        with job.ending_on_sigterm(workspace):
            job.requeue_in_peace(workspace)
            Dying()
            time.sleep(60)
    print(how, os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_a_requeueing_is_not_cut_off_and_then_the_process_ends():
    done = subprocess.run([sys.executable, "-c", REQUEUED], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["requeued allowed 7", "requeued refused 1"], done
    assert "memgrid: timed-out too many times" in done.stderr
