"""Every file of a finished run that a later step reads says what its bytes are."""

import os

import pytest

from memgrid.io.files import write_text


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o640), (0o002, 0o660), (0o077, 0o600)])
def test_the_umask_decides_what_the_group_may(umask, mode, tmp_path):
    usual = os.umask(umask)
    try:
        write_text("text", tmp_path / "a")
    finally:
        os.umask(usual)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode
