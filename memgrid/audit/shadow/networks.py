"""Classifiers: a last hidden layer h, which predictors and the defence look at, and a linear head."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from memgrid.audit.config import ModelConfig
from memgrid.audit.shadow.datasets import Dataset
from memgrid.errors import UserError
from memgrid.train.networks import AttentionCNN, Unpack

DROPOUT = 0.25  # of the attention CNN, as in conf/cnn


class Classifier(nn.Module):
    """A body that gives h, and a head."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(self.body(images))  # type: ignore[no-any-return]


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
    channels, height, width = data.images.shape[1:]
    if config.kind == "mlp":
        return mlp(channels * height * width, config.width, data.classes)
    return (
        small_cnn(channels, config.width, data.classes)
        if config.kind == "small_cnn"
        else wide_resnet(channels, data.classes, 16, config.width)
    )


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


class Residual(nn.Module):
    """A block of a wide residual network: norm, ReLU, convolution, twice, around a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.second = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        )
        self.shortcut = nn.Identity() if channels == out and stride == 1 else nn.Conv2d(channels, out, 1, stride, bias=False)
        self.same = channels == out and stride == 1

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps."""
        ready = self.first(images)
        return self.second(ready) + (images if self.same else self.shortcut(ready))  # type: ignore[no-any-return]


def wide_resnet(channels: int, classes: int, depth: int, widen: int) -> Classifier:
    """A wide residual network (Zagoruyko and Komodakis, BMVC 2016) without dropout, such as WRN-16-4."""
    blocks, widths = (depth - 4) // 6, [16, 16 * widen, 32 * widen, 64 * widen]
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)]
    for stage in (1, 2, 3):
        for block in range(blocks):
            layers.append(Residual(widths[stage] if block else widths[stage - 1], widths[stage], 2 if stage > 1 and block == 0 else 1))
    network = Classifier(
        nn.Sequential(*layers, nn.BatchNorm2d(widths[3]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(widths[3], classes)
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def hidden(network: Classifier, images: Tensor, batch: int = 1024) -> tuple[Tensor, Tensor]:
    """h and logits of images, float32, in eval mode."""
    training = network.training
    network.eval()
    with torch.inference_mode():
        pairs = [(h := network.body(part), network.head(h)) for part in images.split(batch)]
    network.train(training)
    return torch.cat([h for h, _ in pairs]).float(), torch.cat([z for _, z in pairs]).float()
