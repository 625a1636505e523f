"""A network of a user's own: found by its name, looked at before it is trained, and refused in a sentence."""

import sys

import numpy as np
import pytest
import torch
from conftest import refusal

from memgrid.audit.config import ModelConfig
from memgrid.audit.data.dataset import Dataset
from memgrid.audit.shadow.networks import build, hidden

MODULE = """
from torch import nn


class Own(nn.Module):
    def __init__(self, shape, classes, width=5):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], width), nn.BatchNorm1d(width), nn.Dropout(0.5))
        self.head = nn.Linear(width, classes)


def own(shape, classes):
    return Own(shape, classes)


def without_head(shape, classes):
    return nn.Linear(3, 4)


def flat(shape, classes):
    made = Own(shape, classes)
    made.body = nn.Flatten(0)
    made.head = nn.Linear(2 * shape[0] * shape[1] * shape[2], classes)
    return made


def other_classes(shape, classes):
    return Own(shape, classes + 1)


def other_size(shape, classes):
    return Own((9, 9, 9), classes)


def broken(shape, classes):
    raise RuntimeError("no luck today.")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "networks_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("networks_of_mine", None)


def some_data():
    images = np.random.default_rng(0).normal(size=(6, 2, 4, 3)).astype(np.float32)
    return Dataset("some", images, np.arange(6), images[:1], np.zeros(1, np.int64), 6)


def made(target):
    return build(ModelConfig(name="module", kind="module", target=target, width=1, epochs=1), some_data())


@pytest.mark.usefixtures("here")
def test_it_is_found_in_the_folder_of_the_start_and_gives_h_and_logits():
    torch.manual_seed(3)
    network = made("networks_of_mine:own")
    h, logits = hidden(network, torch.from_numpy(some_data().images))
    assert (h.shape, logits.shape) == ((6, 5), (6, 6))
    assert network.training
    torch.manual_seed(3)
    torch.testing.assert_close(network.head.weight, made("networks_of_mine:own").head.weight, rtol=0, atol=0)
    assert (network.body[2].running_mean == 0).all()  # looking at it has left no trace


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("networks_of_mine", "names no function"),
        (":own", "names no function"),
        ("networks_of_mine:", "names no function"),
        ("no_such_module:own", "does not make a network (ModuleNotFoundError"),
        ("networks_of_mine:nothing", "does not make a network (AttributeError"),
        ("networks_of_mine:broken", "does not make a network (RuntimeError: no luck today)"),
        ("networks_of_mine:without_head", "gives a Linear without body and head"),
        ("networks_of_mine:flat", "its body gives (48,)"),
        ("networks_of_mine:other_classes", "its head (2, 7) for 2 samples of 6 classes"),
        ("networks_of_mine:other_size", "cannot take samples of shape (2, 4, 3)"),
    ],
)
def test_what_is_no_network_gets_one_sentence(target, words):
    sentence = refusal(made, target)
    assert sentence.startswith(f"model.target={target}")
    assert words in sentence
