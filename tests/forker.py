"""The process that forks the processes of `forks`: `python forker.py OWNER NAME large|light`.

It imports the large libraries, or only those that every command needs, forks whenever it is asked to, tells each asker the pid and, when
that has ended, the status. What was forked is killed when its asker has gone, and the program ends soon after the process OWNER has.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

import painting

# What takes long to import, and is not memgrid's.
LARGE = (
    "captum.attr",
    "hdf5plugin",
    "hydra.main",
    "huggingface_hub.constants",
    "jaxtyping",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.figure",
    "polars",
    "pydantic",
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers",
    "pytorch_lightning.plugins.environments",
    "rich.progress",
    "sklearn.discriminant_analysis",
    "sklearn.linear_model",
    "submitit",
    "threadpoolctl",
    "torchmetrics.classification",
    "transformers.masking_utils",
    "transformers.models.gpt_neox.modeling_gpt_neox",
)
# What every command imports, or may without anybody waiting for it.
LIGHT = (
    "h5py",
    "hydra.main",
    "jinja2",
    "matplotlib.figure",
    "numpy",
    "polars",
    "pydantic",
    "rich.progress",
    "scipy.stats",
)
LARGEST = 1 << 17  # bytes of a request


def serve(owner: int, name: str, light: bool) -> tuple[dict, list[int]]:
    """Returns in every process that is asked for, with what it is to do and its streams; ends the program when its owner has ended."""
    waiting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waiting.bind(f"\0{name}")  # of two that are started at once, one ends here
    waiting.listen(64)
    for module in LIGHT if light else LARGE:
        importlib.import_module(module)
    if not light:
        fonts = importlib.import_module("fonts")
        fonts.cut_once()
        fonts.with_the_usual(fonts.findfont("DejaVu Sans"), ())
    gc.freeze()
    waiting.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while Path(f"/proc/{owner}").exists():
        try:
            link, _ = waiting.accept()
        except TimeoutError:
            continue
        content, streams, _, _ = socket.recv_fds(link, LARGEST, 3)
        if uid_behind(link) == os.getuid() and os.fork() == 0:
            waiting.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (pid := os.fork()) == 0:
                link.close()
                return json.loads(content), streams
            look_after(pid, link, streams)
        for stream in streams:
            os.close(stream)
        link.close()
    sys.exit()


def uid_behind(link: socket.socket) -> int:
    """The user at the other end."""
    return struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]


def look_after(pid: int, link: socket.socket, streams: list[int]) -> None:
    """Tell a process's pid, and its status when it has ended; does not return."""
    for stream in streams:
        os.close(stream)
    link.send(str(pid).encode())
    ended = os.pidfd_open(pid)
    if ended not in select.select([ended, link], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        link.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def fulfil(asked: dict, streams: list[int]) -> None:
    """Do in this process what `python <words>` does in a new one."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    if constants := sys.modules.get("huggingface_hub.constants"):
        importlib.reload(constants)  # it has read where the hub and its cache are
    words = asked["words"]
    if painting.UNSEEN.items() <= asked["env"].items():
        painting.left_out(unseen=True).__enter__()  # for good
    if words[0] == "-u":
        sys.stdout.reconfigure(write_through=True)
        words = words[1:]
    if "triton" in sys.modules:
        atexit.register(gc.unfreeze)  # or its library tells at the end, on stderr, what was never collected
    option, what, *arguments = words if words[0] in ("-m", "-c") else ["", *words]
    first = {"-m": asked["cwd"], "-c": ""}.get(option, str(Path(what).parent))
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [first, *given]
    sys.argv, sys.orig_argv = [option or what, *arguments], [sys.executable, *words]
    del sys.modules["__main__"].__dict__["__file__"]  # or a process of multiprocessing would import this file
    customs = [path for path in (Path(path) / "sitecustomize.py" for path in given) if path.is_file()]
    if asked["light"] and customs:
        runpy.run_path(str(customs[0]))  # as an interpreter does when it starts
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif not option:
        runpy.run_path(what, run_name="__main__")
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    if os.fork() == 0:  # nobody waits for it
        fulfil(*serve(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "light"))
