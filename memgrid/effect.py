"""What an intervention shows: intervals over samples, and a sentence per class. Reads its table; no torch here."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool

RESAMPLES, SEED = 2000, 0
LEVEL = 0.95
MORE, NONE, LESS = "matters more than its matched control", "no difference can be seen", "matters less than its matched control"


def interval(values: np.ndarray, samples: int, least: float) -> tuple[float, float]:
    """The middle 95 % of bootstrap values that lie in [least, 1].

    Where no resample differs (all samples agree), the bootstrap knows of no spread; then the interval reaches as far as the rarer outcome
    could be common without being seen among so many samples, with 95 % confidence: 1 - 0.05 ** (1 / samples).
    """
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if values.min() == values.max():
        unseen = 1 - (1 - LEVEL) ** (1 / samples)
        low, high = max(least, low - unseen), min(1.0, high + unseen)
    return float(low), float(high)


def resampled(samples: int) -> np.ndarray:
    """How often each sample is drawn in each resample, int64 (RESAMPLES, samples)."""
    return np.random.default_rng(SEED).multinomial(samples, np.full(samples, 1 / samples), RESAMPLES)


def share_interval(kept: Bool[np.ndarray, " samples"]) -> tuple[float, float]:
    """A 95 % bootstrap interval over samples for the share that is true."""
    return interval(resampled(len(kept)) @ kept / len(kept), len(kept), 0.0)


def difference(target: Bool[np.ndarray, " samples"], control: Bool[np.ndarray, "seeds samples"]) -> tuple[float, float, float]:
    """Share under the target mask minus mean share under the control's, with a 95 % interval: (difference, low, high), in [-1, 1].

    Paired: a resample draws samples, each with its outcomes under all masks, and the control's seeds.
    """
    seeds, samples = control.shape
    drawn = resampled(samples)
    masks = np.random.default_rng(SEED + 1).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    values = (drawn @ target - ((masks @ control) * drawn).sum(1) / seeds) / samples
    return float(target.mean() - control.mean()), *interval(values, samples, -1.0)


def verdict(table: pl.DataFrame) -> list[dict[str, Any]]:
    """One record per class of an intervention's table: `class`, `samples`, `doses` and a `sentence`.

    A dose: `q`; the shares `target` and `random` (mean over seeds, with `random_low` and `random_high`, the seeds' extremes); `difference`
    with `low` and `high` (see `difference`); `overlap` of the random masks with the target; `verdict`, by whether the interval excludes 0.
    """
    made = []
    for (name,), rows in table.group_by("class", maintain_order=True):
        doses = [dose_of(q, rows.filter(pl.col("q") == q)) for q in rows.filter(pl.col("masked") == "target")["q"].unique().sort()]
        samples = int(rows["samples"][0])
        made.append({"class": name, "samples": samples, "doses": doses, "sentence": sentence(str(name), samples, doses)})
    return made


def dose_of(q: float, rows: pl.DataFrame) -> dict[str, Any]:
    """The comparison of the target with its random controls at one q."""
    target, random = (rows.filter(pl.col("masked") == masked) for masked in ("target", "random"))
    gap, low, high = difference(np.array(target["kept"][0].to_list()), np.array(random["kept"].to_list()))
    shares = random["extractable"].to_numpy()
    return {
        "q": q,
        "target": float(target["extractable"][0]),
        "random": float(shares.mean()),
        "random_low": float(shares.min()),
        "random_high": float(shares.max()),
        "difference": gap,
        "low": low,
        "high": high,
        "overlap": float(random["overlap"].to_numpy().mean()),
        "verdict": MORE if high < 0 else LESS if low > 0 else NONE,
    }


def sentence(name: str, samples: int, doses: list[dict[str, Any]]) -> str:
    """What the doses of a class show, with the numbers of the clearest one for every kind of answer."""
    parts = []
    for answer in (MORE, LESS, NONE):
        found = [dose for dose in doses if dose["verdict"] == answer]
        if found:
            clearest = max(found, key=lambda dose: abs(dose["difference"]))
            where = ", ".join(f"{dose['q']:g}" for dose in found)
            parts.append(
                f"{answer} at q = {where} % (at {clearest['q']:g} %: {clearest['target']:.0%} stay extractable against "
                f"{clearest['random']:.0%}, a difference of {100 * clearest['difference']:+.0f} points, "
                f"95 % interval {100 * clearest['low']:+.0f} to {100 * clearest['high']:+.0f})"
            )
    compared = "the most decisive attention against random attention of the same layers and distances"
    return f"{name} ({samples} samples), {compared}: {'; '.join(parts)}"
