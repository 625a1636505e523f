"""What a launcher and its jobs hand to each other in a folder: what a job is to do, and its answer.

Others may be able to write below a shared root. So the folder is closed to them, a job unpickles nothing that somebody else could have put
there, and it answers in JSON. `main` is what a job executes, in place of submitit's own entry.
"""

from __future__ import annotations

import os
import pickle
import pwd
import shlex
import stat
import sys
import time
from pathlib import Path
from typing import Any

from memgrid.errors import UserError
from memgrid.io.digests import json_object, write_json

ENTRY = "from memgrid.launch.handover import main; main()"
HYDRAS = "multirun.yaml"  # what Hydra has written into the folder of a sweep before its launcher is asked
MAY_ENTER, MAY_WRITE = 0o077, 0o022  # rights of the group and of all others
WAIT_SECONDS = 60  # what was submitted gets its name when the queue has named the job, which may already run


def python() -> str:
    """The interpreter to be given to submitit: what follows in its command, the folder last, are words for `main`."""
    return f"{shlex.quote(sys.executable)} -u -c {shlex.quote(ENTRY)}"


def close(folder: Path) -> None:
    """Make a folder that nobody else can look into; one that holds something already keeps its rights.

    Raises:
        UserError: it is open to others, or cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if set(os.listdir(folder)) <= {HYDRAS}:
            folder.chmod(0o700)
        found = folder.stat()
    except OSError as error:
        raise UserError(f"{folder} cannot be made for your jobs alone ({error.strerror}): {another_folder()}") from None
    if found.st_uid != os.geteuid() or found.st_mode & MAY_ENTER:
        whose = f"belongs to {name_of(found.st_uid)}, with mode {stat.S_IMODE(found.st_mode):o}"
        raise UserError(f"{folder} {whose}, and jobs run what lies there: close it to others (chmod 700), or {another_folder()}")


def another_folder() -> str:
    """What mends a folder that will not do."""
    return "choose another one with hydra.launcher.submitit_folder=<folder>"


def read_own(path: Path) -> bytes:
    """The content of a file that nobody but this user can have written.

    Raises:
        UserError: the file or its folder is another user's, or others can write there.
        FileNotFoundError: there is no such file.
    """
    # Looked at once opened, both: what is judged is what is read, whatever happens to the names meanwhile.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(os.open(path.name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
            around, found = os.fstat(folder), os.fstat(file.fileno())
            for what, status in ((path.parent, around), (path, found)):
                if status.st_uid != os.geteuid():
                    raise UserError(f"{what} belongs to {name_of(status.st_uid)} and is not read, for it may hold anything: submit again")
                if status.st_mode & MAY_WRITE and around.st_mode & MAY_ENTER:
                    raise UserError(
                        f"others can write to {what}, which is not read, for it may hold anything: chmod go-w, and submit again"
                    )
            if not stat.S_ISREG(found.st_mode):
                raise UserError(f"{path} is no file, and is not read: submit again")
            return file.read()
    finally:
        os.close(folder)


def name_of(user: int) -> str:
    """A user's name, or number."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def answer_file(paths: Any) -> Path:
    """Where a job leaves its answer, by its `submitit` paths."""
    result: Path = paths.result_pickle
    return result.with_suffix(".json")


def read_answer(path: Path) -> dict[str, Any]:
    """What a job answered: `failures`, a sentence or None for each run; `busy`, the numbers of those that others work on; `summary`, lines;
    `seconds`, that each run took.

    Raises:
        UserError: there is none, or it is none of this user's job.
    """
    try:
        answer = json_object(read_own(path)) or {}
        return {
            "failures": list(answer["failures"]),
            "busy": set(answer["busy"]),
            "summary": list(answer.get("summary", [])),
            "seconds": list(answer.get("seconds", [])),
        }
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (KeyError, TypeError):
        raise UserError(f"{path} is damaged") from None


def main() -> None:
    """Do what was submitted to the folder that the last word names, and leave the answer there."""
    from submitit import JobEnvironment
    from submitit.core.logger import get_logger

    os.environ["SUBMITIT_FOLDER"] = sys.argv[-1]
    environment = JobEnvironment()
    get_logger().info(f"Starting with {environment}")
    paths = environment.paths
    try:
        submission = submitted(paths.submitted_pickle)
    except UserError as error:
        sys.exit(f"memgrid: {error}")
    environment._handle_signals(paths, submission)
    write_json(submission.result(), answer_file(paths))
    get_logger().info("Exiting after successful completion")


def submitted(path: Path) -> Any:
    """What a launcher has left for this job; UserError if there is nothing that may be trusted."""
    for _ in range(WAIT_SECONDS):
        try:
            return pickle.loads(read_own(path))
        except FileNotFoundError:
            time.sleep(1)
    raise UserError(f"{path} did not appear within {WAIT_SECONDS} s: submit again")
