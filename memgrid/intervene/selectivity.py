"""Which part of the attention removes a class's text at the least damage, and whether it is the class's own. No torch here.

**At equal damage.** Ways to choose units (positions by Δ, heads by attribution, layers by ablation and so on) cannot be compared dose by
dose: one head is not one layer. So each is a curve, the share of a class's samples that stays extractable over the damage to held-out text,
from nothing switched off to everything, and what counts is the mean share up to the damage that makes ordinary text twice as perplexing
(ln 2 nats per token): its *area*. Where more damage leaves more text, the smaller one could have been paid: the least share so far counts.
Areas are compared in pairs, on the same resamples of samples and of held-out text; Holm's correction over all pairs of all classes makes
such a sentence wrong in one of twenty runs at most.

**Specific to the class.** The null is that the choice of units knows nothing of the class: then its masks spare other classes' text over
the class's own by no more than random draws that are alike do. The farthest dose of each draw counts, as in
`memgrid.intervene.statistics`, with Holm's correction over classes. Whether masks matter more than such draws at all is tested likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.stats import norm

from memgrid.intervene.statistics import (
    CHANCE,
    LEVEL,
    RESAMPLES,
    SEED,
    advantage_of,
    chance_of_draws,
    doses_of,
    knows_others,
    over_classes,
    shares_of,
    tested,
)
from memgrid.io.display import listed, probability
from memgrid.metrics.pairs import holm
from memgrid.results.records import HEADS, LIMIT, NAMES, RANDOM, WAYS, Selectivity, UnitDose, UnitTest, WayArea, of_unit


def selectivities(table: pl.DataFrame, units: pl.DataFrame | None = None) -> list[Selectivity]:
    """What the table of an intervention shows of each class, ways ranked; empty for a table of earlier versions.

    Args:
        units: what was found of every head and layer, see `memgrid.intervene.trials.UNITS`.
    """
    classes = [(str(name), rows) for (name,), rows in table.group_by("class", maintain_order=True)] if "damages" in table.columns else []
    curves = {name: curves_of(rows) for name, rows in classes if rows["damages"].count()}
    chances = pair_chances(curves)
    tests = unit_tests(dict(classes))
    made = []
    for name, rows in classes:
        ways = sorted((way_area(key, resampled) for key, resampled in curves.get(name, {}).items()), key=lambda way: way.area)
        lines = [*ranking_sentences(name, ways, chances), *(test_sentence(name, test) for test in tests[name])]
        lines += [] if units is None else agreement_sentences(name, units.filter(pl.col("class") == name))
        made.append(Selectivity(name, int(rows["samples"][0]), ways, tests[name], lines))
    return made


Key = tuple[str, str]  # unit and way


def curves_of(rows: pl.DataFrame) -> dict[Key, Float[np.ndarray, " 1+resamples"]]:
    """The area of every way of one class: as measured, and in resamples of samples and of held-out text, which all ways share."""
    samples, held_out = (len(rows.filter(pl.col(column).is_not_null())[column][0]) for column in ("kept", "damages"))
    random = np.random.default_rng(SEED)
    drawn = weights(random, samples)
    paid = weights(random, held_out)
    found: dict[Key, np.ndarray] = {}
    for unit in WAYS:
        mine = of_unit(rows, unit)
        end = mine.filter(pl.col("masked") == "all")
        for way in (*WAYS[unit], RANDOM):
            draws = mine.filter((pl.col("masked") == way) & pl.col("damages").is_not_null())
            by_seed = [areas(part, end, drawn, paid) for _, part in draws.sort("q").group_by("seed", maintain_order=True)]
            if by_seed:
                found[unit, way] = np.mean(by_seed, axis=0)
    return found


def weights(random: np.random.Generator, size: int) -> Float[np.ndarray, "1+resamples size"]:
    """How much every sample counts: first all alike, then as often as a resample draws it."""
    resampled = random.multinomial(size, np.full(size, 1 / size), RESAMPLES)
    return np.concatenate([np.ones((1, size)), resampled]) / size


def areas(doses: pl.DataFrame, end: pl.DataFrame, drawn: np.ndarray, paid: np.ndarray) -> Float[np.ndarray, " 1+resamples"]:
    """The mean share that stays extractable, over damages up to the limit; the curve begins where nothing is switched off.

    Args:
        doses: a row for each. end: the row in which everything is switched off.
    """
    points = pl.concat([doses, end])
    share = np.clip(drawn @ np.array(points["kept"].to_list(), float).T, 0, 1)
    damage = np.clip(paid @ np.array(points["damages"].to_list(), float).T, 0, None)
    return area_below(np.insert(damage, 0, 0, axis=1), np.insert(share, 0, 1, axis=1))


def area_below(damage: Float[np.ndarray, "curves points"], share: Float[np.ndarray, "curves points"]) -> Float[np.ndarray, " curves"]:
    """The mean height of curves from no damage to the limit; beyond its last point a curve stays where it is.

    Points are taken in the order of their damage, the least share so far counts, and between two points lies a straight line.
    """
    order = np.lexsort((share, damage), axis=1)
    x = np.take_along_axis(damage, order, 1)
    y = np.minimum.accumulate(np.take_along_axis(share, order, 1), 1)
    x, y = np.append(x, np.full((len(x), 1), np.inf), 1), np.append(y, y[:, -1:], 1)
    start, end = np.minimum(x[:, :-1], LIMIT), np.minimum(x[:, 1:], LIMIT)
    width = x[:, 1:] - x[:, :-1]
    part = np.where(width > 0, ((start + end) / 2 - x[:, :-1]) / np.where(width > 0, width, 1), 0).clip(0, 1)
    middle = y[:, :-1] + part * (y[:, 1:] - y[:, :-1])
    return np.asarray((np.where(end > start, middle * (end - start), 0)).sum(1) / LIMIT)


def way_area(key: Key, resampled: Float[np.ndarray, " 1+resamples"]) -> WayArea:
    """An area with its 95 % interval."""
    low, high = np.quantile(resampled[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return WayArea(key[0], key[1], NAMES[key], float(resampled[0]), float(low), float(high))


def pair_chances(curves: dict[str, dict[Key, np.ndarray]]) -> dict[tuple[str, str, str], float]:
    """p by Holm that two ways of a class have one area, for each pair by their names; draws are compared in tests of their own."""
    chances = {}
    for name, by_way in curves.items():
        for one, other in combinations((way for way in by_way if way[1] != RANDOM), 2):
            gap = by_way[one] - by_way[other]
            spread = float(gap[1:].std())
            # Without any spread all resamples are alike, and the bootstrap knows of none.
            chances[name, NAMES[one], NAMES[other]] = float(2 * norm.sf(abs(gap[0]) / spread)) if spread > 0 else 1.0
    return dict(zip(chances, holm(list(chances.values())), strict=True))


def unit_tests(classes: dict[str, pl.DataFrame]) -> dict[str, list[UnitTest]]:
    """For each class the tests of every unit against its draws, at the doses that can be tested; Holm over the classes."""
    made: dict[str, list[UnitTest]] = {name: [] for name in classes}
    for unit, (way, *_) in WAYS.items():
        rows = {name: tested(of_unit(all_rows, unit), way) for name, all_rows in classes.items()}
        drawn = {name: mine for name, mine in rows.items() if (mine["masked"] == RANDOM).any()}
        matters = over_classes({name: chance_of_draws(shares_of(mine, way)) for name, mine in drawn.items()})
        asked = {name: mine for name, mine in drawn.items() if knows_others(mine)}
        specific = over_classes({name: chance_of_draws(advantage_of(mine, way)) for name, mine in asked.items()})
        for name, mine in drawn.items():
            made[name].append(unit_test(mine, unit, way, matters[name], specific.get(name)))
    return made


def unit_test(rows: pl.DataFrame, unit: str, way: str, matters: np.ndarray, specific: np.ndarray | None) -> UnitTest:
    """One class's doses of a unit beside its draws."""
    shares = shares_of(rows, way)
    others = None if specific is None else shares_of(rows, way, "others")
    first = rows.filter(pl.col("masked") == way).sort("q")
    doses = [
        UnitDose(
            q=q,
            units=int(first["units"][number]),
            own=float(shares[0, number]),
            others=None if others is None else float(others[0, number]),
            damage=first["damage"][number],
            random_own=float(shares[1:, number].mean()),
            random_others=None if others is None else float(others[1:, number].mean()),
            matters=float(matters[number]),
            specific=None if specific is None else float(specific[number]),
        )
        for number, q in enumerate(doses_of(rows, way))
    ]
    return UnitTest(unit, NAMES[unit, way], len(shares) - 1, doses)


def ranking_sentences(name: str, ways: Sequence[WayArea], chances: dict[tuple[str, str, str], float]) -> list[str]:
    """Which way leaves least at equal damage, and from which it cannot be told apart; nothing of a single way."""
    ways = [way for way in ways if way.way != RANDOM]
    if len(ways) < 2:
        return []
    first, *rest = ways
    apart = {way.name: chances.get((name, first.name, way.name), chances.get((name, way.name, first.name), 1.0)) for way in rest}
    told = [f"{way.name} ({way.area:.0%}, {probability(apart[way.name])})" for way in rest if apart[way.name] <= CHANCE]
    alike = [f"{way.name} ({way.area:.0%})" for way in rest if apart[way.name] > CHANCE]
    area = f"{first.area:.0%}, {first.low:.0%} to {first.high:.0%}"
    parts = [f"{name}: at equal damage {first.name} leave least ({area} on average up to twice the perplexity)"]
    parts += [f"less than {listed(told)}"] if told else []
    parts += [f"not told apart from {listed(alike)}"] if alike else []
    return [", ".join(parts)]


def agreement_sentences(name: str, units: pl.DataFrame) -> list[str]:
    """How far the other ways agree with switching each head off alone."""
    heads = units.filter(pl.col("unit") == HEADS)
    if heads.height < 3:
        return []
    ways = ("attribution", "delta")
    agreements = heads.select(pl.corr("ablation", way, method="spearman").fill_nan(0).alias(way) for way in ways)
    by_gradient, by_delta = agreements.row(0)
    return [
        f"{name}: what {heads.height} heads cost when each is switched off alone agrees with attribution by a rank correlation of "
        f"{by_gradient:.2f}, and with Δ by {by_delta:.2f}"
    ]


def test_sentence(name: str, test: UnitTest) -> str:
    """Whether a unit's masks matter more than chance does, and whether they are the class's own."""
    found = [dose for dose in test.doses if dose.matters <= CHANCE]
    line = f"{name}, {test.name} against random ones that are alike: "
    clear = min(test.doses, key=lambda dose: dose.matters)
    line += "nothing is seen" if not found else "more is lost" if clear.own < clear.random_own else "less is lost"
    line += f" ({clear.own:.0%} stay extractable against {clear.random_own:.0%} at q = {clear.q:.3g} %, {probability(clear.matters)})"
    if clear.specific is None:
        return line
    best = min(test.doses, key=lambda dose: dose.specific or 0.0)
    shares = (best.own, best.others or 0.0, best.random_own, best.random_others or 0.0)
    more = shares[1] - shares[0] > shares[3] - shares[2]
    chance = best.specific or 0.0
    said = "cannot be seen to be specific to the class" if chance > CHANCE else f"are {'' if more else 'the less '}specific to the class"
    numbers = "{:.0%} of it and {:.0%} of the others stay, under random ones {:.0%} and {:.0%}".format(*shares)
    return f"{line}; they {said} ({numbers} at q = {best.q:.3g} %, {probability(chance)})"
