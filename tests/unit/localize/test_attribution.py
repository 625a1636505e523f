"""Attribution against brute force over single heads, by hand on a tiny net, and on planted maps."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop, IntegratedGradients, Saliency
from conftest import refusal
from torch import nn

from memgrid.config.derive import Member
from memgrid.config.schema import CNNConfig
from memgrid.localize.attribution import (
    METHODS,
    check_method,
    contrast,
    decisiveness,
    panel_means,
    panel_sums,
    receptive_field,
    slope,
    versus_others,
)
from memgrid.localize.randomization import agreement, randomization, randomize, with_weights
from memgrid.train.networks import LOG_FLOOR, AttentionCNN, LinearProbe, Unpack
from memgrid.train.panel import Panel

LAYERS, LENGTH, CLASSES = 3, 20, 4
TILE = 4
PLANTED = {0: (0, 2, 0), 1: (2, 3, 2), 2: (1, 3, 1)}  # class → layer, row and column of tiles; the last class has none


def scaled(attention, scale):
    return torch.log(attention + LOG_FLOOR) / 4 + 1 if scale == "log" else attention


def small_net(seed=0, kind="conv"):
    torch.manual_seed(seed)
    net = AttentionCNN(LAYERS, LENGTH, CLASSES, 3, 5, 0.5) if kind == "conv" else LinearProbe(LAYERS, LENGTH, LENGTH // 2, CLASSES)
    return net.eval().requires_grad_(False)


def some_heads(kind, heads=4, seed=0):
    """Attention (batch, layers, heads, length, length): usual, with many ties between heads, with zeros, with an empty sample."""
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(5, LAYERS, heads, LENGTH, LENGTH, generator=rng)
    found = logits.masked_fill(torch.ones(LENGTH, LENGTH).triu(1).bool(), -torch.inf).softmax(-1)
    if kind == "tied":
        found = (found * 8).round() / 8
        found[:, :, 1] = found[:, :, 0]
    if kind == "empty":
        found[found < 0.05] = 0
        found[1] = 0
    return found


class Heads(nn.Module):
    """The network with its pooling and scaling before it: what the paper's gradients go through."""

    def __init__(self, net, pooling, scale):
        super().__init__()
        self.net, self.pooling, self.scale = net, pooling, scale

    def forward(self, heads):
        # Of tied heads one is the arg-max head: amax would split its gradient among them.
        pooled = heads.mean(2) if self.pooling == "mean" else heads.max(2).values
        return self.net(scaled(pooled, self.scale))


def attributed(net, heads, pooling, scale, method):
    """What speaks for each class, of the attention of single heads."""
    model = Heads(net, pooling, scale)
    ways = {
        "guided": GuidedBackprop(model).attribute,
        "gradient": lambda x, target: Saliency(model).attribute(x, target=target, abs=False),
        "integrated_gradients": lambda x, target: IntegratedGradients(model, False).attribute(x, target=target, n_steps=32),
    }
    return [ways[method](heads.clone().requires_grad_(), target=label).detach() for label in range(CLASSES)]


def brute_force(b, heads, own):
    """Δ of each sample from what is `attributed`, class by class, as the paper defines it."""
    c = (b[own] - torch.stack(b[:own] + b[own + 1 :]).mean(0)).tril()
    largest = c.flatten(1).amax(1)[:, None, None, None, None]
    d = torch.where(largest > 0, (c / largest).clamp_min(0), 0)
    return (d * heads).amax(2)


def pooled_way(net, heads, own, pooling, scale, method):
    attention = heads.mean(2) if pooling == "mean" else heads.amax(2)
    found = contrast(net, scaled(attention, scale), own, method, scale) * slope(attention, method, scale)
    return decisiveness(found) * heads.amax(2)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("kind", ["usual", "tied", "empty"])
@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize(
    ("method", "scale"), [("guided", "raw"), ("guided", "log"), ("gradient", "raw"), ("gradient", "log"), ("integrated_gradients", "raw")]
)
def test_pooled_maps_give_the_delta_of_single_heads(method, scale, pooling, kind):
    net, heads = small_net(), some_heads(kind)
    of_heads = attributed(net, heads, pooling, scale, method)
    for own in range(CLASSES):
        expected = brute_force(of_heads, heads, own)
        found = pooled_way(net, heads, own, pooling, scale, method)
        assert expected.flatten(1).amax(1)[0] > 0
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_of_tied_heads_an_even_split_would_shrink_delta():
    net, heads = small_net(), some_heads("tied")
    model = lambda x: net(x.amax(2))  # noqa: E731
    split = torch.autograd.grad(versus_others(model(h := heads.requires_grad_()), 0).sum(), h)[0]
    single = torch.autograd.grad(versus_others(Heads(net, "max", "raw")(h), 0).sum(), h)[0]
    assert (split.abs().amax(2) < 0.6 * single.abs().amax(2)).any()
    torch.testing.assert_close(split.sum(2), single.sum(2))


def by_hand():
    """h = (x1 + 2 x2, x3 − 2 x4, −x1); logits (h1 − h2 + 5 h3, h2/2 − h1), seen at h = (3, 1, −1 → 0)."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    net[1].weight.data = torch.tensor([[1.0, 2, 0, 0], [0, 0, 1, -2], [-1, 0, 0, 0]])
    net[3].weight.data = torch.tensor([[1.0, -1, 5], [-1, 0.5, 0]])
    return net, torch.tensor([1.0, 1, 3, 1]).reshape(1, 1, 2, 2)


def test_guided_backpropagation_by_hand():
    net, image = by_hand()
    # Class 0 goes back through h1 alone, class 1 through h2 alone: the others' gradients are negative, or the ReLU is off.
    assert contrast(net, image, 0, "guided").flatten().tolist() == [1 - 0, 2 - 0, 0 - 0.5, 0 + 1]
    assert contrast(net, image, 1, "guided").flatten().tolist() == [-1, -2, 0.5, -1]
    assert contrast(net, image, 0, "gradient").flatten().tolist() == [1 + 1, 2 + 2, -1 - 0.5, 2 + 1]


def test_guided_is_not_the_gradient_but_without_a_relu():
    maps = some_heads("usual").mean(2)
    for kind, equal in (("conv", False), ("linear", True)):
        net = small_net(kind=kind)
        assert torch.allclose(contrast(net, maps, 1, "guided"), contrast(net, maps, 1, "gradient"), atol=1e-6) == equal


@pytest.mark.parametrize("scale", ["raw", "log"])
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_integrated_gradients_add_up_to_the_change_of_the_logits(kind, scale):
    net, attention = small_net(kind=kind), some_heads("empty").mean(2)[[0, 2]]
    found = contrast(net, scaled(attention, scale), 2, "integrated_gradients", scale) * slope(attention, "integrated_gradients", scale)
    total = (found * attention).sum((1, 2, 3))
    change = versus_others(net(scaled(attention, scale)), 2) - versus_others(net(scaled(0 * attention, scale)), 2)
    torch.testing.assert_close(total, change, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("scale", ["raw", "log"])
@pytest.mark.parametrize("method", METHODS)
def test_awkward_maps_give_finite_shares(method, scale):
    maps = torch.stack([torch.zeros(LAYERS, LENGTH, LENGTH), torch.ones(LAYERS, LENGTH, LENGTH).tril()])
    for kind in ("conv", "linear") if method != "gradcam" else ("conv",):
        found = decisiveness(contrast(small_net(kind=kind), scaled(maps, scale), 0, method, scale) * slope(maps, method, scale))
        assert found.isfinite().all()
        assert found.min() >= 0
        assert found.max() <= 1
        assert (found.triu(1) == 0).all()


def test_decisiveness_is_zero_where_nothing_speaks_for_the_class():
    found = torch.tensor([[-1.0, 9, -2, -3], [0, 9, 0, 0], [-1, 9, 2, 4]]).reshape(3, 1, 2, 2)
    assert decisiveness(found).flatten(1).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0.5, 1]]
    # The paper's maximum is that of all positions.
    torch.testing.assert_close(decisiveness(found, True)[2].flatten(), torch.tensor([0, 0, 2 / 9, 4 / 9]))
    assert decisiveness(found, True)[:2].sum() == 0


def test_methods_are_refused_in_one_sentence():
    assert "localize.method=deeplift" in refusal(check_method, "deeplift")
    assert all(method in refusal(check_method, "deeplift") for method in METHODS)
    maps = some_heads("usual").mean(2)
    assert "cnn.kind=linear" in refusal(contrast, small_net(kind="linear"), maps, 0, "gradcam")
    refusal(contrast, small_net(), maps, 0, "lime")


def test_nothing_is_left_on_the_network(recwarn):
    net, maps = small_net(), some_heads("usual").mean(2)
    before = contrast(net, maps, 0, "gradient")
    for method in METHODS:
        contrast(net, maps, 0, method)
    assert torch.equal(contrast(net, maps, 0, "gradient"), before)
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    assert not maps.requires_grad
    assert not [one for one in recwarn if one.category is not ResourceWarning]  # which other tests' leftovers may give at any moment


def test_gradcam_lies_where_the_units_look():
    paper = AttentionCNN(layers=2, length=64, classes=2, kernel_size=8, features=3, dropout=0)
    assert receptive_field(list(paper.body)[:5]) == (11.0, 2)
    for weights in paper.parameters():
        torch.nn.init.constant_(weights, 0.01)
    paper.body[-1].weight.data[1] = 0
    for spot in ((26, 26), (32, 28), (36, 34)):
        maps = torch.zeros(1, 2, 64, 64)
        maps[0, 1][spot] = 1
        # Far enough from the border for all units that could see it to exist.
        # Units that see the spot stand out from those that see only the bias.
        found = contrast(paper.eval(), maps, 0, "gradcam")[0]
        assert torch.equal(found[0], found[1])
        shine = found[0] - found[0].min()
        places = torch.stack(torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij"))
        centre = (shine * places).sum((1, 2)) / shine.sum()
        np.testing.assert_allclose(centre, spot, atol=1.6)


def planted_maps(count, seed):
    """Packed maps of two pools, and labels: each class but the last has more attention in a tile of its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    maps = rng.random((count, LAYERS, LENGTH, LENGTH)).astype(np.float32) / 10
    for row, label in enumerate(labels):
        if label in PLANTED:
            layer, at, left = PLANTED[label]
            maps[row, layer, at * TILE : (at + 1) * TILE, left * TILE : (left + 1) * TILE] += 0.2
    packed = torch.from_numpy(maps[:, :, *np.tril_indices(LENGTH)].transpose(0, 2, 1).copy())
    return {"mean": packed.half(), "max": (1.5 * packed).half()}, torch.from_numpy(labels)


@pytest.fixture(scope="module")
def trained():
    """A panel that tells the planted classes apart."""
    members = [Member(3, 6, "mean"), Member(4, 4, "max")]
    config = CNNConfig(kernel_size=[3, 4], features=[4, 6], pooling=["mean", "max"], scale="raw", dropout=0.1)
    panel = Panel(members, config, LAYERS, LENGTH, LENGTH // 2, CLASSES, 0, True)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(panel.parameters(), 5e-3)
    for step in range(120):
        pools, labels = planted_maps(48, step)
        loss = sum(nn.functional.cross_entropy(logits, labels) for logits in panel.logits(pools).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    panel.eval().requires_grad_(False)
    pools, labels = planted_maps(60, 999)
    assert all((logits.argmax(1) == labels).float().mean() > 0.95 for logits in panel.logits(pools).values())
    return panel


def of_class(label, count=60):
    pools, labels = planted_maps(count, 7)
    return {name: maps[labels == label] for name, maps in pools.items()}


def tiles_of(delta):
    side = LENGTH // TILE
    return delta.reshape(LAYERS, side, TILE, side, TILE).sum((2, 4))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "gradcam"])
def test_a_planted_signal_is_localized(trained, method):
    for label, planted in PLANTED.items():
        tiles = tiles_of(panel_means(trained, [of_class(label)], label, method)[0].mean(0))
        assert np.unravel_index(tiles.argmax(), tiles.shape) == planted
        assert tiles.max() / tiles.sum() > 0.3  # one tile of 45


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_signal_is_localized_in_a_built_network(method):
    """Each feature sees one class's layer. In a trained network Grad-CAM need not find it: it weighs features by their mean gradient."""
    member = Member(3, 3, "mean")
    panel = Panel([member], CNNConfig(scale="raw", dropout=0), LAYERS, LENGTH, LENGTH // 2, CLASSES, 0, True).eval().requires_grad_(False)
    body = panel.nets[member.name].body
    for weights in panel.parameters():
        weights.zero_()
    for label, (layer, _, _) in PLANTED.items():
        body[0].weight[label, layer] = 1 / 9
        body[4].weight[label, label] = 1 / 9
        body[9].weight[label].unflatten(0, (3, -1))[label] = 1
        body[12].weight[label, label] = 1
    body[0].bias.fill_(-0.06)  # a little more than the noise
    for label, planted in PLANTED.items():
        tiles = tiles_of(panel_means(panel, [of_class(label)], label, method)[0][0])
        assert np.unravel_index(tiles.argmax(), tiles.shape) == planted
        assert tiles.max() / tiles.sum() > (0.15 if method == "gradcam" else 0.5)


def test_the_linear_probe_is_localized_by_its_regions():
    member = Member(1, 1, "mean")
    config = CNNConfig(kind="linear", kernel_size=1, features=1, pooling="mean", scale="raw")
    panel = Panel([member], config, LAYERS, LENGTH, LENGTH // 2, 2, 0, False).eval().requires_grad_(False)
    probe = panel.nets[member.name]
    probe.linear.weight.zero_()
    probe.linear.weight[1, 1 * 8 + 2] = 1  # layer 1, mean of the suffix's look at the prefix
    for method in ("guided", "gradient", "integrated_gradients"):
        delta = panel_means(panel, [of_class(0)], 1, method)[0][0]
        half = LENGTH // 2
        assert delta[1, half:, :half].sum() == pytest.approx(delta.sum())
        assert delta.sum() > 0


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize("scale", ["raw", "log"])
@pytest.mark.parametrize("method", ["guided", "gradient"])
def test_a_panels_sums_are_those_of_single_heads(trained, method, scale):
    """Where Δ runs: each member reads its own pooling, and all are multiplied by the max-pooled attention."""
    heads = (256 * some_heads("usual")).round() / 256  # means of four are exact as float16
    pools = {"mean": heads.mean(2), "max": heads.amax(2)}
    packed = {name: maps[..., *np.tril_indices(LENGTH)].permute(0, 2, 1).half() for name, maps in pools.items()}
    panel = copy.deepcopy(trained)
    panel.config, panel.unpack = dataclasses.replace(panel.config, scale=scale), Unpack(LENGTH, scale)
    of_heads = [attributed(panel.nets[member.name], heads, member.pooling, scale, method) for member in panel.members]
    for own in range(CLASSES):
        decision, _ = panel_sums(panel, packed, own, method)
        for found, attributions in zip(decision, of_heads, strict=True):
            expected = brute_force(attributions, heads, own).sum(0)
            assert expected.max() > 0
            torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-6)
    assert {member.pooling for member in panel.members} == {"mean", "max"}


@pytest.mark.parametrize("method", METHODS)
def test_batches_of_any_size_give_the_same(trained, method):
    whole = of_class(1)
    total = len(whole["max"])
    expected = panel_means(trained, [whole], 1, method)
    assert expected.shape == (2, 2, LAYERS, LENGTH, LENGTH)
    for size in (1, 7):
        parts = [{name: maps[at : at + size] for name, maps in whole.items()} for at in range(0, total, size)]
        np.testing.assert_allclose(panel_means(trained, parts, 1, method), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_randomised_layers_lower_the_correlation(trained, method):
    batches = [of_class(0, 24)]
    before = {name: weights.clone() for name, weights in trained.state_dict().items()}
    found = randomization(trained, batches, 0, method, seed=1)
    assert set(found) == {"delta", "decisiveness"}
    for curve in found.values():
        assert list(curve) == [0, 1, 2, 3, 4]
        assert curve[0] == pytest.approx(1)
        assert all(-1 <= value <= 1 for value in curve.values())
    assert found["decisiveness"][4] < 0.8
    assert found["delta"][4] < 0.97
    if method == "gradient":
        assert found == randomization(trained, batches, 0, method, seed=1)
        assert found != randomization(trained, batches, 0, method, seed=2)
    assert all(torch.equal(before[name], weights) for name, weights in trained.state_dict().items())


def test_the_last_layers_are_randomised_first(trained):
    panel = copy.deepcopy(trained)
    randomize(panel, 1, seed=1)
    for member in panel.members:
        before, after = (with_weights(one.nets[member.name]) for one in (trained, panel))
        same = [torch.equal(old.weight, new.weight) for old, new in zip(before, after, strict=True)]
        assert same == [True] * (len(same) - 1) + [False]
        assert before[-1].weight.shape[0] == CLASSES


def test_networks_agree_on_equal_maps_and_by_chance_on_others():
    random = np.random.default_rng(0)
    one = np.tril(random.random((LAYERS, LENGTH, LENGTH)))
    assert agreement(np.stack([one, one])) == (pytest.approx(1), 1)
    others = np.tril(random.random((20, LAYERS, LENGTH, LENGTH)))
    correlation, shared = agreement(others, 0.1)
    assert abs(correlation) < 0.02
    assert shared == pytest.approx(0.1, abs=0.02)
    assert agreement(np.zeros((20, LAYERS, LENGTH, LENGTH)), 0.1)[1] == pytest.approx(0.1, abs=0.02)  # zeros agree on nothing
    assert np.isnan(agreement(one[None])).all()
    assert agreement(others) == agreement(others, 0.03)  # of which findings and documentation speak
