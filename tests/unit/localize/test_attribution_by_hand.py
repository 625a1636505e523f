"""Attribution of networks that are small enough to say what comes out: by hand, by plain loops, and by differences of numbers."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from memgrid.config.derive import Member
from memgrid.config.schema import CNNConfig
from memgrid.localize.attribution import METHODS, contrast, decisiveness, panel_means, panel_sums, receptive_field, slope, versus_others
from memgrid.train.networks import LOG_FLOOR, LinearProbe
from memgrid.train.panel import Panel

NOTHING = {"raw": 0.0, "log": 1 - np.log(10)}  # what a network is shown of no attention: ln(1e-4) / 4 + 1


class Squares(nn.Module):
    """Logits Σ w x² of two classes, of which the second has no weights; it keeps how many images it was ever shown together."""

    def __init__(self, shape):
        super().__init__()
        self.weights, self.shown = torch.randn(shape, generator=torch.Generator().manual_seed(0)), []

    def forward(self, images):
        self.shown.append(len(images))
        return torch.stack([(self.weights * images.square()).sum((1, 2, 3)), torch.zeros(len(images))], 1)


@pytest.mark.parametrize("scale", ["raw", "log"])
def test_integrated_gradients_of_squares_are_twice_the_middle_of_the_way(scale):
    """The mean of 2 w x between the image of no attention and an image: w (nothing + x)."""
    images = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    net = Squares((2, 4, 4))
    found = contrast(net, images, 0, "integrated_gradients", scale)
    torch.testing.assert_close(found, net.weights * (NOTHING[scale] + images), rtol=1e-5, atol=1e-6)
    # So they add up to the difference that the way makes, whatever the way is.
    change = versus_others(net(images), 0) - versus_others(net(torch.full_like(images, NOTHING[scale])), 0)
    torch.testing.assert_close((found * (images - NOTHING[scale])).sum((1, 2, 3)), change, rtol=1e-4, atol=1e-4)


def test_a_network_never_sees_more_images_at_once_than_there_are():
    net = Squares((1, 2, 2))
    contrast(net, torch.rand(3, 1, 2, 2), 0, "integrated_gradients")
    assert max(net.shown) <= 3


def test_what_a_network_warns_of_is_heard():
    class Warns(nn.Linear):
        def forward(self, images):
            warnings.warn("this network is odd", stacklevel=1)
            return super().forward(images)

    with pytest.warns(UserWarning, match="this network is odd"):
        contrast(nn.Sequential(nn.Flatten(), Warns(4, 2)), torch.rand(1, 1, 2, 2), 0, "gradient")


@pytest.mark.parametrize("method", [method for method in METHODS if method != "gradcam"])
def test_a_linear_probe_loses_nothing_near_the_beginning_of_the_way(method):
    """Its spreads are differences of squares: as good as in float64, though it is asked in float32."""
    torch.manual_seed(0)
    probe = LinearProbe(2, 6, 3, 3).eval().requires_grad_(False)
    images = NOTHING["log"] + 0.01 * torch.rand(2, 2, 6, 6)
    found = contrast(probe, images, 1, method, "log")
    assert found.dtype == torch.float32
    steps, weights = np.polynomial.legendre.leggauss(32)
    expected = torch.zeros_like(images, dtype=torch.float64)
    for step, weight in zip((steps + 1) / 2, weights / 2, strict=True) if method == "integrated_gradients" else [(1.0, 1.0)]:
        image = (NOTHING["log"] + step * (images.double() - NOTHING["log"])).requires_grad_()
        expected += weight * torch.autograd.grad(versus_others(probe.double()(image), 1).sum(), image)[0]
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)
    assert expected.abs().max() > 0.01


def two_blocks(side, kernels, classes=3):
    """Convolution, ReLU and pooling, then convolution and ReLU, and what makes logits of it: (network, its first five layers)."""
    torch.manual_seed(side)
    first = [nn.Conv2d(2, 4, kernels[0]), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, kernels[1]), nn.ReLU()]
    left = (side - kernels[0] + 1) // 2 - kernels[1] + 1
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(3 * left * left, classes)).eval(), first


# The number of units on a side is 4, 2 and 1.
@pytest.mark.parametrize(("side", "kernels"), [(13, (2, 3)), (8, (3, 2)), (7, (4, 2))])
def test_gradcam_is_the_sum_of_units_by_their_mean_gradient(side, kernels):
    """At the second ReLU; each position has what its place between the centres of the units makes of the four about it."""
    net, body = two_blocks(side, kernels)
    images = torch.rand(2, 2, side, side, generator=torch.Generator().manual_seed(3))
    units = nn.Sequential(*body)(images).detach().requires_grad_()
    rest = nn.Sequential(*list(net)[5:])
    gradients = torch.autograd.grad(versus_others(rest(units), 1).sum(), units)[0]
    coarse = (gradients.mean((2, 3), keepdim=True) * units).sum(1).detach().double().numpy()
    # A unit of the second block sees 2 (second kernel - 1) + 1 pooled places, of two each, and what the first kernel sees beyond.
    field = 2 * (kernels[1] - 1) + 2 + kernels[0] - 1
    centres = (field - 1) / 2 + 2 * np.arange(coarse.shape[1])
    expected = np.empty((2, side, side))
    for sample in range(2):
        rows = np.array([np.interp(range(side), centres, row) for row in coarse[sample]])  # beyond the border: the nearest
        expected[sample] = np.array([np.interp(range(side), centres, column) for column in rows.T]).T
    found = contrast(net, images, 1, "gradcam")
    for layer in range(2):
        np.testing.assert_allclose(found[:, layer], expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 0 or coarse.shape[1] == 1
    assert np.abs(expected).max() > 1e-3


def test_gradcam_counts_what_lies_between_a_convolution_and_its_relu():
    """A pooling there, too, moves the units: the one that is on sees the positions from 4 to 6, in the middle 5."""
    net = nn.Sequential(nn.Conv2d(1, 1, 2, bias=False), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2, bias=False)).eval()
    for weights in net.parameters():
        nn.init.constant_(weights, 1.0)
    net[4].weight.data[1] = 0
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 5, 5] = 1
    found = contrast(net, image, 0, "gradcam")[0, 0]
    assert found[3:8, 5].tolist() == found[5, 3:8].tolist() == [0, 0.5, 1, 0.5, 0]
    assert found.sum() == 4


def test_receptive_fields_by_hand():
    # Three seen at once, pooled by two, then two: the first unit sees the positions 0 to 5, and the next 2 to 7.
    layers = [nn.Conv2d(1, 1, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(1, 1, 2)]
    assert receptive_field(layers) == (2.5, 2)
    assert receptive_field([nn.Conv2d(1, 1, 4, stride=3), nn.MaxPool2d(5, stride=2)]) == (1.5 + 6, 6)
    assert receptive_field([nn.ReLU()]) == (0, 1)


@pytest.mark.parametrize("method", ["guided", "gradient"])
def test_the_slope_is_the_change_of_the_image_with_the_attention(method):
    attention = torch.tensor([0.0, 1e-5, 1e-4, 0.01, 0.3, 1.0], dtype=torch.float64)
    step = 1e-7 * (attention + LOG_FLOOR)
    image = lambda weights: torch.log(weights + 1e-4) / 4 + 1  # noqa: E731
    expected = (image(attention + step) - image(attention - step)) / (2 * step)
    torch.testing.assert_close(slope(attention, method, "log"), expected, rtol=1e-5, atol=0)
    assert slope(attention, method, "raw").tolist() == [1] * 6


def test_the_slope_of_integrated_gradients_is_that_of_the_whole_way_and_of_gradcam_1():
    attention = torch.tensor([1e-5, 1e-4, 0.01, 0.3, 1.0], dtype=torch.float64)
    rise = (torch.log(attention + 1e-4) - np.log(1e-4)) / 4
    torch.testing.assert_close(slope(attention, "integrated_gradients", "log"), rise / attention, rtol=1e-6, atol=0)
    # At no attention at all that is the derivative there, or nearly.
    assert slope(torch.zeros(1), "integrated_gradients", "log").item() == pytest.approx(1 / 4e-4, rel=1e-4)
    assert slope(attention, "gradcam", "log").tolist() == slope(attention, "integrated_gradients", "raw").tolist() == [1] * 5


LENGTH = 8


def conv_panel():
    """Two networks, of both poolings."""
    members = [Member(2, 4, "mean"), Member(2, 4, "max")]
    config = CNNConfig(kernel_size=2, features=4, pooling=["mean", "max"], scale="log")
    return Panel(members, config, 2, LENGTH, 4, 3, 0, False).eval().requires_grad_(False)


def some_pools(samples, seed=0):
    packed = torch.rand(samples, LENGTH * (LENGTH + 1) // 2, 2, generator=torch.Generator().manual_seed(seed)).half()
    return {"mean": packed / 2, "max": packed}


def squares(packed):
    """Maps (samples, layers, length, length) of packed ones."""
    made = torch.zeros(len(packed), packed.shape[2], LENGTH, LENGTH)
    made[..., *np.tril_indices(LENGTH)] = packed.permute(0, 2, 1).float()
    return made


@pytest.mark.parametrize("everywhere", [False, True])
def test_sums_over_samples_are_exact(everywhere):
    """Those of a hundred samples in float32 would miss the last digits."""
    panel, pools = conv_panel(), some_pools(100)
    made = panel_sums(panel, pools, 2, "gradient", everywhere)
    attention = {name: squares(packed) for name, packed in pools.items()}
    for number, (name, own) in enumerate(attention.items()):
        by_image = contrast(panel.nets[panel.members[number].name], torch.log(own + LOG_FLOOR) / 4 + 1, 2, "gradient")
        by_weight = by_image * slope(own, "gradient", "log")
        for place, shares in enumerate((decisiveness(by_weight, everywhere) * attention["max"], decisiveness(by_image, everywhere))):
            expected = sum(one.double() for one in shares)
            assert expected.max() > 0
            torch.testing.assert_close(made[place, number], expected, rtol=1e-12, atol=1e-12)
        assert name == panel.members[number].pooling


def test_means_are_over_all_samples_of_all_batches():
    panel, batches = conv_panel(), [some_pools(3), some_pools(1, seed=1)]
    made = {}
    for options in ((), (False,), (True,)):
        sums = [panel_sums(panel, pools, 1, "gradient", *options).numpy() for pools in batches]
        made[options] = panel_means(panel, batches, 1, "gradient", *options)
        np.testing.assert_allclose(made[options], (sums[0] + sums[1]) / 4, rtol=1e-12)
    # The largest of a map is looked for where a causal model has weights, if nothing else is said.
    assert np.array_equal(made[()], made[False,])
    assert not np.array_equal(made[()], made[True,])
