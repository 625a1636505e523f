import functools
import itertools

import numpy as np
import polars as pl
import pytest
import settings_maker
from conftest import NIGHT
from hypothesis import given, settings
from hypothesis import strategies as st
from runs_maker import PAPERS

from memgrid.config.derive import taxonomy
from memgrid.io.paths import CONF
from memgrid.taxonomy.rules import RULES
from memgrid.taxonomy.taxonomy import NO_CLASS, UNDECIDED, Taxonomy
from memgrid.taxonomy.thresholds import Thresholds

DELTAS = (5, 50, 1000)
RHOS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
ROUGES = ("both", "l", "3")
BEFORE, OTHERS = ("Non-Memo", ("non_memorized",)), ("Others", ("memorized",))
NODES = {name: (name.title(), (name,)) for name in ("recite", "recollect", "reconstruct", "guess", "code")}


def either(first, second):
    return f"{first.title()}-or-{second.title()}", (first, second)


def papers(*names):
    return [BEFORE, *(NODES[name] for name in names), OTHERS]


# The paper's families, written down a second time: 4A and 4B (an order of two nodes), 3A (one node), 3B (one node or another).
GOLDEN = {
    **{f"{a}_{b}": papers(a, b) for a in ("recite", "recollect") for b in ("reconstruct", "guess", "code")},
    **{f"{b}_recite": papers(b, "recite") for b in ("reconstruct", "guess", "code")},
    **{name: papers(name) for name in NODES},
    **{f"recite_or_{b}": [BEFORE, either("recite", b), OTHERS] for b in ("reconstruct", "guess", "code")},
    **{f"{b}_or_recollect": [BEFORE, either(b, "recollect"), OTHERS] for b in ("reconstruct", "guess", "code")},
    "rasy": [BEFORE, NODES["guess"], ("Recall", ("memorized",))],
    "prashanth": [BEFORE, NODES["recite"], NODES["reconstruct"], ("Recollect", ("memorized",))],
    "null_coin": [BEFORE, ("Heads", ("heads",)), ("Tails", ("memorized",))],
    "null_guess_coin": [BEFORE, NODES["guess"], ("Heads", ("heads",)), ("Tails", ("memorized",))],
    "null_duplicates": [BEFORE, ("Frequent", ("frequent",)), ("Rare", ("memorized",))],
}
ON_COLUMNS = {"extractable", "counterfactual", "near_verbatim", "onset"}  # see test_rules
FILES = sorted({path.stem for path in (CONF / "taxonomy").glob("*.yaml")} - ON_COLUMNS)


@functools.cache
def composed(name):
    return taxonomy(settings_maker.composed(f"taxonomy={name}"))


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    """Every combination of the features, with values on, below and above every threshold."""
    booleans = (False, True)
    duplicates = sorted({0, 1} | {delta + step for delta in DELTAS for step in (-1, 0, 1)})
    edges = sorted({0.0, 1.0} | {rho + step for rho in RHOS for step in (-1e-9, 0, 1e-9)})
    scores = list(itertools.product(edges, (0.0, 0.5, 1.0))) + list(itertools.product((0.0, 0.5, 1.0), edges))
    table = list(itertools.product(booleans, booleans, booleans, booleans, duplicates, scores))
    names = ("memorized", "is_repeating", "is_incrementing", "is_code", "duplicates")
    made = {name: np.array([row[place] for row in table]) for place, name in enumerate(names)}
    every = {**made, "rouge_l": np.array([row[5][0] for row in table]), "rouge_3": np.array([row[5][1] for row in table])}
    # The null rules' answers, where the other features have one of two extremes.
    extreme = np.isin(every["duplicates"], (0, max(DELTAS) + 1)) & np.isin(every["rouge_l"], (0, 1)) & np.isin(every["rouge_3"], (0, 1))
    answers = [(False, 0.25, np.ones(len(table), bool)), *((*pair, extreme) for pair in ((True, 0.5), (False, 0.75), (True, 0.75)))]
    parts = [{**{name: column[where] for name, column in every.items()}, "heads": heads, "rank": rank} for heads, rank, where in answers]
    return {name: np.concatenate([np.broadcast_to(part[name], len(part["memorized"])) for part in parts]) for name in parts[0]}


def by_hand(rows: dict[str, np.ndarray], t: Thresholds) -> dict[str, np.ndarray]:
    """Which rules hold for each row, from how-it-works 4, in numpy."""
    template = rows["is_repeating"] | rows["is_incrementing"]
    high_l, high_3 = rows["rouge_l"] >= t.rho, rows["rouge_3"] >= t.rho
    memorized = rows["memorized"]
    return {
        "non_memorized": ~memorized,
        "memorized": memorized,
        "recite": memorized & (rows["duplicates"] > t.delta),
        "recollect": memorized & (rows["duplicates"] <= t.delta),
        "reconstruct": memorized & template,
        "guess": memorized & (template | {"both": high_l | high_3, "l": high_l, "3": high_3}[t.rouge]),
        "code": memorized & rows["is_code"],
        "heads": memorized & rows["heads"],
        "frequent": memorized & (rows["rank"] > 0.5),
    }


def test_every_taxonomy_is_written_down_twice():
    assert sorted(GOLDEN) == FILES
    assert set(FILES) >= {*PAPERS, "rasy", "prashanth"}


@pytest.mark.parametrize("name", FILES)
def test_golden_table(name, rows):
    made = composed(name)
    assert made.name == name
    assert list(made.classes.values()) == [rules for _, rules in GOLDEN[name]]
    table = pl.DataFrame(rows)
    for delta, rho, rouge in itertools.product(DELTAS, RHOS, ROUGES):
        thresholds = Thresholds(delta, rho, rouge)
        holds = by_hand(rows, thresholds)
        expected = np.full(table.height, NO_CLASS)
        for index, (_, rules) in reversed(list(enumerate(GOLDEN[name]))):
            expected[np.any([holds[rule] for rule in rules], axis=0)] = index
        np.testing.assert_array_equal(made.classify(table, thresholds), expected)


def test_golden_class_names_start_as_in_the_paper():
    for name in FILES:
        titles = list(composed(name).classes)
        assert titles[0] == "Non-Memo"
        assert titles[-1] == GOLDEN[name][-1][0]
        assert [title.lower() for title in titles] == [title.lower() for title, _ in GOLDEN[name]]


def test_thresholds_compare_the_value_itself():
    # The reference code loses samples that lie exactly on some thresholds; ROUGE values are fractions of 30 and 32.
    made = Taxonomy.of("t", {"Guess": "guess", "Others": "memorized"})
    for rho in (0.1, 0.2, 0.6, 0.7):
        row = {"memorized": True, "is_repeating": False, "is_incrementing": False, "rouge_l": rho, "rouge_3": 0.0}
        assert made.classify(pl.DataFrame([row]), Thresholds(5, rho, "both")).tolist() == [0]


def test_only_needed_features_are_read():
    assert Taxonomy.of("t", {"Non-Memo": "non_memorized", "Recite": "recite", "Others": "memorized"}).needs == ("duplicates",)
    assert set(Taxonomy.of("t", {"Code": "code", "Guess": "guess"}).needs) == {"code", "templates", "rouge"}


def test_an_unknown_is_code_leaves_open_only_what_hangs_on_it():
    made = Taxonomy.of("t", {"Non-Memo": "non_memorized", "Recite": "recite", "Code": "code", "Others": "memorized"})
    rows = pl.DataFrame({"memorized": [False, True, True, True], "duplicates": [0, 9, 0, 0], "is_code": [None, None, None, True]})
    assert made.classify(rows, Thresholds(5, 0.5, "both")).tolist() == [0, 1, UNDECIDED, 2]
    assert made.undecided(made.classify(rows, Thresholds(5, 0.5, "both"))) == 1
    assert made.decided_by_code == [False, False, True, True]


def test_what_no_class_takes_is_told_from_what_is_undecided():
    made = Taxonomy.of("t", {"Code": "code", "Recite": "recite"})
    rows = pl.DataFrame({"memorized": [False, True, True], "duplicates": [0, 0, 9], "is_code": [None, None, None]})
    assert made.classify(rows, Thresholds(5, 0.5, "both")).tolist() == [NO_CLASS, UNDECIDED, UNDECIDED]
    assert len({NO_CLASS, UNDECIDED}) == 2
    assert max(NO_CLASS, UNDECIDED) < 0  # no index of a class


@pytest.mark.parametrize(
    ("classes", "index"),
    [
        ({"Guess": "guess", "Others": "memorized"}, None),
        ({"Non-Memo": "non_memorized", "Others": "memorized"}, 0),
        ({"Guess": "guess", "Others": "memorized", "Non-Memo": "non_memorized"}, 2),
    ],
)
def test_which_class_takes_what_is_not_memorized(classes, index):
    assert Taxonomy.of("t", classes).non_memorized == index


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"A": "memorized"}, "at least two"),
        ({"A": "memorised", "B": "memorized"}, "unknown rule 'memorised'"),
        ({"A": "memorized", "B": "recite"}, "'B' of taxonomy 't' can never match: 'A' comes before it"),
        ({"A": "guess", "B": "reconstruct"}, "'B' of taxonomy 't' can never match: 'A' comes"),
        ({"A": "recite", "B": "recollect", "C": "memorized"}, "'C' of taxonomy 't' can never match: 'A' and 'B' come before it"),
        ({"A": "code", "B": "recite", "C": ["recite", "code"]}, "'C' of taxonomy 't' can never match: 'A' and 'B' come before it"),
        ({"A": ["recite", "recollect"], "B": "code"}, "'B' of taxonomy 't' can never match: 'A' comes"),
        ({"A": "recite", "B": "recite"}, "'B' of taxonomy 't' can never match: 'A' with the same rules comes before it"),
        ({"A": ["code", "guess"], "B": ["guess", "code"]}, "'B' of taxonomy 't' can never match: 'A' with the same rules"),
    ],
)
def test_bad_taxonomies_are_refused_by_name(classes, words):
    with pytest.raises(ValueError, match=words):
        Taxonomy.of("t", classes)


def test_equal_partitions_of_the_papers_grid():
    """Recite|Others and Recollect|Others are one split, and three taxonomies do not depend on δ: 51 trainings do for the paper's 60."""
    keys = {}
    for name in PAPERS:
        made = composed(name)
        for delta in DELTAS:
            keys.setdefault(made.partition(Thresholds(delta, 0.5, "both")).key, []).append((name, delta))
    assert len(keys) == 51
    shared = sorted(sorted(cells) for cells in keys.values() if len(cells) > 1)
    assert shared == sorted(
        [sorted((name, delta) for delta in DELTAS) for name in ("code", "guess", "reconstruct")]
        + [[("recite", delta), ("recollect", delta)] for delta in DELTAS]
    )


def test_thresholds_that_do_not_matter_are_none():
    partition = composed("rasy").partition(Thresholds(50, 0.5, "l"))
    assert (partition.delta, partition.rho, partition.rouge) == (None, 0.5, "l")
    partition = composed("recite_code").partition(Thresholds(50, 0.5, "l"))
    assert (partition.delta, partition.rho, partition.rouge) == (50, None, None)


@st.composite
def taxonomies(draw):
    """Random taxonomies of two to four classes that memgrid accepts."""
    for _ in range(50):
        rules = draw(st.lists(st.lists(st.sampled_from(sorted(RULES)), min_size=1, max_size=2, unique=True), min_size=2, max_size=4))
        try:
            return Taxonomy.of("t", {f"C{index}": names for index, names in enumerate(rules)})
        except ValueError:
            continue
    return Taxonomy.of("t", {"A": "non_memorized", "B": "memorized"})


@settings(max_examples=150 if NIGHT else 50)
@given(taxonomies(), taxonomies(), st.sampled_from(DELTAS), st.sampled_from(RHOS), st.sampled_from(ROUGES))
def test_partitions_are_equal_exactly_where_the_classes_of_all_rows_are(rows, first, second, delta, rho, rouge):
    t = Thresholds(delta, rho, rouge)
    table = pl.DataFrame(rows)
    a, b = first.classify(table, t), second.classify(table, t)
    # Equal up to names: each class of the one goes with one class of the other.
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    same = len(pairs) == len(set(a.tolist())) == len(set(b.tolist())) and all((i == NO_CLASS) == (j == NO_CLASS) for i, j in pairs)
    p, q = first.partition(t), second.partition(t)
    assert (p.key == q.key) == same
    if same:  # the order translates the one's classes into the other's
        assert {(i, j) for i, j in zip(p.order, q.order, strict=True)} == {pair for pair in pairs if pair[0] != NO_CLASS}


@settings(max_examples=60 if NIGHT else 20)
@given(taxonomies(), st.sampled_from(DELTAS), st.sampled_from(RHOS), st.sampled_from(ROUGES))
def test_thresholds_that_are_none_change_nothing(rows, made, delta, rho, rouge):
    partition, table = made.partition(Thresholds(delta, rho, rouge)), pl.DataFrame(rows)
    here = made.classify(table, Thresholds(delta, rho, rouge))
    if partition.delta is None:
        np.testing.assert_array_equal(here, made.classify(table, Thresholds(7, rho, rouge)))
    if partition.rho is None:
        np.testing.assert_array_equal(here, made.classify(table, Thresholds(delta, 0.33, "3")))


THRESHOLDS = st.builds(
    lambda delta, pair: Thresholds(delta, *pair),
    st.none() | st.integers(0, 100_000) | st.integers(0, 100).map(lambda thousands: 1000 * thousands),
    st.just((None, None)) | st.tuples(st.sampled_from(RHOS) | st.floats(0.001, 1), st.sampled_from(ROUGES)),
)


@given(THRESHOLDS)
def test_thresholds_are_spelled_as_ever(t):
    """What is written of them, as it was spelled out in five modules."""
    title = [*([] if t.delta is None else [f"δ={t.delta}"]), *([] if t.rho is None else [f"ρ={t.rho:g} ({t.rouge})"])]
    assert t.text() == " ".join(title)
    said = [*([] if t.delta is None else [f"δ={t.delta}"]), *([] if t.rho is None else [f"ρ={t.rho:g}"])]
    assert t.phrase() == ", ".join(said + {"l": ["ROUGE-L"], "3": ["ROUGE-3"]}.get(t.rouge or "", []))
    parts = (None if t.delta is None else f"delta{t.delta}", None if t.rho is None else f"rho{t.rho:g}", t.rouge)
    assert t.folder() == "-".join(part for part in parts if part is not None)
    thousands = t.delta and t.delta % 1000 == 0
    assert t.bracket() == ("" if t.delta is None else f"[{t.delta // 1000}k]" if thousands else f"[{t.delta}]")
    assert Thresholds.of({"delta": t.delta, "rho": t.rho, "rouge": t.rouge, "seed": 3}) == t


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_written_of_thresholds_that_a_taxonomy_does_not_depend_on(name):
    divided = composed(name).partition(Thresholds(50, 0.5, "both"))
    assert ("δ" in divided.thresholds.text()) == (divided.delta is not None)
    assert ("rho" in divided.thresholds.folder()) == (divided.rho is not None)
