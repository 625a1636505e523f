"""What an intervention shows: intervals over samples, tests against each control, and sentences. Reads its table; no torch here.

A class's most decisive positions are the `target`. Against **random** draws the null is that Δ orders positions which are alike in layer,
distance and attention no better than by chance: then the target is one of the draws. Its share of samples that stay extractable is
compared with theirs, each dose in units of their spread, and the farthest dose of each draw counts (max-T: Westfall & Young 1993), so that
the p of a dose holds for all doses. Against a control that is not drawn (the most **attended**, the **least** decisive, those of an
**other** class) the null is that a sample survives either mask as easily: McNemar's exact test. Holm's correction, over classes, doses
and what the control may be, makes each of the four kinds of sentence wrong in one of twenty runs at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Float
from scipy.stats import binom

from memgrid.io.display import listed, probability
from memgrid.metrics.pairs import holm
from memgrid.metrics.resampling import bootstrap, middle
from memgrid.results.records import POSITIONS, RANDOM, ClassVerdict, Comparison, Dose, of_unit

RESAMPLES, SEED = 2000, 0
LEVEL = 0.95
CHANCE = 0.05 + 1e-9  # the corrected p up to which something is said: sums of fractions miss a twentieth by a rounding
CHOICES = 100  # different draws that a dose must have to be tested
MORE, NONE, LESS, UNMATCHED = "matters more", "no difference can be seen", "matters less", "there is no control of as much attention"
MATCHED = 0.1  # a control may take so much less attention than the target, or more, as a share of the target's
AGAINST = {
    RANDOM: "random attention that is alike in layer, distance and strength",
    "attended": "the most attended",
    "least": "its least decisive",
    "other": "the most decisive of {}",
}
KINDS = tuple(kind for kind in AGAINST if kind != RANDOM)
# After so many draws a class is done if its p is above that: so far from any claim, more draws would hardly bring it there.
LOOKS = {9: 0.3, 19: 0.15, 39: 0.1}


def draws_wanted(classes: int) -> int:
    """With so many draws a target that is the farthest of all passes Holm's correction over classes; with fewer none can."""
    return round(classes / (1 - LEVEL)) - 1


def widened(low: float, high: float, samples: int, least: float) -> tuple[float, float]:
    """An interval of a bootstrap, in [least, 1]; where all resamples are alike (all samples agree), the bootstrap knows of no spread.

    Then the interval reaches as far as the rarer outcome could be common without being seen among so many samples, with 95 % confidence:
    1 - 0.05 ** (1 / samples).
    """
    if low == high:
        unseen = 1 - (1 - LEVEL) ** (1 / samples)
        low, high = max(least, low - unseen), min(1.0, high + unseen)
    return float(low), float(high)


def share_interval(kept: Bool[np.ndarray, " samples"]) -> tuple[float, float]:
    """A 95 % bootstrap interval over samples for the share that is true: what is true in a resample is binomial."""
    low, high = binom.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], len(kept), kept.mean()) / len(kept)
    return widened(low, high, len(kept), 0.0)


def difference(target: Bool[np.ndarray, " samples"], control: Bool[np.ndarray, "draws samples"]) -> tuple[float, float, float]:
    """Share under the target mask minus mean share under the control's, with a 95 % interval: (difference, low, high), in [-1, 1].

    Paired: a resample draws samples, each with its outcomes under all masks, and the control's draws.
    """
    draws, samples = control.shape
    masked = bootstrap(lambda masks: masks @ control, draws, RESAMPLES, SEED + 1)

    def gap(drawn: np.ndarray) -> np.ndarray:
        return (drawn @ target - (masked * drawn).sum(1) / draws) / samples

    values = bootstrap(gap, samples, RESAMPLES, SEED)
    low, high = middle(values, (1 - LEVEL) / 2, (1 + LEVEL) / 2)
    return float(target.mean() - control.mean()), *widened(low, high, samples, -1.0)


def chance_of_draws(shares: Float[np.ndarray, "masks doses"]) -> Float[np.ndarray, " doses"]:
    """For each dose p: the share of masks whose farthest dose is as far off as the first mask is there, itself among them.

    Exact where the first mask is one of the others, whatever it is called. Two-sided: masks under which more or less is left are far off.
    """
    spread = shares.std(0)
    off = abs(shares - shares.mean(0)) / np.where(spread > 0, spread, np.inf)
    return np.asarray((off.max(1)[:, None] >= off[0] - 1e-9).mean(0))


def chance_of_pairs(target: Bool[np.ndarray, " samples"], control: Bool[np.ndarray, " samples"]) -> float:
    """McNemar's exact p: samples that only one of two masks leaves extractable are as often those of the one as of the other."""
    mine, other = int((target & ~control).sum()), int((control & ~target).sum())
    return float(min(1.0, 2 * binom.cdf(min(mine, other), mine + other, 0.5)))


def over_classes(chances: Mapping[str, Float[np.ndarray, " doses"]]) -> dict[str, Float[np.ndarray, " doses"]]:
    """Holm's correction over classes of p's that hold for all doses of a class already."""
    reached, adjusted = 0.0, {}
    for left, name in zip(range(len(chances), 0, -1), sorted(chances, key=lambda name: chances[name].min()), strict=True):
        adjusted[name] = np.maximum(reached, np.minimum(1.0, left * chances[name]))
        reached = float(adjusted[name].min())
    return adjusted


def settled(*asked: Float[np.ndarray, "masks doses"]) -> bool:
    """Whether a class needs no more draws. Who stops here claims nothing, so that no claim becomes more probable by looking early.

    Args:
        asked: for each test, of the class's masks and then of each draw so far what is compared, at every dose that is tested.
    """
    draws = len(asked[0]) - 1
    chance = min((chance_of_draws(shares).min() for shares in asked if shares.size), default=1.0)
    return bool((draws in LOOKS and chance > LOOKS[draws]) or not any(shares.size for shares in asked))


def enough(rows: pl.DataFrame, way: str) -> bool:
    """Whether a class needs no more draws of a unit, for either test; see `settled`.

    Args:
        rows: what was measured under masks that were chosen in a way, and under each draw so far.
    """
    among = tested(rows, way)
    return settled(shares_of(among, way), *([advantage_of(among, way)] if knows_others(rows) else []))


def tested(rows: pl.DataFrame, way: str) -> pl.DataFrame:
    """The rows of doses at which enough different draws exist: of a few, the target itself would be drawn again and again."""
    doses = rows.filter((pl.col("masked") == way) & (pl.col("choices") >= CHOICES))["q"]
    return rows.filter(pl.col("q").is_in(doses.to_list()))


def shares_of(rows: pl.DataFrame, way: str = "target", column: str = "extractable") -> Float[np.ndarray, "masks doses"]:
    """The shares that stay extractable under a class's masks of one way, and then under each draw, at every dose."""
    # What is no draw has no seed, and comes first.
    shares = rows.filter(pl.col("masked").is_in([way, RANDOM])).sort("seed", "q")[column].to_numpy()
    doses = rows.filter(pl.col("masked") == way).height
    return shares.reshape(-1, doses) if doses else np.zeros((1, 0))


def advantage_of(rows: pl.DataFrame, way: str) -> Float[np.ndarray, "masks doses"]:
    """By how much more of the other classes' samples stays extractable than of its own, as `shares_of`."""
    return shares_of(rows, way, "others") - shares_of(rows, way)


def knows_others(rows: pl.DataFrame) -> bool:
    """Whether other memorized classes were read under a class's masks."""
    return "others" in rows.columns and rows["others"].count() > 0


def kept_under(rows: pl.DataFrame, q: float, masked: str) -> Bool[np.ndarray, "masks samples"]:
    """Which samples stay extractable at a dose, under each mask of a kind."""
    return np.array(rows.filter((pl.col("q") == q) & (pl.col("masked") == masked))["kept"].to_list())


def verdict(table: pl.DataFrame) -> list[ClassVerdict]:
    """What the table of an intervention shows of each class."""
    compared = of_unit(table, POSITIONS).filter(pl.col("masked").str.contains(r"^(target|random|attended|least|other:.*)$"))
    classes = {str(name): rows for (name,), rows in compared.group_by("class", maintain_order=True)}
    chances = tests(classes)
    made = []
    for name, rows in classes.items():
        doses = [dose_of(rows.filter(pl.col("q") == q), name, chances) for q in doses_of(rows)]
        samples = int(rows["samples"][0])
        made.append(ClassVerdict(name, samples, doses, sentences(name, samples, doses)))
    return made


def doses_of(rows: pl.DataFrame, way: str = "target") -> list[float]:
    """The doses of a class, the smallest first."""
    return sorted(rows.filter(pl.col("masked") == way)["q"].to_list())


def tests(classes: Mapping[str, pl.DataFrame]) -> dict[tuple[str, float, str], tuple[float, float]]:
    """p of every class, dose and control, as it is and by Holm; see this module's docstring."""
    drawn = {name: chance_of_draws(shares_of(rows)) for name, rows in classes.items()}
    found = {}
    for name, adjusted in over_classes(drawn).items():
        for q, *chance in zip(doses_of(classes[name]), drawn[name].tolist(), adjusted.tolist(), strict=True):
            found[name, q, RANDOM] = (chance[0], chance[1])
    for kind in KINDS:
        chances = {
            (name, q, control): chance_of_pairs(kept_under(rows, q, "target")[0], kept_under(rows, q, control)[0])
            for name, rows in classes.items()
            for q in doses_of(rows)
            for control in controls(rows)
            if kind_of(control) == kind
        }
        found |= dict(zip(chances, zip(chances.values(), holm(list(chances.values())), strict=True), strict=True))
    return found


def kind_of(control: str) -> str:
    """`other` for another class, whichever it is."""
    return control.partition(":")[0]


def controls(rows: pl.DataFrame) -> list[str]:
    """What a class's target is compared with, in the order in which it was measured."""
    return [masked for masked in rows["masked"].unique(maintain_order=True) if masked != "target"]


def dose_of(rows: pl.DataFrame, name: str, chances: Mapping[tuple[str, float, str], tuple[float, float]]) -> Dose:
    """One dose of a class: its target, and each control beside it."""
    target, comparisons = rows.filter(pl.col("masked") == "target"), []
    q, kept, taken = float(target["q"][0]), np.array(target["kept"][0].to_list()), float(target["removed"][0])
    for control in controls(rows):
        mine = rows.filter(pl.col("masked") == control)
        shares, chance = mine["extractable"].to_numpy(), chances[name, q, control]
        gap, low, high = difference(kept, kept_under(rows, q, control))
        removed = float(mine["removed"].to_numpy().mean())
        matched = abs(removed - taken) <= MATCHED * taken
        comparisons.append(
            Comparison(
                control=control,
                share=float(shares.mean()),
                lowest=float(shares.min()),
                highest=float(shares.max()),
                draws=mine.height,
                removed=removed,
                overlap=float(mine["overlap"].to_numpy().mean()),
                difference=gap,
                low=low,
                high=high,
                chance=chance[0],
                adjusted=chance[1],
                verdict=(NONE if chance[1] > CHANCE else MORE if gap < 0 else LESS) if matched else UNMATCHED,
            )
        )
    return Dose(q, float(target["extractable"][0]), taken, comparisons)


def sentences(name: str, samples: int, doses: Sequence[Dose]) -> list[str]:
    """A sentence against each control, and what follows from all of them."""
    by_control = {
        control: [(dose, one) for dose in doses for one in dose.comparisons if one.control == control] for control in compared_with(doses)
    }
    lines = [
        f"{name} ({samples} samples), its most decisive attention against {called(control)}: {outcome(pairs)}"
        for control, pairs in by_control.items()
    ]
    return [*lines, f"{name}: {conclusion(by_control)}"]


def compared_with(doses: Sequence[Dose]) -> list[str]:
    """The controls of some doses."""
    return list(dict.fromkeys(one.control for dose in doses for one in dose.comparisons))


def called(control: str) -> str:
    """A control's name in sentences."""
    return AGAINST[kind_of(control)].format(control.partition(":")[2])


def outcome(pairs: Sequence[tuple[Dose, Comparison]]) -> str:
    """At which doses the target matters more, less, or neither can be seen, with the numbers of the clearest dose of each."""
    parts = []
    for said in (MORE, LESS, NONE, UNMATCHED):
        given = [(dose, one) for dose, one in pairs if one.verdict == said]
        if given:
            dose, one = min(given, key=lambda pair: (pair[1].adjusted, pair[1].chance, -abs(pair[1].difference)))
            where = ", ".join(f"{dose.q:g}" for dose, _ in given)
            numbers = f"{dose.target:.0%} stay extractable against {one.share:.0%}, {probability(one.adjusted)}"
            parts.append(f"{said} at q = {where} % ({f'at {dose.q:g} %: ' if len(given) > 1 else ''}{numbers})")
    return "; ".join(parts)


def conclusion(by_control: Mapping[str, Sequence[tuple[Dose, Comparison]]]) -> str:
    """What the answers against all controls say together."""
    answers = {control: {one.verdict for _, one in pairs} for control, pairs in by_control.items()}
    better = [called(control) for control, given in answers.items() if control != RANDOM and LESS in given]
    if MORE in answers[RANDOM]:
        known = "Δ tells more of what the model needs than chance does" + (", if not at every dose" if LESS in answers[RANDOM] else "")
    elif LESS in answers[RANDOM]:
        known = "what Δ points at is needed less than what chance does"
    else:
        known = "nothing shows that Δ tells more of what the model needs than chance does"
    if not better:
        return f"{known}, and no control is seen to tell more" if MORE in answers[RANDOM] else known
    return (
        f"{known}{', but' if MORE in answers[RANDOM] else ', and'} {listed(better)} "
        f"{'matter' if len(better) > 1 else 'matters'} more at some dose"
    )
