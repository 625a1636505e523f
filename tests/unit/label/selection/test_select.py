import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.config.schema import SelectConfig
from memgrid.corpus.ngrams import sequence_hashes
from memgrid.errors import UserError
from memgrid.label.selection import select as module
from memgrid.label.selection.draw import GROUP_NGRAM, LOTS, Draw, distinct, draw, of_the_corpus
from memgrid.label.selection.groups import content_groups
from memgrid.label.selection.select import STRATUM, Match, match, paired, quartiles, select, undecided_rows
from memgrid.taxonomy.taxonomy import UNDECIDED

CONFIG = SelectConfig(train_per_class=30, eval_per_class=10, min_train_per_class=5, min_eval_per_class=2)
TITLES = ["Non-Memo", "Guess", "Recall"]


def chosen(ids, tokens, classes, titles, config, seed):
    return select(draw(ids, tokens, config, seed), ids, classes, titles, config)


def population(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 2000, (rows, 64), dtype=np.int32)
    return np.arange(rows) + 1000, tokens, rng.integers(-1, 3, rows).astype(np.int8)


def test_balanced_sides_and_sorted_ids():
    ids, tokens, classes = population()
    made = chosen(ids, tokens, classes, TITLES, CONFIG, seed=0)
    counts = made.group_by("side", "title").len()
    assert set(counts.filter(pl.col("side") == "train")["len"]) == {30}
    assert set(counts.filter(pl.col("side") == "eval")["len"]) == {10}
    assert made["sequence_id"].is_sorted()
    assert made["sequence_id"].n_unique() == made.height
    np.testing.assert_array_equal(made["label"], classes[made["sequence_id"].to_numpy() - 1000])


def test_same_seed_same_samples_another_seed_others():
    population_ = population()
    first, again, other = (chosen(*population_, TITLES, CONFIG, seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_the_order_of_rows_does_not_matter():
    ids, tokens, classes = population()
    order = np.random.default_rng(1).permutation(len(ids))
    assert chosen(ids, tokens, classes, TITLES, CONFIG, 0).equals(chosen(ids[order], tokens[order], classes[order], TITLES, CONFIG, 0))


def test_neighbouring_settings_share_samples():
    ids, tokens, classes = population(2000)
    first = set(chosen(ids, tokens, classes, TITLES, CONFIG, 0)["sequence_id"])
    merged = np.where(classes == 1, 2, classes).astype(np.int8)  # Guess and Recall become one class
    second = set(chosen(ids, tokens, np.where(merged == 2, 1, merged).astype(np.int8), TITLES[:2], CONFIG, 0)["sequence_id"])
    # Of the merged class's samples all come from those that the finer setting chose.
    assert second <= first


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_no_near_duplicates_on_both_sides(seed):
    ids, tokens, classes = population(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(100):  # paste a shared run of tokens from one row into another, at another offset
        source, target = rng.integers(0, len(tokens), 2)
        a, b = rng.integers(0, 64 - GROUP_NGRAM + 1, 2)
        tokens[target, b : b + GROUP_NGRAM] = tokens[source, a : a + GROUP_NGRAM]
    made = chosen(ids, tokens, classes, TITLES, CONFIG, 0)
    groups = content_groups(tokens, GROUP_NGRAM)[made["sequence_id"].to_numpy() - 1000]
    together = pl.DataFrame({"found": groups, "told": made["group"]}).unique()
    assert together["found"].is_unique().all()  # samples say which near-duplicates they are
    assert together["told"].is_unique().all()
    train, evaluate = (set(groups[made["side"].to_numpy() == side]) for side in ("train", "eval"))
    assert not train & evaluate


@pytest.mark.parametrize(("shared", "together"), [(32, True), (31, False)])
def test_sequences_are_near_duplicates_from_half_a_sequence_on(shared, together):
    tokens = np.arange(128).reshape(2, 64)
    tokens[1, 20 : 20 + shared] = tokens[0, 5 : 5 + shared]
    groups = content_groups(tokens, GROUP_NGRAM)
    assert (groups[0] == groups[1]) == together


def test_what_is_told_to_be_together_has_one_lot():
    ids, tokens, _ = population(seed=3)
    together = np.random.default_rng(0).integers(-1, 5, len(ids))
    drawn = draw(ids, tokens, CONFIG, 0, together)
    lots = [set(drawn.lots[together[drawn.rows] == number]) for number in range(-1, 5)]
    assert [len(lot) for lot in lots[1:]] == [1] * 5
    assert len(set.union(*lots[1:])) == 5
    assert len(lots[0]) == (together == -1).sum()


def test_without_leak_free_each_row_is_drawn_for_itself_even_a_copy():
    tokens = np.tile(np.arange(64, dtype=np.int32), (200, 1))
    tokens[100:, -1] = np.arange(100)
    ids = np.arange(200) + 7
    strict = draw(ids, tokens, CONFIG, 0)
    assert len(strict.rows) == 101 - (63 in tokens[100:, -1])
    assert len(set(strict.lots)) == 1
    loose = SelectConfig(train_per_class=30, eval_per_class=10, leak_free=False)
    drawn = draw(ids, tokens, loose, 0)
    assert sorted(drawn.rows) == list(range(200))
    on_eval = drawn.lots < of_the_corpus(loose)
    assert 20 < on_eval.sum() < 85
    assert len(set(on_eval[drawn.rows < 100])) == 2  # exact copies on both sides: the paper's leak
    order = np.random.default_rng(0).permutation(200)
    again = draw(ids[order], tokens[order], loose, 0)
    np.testing.assert_array_equal(ids[drawn.rows], ids[order][again.rows])


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([0.02, 0.3, 1.0]))
def test_judging_only_what_is_needed_chooses_the_same(seed, share):
    """Rows are revealed as `undecided_rows` asks for them; the selection equals that of a corpus judged as a whole."""
    ids, tokens, classes = population(seed=seed)
    rng = np.random.default_rng(seed)
    hidden = rng.random(len(ids)) < share
    known = np.where(hidden, UNDECIDED, classes).astype(np.int8)
    drawn = draw(ids, tokens, CONFIG, 0)
    for _ in range(100):
        rows = undecided_rows(drawn, known, [True] * 3, CONFIG)
        if not len(rows):
            break
        assert (known[rows] == UNDECIDED).all()
        known[rows] = classes[rows]
    assert not len(undecided_rows(drawn, known, [True] * 3, CONFIG))
    assert select(drawn, ids, known, TITLES, CONFIG).equals(select(drawn, ids, classes, TITLES, CONFIG))


@pytest.mark.parametrize("scarce", [20000, 20])
def test_a_large_corpus_is_judged_in_small_part(scarce):
    """Also where a class that needs no judging is too small to be filled."""
    ids, tokens, classes = population(20000)
    classes[np.flatnonzero(classes == 0)[scarce:]] = -1
    known = np.where(classes > 0, UNDECIDED, classes).astype(np.int8)
    drawn, asked = draw(ids, tokens, CONFIG, 0), 0
    while len(rows := undecided_rows(drawn, known, [False, True, True], CONFIG)):
        known[rows] = classes[rows]
        asked += len(rows)
    assert 20 < asked < 1000
    assert select(drawn, ids, known, TITLES, CONFIG).equals(select(drawn, ids, classes, TITLES, CONFIG))


def test_exact_copies_are_one_sample():
    tokens = np.random.default_rng(0).integers(0, 9, (6, 64), dtype=np.int32)
    tokens[4] = tokens[1]
    ids = np.array([5, 9, 7, 8, 3, 1])
    priority = sequence_hashes(tokens)
    expected = sorted([0, 2, 3, 4, 5], key=lambda row: priority[row])
    assert distinct(priority, ids).tolist() == expected


@settings(max_examples=60)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 9))
def test_of_equal_sequences_the_lowest_id_stays(contents, seed):
    priority = sequence_hashes(np.array(contents, np.int64).reshape(-1, 1))
    ids = np.random.default_rng(seed).permutation(len(contents))
    best = {}
    for row in np.argsort(ids):
        best.setdefault(contents[row], int(row))
    assert distinct(priority, ids).tolist() == sorted(best.values(), key=lambda row: priority[row])


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.5]), st.integers(1, 50), st.sampled_from(["any", "matched"]))
def test_what_is_looked_at_first_decides_nothing(seed, share, block, hard):
    """A draw that is looked at in blocks, as far as needed, gives what one gives that is looked at as a whole."""
    ids, tokens, classes, duplicates = frequent(300, seed)
    known = np.where(np.random.default_rng(seed).random(len(ids)) < share, UNDECIDED, classes).astype(np.int8)
    config = SelectConfig(train_per_class=12, eval_per_class=4, min_train_per_class=1, min_eval_per_class=1, non_memorized=hard)
    drawn, found = draw(ids, tokens, config, 0), match(classes, duplicates, 0, 3) if hard == "matched" else None
    made = []
    for size in (block, len(ids)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "FIRST_BLOCK", size)
            rows = undecided_rows(drawn, known, [False, True, True], config)
            made.append((rows.tolist(), select(drawn, ids, classes, TITLES, config, found).to_dicts()))
    assert made[0] == made[1]


def test_a_short_class_shrinks_all_and_a_too_short_one_is_named():
    ids, tokens, classes = population()
    few = np.flatnonzero(classes == 2)[30:]
    classes[few] = -1
    made = chosen(ids, tokens, classes, TITLES, CONFIG, seed=0)
    assert made.filter(pl.col("side") == "train").group_by("label").len()["len"].n_unique() == 1
    assert made.filter(pl.col("side") == "train").height < 90
    classes[np.flatnonzero(classes == 2)[3:]] = -1
    with pytest.raises(UserError, match=r"class 'Recall' has \d samples for the train side, 30 were wanted and 5 are the least"):
        chosen(ids, tokens, classes, TITLES, CONFIG, seed=0)


def test_an_empty_class_is_named():
    ids, tokens, classes = population()
    classes[classes == 1] = 0
    with pytest.raises(UserError, match="class 'Guess' has 0 samples"):
        chosen(ids, tokens, classes, TITLES, CONFIG, seed=0)


def test_the_share_on_the_eval_side_is_as_configured():
    tokens = np.random.default_rng(0).integers(0, 2000, (20000, 64), dtype=np.int32)
    assert abs((draw(np.arange(20000), tokens, CONFIG, 0).lots < of_the_corpus(CONFIG)).mean() - 0.25) < 0.02


def frequent(rows=1500, seed=0):
    """A population whose memorized sequences have more duplicates than most others."""
    ids, tokens, classes = population(rows, seed)
    rng = np.random.default_rng(seed)
    duplicates = np.exp(rng.normal(np.array([1.5, 1.0, 2.5])[np.maximum(classes, 0)], 0.8)).astype(np.int64)
    return ids, tokens, classes, duplicates


@settings(max_examples=60)
@given(st.lists(st.integers(0, 400), max_size=80), st.lists(st.integers(0, 400), max_size=80))
def test_pairs_are_equally_frequent_and_as_many_as_can_be(left, right):
    left, right = np.array(left, np.int64), np.array(right, np.int64)
    ours, theirs = paired(left, right)
    assert len(ours) == len(set(ours)) == len(theirs) == len(set(theirs))
    a, b = left[ours] + 1.0, right[theirs] + 1.0
    assert (np.maximum(a / b, b / a) < STRATUM * (1 + 1e-9)).all()
    assert (ours[1:] > ours[:-1]).all()  # in the order of their priority
    stratum = [np.floor(np.log1p(one) / np.log(STRATUM)) for one in (left, right)]
    most = sum(min((stratum[0] == one).sum(), (stratum[1] == one).sum()) for one in set(stratum[0]))
    assert len(ours) == most
    same = [one < 7 for one in (left[ours], right[theirs])]
    np.testing.assert_array_equal(left[ours][same[0]], right[theirs][same[0]])


@pytest.mark.parametrize("seed", range(3))
def test_matched_negatives_have_the_duplicates_of_the_most_frequent_class(seed):
    ids, tokens, classes, duplicates = frequent(4000, seed)
    config = SelectConfig(train_per_class=150, eval_per_class=50, non_memorized="matched")
    drawn, found = draw(ids, tokens, config, 0), match(classes, duplicates, 0, 3)
    assert found.target == 2
    made = select(drawn, ids, classes, TITLES, config, found)
    usual = select(drawn, ids, classes, TITLES, config)
    assert set(made.group_by("side", "title").len()["len"]) == {150, 50}
    for side in ("train", "eval"):
        number = [np.sort(duplicates[part["sequence_id"].to_numpy() - 1000]) for part in rows_of(made, side, (0, 2))]
        ordinary = [np.sort(duplicates[part["sequence_id"].to_numpy() - 1000]) for part in rows_of(usual, side, (0, 2))]
        assert farthest(*number) < 0.08 < 0.3 < farthest(*ordinary)
    # The class in between is as ever, and another start chooses the same.
    assert made.filter(pl.col("label") == 1).equals(usual.filter(pl.col("label") == 1))
    assert made.equals(select(drawn, ids, classes, TITLES, config, match(classes, duplicates, 0, 3)))
    order = np.random.default_rng(1).permutation(len(ids))
    shuffled = draw(ids[order], tokens[order], config, 0)
    again = select(shuffled, ids[order], classes[order], TITLES, config, match(classes[order], duplicates[order], 0, 3))
    assert made.equals(again)
    assert quartiles(made, TITLES, found, made["sequence_id"].to_numpy() - 1000).count("of") == 2


def rows_of(samples, side, labels):
    return [samples.filter(pl.col("side") == side, pl.col("label") == label) for label in labels]


def farthest(a, b):
    """The largest distance of two empirical distributions (Kolmogorov and Smirnov)."""
    every = np.concatenate([a, b])
    return np.abs(np.searchsorted(a, every, "right") / len(a) - np.searchsorted(b, every, "right") / len(b)).max()


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_matched_samples_have_no_near_duplicates_on_both_sides(seed):
    ids, tokens, classes, duplicates = frequent(600, seed)
    rng = np.random.default_rng(seed)
    for source, target in rng.integers(0, len(tokens), (150, 2)):
        tokens[target, :GROUP_NGRAM] = tokens[source, 7 : 7 + GROUP_NGRAM]
    config = SelectConfig(train_per_class=30, eval_per_class=10, min_train_per_class=1, min_eval_per_class=1, non_memorized="matched")
    made = select(draw(ids, tokens, config, 0), ids, classes, TITLES, config, match(classes, duplicates, 0, 3))
    groups = content_groups(tokens, GROUP_NGRAM)[made["sequence_id"].to_numpy() - 1000]
    train, evaluate = (set(groups[made["side"].to_numpy() == side]) for side in ("train", "eval"))
    assert not train & evaluate


def test_too_few_equally_frequent_ones_are_told():
    ids, tokens, classes, duplicates = frequent()
    duplicates = np.where(classes == 0, 0, duplicates + 5)
    config = SelectConfig(train_per_class=30, eval_per_class=10, min_train_per_class=5, min_eval_per_class=2, non_memorized="matched")
    told = (
        r"class 'Non-Memo' has 0 samples with as many duplicates as one of 'Recall' for the train side, 30 were wanted and 5 are the least"
    )
    with pytest.raises(UserError, match=told) as caught:
        select(draw(ids, tokens, config, 0), ids, classes, TITLES, config, match(classes, duplicates, 0, 3))
    assert "lower" not in str(caught.value)  # there is none to be satisfied with
    assert "select.non_memorized=any" in str(caught.value)


def test_matching_judges_every_row():
    ids, tokens, classes = population()
    known = np.where(classes == 2, UNDECIDED, classes).astype(np.int8)
    config = SelectConfig(train_per_class=5, eval_per_class=2, non_memorized="matched")
    assert sorted(undecided_rows(draw(ids, tokens, config, 0), known, [False, True, True], config)) == np.flatnonzero(classes == 2).tolist()


def test_up_to_8_duplicates_only_equal_ones_are_paired():
    ours, theirs = paired(np.arange(9), np.arange(8, -1, -1))
    assert ours.tolist() == list(range(9))
    assert theirs.tolist() == list(range(8, -1, -1))
    assert [len(paired(np.array([8]), np.array([other]))[0]) for other in (7, 8, 9, 10)] == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("classes", "duplicates", "target"),
    [
        ([0, 1, 2, 2], [9, 3, 1, 4], 1),  # the median counts, and never the negatives' own
        ([0, 1, 1], [0, 0, 0], 1),  # a class without a sequence has less than none
        ([0, 1, 1], [9, 1, 1], 1),
        ([0, 0], [0, 0], 1),
    ],
)
def test_negatives_are_matched_to_the_class_with_the_most_duplicates(classes, duplicates, target):
    made = match(np.array(classes, np.int8), np.array(duplicates), 0, 3)
    assert (made.negative, made.target) == (0, target)


def test_pairs_are_those_of_a_plain_loop():
    left, right = np.random.default_rng(0).choice([0, 3, 90], (2, 300))
    free, expected = list(range(300)), []
    for ours, duplicates in enumerate(left):
        theirs = next((place for place in free if right[place] == duplicates), None)
        if theirs is not None:
            free.remove(theirs)
            expected.append((ours, theirs))
    assert list(zip(*(places.tolist() for places in paired(left, right)), strict=True)) == expected


def test_quartiles_by_hand():
    samples = pl.DataFrame({"label": [0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2]})
    duplicates = np.array([100, 0, 300, 200, 400, 999, 50, 10, 30, 20, 40])
    told = quartiles(samples, TITLES, Match(0, 2, duplicates[::-1]), np.arange(10, -1, -1))
    assert told == "duplicates matched: quartiles 100, 200, 300 of Non-Memo, 20, 30, 40 of Recall"


class Lots:
    """Lots that know how many places were looked at in one go through the draw."""

    def __init__(self, lots):
        self.lots, self.looked_at = lots, 0

    def __getitem__(self, where):
        if isinstance(where, slice):
            self.looked_at = max(self.looked_at, min(where.stop, len(self.lots)))
        return self.lots[where]


def by_hand(eighths, numbers):
    """A draw in the order of rows, whose lots are told in eighths of all, and a configuration."""
    lots = np.array(eighths, np.uint32) * np.uint32(LOTS // 8)
    return Draw(np.arange(len(lots)), Lots(lots)), SelectConfig(*numbers)


@pytest.mark.parametrize(
    ("numbers", "classes", "eighths", "samples"),
    [
        # Of two, both below the half of the corpus, one is trained on: the bound is its lot, which is the first that lies above.
        ((1, 1, 1, 1), [0, 0], [1, 2], [(0, 0, "eval"), (1, 0, "train")]),
        # What no class took is left out, and of those who have enough the last.
        ((1, 1, 1, 1), [0, 1, -1, 0, 1, 0], [7, 3, 0, 0, 4, 5], [(0, 0, "train"), (1, 1, "eval"), (3, 0, "eval"), (4, 1, "train")]),
        # The second class has one less to train on than is wanted, and the first is cut down to that.
        (
            *((3, 1, 1, 1), [0, 0, 0, 0, 1, 1, 1], [0, 5, 6, 7, 1, 2, 3]),
            [(0, 0, "eval"), (1, 0, "train"), (2, 0, "train"), (4, 1, "eval"), (5, 1, "train"), (6, 1, "train")],
        ),
    ],
)
def test_samples_by_hand(numbers, classes, eighths, samples):
    drawn, config = by_hand(eighths, numbers)
    made = select(drawn, np.arange(len(classes)), np.array(classes, np.int8), TITLES[: max(classes) + 1], config)
    assert made.select("sequence_id", "label", "side").rows() == samples


def test_an_empty_corpus_has_no_samples():
    drawn, config = by_hand([], (1, 1, 1, 1))
    with pytest.raises(UserError, match="class 'Non-Memo' has 0 samples for the train side"):
        select(drawn, np.zeros(0, np.int64), np.zeros(0, np.int8), TITLES[:1], config)


U = UNDECIDED


@pytest.mark.parametrize(
    ("numbers", "classes", "eighths", "is_open", "rows"),
    [
        ((1, 1, 1, 1), [0, U], [1, 2], [True], [1]),  # with a second one, one is trained on
        ((1, 1, 1, 1), [U, U], [0, 1], [True], [0]),  # no more at once than the eval side takes
        ((1, 1, 1, 1), [U, U, U], [1, 7, 0], [True, True], [1, 0, 2]),  # those of both sides, one for each class
        ((1, 1, 1, 1), [0, 1, 0, U, U], [4, 3, 4, 1, 7], [True, True], [4, 3]),  # the first class has none to evaluate on
        ((2, 2, 1, 1), [1, U, 0], [5, 5, 5], [False, True], []),  # nobody can be evaluated on
        ((2, 2, 1, 1), [U, 1, U], [1, 0, 5], [True, False, True], [0]),  # nobody can be trained on
        ((3, 2, 1, 1), [0, 0, 0, 0, U], [2, 0, 6, 4, 3], [True], []),  # there is no place for another one
        ((1, 1, 1, 1), [0, U, U], [0, 1, 7], [False], []),  # they may belong to no class
        ((1, 1, 1, 1), [0, 0, U, U], [0, 7, 1, 6], [True], []),  # both sides are full before
    ],
)
def test_rows_that_have_to_be_judged_by_hand(numbers, classes, eighths, is_open, rows, monkeypatch):
    for block in (1, 2, 3, 100):
        monkeypatch.setattr(module, "FIRST_BLOCK", block)
        drawn, config = by_hand(eighths, numbers)
        assert undecided_rows(drawn, np.array(classes, np.int8), is_open, config).tolist() == rows


def test_of_a_large_corpus_a_small_part_is_looked_at(monkeypatch):
    """No more than the first block that has just enough."""
    monkeypatch.setattr(module, "FIRST_BLOCK", 4)
    drawn, config = by_hand([0, 0, 7, 7] * 5, (1, 1, 1, 1))
    select(drawn, np.arange(20), np.array([0, 1] * 10, np.int8), TITLES[:2], config)
    assert drawn.lots.looked_at == 4


@pytest.mark.parametrize(
    ("first", "is_open", "rows"),
    [
        ([0, 1, 0, 1], [False, True], []),  # both classes are full, on both sides
        ([0, 1, 0, 1], [True, True], []),
        ([U, U, U, U], [True, True], [2, 3, 0, 1]),  # as many are undecided as the sides can take in all
    ],
)
def test_no_more_is_looked_at_than_what_is_asked_for_hangs_on(first, is_open, rows, monkeypatch):
    monkeypatch.setattr(module, "FIRST_BLOCK", 4)
    drawn, config = by_hand([0, 0, 7, 7] * 5, (1, 1, 1, 1))
    assert undecided_rows(drawn, np.array(first + [U] * 16, np.int8), is_open, config).tolist() == rows
    assert drawn.lots.looked_at == 4
