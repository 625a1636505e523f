"""What is said of an intervention: intervals, tests and sentences, and how often they are wrong where there is nothing to say."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from memgrid.intervene.statistics import (
    LESS,
    LOOKS,
    MORE,
    NONE,
    UNMATCHED,
    chance_of_draws,
    chance_of_pairs,
    difference,
    draws_wanted,
    over_classes,
    settled,
    share_interval,
    verdict,
)
from memgrid.metrics.pairs import holm

SIMULATED = 400
DOSES = (1.0, 3.0, 10.0, 30.0)


def test_intervals_of_shares():
    kept = np.arange(100) < 30
    low, high = share_interval(kept)
    assert (low, high) == (0.21, 0.39)  # quantiles of a binomial distribution
    assert share_interval(np.ones(100, bool)) == (pytest.approx(0.05 ** (1 / 100)), 1.0)
    assert share_interval(np.zeros(3, bool)) == (0.0, pytest.approx(1 - 0.05 ** (1 / 3)))


def test_differences_are_paired():
    random = np.random.default_rng(0)
    control = random.random((1, 200)) < 0.5
    target = control[0] & (random.random(200) < 0.9)
    gap, low, high = difference(target, control)
    assert gap == pytest.approx(target.mean() - control.mean())
    assert low < gap < high < 0  # unpaired, an interval of this width would reach 0
    shuffled = difference(random.permutation(target), control)
    assert shuffled[2] > 0
    assert shuffled[2] - shuffled[1] > 1.5 * (high - low)
    assert difference(np.zeros(2, bool), np.ones((3, 2), bool))[2] > -0.3  # two samples prove little


def crowd(random, samples=40, draws=59, needed=0.0):
    """Shares of samples that survive a target and draws, (masks, doses): samples fall at doses of their own, masks differ by luck.

    Args:
        needed: how much earlier samples fall under the target, in the logarithm of the dose; masks differ by 0.36, samples by 0.93.
    """
    strength = random.normal(1.0, 1.0, samples)
    luck = random.normal(0, 0.2, (1 + draws, 1)) + random.normal(0, 0.3, (1 + draws, len(DOSES)))
    luck[0] -= needed
    own = random.normal(0, 0.5, (1 + draws, len(DOSES), samples))  # what a mask does to each sample
    return (strength + own + luck[..., None] - 1.2 * np.log10(DOSES)[:, None] > 0).mean(-1)


def with_looks(shares):
    """The masks that an experiment would have read: draws end at the look that settles a class."""
    return next((shares[: 1 + draws] for draws in LOOKS if draws < len(shares) - 1 and settled(shares[: 1 + draws])), shares)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_a_target_that_is_a_draw_is_seldom_said_to_differ(classes):
    """Over all doses and classes in one of twenty at most, whatever the looks end."""
    random, wrong, read = np.random.default_rng(classes), [], []
    for _ in range(SIMULATED):
        shares = {name: with_looks(crowd(random, draws=20 * classes - 1)) for name in range(classes)}
        adjusted = over_classes({name: chance_of_draws(mine) for name, mine in shares.items()})
        wrong.append(min(p.min() for p in adjusted.values()) <= 0.05)
        read.append(np.mean([len(mine) for mine in shares.values()]))
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATED)
    assert np.mean(read) < (25 if classes > 1 else 16)  # most need no more than one or two looks


def test_a_target_that_is_needed_more_is_found():
    """Beside a class of which nothing is so: 99 % where it is worse by five times that by which masks differ, 65 % by three times.

    The looks lose nothing of that.
    """
    random, found, without = np.random.default_rng(0), [], []
    for _ in range(SIMULATED // 2):
        shares = {"needed": crowd(random, needed=1.9), "not": crowd(random)}
        for looked, seen in ((shares, without), ({name: with_looks(mine) for name, mine in shares.items()}, found)):
            seen.append(over_classes({name: chance_of_draws(mine) for name, mine in looked.items()})["needed"].min() <= 0.05)
    assert np.mean(found) >= 0.95
    assert np.mean(found) >= np.mean(without) - 0.01


@pytest.mark.parametrize("classes", [1, 2, 3, 4])
def test_as_many_draws_are_made_as_can_show_a_difference(classes):
    """The target is the farthest of all in one class, and one of the crowd in the others."""

    def least(draws):
        far = np.append(9.0, np.linspace(0, 1, draws))[:, None]
        shares = {name: np.roll(far, len(far) // 2 if name else 0, axis=0) for name in range(classes)}
        return over_classes({name: chance_of_draws(mine) for name, mine in shares.items()})[0].min()

    assert least(draws_wanted(classes)) == pytest.approx(0.05)
    assert least(draws_wanted(classes) - 1) > 0.05


@pytest.mark.parametrize("controls", [1, 3])
def test_masks_that_samples_survive_alike_are_seldom_said_to_differ(controls):
    """Two classes at four doses against one control or several of a kind, some of which hardly any sample survives."""
    random, wrong = np.random.default_rng(controls), []
    for _ in range(SIMULATED):
        chances = []
        for share in (0.9, 0.7, 0.3, 0.05) * 2:
            target, *others = random.random((1 + controls, 60)) < share
            chances += [chance_of_pairs(target, other) for other in others]
        wrong.append(min(holm(chances)) <= 0.05)
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATED)


def test_the_chance_of_draws_by_hand():
    """The farthest dose of each mask counts, in units of the doses' spread."""
    shares = np.array([[0.1, 0.5], [0.5, 0.5], [0.5, 0.9], [0.5, 0.5], [0.9, 0.1]])
    # The first dose lies .4 from .5 under two masks, the second one under two.
    np.testing.assert_allclose(chance_of_draws(shares), [3 / 5, 1])
    np.testing.assert_allclose(chance_of_draws(shares[:, :1]), [2 / 5])
    np.testing.assert_allclose(chance_of_draws(np.full((9, 2), 0.3)), 1)  # nothing differs


@given(st.integers(3, 30), st.integers(1, 4), st.integers(0, 10**6))
def test_no_mask_is_special_but_for_its_share(masks, doses, seed):
    """Each of the masks as the first one: as many p's of any dose below a share as that share allows."""
    shares = np.random.default_rng(seed).normal(size=(masks, doses))
    least = np.sort([chance_of_draws(np.roll(shares, -first, axis=0)).min() for first in range(masks)])
    np.testing.assert_allclose(least, np.arange(1, masks + 1) / masks)


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_the_chance_of_pairs_is_mcnemars(samples, seed):
    random = np.random.default_rng(seed)
    first, second = random.random((2, samples)) < [[0.3], [0.6]]
    differ = (first != second).sum()
    expected = binomtest(int((first & ~second).sum()), int(differ)).pvalue if differ else 1.0
    assert chance_of_pairs(first, second) == pytest.approx(expected)


def test_classes_are_corrected_by_holm():
    made = over_classes({"a": np.array([0.01, 0.5]), "b": np.array([0.04, 0.02]), "c": np.array([0.02, 1.0])})
    np.testing.assert_allclose(made["a"], [0.03, 1.0])
    np.testing.assert_allclose(made["b"], [0.08, 0.04])
    np.testing.assert_allclose(made["c"], [0.04, 1.0])
    np.testing.assert_allclose(over_classes({"a": np.array([0.04]), "b": np.array([0.03])})["a"], 0.06)  # never below the one before


def two(target, control, removed=0.1, masked="attended"):
    """A table of one dose: a share of 100 samples under the target and under one control."""

    def row(kind, share, taken, seed=None):
        kept = np.arange(100) < 100 * share
        shares = {"samples": 100, "extractable": share, "overlap": 0.0, "removed": taken}
        return {"class": "Recall: $", "q": 1.0, "masked": kind, "seed": seed, **shares, "kept": kept.tolist()}

    draws = [row("random", 0.5, 0.1, seed) for seed in range(3)]
    return verdict(pl.DataFrame([row("target", target, 0.1), row(masked, control, removed), *draws]))[0]


@pytest.mark.parametrize(("target", "word"), [(0.2, MORE), (0.5, NONE), (0.9, LESS)])
def test_verdicts(target, word):
    found = two(target, 0.5)
    one, drawn = found.doses[0].comparisons
    assert (one.control, one.verdict, one.difference) == ("attended", word, pytest.approx(target - 0.5))
    assert f"its most decisive attention against the most attended: {word} at q = 1 % ({target:.0%} stay extractable" in found.sentences[0]
    assert (drawn.lowest, drawn.share, drawn.highest, drawn.draws) == (0.5, 0.5, 0.5, 3)
    assert drawn.verdict == NONE  # of three draws nothing can be seen
    assert found.title == "Recall: $"


@pytest.mark.parametrize("removed", [0.05, 0.12])
def test_a_control_of_other_attention_is_none(removed):
    found = two(0.2, 0.9, removed)
    assert found.doses[0].comparisons[0].verdict == UNMATCHED
    assert "there is no control of as much attention at q = 1 %" in found.sentences[0]
    assert two(0.2, 0.9, 0.109).doses[0].comparisons[0].verdict == MORE


@pytest.mark.parametrize(
    ("masked", "name"), [("attended", "the most attended"), ("least", "its least decisive"), ("other:B: x", "the most decisive of B: x")]
)
def test_what_matters_more_than_the_target_is_named(masked, name):
    found = two(0.9, 0.2, masked=masked)
    assert found.sentences[0].startswith(f"Recall: $ (100 samples), its most decisive attention against {name}: matters less")
    assert found.sentences[-1] == (
        f"Recall: $: nothing shows that Δ tells more of what the model needs than chance does, and {name} matters more at some dose"
    )


def drawn(target, shares, control="attended"):
    """A table of two doses of which the first one has nothing to see."""

    def row(kind, q, share, seed=None):
        kept = np.arange(100) < 100 * share
        return {
            "class": "A",
            "q": q,
            "masked": kind,
            "seed": seed,
            "samples": 100,
            "extractable": share,
            "overlap": 0.0,
            "removed": 0.1,
            "kept": kept.tolist(),
        }

    rows = [row("target", 1.0, 0.9), row("target", 3.0, target), row(control, 1.0, 0.9), row(control, 3.0, target)]
    rows += [row("random", q, share, seed) for seed, other in enumerate(shares) for q, share in ((3.0, other), (1.0, 0.9))]
    return verdict(pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=0))[0]  # in any order


@pytest.mark.parametrize(
    ("target", "word", "conclusion"),
    [
        (0.1, MORE, "Δ tells more of what the model needs than chance does, and no control is seen to tell more"),
        (0.9, LESS, "what Δ points at is needed less than what chance does"),
        (0.5, NONE, "nothing shows that Δ tells more of what the model needs than chance does"),
    ],
)
def test_the_target_among_its_draws(target, word, conclusion):
    found = drawn(target, np.linspace(0.4, 0.6, 41))
    one, other = ({one.control: one for one in dose.comparisons}["random"] for dose in found.doses)
    assert (one.verdict, other.verdict) == (NONE, word)
    assert (one.chance, one.adjusted, one.draws) == (1, 1, 41)
    assert (other.lowest, other.share, other.highest) == (pytest.approx(0.4), pytest.approx(0.5), pytest.approx(0.6))
    assert other.chance == (1 if word == NONE else 1 / 42)
    assert found.sentences[-1] == f"A: {conclusion}"


def several(shares):
    """A table of classes, each with the shares of its target and draws at every dose, (masks, doses), and a control that equals it."""
    rows = []
    for name, mine in shares.items():
        for q, at_dose in zip(DOSES, np.transpose(mine), strict=False):
            for seed, share in enumerate((*at_dose, at_dose[0]), -1):
                masked = "target" if seed < 0 else "random" if seed + 1 < len(at_dose) else "attended"
                row = {"class": name, "q": q, "masked": masked, "seed": seed if masked == "random" else None, "samples": 200}
                kept = (np.arange(200) < 200 * share).tolist()
                rows.append({**row, "extractable": share, "overlap": 0.25, "removed": 0.1, "kept": kept})
    return pl.DataFrame(rows)


def test_two_classes_with_as_many_draws_as_can_show_something():
    """The first is the farthest of all at both doses, the second one of the crowd; classes stay in their order."""
    crowd_ = np.linspace(0.4, 0.6, 39)
    first = np.stack([np.append(0.1, crowd_), np.append(0.3, crowd_[::-1])], 1)
    second = np.stack([np.append(0.5, crowd_)] * 2, 1)
    found = verdict(several({"second": second, "first": first}))
    assert [one.title for one in found] == ["second", "first"]
    said = {one.title: [{c.control: c for c in dose.comparisons}["random"] for dose in one.doses] for one in found}
    assert [(c.chance, c.adjusted, c.verdict) for c in said["first"]] == [(1 / 40, 2 / 40, MORE)] * 2
    assert {c.verdict for c in said["second"]} == {NONE}
    assert {c.overlap for c in said["first"]} == {0.25}
    # Of two doses with one p the one with the larger difference is told.
    line = next(line for line in found[1].sentences if "random" in line)
    assert "matters more at q = 1, 3 % (at 1 %: 10% stay extractable against 50%, p = 0.05)" in line


def test_the_clearest_dose_is_told():
    shares = np.linspace(0.4, 0.6, 41)
    mine = np.stack([np.append(0.42, shares), np.append(0.1, shares), np.append(0.5, shares)], 1)
    line = next(line for line in verdict(several({"A": mine}))[0].sentences if "random" in line)
    more, none = line.split(": ", 1)[1].split("; ")
    assert more == "matters more at q = 3 % (10% stay extractable against 50%, p = 0.024)"
    # Five draws on either side are as far off as 0.42, and the target at its own farthest dose.
    assert none == f"no difference can be seen at q = 1, 10 % (at 1 %: 42% stay extractable against 50%, p = {11 / 42:.2g})"


def test_nothing_is_settled_between_looks():
    flat = np.full((60, 2), 0.5)
    assert [draws for draws in range(60) if settled(flat[: 1 + draws])] == list(LOOKS) == [9, 19, 39]
    far = np.random.default_rng(0).normal(0.5, 0.01, (60, 2))
    far[0] = 0.0
    assert not any(settled(far[: 1 + draws]) for draws in range(1, 60))
