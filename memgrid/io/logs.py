"""What the log of a job ends with."""

from __future__ import annotations

import os
from pathlib import Path

# Lines of a log that say nothing of the run.
NOISE = (
    "submitit ",
    "srun:",
    "Bypassing signal",
    "Caught signal",
    "Calling checkpoint",
    "Requeued job",
    "Exiting ",
    "Job completed",
    "Job has ",
)


def last_line(log: Path | None) -> str:
    """The last line of a log that says why it ended, without what submitit and srun add; empty if there is none."""
    try:
        assert log is not None
        assert log.is_file()  # whoever named it may have meant a pipe, whose end never comes
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except (OSError, AssertionError):
        return ""
    telling = [line for line in lines if line and not line.startswith(NOISE)]
    return next((line for line in reversed(telling) if "slurmstepd" in line), telling[-1] if telling else "")
