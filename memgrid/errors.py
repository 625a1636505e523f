"""Errors and warnings of memgrid: what a user can mend, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what damaged bytes make h5py and our checks raise


class UserError(Exception):
    """Something the user can mend, told in one sentence that names the value and what to do."""


class BusyError(UserError):
    """Another process is doing the same, told in one sentence."""


class StoreError(UserError):
    """A failure of the store, in one sentence that says what to do."""


class DamagedError(UserError):
    """A file does not hold what was written into it.

    Attributes:
        path: of the file. fault: what is wrong with it, in words.
    """

    def __init__(self, path: Path, fault: str, mend: str = "remove it and run again") -> None:
        super().__init__(f"{path} is damaged ({fault}): {mend}")
        self.path, self.fault = path, fault


class DamageWarning(UserWarning):
    """A file is damaged, was set aside, and is made anew or passed over."""


class StoreWarning(DamageWarning):
    """A shard is damaged and was set aside."""
