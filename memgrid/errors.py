"""Errors and warnings of memgrid: what a user can mend, and what is wrong with a store."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend, told in one sentence that names the value and what to do."""


class BusyError(UserError):
    """Another process is doing the same, told in one sentence."""


class StoreError(UserError):
    """A failure of the store, in one sentence that says what to do."""


class StoreWarning(UserWarning):
    """A shard is damaged and was set aside."""
