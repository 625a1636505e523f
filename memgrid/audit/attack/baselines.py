"""What anybody could say of a sample without a network: how far it lies from its class, in pixels."""

from __future__ import annotations

import numpy as np
import torch

# Name → whether high values predict memorization, as in `memgrid.audit.shadow.predictors.PREDICTORS`.
BASELINES = {"pixels": True, "neighbour": True}
BLOCK = 1 << 24  # distances that are held at once


def baselines(images: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
    """Every baseline of the samples that are asked for, float32 (N,), NaN for the others.

    `pixels`: the distance to the mean of the other samples with the same label. `neighbour`: that to the nearest sample of the same label,
    over that to the nearest of another label.

    Args:
        images: (N, ...), as models see them. labels: int64 (N,), as models are trained on. asked: bool (N,).
    """
    points = torch.from_numpy(images.reshape(len(images), -1)).float()
    of_class = torch.from_numpy(labels)
    places = np.flatnonzero(asked)
    values = {name: np.full(len(labels), np.nan, np.float32) for name in BASELINES}
    for block in torch.from_numpy(places).split(max(1, BLOCK // max(1, len(points)))):
        apart = torch.cdist(points[block], points)
        apart[torch.arange(len(block)), block] = torch.inf  # not itself
        same = of_class[block, None] == of_class
        own, other = (apart.masked_fill(hidden, torch.inf).amin(1) for hidden in (~same, same))
        values["neighbour"][block.numpy()] = (own / other.clamp_min(1e-12)).nan_to_num(posinf=torch.finfo(torch.float32).max).numpy()
    for label in np.unique(labels[places]):
        members = np.flatnonzero(labels == label)
        of_label = points[members].double()
        wider = len(members) / max(len(members) - 1, 1)  # the mean of the others lies so much further off
        distances = wider * (of_label - of_label.mean(0)).norm(dim=1).numpy()
        chosen = asked[members]
        values["pixels"][members[chosen]] = distances[chosen]
    return values
