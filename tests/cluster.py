"""A real SLURM on this machine, for tests: one node with two pretend GPUs, as root or as anybody else; no accounting, as on small sites."""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

import forks
import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
CONF = """
ClusterName=memgrid
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock,cred_expire={patience}
CredType=cred/munge
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/slurmd
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MinJobAge=300
KillWait=5
MaxArraySize=64
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# Two devices that everybody has: as many pretend GPUs.
GRES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


def lacking() -> list[str]:
    """The programs that a cluster needs and this machine does not have."""
    return [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]


def search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """What a user of the cluster does: the environment to run programs in, and SLURM's commands."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.quick = {**env, **forks.WARM}  # of launchers whose jobs start in a moment

    def command(self, *words: str, check: bool = True) -> str:
        """What a SLURM command prints."""
        process = subprocess.run(words, capture_output=True, text=True, env=self.env, timeout=60)
        assert not check or process.returncode == 0, process.stdout + process.stderr
        return process.stdout.strip()

    def queue(self) -> list[str]:
        """Ids of the jobs that wait or run, such as `3_0`."""
        return self.command("squeue", "-h", "-r", "-o", "%i").split()

    def running(self) -> list[str]:
        """Ids of the jobs that run."""
        return self.command("squeue", "-h", "-r", "-t", "R", "-o", "%i").split()

    def empty(self, seconds: float = 120) -> None:
        """Wait until no job waits or runs."""
        wait_for(lambda: not self.queue(), seconds, lambda: self.command("squeue"))

    def cancel_all(self) -> None:
        self.command("scancel", "-u", getpass.getuser(), check=False)
        self.empty()


def wait_for(condition, seconds: float, told=lambda: "") -> None:
    """Until a condition holds; AssertionError after so many seconds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, told()
        time.sleep(0.1)


# Seconds that a node has to start what a job asks for, else srun gives up and the job is lost: SLURM's own, and as few as a busy machine
# allows where jobs are requeued, which wait as long.
PATIENT, REQUEUES_SOON = 120, 10


@contextmanager
def provided(folder: Path, patience: int = PATIENT):
    """A running cluster; where its programs are not installed the test is skipped, or fails if they should be."""
    if missing := lacking():
        reason = f"there is no {', '.join(missing)}: install slurm-wlm and munge"
        (pytest.fail if os.environ.get("MEMGRID_NEEDS_SLURM") else pytest.skip)(reason)
    with started(folder, patience) as running:
        yield running


@contextmanager
def started(folder: Path, patience: int):
    """A running cluster whose files all lie in `folder`."""
    host, user, ports = socket.gethostname().split(".")[0], getpass.getuser(), free_ports(2)
    for name in ("munge", "ctld", "slurmd", "run", "log"):
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o700 if name == "ctld" else 0o755)
    (folder / "slurm.conf").write_text(CONF.format(host=host, user=user, ports=ports, folder=folder, patience=patience))
    (folder / "gres.conf").write_text(GRES)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "SUBMITIT"))}
    env = {**clean, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": search_path()}
    munge = folder / "munge"
    munged = ["munged", "-F", "--force", f"--key-file={key}", f"--socket={munge}/munge.sock", f"--pid-file={munge}/pid"]
    munged += [f"--log-file={munge}/log", f"--seed-file={munge}/seed"]
    cluster = Cluster(env)
    with ExitStack() as daemons:
        daemons.enter_context(daemon(munged, env, folder))
        wait_for((munge / "munge.sock").exists, 20, lambda: logs(folder))
        daemons.enter_context(daemon(["slurmctld", "-D", "-f", env["SLURM_CONF"], "-c"], env, folder))
        daemons.enter_context(daemon(["slurmd", "-D", "-f", env["SLURM_CONF"], "-N", host], env, folder))
        wait_for(lambda: cluster.command("sinfo", "-h", "-o", "%T", check=False) == "idle", 30, lambda: logs(folder))
        daemons.enter_context(operator(cluster, host))
        try:
            yield cluster
        finally:
            cluster.cancel_all()


@contextmanager
def operator(cluster: Cluster, host: str):
    """Somebody who brings the node back: SLURM drains it when a killed process takes a minute to end, as one may on a busy disk."""
    ended = Event()

    def watch() -> None:
        while not ended.wait(2):
            if cluster.command("sinfo", "-h", "-o", "%T", check=False).startswith(("drain", "down")):
                cluster.command("scontrol", "update", f"nodename={host}", "state=resume", check=False)

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


@contextmanager
def daemon(words: list[str], env: dict[str, str], folder: Path):
    """A program in the foreground that is stopped at the end."""
    with (folder / "log" / f"{words[0]}.out").open("w") as out:
        process = subprocess.Popen(words, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def logs(folder: Path) -> str:
    """The ends of the daemons' logs."""
    return "\n".join(f"{path}:\n{path.read_text()[-1500:]}" for path in sorted(folder.glob("log/*")))
