"""Classifiers: a last hidden layer h, which predictors and the defence look at, and a linear head."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from memgrid.audit.config import ModelConfig
from memgrid.audit.data.dataset import Dataset
from memgrid.audit.shadow.classifier import Classifier
from memgrid.audit.shadow.users import users_own
from memgrid.audit.shadow.wide_resnets import published_wide_resnet, wide_resnet
from memgrid.errors import UserError
from memgrid.train.networks import AttentionCNN, Unpack

DROPOUT = 0.25  # of the attention CNN, as in conf/cnn
DEPTH = 16  # of wide residual networks


def build(config: ModelConfig, data: Dataset) -> Classifier:
    """A network with fresh weights, from torch's random state.

    Raises:
        UserError: the network does not fit the data.
    """
    if (config.kind == "attention_cnn") != bool(data.length):
        raise UserError(
            f"model={config.name} does not fit dataset={data.name}: attention needs model=attention_cnn, images one of the others"
        )
    if config.kind == "attention_cnn":
        cnn = AttentionCNN(data.images.shape[-1], data.length, data.classes, kernel_size=8, features=config.width, dropout=DROPOUT)
        *layers, head = cnn.body
        assert isinstance(head, nn.Linear)
        return Classifier(nn.Sequential(Unpack(data.length, "log"), *layers), head)
    if config.kind == "module":
        return users_own(str(config.target), data)
    channels, height, width = data.images.shape[1:]
    if config.kind == "mlp":
        return mlp(channels * height * width, config.width, data.classes)
    if not data.are_images:
        raise UserError(
            f"model={config.name} has convolutions, and dataset={data.name} rows of features: use model=mlp, or one of your own"
        )
    if config.kind == "small_cnn":
        return small_cnn(channels, config.width, data.classes)
    made = published_wide_resnet if config.kind == "wrn16_4_paper" else wide_resnet
    return made(channels, data.classes, DEPTH, config.width)


def mlp(pixels: int, width: int, classes: int) -> Classifier:
    """Two hidden layers."""
    return Classifier(
        nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()), nn.Linear(width, classes)
    )


class Quarters(nn.Module):
    """The means of the four quarters of feature maps: (…, height, width) → (…, 2, 2). Torch's own is not deterministic on a GPU."""

    def forward(self, maps: Float[Tensor, "batch features height width"]) -> Float[Tensor, "batch features 2 2"]:
        """A last row or column of an odd number is left out."""
        height, width = (side - side % 2 for side in maps.shape[-2:])
        return maps[..., :height, :width].unflatten(-1, (2, -1)).mean(-1).unflatten(-2, (2, -1)).mean(-2)


def small_cnn(channels: int, width: int, classes: int) -> Classifier:
    """Two convolutions of 3 × 3, each halved, the mean over a grid of 2 × 2 and a hidden layer."""
    body = nn.Sequential(
        *(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), Quarters(), nn.Flatten()),
        *(nn.Linear(8 * width, 4 * width), nn.ReLU()),
    )
    return Classifier(body, nn.Linear(4 * width, classes))


def hidden(network: Classifier, images: Tensor, batch: int = 1024) -> tuple[Tensor, Tensor]:
    """h and logits of images, float32, in eval mode."""
    training = network.training
    network.eval()
    with torch.inference_mode():
        pairs = [(h := network.body(part), network.head(h)) for part in images.split(batch)]
    network.train(training)
    return torch.cat([h for h, _ in pairs]).float(), torch.cat([z for _, z in pairs]).float()
