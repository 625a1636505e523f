import numpy as np
import pytest
import torch

from memgrid.errors import UserError
from memgrid.train.networks import AttentionCNN, LinearProbe, Unpack


@pytest.mark.parametrize("scale", ["raw", "log"])
def test_unpack_restores_the_image(scale):
    images = torch.rand(3, 5, 16, 16).tril()
    rows, columns = np.tril_indices(16)
    packed = images[:, :, rows, columns].transpose(1, 2)
    expected = images if scale == "raw" else torch.log(images + 1e-4) / 4 + 1
    made = Unpack(16, scale)(packed)
    torch.testing.assert_close(made, expected)
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_shapes_of_the_paper():
    net = AttentionCNN(layers=36, length=64, classes=4, kernel_size=8, features=16, dropout=0.5)
    assert net(torch.rand(2, 36, 64, 64)).shape == (2, 4)
    kinds = [type(layer).__name__ for layer in net.body]
    assert " ".join(kinds) == "Conv2d ReLU Dropout MaxPool2d Conv2d ReLU Dropout MaxPool2d Flatten Linear ReLU Dropout Linear"


def test_a_kernel_too_large_is_refused():
    with pytest.raises(UserError, match="kernel_size=8"):
        AttentionCNN(layers=2, length=16, classes=3, kernel_size=8, features=4, dropout=0)


def test_the_probe_sees_regions():
    probe = LinearProbe(layers=2, length=8, k=4, classes=3).eval()
    assert probe(torch.rand(5, 2, 8, 8)).shape == (5, 3)
    torch.testing.assert_close(probe.masks.sum((1, 2)), torch.ones(4))
    future = torch.ones(8, 8).triu(1).bool()
    assert (probe.masks[:, future] == 0).all()


def test_the_probe_has_a_gradient_where_a_region_has_no_spread():
    probe = LinearProbe(layers=2, length=8, k=4, classes=3).eval()
    images = torch.rand(5, 2, 8, 8).tril()
    images[0] = 0
    images[1, 0] = 0.25
    logits = probe(images.requires_grad_())
    before = [torch.einsum("blqk,rqk->blr", power, probe.masks) for power in (images, images.square())]
    spread = (before[1] - before[0].square()).clamp_min(0).sqrt()
    usual = probe.linear(probe.norm(torch.cat([before[0], spread], -1).flatten(1)))
    assert torch.equal(logits, usual)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert gradient.isfinite().all()
    assert gradient[0].abs().max() > 0  # of its means
