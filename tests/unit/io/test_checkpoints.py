"""Checkpoints: what a training goes on from is whole, is what was written, and is never run."""

import os
import pickle
import subprocess

import numpy as np
import pytest
import torch

from memgrid.errors import DamagedError, DamageWarning, UserError
from memgrid.io import checkpoints
from memgrid.io.checkpoints import beside, keep_last, load, newest, previous, save

DAMAGES = [lambda b: b"", lambda b: b[:-100], lambda b: b[: len(b) // 2], lambda b: bytes(len(b)), lambda _: b"text"]


def state(step):
    return {"step": step, "weights": torch.full((50,), float(step)), "history": [{"epoch": step, "loss": 0.5}]}


def step_of(path):
    found = newest(path, lambda state: "step" in state)
    return None if found is None else found["step"]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "last.ckpt"
    for step in (1, 2):
        save(state(step), path)
    return path


def test_the_last_and_the_one_before_it_are_there_with_digests_that_sha256sum_knows(path):
    assert (load(path)["step"], load(previous(path))["step"]) == (2, 1)
    subprocess.run(["sha256sum", "--check", "--quiet", beside(path).name], cwd=path.parent, check=True)
    keep_last(path)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["last.ckpt", "last.ckpt.sha256"]
    subprocess.run(["sha256sum", "--check", "--quiet", beside(path).name], cwd=path.parent, check=True)
    keep_last(path)
    assert step_of(path) == 2


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-100], lambda b: b[: len(b) // 2], lambda b: bytes(len(b)), lambda b: b"text"]
)
def test_a_damaged_one_is_named_and_set_aside_and_the_one_before_it_taken(damage, path):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(DamageWarning, match=r"last\.ckpt is damaged .* was moved to .*damaged/last\.ckpt"):
        assert step_of(path) == 1
    assert not path.exists()
    previous(path).write_bytes(damage(previous(path).read_bytes()))
    with pytest.warns(DamageWarning, match="previous"):
        assert step_of(path) is None
    save(state(3), path)
    assert step_of(path) == 3


def test_no_flipped_bit_is_ever_used(path):
    generator = np.random.default_rng(0)
    for file in (path, beside(path)):
        kept = file.read_bytes()
        for at in generator.integers(0, 8 * len(kept), 150):
            flipped = bytearray(kept)
            flipped[at // 8] ^= 1 << (at % 8)
            file.write_bytes(flipped)
            try:
                assert load(path)["step"] == 2
            except DamagedError:
                continue
            assert file == beside(path), "a flipped bit of the checkpoint was not seen"
        file.write_bytes(kept)


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("how", ["torch", "pickle", "beside the state"])
@pytest.mark.filterwarnings("ignore::memgrid.errors.DamageWarning")
def test_a_planted_checkpoint_runs_nothing(how, tmp_path):
    path, proof = tmp_path / "last.ckpt", tmp_path / "proof"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Planted(proof)))
    else:
        torch.save(Planted(proof) if how == "torch" else {**state(1), "more": Planted(proof)}, path)
    assert step_of(path) is None
    assert not proof.exists()


def test_one_of_an_older_version_is_believed_if_it_can_be_read(tmp_path):
    path = tmp_path / "last.ckpt"
    assert step_of(path) is None
    torch.save(state(4), path)
    assert step_of(path) == 4
    torch.save([1, 2], path)
    with pytest.warns(DamageWarning, match="no checkpoint of a training"):
        assert step_of(path) is None


def test_one_of_another_training_is_passed_over(path):
    assert newest(path, lambda state: state["step"] == 1)["step"] == 1
    assert newest(path, lambda state: False) is None
    assert path.exists()


@pytest.mark.parametrize("calls", range(6))
def test_whenever_writing_fails_a_sound_one_is_left(calls, path, monkeypatch):
    """Every step of a save fails once, and everything after it: a kill or a full disk at that moment."""
    left = [calls]

    def failing(usual):
        def step(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            return usual(*arguments)

        return step

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "replace"):
            patch.setattr(os, name, failing(getattr(os, name)))
        try:
            save(state(3), path)
            expected = 3
        except UserError:
            expected = 2
    assert step_of(path) == expected
    save(state(4), path)
    assert step_of(path) == 4
    assert not [entry for entry in path.parent.iterdir() if entry.name.startswith(".")]


def test_two_failures_one_after_the_other_leave_a_sound_one_too(path, monkeypatch):
    for failing in ("replace", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            for step in (3, 4):
                with pytest.raises(UserError):
                    save(state(step), path)
        assert step_of(path) == 2
    os.replace(path, previous(path))  # as a kill leaves it between the two
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(UserError):
                save(state(3), path)
        assert step_of(path) == 2


def test_a_failure_leaves_a_checkpoint_of_an_older_version_usable(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    torch.save(state(4), path)
    for failing in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
            with pytest.raises(UserError):
                save(state(5), path)
        assert step_of(path) == 4


def test_a_flipped_checkpoint_is_not_blessed_by_the_next(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    save(state(3), path)
    path.unlink()
    assert step_of(path) == 1


def test_weights_are_read_without_pickle_wherever_checkpoints_are_read():
    assert "weights_only=True" in (checkpoints.__spec__.loader.get_source(checkpoints.__name__))
