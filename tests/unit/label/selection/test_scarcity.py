"""Every kind of cause for which a class has too few samples, and what the sentence says of it."""

import re

import numpy as np
import polars as pl
import pytest

from memgrid.config.schema import SelectConfig
from memgrid.errors import UserError
from memgrid.label.selection.draw import draw
from memgrid.label.selection.scarcity import Labelled
from memgrid.label.selection.select import select
from memgrid.taxonomy.taxonomy import Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

CONFIG = SelectConfig(train_per_class=30, eval_per_class=10, min_train_per_class=15, min_eval_per_class=5)
BEFORE = {"Non-Memo": "non_memorized"}
RECITE, GUESS, CODE = (Taxonomy.of(name, {**BEFORE, name.title(): name, "Others": "memorized"}) for name in ("recite", "guess", "code"))
COIN = Taxonomy.of("null_coin", {**BEFORE, "Heads": "heads", "Tails": "memorized"})
ROWS = 600
TOKENS = np.random.default_rng(0).integers(0, 2000, (ROWS, 64), dtype=np.int32)
ONE_TEXT = TOKENS.copy()
ONE_TEXT[:200, :48] = TOKENS[0, :48]  # the first 200 are near-duplicates of each other


def labels(**columns):
    """Half of the sequences memorized, with duplicates from 1 to 100, ROUGE from 0 to 1 and some code, unless something else is said."""
    rng = np.random.default_rng(1)
    usual = {
        "memorized": np.arange(ROWS) < ROWS // 2,
        "duplicates": rng.integers(1, 101, ROWS),
        "is_repeating": np.zeros(ROWS, bool),
        "is_incrementing": np.zeros(ROWS, bool),
        "rouge_l": rng.random(ROWS),
        "rouge_3": np.zeros(ROWS),
        "is_code": rng.random(ROWS) < 0.5,
        "heads": rng.random(ROWS) < 0.5,
        "rank": rng.random(ROWS),
    }
    return pl.DataFrame({**usual, **columns})


def refused(taxonomy, features, tokens=TOKENS, delta=50, rho=0.5, config=CONFIG):
    thresholds, ids = Thresholds(delta, rho, "both"), np.arange(ROWS)
    drawn = draw(ids, tokens, config, 0)
    labelled = Labelled(taxonomy, thresholds, lambda: features[drawn.rows], config)
    classes = taxonomy.classify(features, thresholds)
    with pytest.raises(UserError) as caught:
        select(drawn, ids, classes, list(taxonomy.classes), config, None, labelled.advice)
    told = str(caught.value)
    for title, index in zip(taxonomy.classes, range(9), strict=False):
        assert f"{title} {int((classes == index).sum())}" in told  # of all classes
    assert "\n" not in told
    assert ". " not in told
    return told, thresholds, labelled


FEW = np.arange(ROWS) < 12  # of the memorized
CAUSES = {
    "nothing is memorized": (RECITE, {"memorized": np.zeros(ROWS, bool)}, {}, "none of 600 sequences is memorized: take a larger model"),
    "everything is memorized": (RECITE, {"memorized": np.ones(ROWS, bool)}, {}, "of 600 sequences 600 are memorized: add text"),
    "little is memorized": (COIN, {"memorized": FEW}, {}, "take a larger corpus, for only 12 of 600 sequences are memorized"),
    "nothing is code": (CODE, {"is_code": np.zeros(ROWS, bool)}, {}, "use another taxonomy, for this corpus has too few such sequences$"),
    "little is code": (CODE, {"is_code": FEW}, {}, "lower select.min_train_per_class, or use another taxonomy"),
    "δ is too high": (RECITE, {}, {"delta": 99}, "change to delta="),
    "δ is too low": (RECITE, {}, {"delta": 0}, "change to delta="),
    "no δ helps": (RECITE, {"duplicates": np.where(FEW, 9, 1)}, {}, "too few such sequences at any delta"),
    "ρ is too high": (GUESS, {}, {"rho": 0.99}, "change to rho="),
    "ρ is too low": (GUESS, {}, {"rho": 0.01}, "change to rho="),
    "no ρ helps": (GUESS, {"rouge_l": np.zeros(ROWS)}, {}, "too few such sequences at any rho"),
    "all of one text": (
        RECITE,
        {"duplicates": np.where(np.arange(ROWS) < 200, 9, 1)},
        {"delta": 5, "tokens": ONE_TEXT},
        "near-duplicates of each",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_what_helps_is_told_by_cause(cause):
    taxonomy, columns, changes, words = CAUSES[cause]
    told, thresholds, labelled = refused(taxonomy, labels(**columns), **changes)
    assert re.search(words, told)
    for name, value, number in re.findall(r"(delta|rho)=([\d.]+), which leaves every class at least (\d+)", told):
        better = {"delta": thresholds.delta, "rho": thresholds.rho, name: float(value) if name == "rho" else int(value)}
        assert labelled.smallest(Thresholds(**better, rouge="both")) == int(number)
        assert int(number) >= CONFIG.min_train_per_class + CONFIG.min_eval_per_class


def test_the_nearest_threshold_that_leaves_all_that_is_wanted_is_named():
    told, *_ = refused(RECITE, labels(), delta=99)
    delta = int(re.search(r"delta=(\d+)", told)[1])
    assert 70 < delta < 99  # 40 of 300 have more than about 86; those of smaller δ have more still


def test_both_thresholds_are_named_where_each_would_do():
    both = Taxonomy.of("t", {**BEFORE, "Recite-or-Guess": ["recite", "guess"], "Others": "memorized"})
    told, *_ = refused(both, labels(), delta=0, rho=0.01)
    assert "a larger" not in told
    both = Taxonomy.of("t", {**BEFORE, "Recite": "recite", "Guess": "guess", "Others": "memorized"})
    told, *_ = refused(both, labels(), delta=99, rho=0.5)
    assert "delta=" in told
    assert "rho=" not in told


OWN = {**BEFORE, "Near": {"and": ["memorized", {"column": "distance", "at_most": "edits"}]}, "Others": "memorized"}


@pytest.mark.parametrize("edits", [0, 0.001, 99, 1e6])
def test_thresholds_of_its_own_are_named_by_the_setting_that_changes_them(edits):
    """With so many sequences as are told; as people can type it."""
    features = labels(distance=np.random.default_rng(2).integers(1, 90, ROWS).astype(np.int16))
    taxonomy = Taxonomy.of("own", OWN, {"edits": edits})
    told, _, labelled = refused(taxonomy, features)
    value, number = re.search(r"change to taxonomy\.thresholds\.edits=([\d.]+), which leaves every class at least (\d+)", told).groups()
    assert labelled.smallest(labelled.thresholds, taxonomy.at(edits=float(value))) == int(number) >= 40
    flat, *_ = refused(taxonomy, labels(distance=np.full(ROWS, 7, np.int16)))
    assert flat.endswith("too few such sequences at any taxonomy.thresholds.edits")


def test_a_column_that_is_compared_with_delta_is_where_its_values_are_looked_for():
    """Duplicates are none of its labels."""
    classes = {**BEFORE, "Near": {"and": ["memorized", {"column": "distance", "at_most": "delta"}]}, "Others": "memorized"}
    features = labels(distance=np.random.default_rng(2).integers(1, 90, ROWS).astype(np.int16)).drop("duplicates")
    told, _, labelled = refused(Taxonomy.of("own", classes), features, delta=0)
    delta = int(re.search(r"change to delta=(\d+)", told)[1])
    assert labelled.smallest(Thresholds(delta, 0.5, "both")) >= 40


def test_what_is_not_judged_for_code_counts_as_nothing():
    features = labels(is_code=np.ones(ROWS, bool)).with_columns(is_code=pl.when(pl.Series(FEW)).then(True).otherwise(None))
    labelled = Labelled(CODE, Thresholds(5, 0.5, "both"), lambda: features, CONFIG)
    assert labelled.smallest(labelled.thresholds) == 0
