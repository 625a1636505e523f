"""Λ that means the same whatever the number of models: how rare is so large a ratio where nothing is memorized?

The likelihood ratio itself does not say that. On scores that know nothing of membership 9 % of the ratios of 8 models are above 4, of 64
models .03 % (normal densities, own variances, samples that a model has not seen), and with other tails of the scores it is again
otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memgrid.audit.attack.lira import Density, lira
from memgrid.audit.data.population import half_of

VALUES = 400_000  # ratios under the null that are looked at, about
ROUNDS = 400  # at most: of a few samples under a few models
TAIL = 1e-3  # the share of them, at either end, beyond which a tail is fitted
LEAST = 1e-12  # the width of a tail that has none


@dataclass(frozen=True)
class Null:
    """Ratios where nothing is memorized, ascending: of models that have seen a sample, and of those that have not; float64."""

    inside: np.ndarray
    outside: np.ndarray

    @property
    def area(self) -> float:
        """How well the attack tells members from others where there is nothing to be told, from 0 to 1.

        Not a half, since the model that is left out is missing on its own side: of a member one model less has seen the sample, of
        another one less has not. With variances that are known that puts members below the others, with few models of a sample's own above.
        """
        below, upto = (np.searchsorted(self.outside, self.inside, side) for side in ("left", "right"))
        return float((below + upto).mean() / (2 * len(self.outside)))

    def calibrated(self, ratio: np.ndarray, members: np.ndarray) -> np.ndarray:
        """The log-odds of a smaller ratio under the null, float64 like `ratio`: at least η in a share of 1 / (1 + e^η) of all cases.

        Members are compared with members and others with others, so that what leaving one out does to both is gone.
        """
        made = np.full(ratio.shape, np.nan)
        for chosen, null in ((members, self.inside), (~members, self.outside)):
            known = chosen & np.isfinite(ratio)
            if known.any():
                made[known] = log_odds(ratio[known], null)
        return made


def null_of(scores: np.ndarray, members: np.ndarray, density: Density, seed: int) -> Null:
    """Ratios of the same scores where membership is drawn anew, after what membership did to them has been taken away.

    Each sample keeps its own spread, the shape of its scores and what its views have in common; only who has seen it is chance.

    Args:
        scores: float (views, models, samples). members: bool (models, samples).
    """
    count = members.sum(0)
    audited = (count > 0) & (count < len(members))
    rest = residuals(scores[..., audited].astype(np.float64), members[:, audited])
    models, samples = rest.shape[1:]
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for number in range(min(ROUNDS, -(-VALUES // max(1, models * samples)))):
        drawn = half_of(models, samples, int(np.random.SeedSequence([seed, 5, number]).generate_state(1)[0]))
        ratio = lira(rest, drawn, density)
        for side, chosen in zip(found, (drawn, ~drawn), strict=True):
            side.append(ratio[chosen & np.isfinite(ratio)])
    return Null(*(np.sort(np.concatenate(side)) for side in found))


def residuals(scores: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Scores minus the mean of their own side, made as wide again as they were around the true mean; float64, as `scores`.

    A side of one score has no residual: it stays 0.
    """
    rest = np.zeros(scores.shape)
    for side in (True, False):
        chosen = members == side
        count = chosen.sum(0)
        mean = np.where(chosen, scores, 0).sum(1) / np.maximum(count, 1)
        wider = np.sqrt(count / np.maximum(count - 1, 1))
        rest += np.where(chosen, (scores - mean[:, None]) * wider, 0)
    return rest


def log_odds(values: np.ndarray, null: np.ndarray) -> np.ndarray:
    """ln(1 - p) - ln p, p the share of the null above each value (and half of what is equal): float64 (n,)."""
    count = len(null)
    below = (np.searchsorted(null, values, "left") + np.searchsorted(null, values, "right")) / (2 * count)
    with np.errstate(divide="ignore"):
        above, under = np.log1p(-below), np.log(below)
    beyond = min(max(2, int(TAIL * count)), count - 1)
    for log_share, ordered, given in ((above, null, values), (under, -null[::-1], -values)):
        edge = ordered[count - beyond - 1]
        outside = given > edge
        log_share[outside] = log_tail(given[outside] - edge, ordered[count - beyond :] - edge) + np.log(beyond / count)
    high = below > 0.5
    rarer = np.minimum(np.where(high, above, under), np.log(0.5))  # of the two shares the smaller one, which is known to more digits
    odds: np.ndarray = np.log1p(-np.exp(rarer)) - rarer
    return np.where(high, odds, -odds)


def log_tail(excess: np.ndarray, known: np.ndarray) -> np.ndarray:
    """ln of the share of a tail that lies above an excess, float64 (n,): a generalised Pareto tail, of which `known` are a sample.

    Fitted by probability-weighted moments (Hosking and Wallis 1987), never with an end: a ratio beyond all of the null is rare, not
    impossible.
    """
    ranks = (np.arange(len(known)) + 0.65) / len(known)
    first, second = known.mean(), ((1 - ranks) * known).mean()
    if not first:  # all of the tail is one value
        return -excess / LEAST
    shape = max(0.0, 2 - first / (first - 2 * second))  # below 1, since ranks lie above a half on average
    scale = first * (1 - shape)
    shares: np.ndarray = -excess / scale if shape < 1e-6 else -np.log1p(shape * excess / scale) / shape
    return shares
