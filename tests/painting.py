"""Figures that no test looks at are laid out by day, and not painted: to paint them takes a training a second, and an audit half its time.

A process that `forks` starts does the same if its environment says so, as that of a launcher with quick jobs does.
"""

import os
from contextlib import AbstractContextManager, nullcontext

# In an environment: nobody will look at the figures.
UNSEEN = {} if os.environ.get("MEMGRID_NIGHT") == "1" else {"MEMGRID_TESTS_UNSEEN": "1"}


def leave_out(figure, file, format, **_):
    """In the place of `Figure.savefig`: a whole picture in which there is nothing, or a document without pages."""
    from PIL import Image

    if format == "png":
        Image.new("L", (100, 100)).save(file, "png")
    else:
        file.write(b"%PDF-1.4\n%%EOF\n")


def left_out(unseen: bool) -> AbstractContextManager[object]:
    """Inside, nothing is painted, if nobody will see it."""
    from unittest import mock  # takes longer than all else that a job's process imports of the tests

    return mock.patch("matplotlib.figure.Figure.savefig", leave_out) if unseen and UNSEEN else nullcontext()
