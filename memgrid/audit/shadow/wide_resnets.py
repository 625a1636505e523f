"""Wide residual networks: the standard one, and the one of the published run, which goes by the same name."""

from __future__ import annotations

from torch import Tensor, nn

from memgrid.audit.shadow.classifier import Classifier

STAGES = (1, 2, 3)


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


def residual_network(channels: int, classes: int, depth: int, widen: int, block: type[nn.Module], bias: bool) -> Classifier:
    """Three stages of blocks between a convolution and the mean of the last maps."""
    blocks, widths = (depth - 4) // 6, [16, 16 * widen, 32 * widen, 64 * widen]
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, bias=bias)]
    for stage in STAGES:
        for number in range(blocks):
            layers.append(block(widths[stage] if number else widths[stage - 1], widths[stage], 2 if stage > 1 and number == 0 else 1))
    body = nn.Sequential(*layers, nn.BatchNorm2d(widths[3]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(body, nn.Linear(widths[3], classes))


def wide_resnet(channels: int, classes: int, depth: int, widen: int) -> Classifier:
    """A wide residual network (Zagoruyko and Komodakis, BMVC 2016) without dropout, such as WRN-16-4."""
    network = residual_network(channels, classes, depth, widen, Residual, bias=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


class PublishedResidual(nn.Module):
    """A block as in the published run: biases, the stride on the second convolution, and a shortcut from the input as it is."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, out, 3, 1, 1)),
            *(nn.BatchNorm2d(out), nn.ReLU(), nn.Conv2d(out, out, 3, stride, 1)),
        )
        self.shortcut = nn.Identity() if channels == out and stride == 1 else nn.Conv2d(channels, out, 1, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps."""
        return self.inner(images) + self.shortcut(images)  # type: ignore[no-any-return]


def published_wide_resnet(channels: int, classes: int, depth: int, widen: int) -> Classifier:
    """The network called WRN-16-4 in the published run: 2,751,146 parameters, 505.9 million multiply-adds an image; torch's own weights.

    That of Aerni, Zhang and Tramèr, "Evaluations of Machine Learning Privacy Defenses are Misleading" (CCS 2024), with BatchNorm.
    """
    return residual_network(channels, classes, depth, widen, PublishedResidual, bias=True)
