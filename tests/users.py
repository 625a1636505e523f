"""Two users of one root, whom this process can be for a while."""

import os
from contextlib import contextmanager

OWNER, OTHER, GROUP = 41001, 41002, 41000  # nobody has to know their names


@contextmanager
def as_user(user, umask=0o022, group=GROUP):
    """Inside, files belong to that user and may be used as that user may, with the umask; only root can become another.

    What is imported inside must have been imported before: this Python may lie where no other user gets.
    """
    groups, before = os.getgroups(), os.umask(umask)
    os.setgroups([])
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.umask(before)
