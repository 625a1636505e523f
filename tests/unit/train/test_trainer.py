"""Checkpoints are whole or absent, wherever the folder for temporary files lies."""

import os

import pytest
import torch

from memgrid.errors import UserError
from memgrid.io.checkpoints import beside, load
from memgrid.train.trainer import WholeCheckpoints


def test_a_checkpoint_never_leads_through_the_folder_for_temporary_files(tmp_path, monkeypatch):
    path, elsewhere = tmp_path / "run" / "last.ckpt", tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    opened = []
    usual = os.rename
    monkeypatch.setattr(os, "rename", lambda source, goal: opened.append((source, goal)) or usual(source, goal))
    WholeCheckpoints(None).save_checkpoint({"epoch": 3, "weights": torch.arange(4)}, path)
    assert [(source.parent, goal) for source, goal in opened] == [(path.parent, beside(path)), (path.parent, path)]
    assert torch.load(path, weights_only=True)["epoch"] == 3
    assert not list(elsewhere.iterdir())


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints(None).save_checkpoint({"epoch": 1}, path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        WholeCheckpoints(None).save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True)["epoch"] == 1
    assert {entry.name for entry in tmp_path.iterdir()} == {"last.ckpt", "last.ckpt.sha256"}
    assert load(path)["epoch"] == 1
