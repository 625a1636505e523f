"""What SLURM's queue says of this user's jobs, where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess

PATIENCE = 60.0  # seconds for a queue that is needed


def queued_jobs(patience: float = PATIENCE, *options: str) -> dict[str, str] | None:
    """Number of each job of this user, a job of an array as `12_3` → its state and the reason, where it has one, such as `PD Priority`.

    Returns: None where there is no SLURM, or it does not answer in time.
    """
    if shutil.which("squeue") is None:
        return None
    words = ["squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%i|%t %r", *options]
    try:
        answer = subprocess.run(words, capture_output=True, text=True, check=False, timeout=patience)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode:
        return None
    rows = (line.strip().partition("|") for line in answer.stdout.splitlines())
    return {number: state.removesuffix(" None") for number, _, state in rows if number}
