"""A network of the user's own, named by the function that makes it, and looked at before it is trained."""

from __future__ import annotations

import importlib
import os
import sys

import torch
from torch import Tensor, nn

from memgrid.audit.data.dataset import Dataset
from memgrid.audit.shadow.classifier import Classifier
from memgrid.errors import UserError
from memgrid.io.files import told

FORM = "a module with a body, which gives (batch, width), and a head, which makes (batch, classes) of it"


def users_own(target: str, data: Dataset) -> Classifier:
    """The network that a function makes, called with the shape of a sample (channels, height, width) and the number of classes.

    Args:
        target: `package.module:function`; found in the folder of the start too.

    Raises:
        UserError: there is no such function, or what it makes is not `FORM`.
    """
    module, _, name = target.partition(":")
    if not module or not name:
        raise UserError(f"model.target={target} names no function: write package.module:function")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        made = getattr(importlib.import_module(module), name)(tuple(data.images.shape[1:]), data.classes)
    except Exception as error:  # it is the user's code
        raise UserError(f"model.target={target} does not make a network ({told(error)})") from None
    if not isinstance(made, nn.Module) or not all(isinstance(getattr(made, part, None), nn.Module) for part in ("body", "head")):
        raise UserError(f"model.target={target} gives a {type(made).__name__} without body and head: it has to give {FORM}")
    network = Classifier(made.body, made.head)  # type: ignore[arg-type]
    try:
        h, logits = looked_at(network, torch.from_numpy(data.images[:2].copy()).float())
    except Exception as error:
        raise UserError(f"model.target={target} cannot take samples of shape {data.images.shape[1:]} ({told(error)})") from None
    if h.ndim != 2 or logits.shape != (len(h), data.classes):
        raise UserError(
            f"model.target={target}: its body gives {tuple(h.shape)} and its head {tuple(logits.shape)} for 2 samples of {data.classes} "
            f"classes, and it has to be {FORM}"
        )
    return network


def looked_at(network: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """h and logits of a few samples, without a trace in the network or the random state."""
    network.eval()
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        h = network.body(images)
        logits = network.head(h)
    network.train()
    return h, logits
