"""The classifiers: shapes, sizes, and what is seen of their last hidden layer."""

import itertools

import numpy as np
import pytest
import torch
from conftest import refusal

from memgrid.audit.config import ModelConfig
from memgrid.audit.data.dataset import Dataset
from memgrid.audit.shadow.networks import build, hidden


def config_of(kind, width):
    return ModelConfig(name=kind, kind=kind, width=width, epochs=1)


def images_of(shape, count=6, classes=10):
    images = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
    return Dataset("some", images, np.zeros(count, np.int64), images[:1], np.zeros(1, np.int64), classes)


def maps_of(length=48, layers=3, count=6, classes=4):
    maps = np.random.default_rng(0).random((count, length * (length + 1) // 2, layers)).astype(np.float16)
    return Dataset("maps", maps, np.zeros(count, np.int64), maps[:1], np.zeros(1, np.int64), classes, length)


CASES = {
    "mlp": (images_of((1, 8, 8)), 32, 32),
    "small_cnn": (images_of((1, 28, 28)), 4, 16),
    "wrn16_4": (images_of((3, 32, 32), count=2), 4, 256),
    "attention_cnn": (maps_of(), 5, 64),
}


def network_and_images(kind):
    data, width, _ = CASES[kind]
    torch.manual_seed(0)
    return build(config_of(kind, width), data), torch.from_numpy(data.images)


def weights(network):
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("kind", CASES)
def test_shapes(kind):
    data, _, expected = CASES[kind]
    network, images = network_and_images(kind)
    h, logits = hidden(network, images)
    assert h.shape == (len(images), expected)
    assert logits.shape == (len(images), data.classes)
    assert h.dtype == logits.dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize(("kind", "width"), [("mlp", 3), ("small_cnn", 2), ("wrn16_4", 1)])
def test_every_network_takes_all_sizes_of_images(kind, width, shape):
    data = images_of(shape, count=3, classes=7)
    assert build(config_of(kind, width), data)(torch.from_numpy(data.images)).shape == (3, 7)


def wide_residual_network(widen, channels=3, classes=10, depth=16):
    """How many weights one has: convolutions without bias, two for each norm, and the head."""
    blocks, widths = (depth - 4) // 6, [16, 16 * widen, 32 * widen, 64 * widen]
    total = 9 * channels * widths[0]
    for before, after in itertools.pairwise(widths):
        total += 2 * before + 9 * before * after + 2 * after + 9 * after**2 + before * after
        total += (blocks - 1) * (4 * after + 18 * after**2)
    return total + 2 * widths[3] + (widths[3] + 1) * classes


def test_wrn_16_4_has_the_size_of_the_papers():
    network, _ = network_and_images("wrn16_4")
    assert weights(network) == wide_residual_network(4) == 2_748_890


def test_a_wrn_16_4_has_sixteen_layers():
    network, _ = network_and_images("wrn16_4")
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len([module for module in convolutions if module.kernel_size == (3, 3)]) == 13
    assert len([module for module in convolutions if module.kernel_size == (1, 1)]) == 3
    assert all(module.bias is None for module in convolutions)


def test_a_wrn_16_4_halves_its_maps_twice():
    network, images = network_and_images("wrn16_4")
    norm_relu_mean_flat = 4
    assert network.body[:-norm_relu_mean_flat](images).shape == (2, 256, 8, 8)


def test_the_small_ones_have_the_size_that_their_width_says():
    assert weights(network_and_images("mlp")[0]) == 65 * 32 + 33 * 32 + 33 * 10
    assert weights(network_and_images("small_cnn")[0]) == 10 * 4 + 37 * 8 + 33 * 16 + 17 * 10


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_looking_at_a_network_does_not_change_it(kind, training):
    network, images = network_and_images(kind)
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    h, logits = hidden(network, images)
    assert torch.equal(torch.rand(1), expected)
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not h.requires_grad
    network.eval()
    torch.testing.assert_close(logits, network(images))
    torch.testing.assert_close(network.head(h), logits)


def test_the_last_hidden_layer_is_seen_without_dropout():
    network, images = network_and_images("attention_cnn")
    network.train()
    assert not torch.equal(network(images), network(images))
    assert torch.equal(hidden(network, images)[1], hidden(network, images)[1])


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("batch", [1, 4])
def test_the_size_of_batches_does_not_matter(kind, batch):
    network, images = network_and_images(kind)
    for batched, whole in zip(hidden(network, images, batch), hidden(network, images), strict=True):
        torch.testing.assert_close(batched, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CASES)
def test_the_random_state_decides_the_weights(kind):
    first, second = network_and_images(kind)[0], network_and_images(kind)[0]
    data, width, _ = CASES[kind]
    other = build(config_of(kind, width), data)
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(*pair) for pair in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("kind", "data"), [("mlp", maps_of()), ("wrn16_4", maps_of()), ("attention_cnn", images_of((1, 8, 8)))])
def test_a_network_that_does_not_fit_the_data_is_refused(kind, data):
    sentence = refusal(build, config_of(kind, 4), data)
    assert f"model={kind}" in sentence
    assert f"dataset={data.name}" in sentence
