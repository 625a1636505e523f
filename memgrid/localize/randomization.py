"""What speaks for maps being about the networks: they change with random weights (Adebayo et al. 2018), and networks agree on them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from memgrid.config.derive import protocol
from memgrid.corpus.corpus import Corpus
from memgrid.lm.triangle import Triangle
from memgrid.localize.attribution import check_method, panel_means
from memgrid.localize.localize import batches
from memgrid.store.store import Store
from memgrid.train.panel import Panel, TrainedPanel, member_seed

TOP = 0.03  # of the positions of a map: those on which networks may agree


def randomization(
    panel: Panel, batches: Sequence[dict[str, Tensor]], own: int, method: str, seed: int = 0, everywhere: bool = False
) -> dict[str, dict[int, float]]:
    """Cascading randomization (Adebayo et al. 2018, "Sanity Checks for Saliency Maps"): maps about the networks must change with them.

    The layers of all members get random weights, one after the other from the last to the first. Each time the panel's maps are computed
    again on the same samples and compared to those of the trained networks, by Spearman's rank correlation over the lower triangles. The
    panel has its weights back afterwards.

    Returns:
        "delta" (of Δ) and "decisiveness" (of D by the image) to {number of randomized layers: correlation}, from 0 layers (1.0) to all. Δ
        keeps its factor A, the attention, whatever happens to the networks: D tells whether the method is about them.
    """
    state = {name: weights.clone() for name, weights in panel.state_dict().items()}
    lower = Triangle(panel.unpack.length).mask
    correlations: dict[str, dict[int, float]] = {"delta": {}, "decisiveness": {}}
    trained = None
    try:
        for layers in range(len(with_weights(panel.nets[panel.members[0].name])) + 1):
            randomize(panel, layers, seed)
            maps = panel_means(panel, batches, own, method, everywhere).mean(1)[..., lower].reshape(2, -1)
            trained = maps if trained is None else trained
            for name, before, after in zip(correlations, trained, maps, strict=True):
                correlations[name][layers] = rank_correlation(before, after)
    finally:
        panel.load_state_dict(state)
    return correlations


def with_weights(net: nn.Module) -> list[nn.Module]:
    """The layers of a network that have weights, first to last."""
    return [module for module in net.modules() if next(module.parameters(recurse=False), None) is not None]


def randomize(panel: Panel, layers: int, seed: int) -> None:
    """Give the last `layers` layers of every member new random weights; a layer gets the same ones however many follow."""
    for member in panel.members:
        last_first = with_weights(panel.nets[member.name])[::-1]
        for depth, layer in enumerate(last_first[:layers]):
            with torch.random.fork_rng():
                torch.manual_seed(member_seed(member, seed) + depth)
                layer.reset_parameters()  # type: ignore[operator]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's; 0 where one of them is the same everywhere and so ranks nothing."""
    return float(spearmanr(first, second).statistic) if np.ptp(first) > 0 and np.ptp(second) > 0 else 0.0


def agreement(maps: np.ndarray, share: float = TOP) -> tuple[float, float]:
    """How far the maps of several networks agree, means over pairs of them; NaN for one network.

    Args:
        maps: float (members, layers, query, key), of one class; lower triangles count.
        share: of the positions, the most decisive ones.

    Returns:
        Spearman's correlation, and the share of each one's most decisive positions that the other has, too: `share` by chance.
    """
    lower = maps[..., Triangle(maps.shape[-1]).mask].reshape(len(maps), -1)
    count = max(1, round(share * lower.shape[1]))
    # Ties, which exact zeros are, fall differently in each network, or they would agree on them.
    ties = np.random.default_rng(0).permuted(np.tile(np.arange(lower.shape[1]), (len(maps), 1)), axis=1)
    first = [set(np.lexsort((tie, -values))[:count].tolist()) for tie, values in zip(ties, lower, strict=True)]
    pairs = list(combinations(range(len(maps)), 2))
    if not pairs:
        return float("nan"), float("nan")
    correlations = [rank_correlation(lower[one], lower[other]) for one, other in pairs]
    return float(np.mean(correlations)), float(np.mean([len(first[one] & first[other]) / count for one, other in pairs]))


def randomization_test(
    trained: TrainedPanel, corpus: Corpus, store: Store, ids: np.ndarray, label: int, method: str = "guided", seed: int = 0
) -> dict[str, dict[int, float]]:
    """`memgrid.localize.randomization.randomization` on some samples of class `label`, which are kept in memory: a few dozen are enough."""
    check_method(method)
    read, everywhere = list(batches(trained, corpus, store, ids, 16)), protocol(trained.run).maximum_anywhere
    return randomization(trained.panel, read, trained.logit_of(label), method, seed, everywhere)
