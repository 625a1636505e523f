"""Disks that take no more, in every command that writes: one sentence, nothing half-written, and the next start ends as undisturbed.

Kills, flipped bits and what others plant are tried from outside by `make faults`, on the same commands.
"""

import errno
import os
from contextlib import nullcontext
from unittest import mock

import pytest
from conftest import NIGHT, memgrid_here
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.faults.cases import CASES, WRITING, make_given
from benchmarks.faults.contents import name_of
from benchmarks.faults.ground import Ground, full, mounted
from benchmarks.faults.room import refused, written
from benchmarks.faults.starting import UNDISTURBED, Conditions, Ended, fail
from benchmarks.faults.table import BEGIN, END, Job, NotTriedError, Row, drawn, markdown, put_between

# Their writes are like those of a command that is tried here.
TRIED_FROM_OUTSIDE = {"label, fused", "train, wandb offline", "audit prepare", "audit attack"}


def scribble(figure, file, **_):
    """What a figure is saved as: to draw takes longer than all else, and what is drawn does not matter here."""
    Image.new("L", (100, 100)).save(file, "png")


def start_here(module, words, conditions=UNDISTURBED):
    """A command in this process."""
    with mock.patch.multiple(os, fsync=os.fsync, rename=os.rename), mock.patch.object(Figure, "savefig", scribble):
        if conditions.failing is not None:
            fail(*conditions.failing)
        done = memgrid_here(*words, module=module, check=False)
    return Ended(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    make_given(folder / "given")
    with mounted(folder / "disk", 100):
        yield Ground(folder, folder / "given", start_here)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WRITING if name not in TRIED_FROM_OUTSIDE])
def test_a_disk_that_takes_no_more(name, ground):
    case = CASES[name]
    size, own = written(ground, case), os.path.ismount(ground.disk)
    calls = [("fsync", 0, errno.EIO), ("rename", 0 if name == "store export" else 1, errno.EROFS)]  # an export writes one file
    troubles = [
        *((full(ground.disk, room), UNDISTURBED) for room in (size // 3,) if own),
        *((nullcontext(), Conditions(failing=call)) for call in (calls if NIGHT or not own else calls[WRITING.index(name) % 3 :][:1])),
    ]
    ground.restore(case)
    for trouble, conditions in troubles:  # one after another: each start goes on where the one before it had to stop
        with trouble:
            ended = ground.run(case, conditions)
        assert refused(ground, ended) is None, ended.said
    assert ground.wrong_after(case) is None


def test_a_disk_that_fails_goes_on_failing(tmp_path):
    with mock.patch.multiple(os, fsync=os.fsync), (tmp_path / "file").open("w") as file:
        fail("fsync", 1, errno.EIO)
        os.fsync(file.fileno())
        for _ in range(3):
            with pytest.raises(OSError, match="Input/output error"):
                os.fsync(file.fileno())


def test_shards_of_a_store_have_one_name(tmp_path):
    """What is in a store counts, and not in which shard it lies; nor is a flip there called a change of another file."""
    assert name_of(tmp_path / "attention/toy/toy/0-9-ab.h5", tmp_path) == name_of(tmp_path / "attention/toy/toy/5-7-cd.h5", tmp_path)
    names = [name_of(tmp_path / name, tmp_path) for name in ("attention/toy/toy/0.h5", "runs/toy/attention.h5", "audits/a/attack.h5")]
    assert names == ["attention/toy/toy/*.h5", "runs/toy/attention.h5", "audits/a/attack.h5"]


def test_the_table_is_put_into_its_page(tmp_path):
    row = Row("SIGKILL", "train")
    row.add(None, "harmless")
    row.add("the status is 0")
    (tmp_path / "page.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_between(tmp_path / "page.md", markdown([row], "a machine"))
    text = (tmp_path / "page.md").read_text()
    assert "| SIGKILL | train | 2 | 1 | 1 harmless; the status is 0 |" in text
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text


def test_what_was_not_tried_is_not_survived():
    def absent():
        raise NotTriedError("no disk")

    def broken():
        raise ValueError("no such file")

    assert Job("disk full", "train", lambda _: [absent, absent]).row(None).cells() == ["disk full", "train", "0", "0", "not tried: no disk"]
    row = Job("SIGKILL", "train", lambda _: [lambda: (None, ""), absent, broken, lambda: (None, "")]).row(None)
    assert row.cells()[2:4] == ["2", "1"]
    assert row.wrong == ["the attempt broke (ValueError: no such file)"]


def test_what_misses_is_drawn_anew_and_not_counted():
    factors = []
    assert drawn(lambda factor: factors.append(factor) or ((None, "") if len(factors) == 3 else None)) == (None, "")
    assert factors == sorted(factors, reverse=True)
    with pytest.raises(NotTriedError, match="missed"):
        drawn(lambda _: None)
