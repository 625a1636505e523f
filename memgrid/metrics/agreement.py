"""Whether two ways to say that a model guesses agree: by the text (the paper's Guess), and by a reference model that did not read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool

DRAWS = 4000  # of the counts, for an interval
ROUGES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7)  # where strata of what is no template begin


@dataclass(frozen=True)
class Agreement:
    """Two answers to one question of some sequences.

    Attributes:
        sequences: their number. first, second, both: how many have a yes of the first, of the second, of both.
        same: the share of sequences with equal answers, in percent.
        kappa: Cohen's, the share beyond what two answers of these frequencies would have by chance; None where one answer never varies.
        low, high: a 95 % interval of it, over sequences.
    """

    sequences: int
    first: int
    second: int
    both: int
    same: float | None
    kappa: float | None
    low: float | None
    high: float | None


def agreement(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], seed: int = 0) -> Agreement:
    """How far two answers agree."""
    count, cells = len(first), np.bincount(2 * first.astype(int) + second.astype(int), minlength=4)
    known = {"sequences": count, "first": int(first.sum()), "second": int(second.sum()), "both": int(cells[3])}
    if not count:
        return Agreement(**known, same=None, kappa=None, low=None, high=None)
    same = 100 * float(cells[[0, 3]].sum() / count)
    if len(set(first.tolist())) < 2 or len(set(second.tolist())) < 2:
        return Agreement(**known, same=same, kappa=None, low=None, high=None)
    drawn = kappas(np.random.default_rng(seed).multinomial(count, cells / count, DRAWS))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Agreement(**known, same=same, kappa=float(kappas(cells[None])[0]), low=float(low), high=float(high))


def kappas(cells: np.ndarray) -> np.ndarray:
    """Cohen's kappa of tables of counts, float64 (n,), NaN where one answer never varies.

    Args:
        cells: int (n, 4), no-no, no-yes, yes-no, yes-yes.
    """
    no_no, no_yes, yes_no, yes_yes = (cells / cells.sum(1, keepdims=True)).T
    first, second = yes_no + yes_yes, no_yes + yes_yes
    expected = first * second + (1 - first) * (1 - second)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected < 1, (no_no + yes_yes - expected) / (1 - expected), np.nan))


def agreement_rows(features: pl.DataFrame, guess: Bool[np.ndarray, " n"]) -> pl.DataFrame:
    """Whether the reference continues what is called a guess, of memorized sequences: a row for all, templates, and others by ROUGE.

    Columns: stratum, then those of `Agreement`, whose first answer is `guess` and whose second is `reference_memorized`; counterfactual,
    the median of that column.

    Args:
        features: with memorized, is_repeating, is_incrementing, rouge_l, rouge_3, reference_memorized and counterfactual.
    """
    memorized, template = features["memorized"].to_numpy(), (features["is_repeating"] | features["is_incrementing"]).to_numpy()
    rouge = np.maximum(features["rouge_l"].to_numpy(), features["rouge_3"].to_numpy())
    strata = {"all": memorized, "templates": memorized & template, "no templates": memorized & ~template}
    for low, high in zip(ROUGES, (*ROUGES[1:], np.inf), strict=True):
        name = f"no templates, ROUGE {low:g} to {high:g}" if high < np.inf else f"no templates, ROUGE from {low:g}"
        strata[name] = memorized & ~template & (rouge >= low) & (rouge < high)
    reference, margin = features["reference_memorized"].to_numpy(), features["counterfactual"]
    return pl.DataFrame(
        [
            {"stratum": name, **asdict(agreement(guess[here], reference[here])), "counterfactual": margin.filter(pl.Series(here)).median()}
            for name, here in strata.items()
        ],
        infer_schema_length=None,
    )
