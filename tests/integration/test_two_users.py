"""Two users and one root: what a second user can do in the folders of the first, and what is said where that is nothing.

The system itself refuses, by real modes of folders; the runs are made, since who may read is the point here.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from conftest import memgrid_here
from runs_maker import Run, composed, finish, leave
from users import GROUP, OTHER, OWNER, as_user

from memgrid.results.doing.notes import doing, telling
from memgrid.results.folder import RunFolder
from memgrid.results.records import InterveneRecord, LocalizeRecord, stage_settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as two other users")
ALL = "stages=[label,extract,train,localize,intervene]"


def by(user, *words, umask=0o022, module="run"):
    """Type a command as a user."""
    with as_user(user, umask):
        return memgrid_here(*words, module=module, cwd="/", check=False, seen=False)


def sentence(process):
    """The one sentence of a refusal."""
    (line,) = process.stderr.splitlines()
    assert process.returncode == 1
    assert process.stdout == ""
    return line


def given_to(root, folders, files):
    """Make everything in a root the owner's, with these modes."""
    for path in (root, *root.rglob("*")):
        os.chown(path, OWNER, GROUP)
        path.chmod(folders if path.is_dir() else files)


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Every command once, so that all that it needs is imported."""
    root = tmp_path_factory.mktemp("warm")
    make(root)
    for words, module in (((), "run"), (("stages=[fetch]",), "run"), ((), "status"), ((), "report"), (("forget=failed",), "status")):
        memgrid_here(f"root={root}", *words, module=module, seen=False)


def make(folder):
    """A finished run with all stages, and a failed one."""
    done, run = RunFolder(finish(Run(folder))), composed(())
    done.write_record(LocalizeRecord("guided", stage_settings(run, "localize"), "x", "all", [], {}))
    done.write_record(InterveneRecord("guided", stage_settings(run, "intervene"), "x", []))
    done.decision_maps("guided").touch()
    done.intervention.touch()
    done.intervention_units.touch()
    done.lock_file.touch()
    leave(Run(folder, seed=1), "failed")


@pytest.fixture
def root():
    """A root of the owner's, outside of pytest's own folders, which nobody else can reach: a finished run with all stages, a failed one."""
    folder = Path(tempfile.mkdtemp())
    make(folder)
    yield folder
    shutil.rmtree(folder)


def test_what_another_user_is_doing_is_told_to_whoever_may_read_it(root):
    given_to(root, 0o755, 0o644)
    (failed,) = [RunFolder(path.parent) for path in root.glob("runs/*/*/*/failed.json")]
    with failed.lock(0), telling(failed):
        failed.doing_file.chmod(0o644)  # as in a group that shares the root
        with as_user(OTHER):
            assert failed.is_locked()
            assert doing(failed).how_far == "begins"
    with as_user(OTHER):
        assert not failed.is_locked()
        assert doing(failed) is None


def test_a_root_that_may_only_be_read(root):
    given_to(root, 0o755, 0o644)
    before = sorted(root.rglob("*"))
    shown = by(OTHER, f"root={root}", ALL)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "min-F1" in shown.stdout
    assert "class 'Recite' has 12 samples" in by(OTHER, f"root={root}", module="status").stdout
    whose = f"belongs to user {OWNER} and is closed to user {OTHER} (Permission denied): share it by umask 002 and a common group"
    assert f"{root} {whose}" in sentence(by(OTHER, f"root={root}", "seed=2"))
    assert f"{root} {whose}" in sentence(by(OTHER, f"root={root}", "-m", "seed=0,2"))
    assert whose in sentence(by(OTHER, f"root={root}", module="report"))
    assert whose in by(OTHER, f"root={root}", "forget=failed", module="status").stderr
    assert sorted(root.rglob("*")) == before


def test_a_folder_within_that_may_only_be_read(root):
    """The owner's umask was 022 below a root that is shared."""
    given_to(root, 0o755, 0o644)
    root.chmod(0o2775)
    told = sentence(by(OTHER, f"root={root}", "seed=1", umask=0o002))
    assert f"{root}/runs/toy/rasy/" in told
    assert f"belongs to user {OWNER} and is closed to user {OTHER}" in told


def test_a_common_group_shares_all_work(root):
    given_to(root, 0o2775, 0o664)
    for user in (OWNER, OTHER):
        shown = by(user, f"root={root}", "stages=[fetch]", umask=0o002)
        assert (shown.returncode, shown.stderr) == (0, "")
    assert by(OTHER, f"root={root}", ALL, umask=0o002).returncode == 0
    forgot = by(OTHER, f"root={root}", "forget=failed", module="status", umask=0o002)
    assert (forgot.returncode, forgot.stderr) == (0, "")
    assert by(OWNER, f"root={root}", module="report", umask=0o002).returncode == 0
    assert by(OTHER, f"root={root}", module="report", umask=0o002).returncode == 0


def test_what_another_keeps_to_himself_cannot_be_read(root):
    given_to(root, 0o700, 0o600)
    for module in ("run", "status", "report"):
        assert f"{root} belongs to user {OWNER}" in sentence(by(OTHER, f"root={root}", module=module))
