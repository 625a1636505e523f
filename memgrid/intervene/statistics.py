"""What an intervention shows: intervals over samples, and a sentence per class. Reads its table; no torch here."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool

from memgrid.metrics.resampling import bootstrap, middle

RESAMPLES, SEED = 2000, 0
LEVEL = 0.95
MORE, NONE, LESS = "matters more than its matched control", "no difference can be seen", "matters less than its matched control"
# What a control is called, and what a difference from it means: the target matters more, less, or neither.
AGAINST = {"random": "random attention of the same layers and distances", "attended": "the most attended of the same layers"}
WORDS = {
    "random": (MORE, LESS, NONE),
    "attended": ("matters more than what is most attended", "matters less than what is most attended", NONE),
}


def interval(values: np.ndarray, samples: int, least: float) -> tuple[float, float]:
    """The middle 95 % of bootstrap values that lie in [least, 1].

    Where no resample differs (all samples agree), the bootstrap knows of no spread; then the interval reaches as far as the rarer outcome
    could be common without being seen among so many samples, with 95 % confidence: 1 - 0.05 ** (1 / samples).
    """
    low, high = middle(values, (1 - LEVEL) / 2, (1 + LEVEL) / 2)
    if values.min() == values.max():
        unseen = 1 - (1 - LEVEL) ** (1 / samples)
        low, high = max(least, low - unseen), min(1.0, high + unseen)
    return float(low), float(high)


def share_interval(kept: Bool[np.ndarray, " samples"]) -> tuple[float, float]:
    """A 95 % bootstrap interval over samples for the share that is true."""
    samples = len(kept)
    return interval(bootstrap(lambda drawn: drawn @ kept / samples, samples, RESAMPLES, SEED), samples, 0.0)


def difference(target: Bool[np.ndarray, " samples"], control: Bool[np.ndarray, "seeds samples"]) -> tuple[float, float, float]:
    """Share under the target mask minus mean share under the control's, with a 95 % interval: (difference, low, high), in [-1, 1].

    Paired: a resample draws samples, each with its outcomes under all masks, and the control's seeds.
    """
    seeds, samples = control.shape
    masked = bootstrap(lambda masks: masks @ control, seeds, RESAMPLES, SEED + 1)

    def gap(drawn: np.ndarray) -> np.ndarray:
        return (drawn @ target - (masked * drawn).sum(1) / seeds) / samples

    values = bootstrap(gap, samples, RESAMPLES, SEED)
    return float(target.mean() - control.mean()), *interval(values, samples, -1.0)


def verdict(table: pl.DataFrame) -> list[dict[str, Any]]:
    """One record per class of an intervention's table: `class`, `samples`, `doses`, a `sentence` and an `attended_sentence`.

    A dose: `q`; the shares `target` and `random` (mean over seeds, with `random_low` and `random_high`, the seeds' extremes); `difference`
    with `low` and `high` (see `difference`); `overlap` of the random masks with the target; `verdict`, by whether the interval excludes 0.
    The same against what is most attended, all with `attended_` before their names; these, and the second sentence, are None in a table
    without such masks.
    """
    records = []
    for (name,), rows in table.group_by("class", maintain_order=True):
        doses = [dose_of(q, rows.filter(pl.col("q") == q)) for q in rows.filter(pl.col("masked") == "target")["q"].unique().sort()]
        samples = int(rows["samples"][0])
        sentences = {"sentence": sentence(str(name), samples, doses), "attended_sentence": None}
        if all(dose["attended"] is not None for dose in doses):
            sentences["attended_sentence"] = sentence(str(name), samples, doses, "attended")
        records.append({"class": name, "samples": samples, "doses": doses, **sentences})
    return records


def dose_of(q: float, rows: pl.DataFrame) -> dict[str, Any]:
    """The comparison of the target with its controls at one q."""
    target, random = (rows.filter(pl.col("masked") == masked) for masked in ("target", "random"))
    shares = random["extractable"].to_numpy()
    return {
        "q": q,
        "target": float(target["extractable"][0]),
        "random": float(shares.mean()),
        "random_low": float(shares.min()),
        "random_high": float(shares.max()),
        **compared(target, random, "random"),
        **against_attended(target, rows.filter(pl.col("masked") == "attended")),
    }


def compared(target: pl.DataFrame, control: pl.DataFrame, kind: str) -> dict[str, Any]:
    """The difference between a target and the rows of one control, and what it means."""
    gap, low, high = difference(np.array(target["kept"][0].to_list()), np.array(control["kept"].to_list()))
    more, less, none = WORDS[kind]
    overlap = float(control["overlap"].to_numpy().mean())
    return {"difference": gap, "low": low, "high": high, "overlap": overlap, "verdict": more if high < 0 else less if low > 0 else none}


def against_attended(target: pl.DataFrame, attended: pl.DataFrame) -> dict[str, Any]:
    """The same against what is most attended; None for each number where that was not masked."""
    comparison: dict[str, Any] = dict.fromkeys(("difference", "low", "high", "overlap", "verdict"))
    if attended.height:
        comparison = compared(target, attended, "attended")
    share = float(attended["extractable"][0]) if attended.height else None
    return {"attended": share, **{f"attended_{key}": value for key, value in comparison.items()}}


def sentence(name: str, samples: int, doses: list[dict[str, Any]], kind: str = "random") -> str:
    """What the doses of a class show against one control, with the numbers of the clearest one for every kind of answer."""
    before = "" if kind == "random" else f"{kind}_"
    parts, answers = [], []
    for answer in WORDS[kind]:
        with_answer = [dose for dose in doses if dose[f"{before}verdict"] == answer]
        if with_answer:
            answers.append(answer)
            clearest = max(with_answer, key=lambda dose: abs(dose[f"{before}difference"]))
            gap, low, high = (100 * clearest[f"{before}{key}"] for key in ("difference", "low", "high"))
            where = ", ".join(f"{dose['q']:g}" for dose in with_answer)
            parts.append(
                f"{answer} at q = {where} % (at {clearest['q']:g} %: {clearest['target']:.0%} stay extractable against "
                f"{clearest[kind]:.0%}, a difference of {gap:+.0f} points, 95 % interval {low:+.0f} to {high:+.0f})"
            )
    shown = f"{name} ({samples} samples), the most decisive attention against {AGAINST[kind]}: {'; '.join(parts)}"
    return shown if kind == "random" else f"{shown}, so {conclusion(answers)}"


def conclusion(answers: list[str]) -> str:
    """Whether Δ knows more than where the model looks."""
    more, less, _ = WORDS["attended"]
    if more in answers and less in answers:
        return "whether Δ knows more than where the model looks depends on the dose"
    if more in answers:
        return "Δ knows more than where the model looks"
    return "where the model looks tells more than Δ" if less in answers else "nothing shows that Δ knows more than where the model looks"
