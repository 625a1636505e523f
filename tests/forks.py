"""Processes of Python that are forked from one that has imported the large libraries, and nothing of memgrid: they start in a moment.

To import torch, transformers, Lightning and captum takes five seconds of CPU. Many tests want a process of their own, to kill it or to see
how it ends, and none of those wants that wait. A forked process has its own pid, environment, folder, streams and exit status, and imports
memgrid by itself. Where the start itself is the point (what is imported, an interpreter's options), use `subprocess`.

Who asks for a `light` one gets a process that has imported none of these, but what every command needs, such as Hydra and polars.

The one that forks is started when a process is first asked for, once for all workers of pytest-xdist, and ends with the tests. The workers
are such processes themselves: `python forks.py -u -c ...` does as `python -u -c ...`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from forker import LARGEST
from painting import UNSEEN

# The process whose end is the end of the tests: the first that imports this, and all workers inherit its environment.
OWNER = os.environ.setdefault("MEMGRID_TESTS_OWNER", str(os.getpid()))
# For the environment of a launcher whose jobs shall start as quickly: see `warm/sitecustomize`.
FOLDER = Path(__file__).parent
WARM = {"PYTHONPATH": os.pathsep.join(filter(None, (str(FOLDER / "warm"), str(FOLDER), os.environ.get("PYTHONPATH")))), **UNSEEN}
# Read by the interpreter or by a library when it starts: a process that wants another value is started in the slow way.
READ_EARLY = ("PYTHON", "OMP_", "MKL_", "MPL", "LC_", "LANG", "POLARS_")
READ_BY_THE_LARGE = ("HF_", "TRANSFORMERS_", "TORCH")


class Started:
    """A process that was started, with what `subprocess.Popen` offers: pid, returncode, poll, wait, send_signal and kill."""

    def __init__(self, words, cwd=None, env=None, stdout=None, stderr=None, light=False, stdin=None) -> None:
        self.returncode = None
        env = dict(os.environ if env is None else env)
        asked = {"words": list(map(str, words)), "cwd": str(cwd or Path.cwd()), "env": env, "light": light}
        with open(os.devnull, "r+") as nothing:
            streams = [(stream or nothing).fileno() for stream in (stdin, stdout, stderr)]
            self.link = link_to_forker("light" if light else "large")
            socket.send_fds(self.link, [json.dumps(asked).encode()], streams)
        self.pid = int(self.link.recv(LARGEST))

    def poll(self) -> int | None:
        """Its status if it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Its status, once it has ended; negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        if self.returncode is None:
            self.link.settimeout(timeout)
            try:
                self.returncode = int(self.link.recv(LARGEST))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("a forked process", timeout) from None
            self.link.close()
        return self.returncode

    def send_signal(self, sent: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, sent)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def run(words, cwd=None, env=None, timeout: float = 300, light: bool = False) -> subprocess.CompletedProcess:
    """As `subprocess.run([sys.executable, *words])` with the output captured as text; first comes -m, -c or a program."""
    if early(os.environ if env is None else env, light) != early(os.environ, light):
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=timeout)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = Started(words, cwd, env, out, err, light)
        try:
            process.wait(timeout)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, process.returncode, out.read(), err.read())


def instead(words, **streams) -> NoReturn:
    """Leave the work of this process to a forked one, pass on its signals, and end as that does; if it is killed, be it too."""
    process = Started(words, **streams)
    for passed_on in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(passed_on, lambda sent, _: process.send_signal(sent))
    status = process.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def early(env, light: bool) -> dict[str, str]:
    """What would have to be known at the start of an interpreter."""
    read = READ_EARLY if light else (*READ_EARLY, *READ_BY_THE_LARGE)
    return {key: value for key, value in env.items() if key.startswith(read) and key != "PYTHONPATH"}


def link_to_forker(kind: str) -> socket.socket:
    """A connection to the process that forks, which is started if it is not there."""
    name = f"memgrid-tests-{OWNER}-{kind}"
    link, address = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), f"\0{name}"
    if link.connect_ex(address) != 0:
        words = [sys.executable, str(FOLDER / "forker.py"), OWNER, name, kind]
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        nothing = subprocess.DEVNULL
        subprocess.run(words, env=clean, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True, check=True)
        deadline = time.monotonic() + 60
        while link.connect_ex(address) != 0:
            assert time.monotonic() < deadline, f"nothing listens: {' '.join(words)}"
            time.sleep(0.02)
    return link


if __name__ == "__main__":
    instead(sys.argv[1:], stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr)
