"""Attribution: which positions of an attention map speak for one class and against the others, for one network or a whole panel.

The Δ map of a class c (paper, Section 5): B(c') is the attribution of the logit of c' at a map of class c; C = B(c) − the mean of the other
B(c'); D = C / max C, clipped at 0, for each sample; Δ is the mean over samples of the largest D·A over the heads, A being the attention of
the single heads. D is the same on all heads under mean pooling and lies on the arg-max head alone under max pooling, so that
Δ = mean of D · (the max-pooled map), exactly, and no map of a single head is ever needed. (Where heads tie for the maximum, any one of them
is the arg-max head and all have the same A. An automatic differentiation that splits the gradient among tied heads, as torch.amax does,
shrinks D by their number, there or everywhere else; that is no property of the map, and it is not done here.)

The variables are the pooled attention weights, as in the paper, whatever the network is shown: with `cnn.scale=log` the gradient by the
image ln(a + 1e-4)/4 + 1 is multiplied by its slope 1 / (4(a + 1e-4)). That slope is steep where attention is small, and Δ's multiplication
by A makes up for it: a position counts by about the gradient by the image, faded out below 1e-4. What remains is one factor for each
sample, by its max C, which then lies where attention is almost zero. Positions above the diagonal are no variables: a causal model has no
weights there, and they take no part in max C. (On the embedded model they would hold it in 30 to 81 % of a class's samples, by that
slope; Δ would be smaller and otherwise the same, with a rank correlation of 0.999. With `raw` they never hold it.) The paper's code takes
the maximum over all positions, and with `compat=paper` so do we.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from captum.attr import GuidedBackprop, IntegratedGradients, LayerGradCam  # type: ignore[import-untyped]
from jaxtyping import Float
from torch import Tensor, nn

from memgrid.config.limits import refuse_value
from memgrid.config.schema import LocalizeConfig
from memgrid.errors import UserError
from memgrid.train.networks import LOG_FLOOR, LinearProbe, Unpack
from memgrid.train.panel import Panel

STEPS = 32  # of integrated gradients: nodes of the Gauss-Legendre rule

Images = Float[Tensor, "batch layers length length"]


def check_method(method: str) -> None:
    """Raise UserError for a method that is none of `METHODS`."""
    refuse_value(LocalizeConfig, "method", method, "localize.")


def contrast(net: nn.Module, images: Images, own: int, method: str, scale: str = "raw") -> Images:
    """C by the image: how much a position speaks for logit `own` and against the mean of the others.

    Args:
        net: in evaluation mode; gives logits (batch, classes).
        images: what the network is shown, scaled as `scale` says.
        method: `guided` and `gradient` are per unit of the image, and so is `integrated_gradients`, the mean gradient on the way from the
            image of no attention (not multiplied by the way: Δ multiplies by A itself); `gradcam` has no unit and is equal in all layers.

    Raises:
        UserError: the method is unknown, or needs a convolution and the network has none.
    """
    check_method(method)
    with torch.enable_grad(), warnings.catch_warnings():
        # Captum announces its hooks each time.
        warnings.filterwarnings("ignore", message="Setting (backward|forward).* hooks")
        if isinstance(net, LinearProbe):
            # Its spreads are differences of squares, which float32 loses near the beginning of a path.
            gradients = METHODS[method](copy.deepcopy(net).double(), images.detach().double().requires_grad_(), own, scale)
        else:
            gradients = METHODS[method](net, images.detach().requires_grad_(), own, scale)
    return gradients.detach().to(images.dtype)


def versus_others(logits: Tensor, own: int) -> Tensor:
    """The own logit less the mean of the others: (batch, classes) → (batch,), or any tensor with classes on axis 1."""
    mine = logits[:, own]
    return mine - (logits.sum(1) - mine) / (logits.shape[1] - 1)


def guided(net: nn.Module, images: Tensor, own: int, _: str) -> Tensor:
    """Guided backpropagation (Springenberg et al. 2015): gradients that pass a ReLU backwards must be positive too.

    It is not linear in the logits, so every class goes back for itself, all through the graph of one forward pass. A network without a
    ReLU (the linear probe) gives the plain gradient.
    """

    def by_class(forward: Callable[[Tensor], Tensor], inputs: tuple[Tensor, ...], *_: Any) -> tuple[Tensor]:
        logits = forward(*inputs).sum(0)
        gradients = [torch.autograd.grad(logit, inputs[0], retain_graph=True)[0] for logit in logits]
        return (torch.stack(gradients, 1),)

    backprop = GuidedBackprop(net)
    backprop.gradient_func = by_class  # captum's own asks for one class and goes forward anew for each
    return versus_others(backprop.attribute(images), own)


def gradient(net: nn.Module, images: Tensor, own: int, _: str) -> Tensor:
    """The plain gradient (Simonyan et al. 2014): linear in the logits, so that one pass back does for all classes."""
    return torch.autograd.grad(versus_others(net(images), own).sum(), images)[0]


def integrated_gradients(net: nn.Module, images: Tensor, own: int, scale: str) -> Tensor:
    """The mean gradient between the image of no attention and the image (Sundararajan et al. 2017), linear in the logits too.

    The way is straight in the image: in the attention itself nearly the whole logarithm would lie in the first step.
    """
    path = IntegratedGradients(lambda x: versus_others(net(x), own), multiply_by_inputs=False)
    nothing = math.log(LOG_FLOOR) / 4 + 1 if scale == "log" else 0.0
    return path.attribute(images, baselines=nothing, n_steps=STEPS, internal_batch_size=len(images))


def gradcam(net: nn.Module, images: Tensor, own: int, _: str) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017) at the ReLU after the last convolution, before its final ReLU, which D's clipping replaces.

    It is one coarse map (query, key) for all layers, and tells layers apart only through A. Guided Grad-CAM, its product with guided
    backpropagation, would tell them apart, but by guided backpropagation alone, and like that hardly depends on the upper layers'
    weights (Adebayo et al. 2018): as a second opinion on `guided` it is worth nothing. Grad-CAM is one that passes their test.

    The convolutions are not padded, so the units look at the middle of the map: each is placed where its receptive field has its centre,
    and the border takes the value of the nearest. Stretching the map to the whole length would move it by up to 11 positions.

    Raises:
        UserError: the network has no convolution.
    """
    layers = [module for module in net.modules() if not list(module.children())]
    last = max((index for index, module in enumerate(layers) if isinstance(module, nn.Conv2d)), default=None)
    if last is None:
        raise UserError("localize.method=gradcam needs a convolution and cnn.kind=linear has none: use gradient or integrated_gradients")
    relu = next(index for index, module in enumerate(layers[last:], last) if isinstance(module, nn.ReLU))
    units = LayerGradCam(lambda x: versus_others(net(x), own), layers[relu]).attribute(images)
    offset, stride = receptive_field(layers[:relu])
    (*_rest, length), (*_rest, side) = images.shape, units.shape
    places = (torch.arange(length, device=images.device) - offset) / stride
    at = 2 * places / max(side - 1, 1) - 1
    grid = torch.stack(torch.broadcast_tensors(at, at[:, None]), -1).expand(len(images), -1, -1, -1).to(units.dtype)  # (key, query)
    return nn.functional.grid_sample(units, grid, padding_mode="border", align_corners=True).expand_as(images)


def receptive_field(layers: list[nn.Module]) -> tuple[float, int]:
    """Centre of the first unit's receptive field and the distance of neighbouring ones, in positions, after unpadded square layers."""
    offset, stride = 0.0, 1
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, step = (int(size[0]) if isinstance(size, tuple) else int(size) for size in (layer.kernel_size, layer.stride))
            offset += (kernel - 1) / 2 * stride
            stride *= step
    return offset, stride


METHODS: dict[str, Callable[[nn.Module, Tensor, int, str], Tensor]] = {
    "guided": guided,
    "gradient": gradient,
    "integrated_gradients": integrated_gradients,
    "gradcam": gradcam,
}


def slope(attention: Tensor, method: str, scale: str) -> Tensor:
    """Change of the image with the attention weight; for integrated gradients from zero attention on. Grad-CAM is no derivative: 1."""
    if scale == "raw" or method == "gradcam":
        return torch.ones_like(attention)
    if method == "integrated_gradients":
        weights = attention.clamp_min(1e-9)  # float16 has nothing between 0 and 6e-8
        return torch.log1p(weights / LOG_FLOOR) / (4 * weights)
    return 1 / (4 * (attention + LOG_FLOOR))


def decisiveness(contrasts: Images, everywhere: bool = False) -> Images:
    """D of each sample, in 0..1: C over its maximum, clipped at 0; all zero where nothing speaks for the class.

    Args:
        everywhere: the maximum is one over all positions, and not over those alone at which a causal model has weights.
    """
    lower = contrasts.tril()
    largest = (contrasts if everywhere else lower).amax((1, 2, 3), keepdim=True)
    return torch.where(largest > 0, lower / largest, 0).clamp_min(0)


def panel_sums(
    panel: Panel, pools: dict[str, Tensor], own: int, method: str, everywhere: bool = False
) -> Float[Tensor, "2 members layers length length"]:
    """Of each member Δ, and D by the image, summed over samples of one class, in float64: so that no size of batches matters.

    D by the image is what a network alone decides. D by the attention weight has the slope of the image in it, a function of the attention
    that is the same for every network.

    Args:
        panel: in evaluation mode.
        pools: packed maps (batch, positions, layers): `max`, and every pooling that a member reads.
        own: the logit of the samples' class. everywhere: see `decisiveness`.
    """
    scale = panel.config.scale
    raw = Unpack(panel.unpack.length, "raw").to(panel.device)
    attention = {name: raw(packed) for name, packed in pools.items()}
    images = panel.images(pools)
    sums = []
    for member in panel.members:
        by_image = contrast(panel.nets[member.name], images[member.reads], own, method, scale)
        decision = decisiveness(by_image * slope(attention[member.reads], method, scale), everywhere) * attention["max"]
        sums.append(torch.stack([maps.sum(0, dtype=torch.float64) for maps in (decision, decisiveness(by_image, everywhere))]))
    return torch.stack(sums, 1)


def panel_means(panel: Panel, batches: Iterable[dict[str, Tensor]], own: int, method: str, everywhere: bool = False) -> np.ndarray:
    """As `panel_sums`, averaged over the samples of all batches: float64 (2, members, layers, query, key)."""
    total: Any = 0.0
    count = 0
    for pools in batches:
        total = total + panel_sums(panel, pools, own, method, everywhere).cpu().numpy()
        count += len(pools["max"])
    return total / count
