"""Rules on any column, joined by and, or and not: against a second evaluation in Python; what is refused; the shipped taxonomies."""

import math
import re

import numpy as np
import polars as pl
import pytest
import settings_maker
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.config.derive import taxonomy
from memgrid.taxonomy.cases import representatives
from memgrid.taxonomy.columns import GROUP_OF, GROUPS, OWN, RANGES, TRUTHS, group_of
from memgrid.taxonomy.rules import SIGNS, Comparison, rule_of
from memgrid.taxonomy.taxonomy import NO_CLASS, Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

AT = Thresholds(delta=5, rho=0.5, rouge="both")
COMPARED = {"above": lambda a, b: a > b, "at_least": lambda a, b: a >= b, "below": lambda a, b: a < b, "at_most": lambda a, b: a <= b}
OWN_THRESHOLDS = {"p": 0.25, "edits": 3}
NUMBERS = st.sampled_from([0, 0.25, 0.5, 1, 3])
COLUMNS = ("p_extract", "near", "mine")
NAMED = {
    "memorized": lambda row: row["memorized"],
    "non_memorized": lambda row: not row["memorized"],
    "recite": lambda row: row["memorized"] and row["duplicates"] > 5,
    "reconstruct": lambda row: row["memorized"] and (row["is_repeating"] or row["is_incrementing"]),
}
ATOMS = st.one_of(
    st.sampled_from(sorted(NAMED)),
    st.builds(
        lambda column, sign, value: {"column": column, sign: value}, st.sampled_from(COLUMNS), st.sampled_from(sorted(SIGNS)), NUMBERS
    ),
    st.builds(
        lambda column, sign, name: {"column": column, sign: name},
        st.sampled_from(COLUMNS),
        st.sampled_from(sorted(COMPARED)),
        st.sampled_from(["p", "edits", "rho"]),
    ),
    st.builds(lambda value: {"column": "word", "is": value}, st.sampled_from(["a", "b"])),
    st.builds(lambda value: {"column": "flag", "is": value}, st.booleans()),
)
TREES = st.recursive(
    ATOMS,
    lambda parts: st.one_of(
        st.builds(lambda rules: {"and": rules}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda rules: {"or": rules}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda rule: {"not": rule}, parts),
        st.lists(parts, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


def holds(rule, row):
    """The same in Python."""
    if isinstance(rule, str):
        return NAMED[rule](row)
    if isinstance(rule, list):
        return any(holds(part, row) for part in rule)
    if "column" in rule:
        sign = next(key for key in rule if key != "column")
        value = {**OWN_THRESHOLDS, "rho": AT.rho}.get(rule[sign], rule[sign]) if sign != "is" else rule[sign]
        return row[rule["column"]] == value if sign == "is" else COMPARED[sign](row[rule["column"]], value)
    joint, parts = next(iter(rule.items()))
    return not holds(parts, row) if joint == "not" else (all if joint == "and" else any)(holds(part, row) for part in parts)


@pytest.fixture(scope="module")
def rows():
    """Random sequences, on, below and above every value; near is 0 just where one is memorized."""
    rng = np.random.default_rng(0)
    made = {
        "memorized": rng.random(400) < 0.5,
        "is_repeating": rng.random(400) < 0.3,
        "is_incrementing": rng.random(400) < 0.3,
        "is_code": rng.random(400) < 0.3,
        "duplicates": rng.integers(3, 8, 400),
        "rouge_l": rng.random(400),
        "rouge_3": rng.random(400),
        "p_extract": rng.choice([0, 0.2, 0.25, 0.3, 0.5, 0.7, 1], 400),
        "near": rng.choice([1.0, 2, 3, 4], 400),
        "mine": rng.choice([-1, 0, 0.1, 0.25, 0.5, 1, 2, 3, 4], 400),
        "word": rng.choice(["a", "b", "c"], 400),
        "flag": rng.random(400) < 0.5,
    }
    made["near"][made["memorized"]] = 0
    return pl.DataFrame(made)


@settings(max_examples=150, deadline=None)
@given(first=TREES, second=TREES)
def test_any_rules_give_the_class_that_python_gives(first, second, rows):
    """And the cases know of every class that occurs."""
    made = Taxonomy("any", {"A": (first,), "B": (second,), "C": ("memorized",)}, OWN_THRESHOLDS)
    found = made.classify(rows, AT)
    rules = [first, second, "memorized"]
    for row, place in zip(rows.rows(named=True), found, strict=True):
        assert place == next((index for index, rule in enumerate(rules) if holds(rule, row)), NO_CLASS)
    assert set(found.tolist()) <= set(made.truth.tolist())


@settings(max_examples=150, deadline=None)
@given(first=TREES, second=TREES)
def test_equal_partitions_divide_alike(first, second, rows):
    """Whoever has the same key divides any sequences in the same way, whatever the classes are called."""
    one, other = (Taxonomy("any", {"A": (first,), "B": (given,), "C": ("memorized",)}, OWN_THRESHOLDS) for given in (second, [second]))
    turned = Taxonomy("any", {"B": ({"and": [{"not": first}, second]},), "A": (first,), "C": ("memorized",)}, OWN_THRESHOLDS)
    assert one.partition(AT).key == other.partition(AT).key
    if one.partition(AT).key == turned.partition(AT).key:
        pairs = set(zip(one.classify(rows, AT).tolist(), turned.classify(rows, AT).tolist(), strict=True))
        assert len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})


def test_the_key_knows_thresholds():
    def key(value, **more):
        classes = {"A": {"column": "p_extract", "above": value}, "B": "memorized"}
        return Taxonomy.of("any", classes, more.get("own")).partition(more.get("at", AT)).key

    assert key(0.1) != key(0.2)
    assert key("p", own={"p": 0.1}) == key(0.1)
    assert key(0) == key(0.0) == key("p", own={"p": 0})
    assert key("rho", at=Thresholds(5, 0.5, "l")) == key("rho", at=Thresholds(7, 0.5, "3"))
    assert key("rho") != key("rho", at=Thresholds(5, 0.6, "both"))


@pytest.mark.parametrize(
    ("classes", "thresholds", "words"),
    [
        (
            {"A": {"column": "p_extract", "above": 1}, "B": "memorized"},
            {},
            "'A' of taxonomy 't' can never match: nothing is p_extract above 1",
        ),
        ({"A": "memorized", "B": {"column": "near", "at_most": 0}}, {}, "'B' of taxonomy 't' can never match: 'A' comes before it"),
        ({"A": {"column": "x", "above": 1}, "B": {"column": "x", "above": 2}}, {}, "'B' of taxonomy 't' can never match: 'A' comes"),
        ({"A": {"column": "x", "is": True}, "B": {"column": "x", "is": False}, "C": "memorized"}, {}, "'C' of taxonomy 't' can never"),
        ({"A": {"and": ["memorized", "non_memorized"]}, "B": "memorized"}, {}, "'A' of taxonomy 't' can never match: nothing is"),
        ({"A": {"column": "near", "above": "edits"}, "B": "memorized"}, {}, "use a number, or a threshold, one of delta, rho"),
        ({"A": {"column": "near", "above": "edits"}, "B": "memorized"}, {"edits": 3, "more": 1}, "threshold more, which no rule reads"),
        ({"A": {"column": "near", "above": "edits"}, "B": "memorized"}, {"edits": "many"}, "edits=many: give a number"),
        ({"A": {"column": "near", "above": "delta"}, "B": "memorized"}, {"delta": 3}, "delta=3: δ and ρ are set by themselves"),
        ({"A": {"column": "near", "over": 3}, "B": "memorized"}, {}, "a rule with the keys column, over: use a name"),
        ({"A": {"column": "near"}, "B": "memorized"}, {}, "a rule with the keys column: use a name"),
        ({"A": {"column": "near", "above": 1, "below": 3}, "B": "memorized"}, {}, "a rule with the keys column, above, below"),
        ({"A": {"xor": ["memorized"]}, "B": "memorized"}, {}, "a rule with the keys xor"),
        ({"A": {"and": "memorized"}, "B": "memorized"}, {}, "'and' with 'memorized': give it a list of rules"),
        ({"A": {"or": []}, "B": "memorized"}, {}, "'or' with []: give it a list"),
        ({"A": {"not": "nothing"}, "B": "memorized"}, {}, "the unknown rule 'nothing'"),
        ({"A": 3, "B": "memorized"}, {}, "3, which is no rule"),
        ({"A": {"column": "a b", "above": 1}, "B": "memorized"}, {}, "a rule on column 'a b'"),
        ({"A": {"column": "near", "above": True}, "B": "memorized"}, {}, "a rule on near that is above True: use a number"),
        ({"A": {"column": "near", "above": math.nan}, "B": "memorized"}, {}, "that is above nan"),
        ({"A": {"column": "near", "is": [1]}, "B": "memorized"}, {}, "a rule on near that is [1]: use true, false, a number or a word"),
        ({"A": {"column": "x", "is": "a"}, "B": {"column": "x", "above": 3}}, {}, "compares column 'x' with 'a' and 3"),
        ({"A": {"column": "memorized", "is": 1}, "B": "memorized"}, {}, "compares column 'memorized' with 1"),
        ({"A": {"column": "is_repeating", "above": 0.5}, "B": "memorized"}, {}, "compares column 'is_repeating' with 0.5: use values of"),
        ({"A": {"column": "reference_memorized", "is": "yes"}, "B": "memorized"}, {}, "compares column 'reference_memorized' with 'yes'"),
        ({"A": {"column": "near", "is": True}, "B": "memorized"}, {}, "compares column 'near' with True: use values of the kind"),
        ({"A": {"column": "confidence", "is": "high"}, "B": "memorized"}, {}, "compares column 'confidence' with 'high'"),
    ],
)
def test_what_is_no_taxonomy_is_refused_in_a_sentence(classes, thresholds, words):
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        Taxonomy.of("t", classes, thresholds)
    assert str(refused.value).count("taxonomy 't'") == 1


def test_too_many_cases_are_refused():
    classes = {"A": {"and": [{"column": f"x{n}", "above": float(value)} for n in range(4) for value in range(20)]}, "B": "memorized"}
    with pytest.raises(ValueError, match="too many values"):
        Taxonomy.of("t", classes)


@pytest.mark.parametrize("column", [*(column for column in GROUP_OF if column not in TRUTHS), "mine"])
def test_a_value_of_a_column_for_every_way_to_come_out(column):
    """However a few comparisons come out for numbers that the column can have, one of its representatives comes out so, too."""
    low, high = RANGES.get(column, (-math.inf, math.inf))
    values = [value for value in (-2, -0.5, 0.25, 0.5, 1, 3) if low <= value <= high][:3]
    comparisons = [Comparison(column, sign, value) for value in values for sign in COMPARED]
    made = representatives(column, comparisons)
    assert all(low <= value <= high for value in made)
    numbers = [value for value in np.linspace(-4, 5, 181) if low <= value <= high]
    answers = [{tuple(COMPARED[each.sign](value, each.value) for each in comparisons) for value in some} for some in (numbers, made)]
    assert answers[0] == answers[1]


def test_groups_of_columns():
    assert len(GROUP_OF) == sum(map(len, GROUPS.values()))
    assert (group_of("p_extract"), group_of("reference_p_extract"), group_of("is_pii")) == ("degrees", "reference", OWN)


def test_what_a_rule_needs_reads_and_means():
    rule = rule_of({"and": ["guess", {"not": {"column": "is_pii", "is": True}}, {"column": "near", "at_most": "delta"}]}, {})
    assert rule.needs == ("templates", "rouge", OWN, "near")
    assert rule.reads == ("rho", "delta")
    assert rule.meaning.endswith("and (not (is_pii is true)) and (near at most δ)")
    made = Taxonomy.of("t", {"A": {"column": "is_pii", "is": True}, "B": "memorized"})
    assert (made.own_columns, made.kept) == (("is_pii",), ())


def classified(name, table):
    made = taxonomy(settings_maker.composed(f"taxonomy={name}"))
    return [list(made.classes)[place] for place in made.classify(pl.DataFrame(table), AT)]


def test_the_shipped_taxonomies_on_columns():
    """Every one on, below and above its threshold."""
    no, yes = [False] * 3, [True]
    assert classified("extractable", {"memorized": no + yes, "p_extract": [0.0009, 0.001, 0.5, 0.0001]}) == [
        *("Non-Extractable", "By-Sampling", "By-Sampling", "Greedy"),
    ]
    table = {"memorized": [False, False, True, True], "reference_memorized": [True, False, True, False]}
    assert classified("counterfactual", table) == ["Non-Memo", "Non-Memo", "Guess", "Recall"]
    assert classified("near_verbatim", {"memorized": no + yes, "near": [6, 5, 1, 0]}) == ["Non-Memo", "Near", "Near", "Verbatim"]
    table = {"memorized": [False, True, True, True, True], "onset": [math.inf, 300.0, 2900.0, 5000.0, math.inf]}
    assert classified("onset", table) == ["Never", "Early", "Early", "Late", "Late"]


def test_the_class_of_what_is_not_memorized():
    """One of them, or none where several take it; those that only take such are told."""
    expected = {
        "extractable": (None, {0, 1}),
        "counterfactual": (0, {0}),
        "near_verbatim": (None, {0, 1}),
        "onset": (0, {0}),
        "rasy": (0, {0}),
    }
    for name, (one, several) in expected.items():
        made = taxonomy(settings_maker.composed(f"taxonomy={name}"))
        assert (made.non_memorized, made.never_memorized) == (one, several)
    assert Taxonomy.of("t", {"A": {"column": "x", "above": 3}, "B": "memorized"}).never_memorized == set()


def test_code_that_nobody_judged_decides_or_not():
    """A comparison on code asks for it just as the named rule does."""
    made = Taxonomy.of("t", {"A": {"column": "is_code", "is": True}, "B": "memorized"})
    table = pl.DataFrame({"memorized": [True, False], "is_code": [None, None]}, schema_overrides={"is_code": pl.Boolean})
    assert made.undecided(made.classify(table, AT)) == 2
    assert made.decided_by_code == [True, True]
