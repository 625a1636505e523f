import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import NIGHT, every
from index_maker import make_index
from labels_maker import few, reader
from models_maker import half_its_own_words, outspoken

from memgrid.config.schema import CorpusConfig, LabelConfig
from memgrid.corpus.corpus import Corpus, Texts, load_corpus
from memgrid.errors import DamageWarning
from memgrid.io.digests import write_parquet
from memgrid.io.display import Watcher, watched
from memgrid.label import features
from memgrid.label import labels as label
from memgrid.label.features import AT_ONCE, label_memorized
from memgrid.label.labels import OF_NO_MODEL, OF_ONE_PASS, Labels, read_label_file
from memgrid.taxonomy.columns import DEGREES, KNOWN

ALL = ("memorized", *AT_ONCE, "code")


@pytest.fixture(scope="module")
def corpus(mini, tmp_path_factory):
    """Every fourth sequence of `mini`, of all kinds: a model reads a hundred in a second."""
    folder = every(4, mini, tmp_path_factory.mktemp("fourth"))
    (folder / "documents.parquet").symlink_to(mini / "documents.parquet")
    return load_corpus(CorpusConfig(name="fourth", path=str(folder)))


@pytest.fixture(scope="module")
def labels(corpus, toy_lm, tmp_path_factory):
    made = Labels(tmp_path_factory.mktemp("labels"), toy_lm.identity, corpus)
    for group in ALL:
        made.compute(group, toy_lm)
    return made


def test_a_scoring_that_was_cut_off_goes_on_block_by_block(tmp_path, monkeypatch):
    lm = outspoken()
    corpus = Corpus("made", np.arange(130), half_its_own_words(lm, 130)[0], 32, None)
    cut, undisturbed = (Labels(tmp_path / name, lm.identity, corpus) for name in ("cut", "undisturbed"))
    undisturbed.compute("memorized", lm)
    monkeypatch.setattr(label, "BLOCK_ROWS", 40)
    read = []

    def score(rows):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(rows.start)
        return label_memorized(corpus, lm, rows)

    with pytest.raises(KeyboardInterrupt):
        cut.score_in_blocks(lm, score)
    assert read == [0, 40]
    assert not cut.has("memorized")
    (cut.folder / ".degrees" / f"{40:012d}.parquet").write_bytes(b"damaged")
    read = [None]
    cut.score_in_blocks(lm, lambda rows: read.append(rows.start) or label_memorized(corpus, lm, rows))
    assert read[1:] == [40, 80, 120]
    assert not (cut.folder / ".degrees").exists()
    ours, whole = cut.read(["memorized"]), undisturbed.read(["memorized"])
    assert ours["memorized"].sum() == 65
    assert ours["memorized"].equals(whole["memorized"])
    assert ours["sequence_id"].equals(whole["sequence_id"])
    np.testing.assert_allclose(ours["confidence"], whole["confidence"], rtol=1e-4)  # other batches


def test_blocks_of_another_model_are_read_anew(corpus, toy_lm, tmp_path):
    corpus = replace(corpus, sequence_id=corpus.sequence_id[::4], tokens=corpus.tokens[::4])
    kept = Labels(tmp_path, toy_lm.identity, corpus)
    other = Labels(tmp_path, replace(toy_lm.identity, fingerprint="another"), corpus)
    (kept.folder / ".degrees").mkdir(parents=True)
    columns = {name: np.zeros(len(corpus.tokens)) for name in (*KNOWN, *DEGREES)}
    other.put(kept.folder / ".degrees" / f"{0:012d}.parquet", columns, slice(None), "degrees")
    read = []
    kept.score_in_blocks(toy_lm, lambda rows: read.append(rows.start) or label_memorized(corpus, toy_lm, rows))
    assert read == [0]
    assert kept.read(["memorized"])["memorized"].any()


@pytest.mark.parametrize(("group", "missing"), [*((group, one) for group in OF_ONE_PASS for one in OF_ONE_PASS), ("near", "near")])
def test_blocks_of_a_group_that_is_there_are_swept(group, missing, tmp_path, monkeypatch):
    """Who made it was killed before it removed them; while what shares them is missing, somebody may be making it from them."""
    lm = outspoken()
    corpus = Corpus("made", np.arange(20), half_its_own_words(lm, 20)[0], 32, None)
    made = Labels(tmp_path, lm.identity, corpus)
    with monkeypatch.context() as killed:
        killed.setattr(Labels, "forget_blocks", lambda *_: None)
        made.compute("memorized", lm)
        if group == "near":
            made.compute("near", lm)
    assert list(made.blocks(group).iterdir())
    there = made.path(missing)
    there.rename(tmp_path / "elsewhere")
    made.sweep(group)
    assert made.blocks(group).exists()
    (tmp_path / "elsewhere").rename(there)
    made.sweep(group)
    assert not made.blocks(group).exists()
    made.sweep(group)
    assert made.has(group)
    made.blocks(group).mkdir()
    with ThreadPoolExecutor(1) as pool:
        with made.turn(missing):  # somebody makes it again
            sweeping = pool.submit(made.sweep, group)
            time.sleep(0.3)
            assert made.blocks(group).exists()
        sweeping.result()
    assert not made.blocks(group).exists()


def test_one_process_at_a_time_computes_a_group(corpus, toy_lm, tmp_path):
    first, second = (Labels(tmp_path, toy_lm.identity, corpus) for _ in range(2))
    order = []

    def compute(labels, name):
        with labels.turn("rouge") as missing:
            order.append((name, missing))
            if missing:
                time.sleep(0.2)
                labels.compute("rouge", None)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compute, (first, second), ("first", "second")))
    assert sorted(missing for _, missing in order) == [False, True]


def test_teacher_forcing_equals_generate(labels, corpus, toy_lm):
    """By day every sixth, of all kinds."""
    some = slice(None, None, 1 if NIGHT else 6)
    continuation = toy_lm.continue_greedily(corpus.prefix[some], corpus.suffix.shape[1])
    np.testing.assert_array_equal(labels.read(["memorized"])["memorized"][some], (continuation == corpus.suffix[some]).all(1))


def test_duplicates_equal_a_naive_count(labels, corpus):
    documents = [(tokens.tobytes(), copies) for tokens, copies in corpus.documents()]
    counted = labels.read(["duplicates"])["duplicates"].to_list()
    for row in range(0, len(corpus.tokens), 10):
        needle = corpus.tokens[row].tobytes()
        naive = 0
        for haystack, copies in documents:
            start = haystack.find(needle)
            while start >= 0:
                naive += copies * (start % 4 == 0)  # int32: only whole tokens count
                start = haystack.find(needle, start + 1)
        assert counted[row] == naive


def test_features_of_the_known_kinds(labels, mini):
    kinds = pl.read_parquet(mini / "sequences.parquet", columns=["sequence_id", "kind"])
    table = labels.read(ALL).join(kinds, on="sequence_id")
    assert set(table["kind"]) == set(kinds["kind"])
    by_kind = {kind: table.filter(pl.col("kind") == kind) for kind in table["kind"].unique()}
    for kind in ("repeat", "unseen_repeat"):
        assert by_kind[kind]["is_repeating"].all()
        assert not by_kind[kind]["is_incrementing"].any()
    for kind in ("increment", "unseen_increment"):
        assert by_kind[kind]["is_incrementing"].all()
        assert not by_kind[kind]["is_repeating"].any()
    assert by_kind["held_out"]["is_repeating"].mean() < 0.02
    assert by_kind["held_out"]["is_incrementing"].mean() < 0.02
    for kind in ("held_out", "unseen_repeat", "unseen_increment"):
        assert by_kind[kind]["duplicates"].max() <= 1  # boilerplate may occur elsewhere once
    assert by_kind["chunk"]["duplicates"].min() >= 1
    assert 0 < by_kind["held_out"]["is_code"].mean() < 1


def test_files_of_other_sequences_do_not_count(labels, corpus, toy_lm):
    other = type(corpus)(corpus.name, corpus.sequence_id, np.roll(corpus.tokens, 1, 0), corpus.k, corpus.documents_path)
    fresh = Labels(labels.folder.parent.parent.parent, toy_lm.identity, other)
    assert fresh.folder == labels.folder
    assert labels.missing(ALL) == []
    assert fresh.missing(ALL) == list(ALL)


def test_a_damaged_file_is_computed_again(labels, toy_lm):
    labels.path("rouge").write_bytes(labels.path("rouge").read_bytes()[:100])
    assert labels.missing(ALL) == ["rouge"]
    labels.compute("rouge", toy_lm)
    assert labels.missing(ALL) == []


def test_code_is_judged_row_by_row_and_kept(labels, corpus, toy_lm, tmp_path):
    whole = labels.read(["code"])["is_code"]
    part = Labels(tmp_path, toy_lm.identity, corpus)
    assert part.missing(["code"]) == ["code"]
    for rows in ([5, 3], [], [3, 99, 7]):
        part.detect_code(np.array(rows, np.int64), toy_lm)
    known = part.read(["code"])["is_code"]
    judged = [3, 5, 7, 99]
    assert known.is_not_null().arg_true().to_list() == judged
    assert known[judged].to_list() == whole[judged].to_list()
    # Another detector's answers are not taken for these.
    other = Labels(tmp_path, toy_lm.identity, corpus, LabelConfig("usepackage"))
    assert other.missing(["code"]) == ["code"]
    other.detect_code(np.array([0]), toy_lm)
    assert other.read(["code"])["is_code"].is_not_null().sum() == 1


def test_what_the_corpus_brings_is_taken(corpus, toy_lm, tmp_path):
    rng = np.random.default_rng(0)
    rows = len(corpus.tokens)
    flags = {name: rng.random(rows) < 0.5 for name in ("memorized", "is_repeating", "is_incrementing")}
    brought = replace(corpus, given={**flags, "duplicates": rng.integers(0, 9, rows)})
    made = Labels(tmp_path, toy_lm.identity, brought)
    for group in ("memorized", "duplicates", "templates"):
        made.compute(group, None)  # nothing is asked of a model
        for name in set(made.read([group]).columns) & set(brought.given):
            np.testing.assert_array_equal(made.read([group])[name], brought.given[name])
    assert made.read(["memorized"])["confidence"].is_nan().all()
    assert Labels(tmp_path, toy_lm.identity, corpus).missing(["duplicates"]) == ["duplicates"]


def test_a_group_that_the_corpus_brings_in_part_is_not_taken(corpus, toy_lm, tmp_path):
    part = Labels(tmp_path, toy_lm.identity, replace(corpus, given={"is_repeating": np.ones(len(corpus.tokens), bool)}))
    assert part.given("templates") is None
    assert part.asks("templates") == "tokenizer"


def test_what_was_judged_on_other_text_is_not_taken(corpus, toy_lm, tmp_path):
    tokens, texts = (Labels(tmp_path, toy_lm.identity, corpus, LabelConfig(code_text=read)) for read in ("tokens", "corpus"))
    assert tokens.is_made_from(tokens.made_from("code"), "code")
    assert not texts.is_made_from(tokens.made_from("code"), "code")
    assert texts.is_made_from(tokens.made_from("rouge"), "rouge")


def test_whoever_names_an_index_gets_its_counts(corpus, toy_lm, tmp_path):
    """Also where the corpus brings duplicates; and labels of another index, or of none, are not taken for them."""
    documents = [(tokens, 3) for tokens in corpus.tokens[:20]]
    asked = LabelConfig(counts="infini_gram", index=str(make_index(tmp_path / "index", documents)))
    brings = replace(corpus, given={"duplicates": np.full(len(corpus.tokens), 7)})
    usual, counted = Labels(tmp_path, toy_lm.identity, brings), Labels(tmp_path, toy_lm.identity, brings, asked)
    usual.compute("duplicates", None)
    assert set(usual.read(["duplicates"])["duplicates"]) == {7}
    assert usual.has("duplicates")
    assert not counted.has("duplicates")
    counted.compute("duplicates", None)
    assert counted.has("duplicates")
    assert counted.read(["duplicates"])["duplicates"].head(20).min() >= 3
    assert usual.has("duplicates")
    other = LabelConfig(counts="infini_gram", index=str(make_index(tmp_path / "other", documents[1:])))
    assert not Labels(tmp_path, toy_lm.identity, brings, other).has("duplicates")


def test_counts_belong_to_the_documents_in_which_they_were_counted(corpus, toy_lm, tmp_path):
    """One more copy of a text is another corpus, though its sequences are the same."""
    path = tmp_path / "documents.parquet"
    table = pl.DataFrame({"tokens": pl.Series([corpus.tokens[0].tolist()]), "copies": [2]})
    table.write_parquet(path)
    own = replace(corpus, documents_path=path)

    def labels(identity=toy_lm.identity):
        return Labels(tmp_path, identity, own)

    labels().compute("duplicates", None)
    assert labels().has("duplicates")
    assert labels().read(["duplicates"])["duplicates"].max() == 2
    table.with_columns(copies=pl.lit(3)).write_parquet(path)
    assert not labels().has("duplicates")
    labels().compute("duplicates", None)
    assert labels().read(["duplicates"])["duplicates"].max() == 3
    # An earlier version did not say in which documents it had counted.
    whole = labels().read(["duplicates"])
    write_parquet(whole, labels().path("duplicates"), metadata={"memgrid": json.dumps(labels().identity)})
    assert labels().has("duplicates")


def test_what_depends_on_no_model_is_computed_once_for_all(labels, corpus, toy_lm, tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(labels.root, root)
    identity = replace(toy_lm.identity, name="other", fingerprint="other")
    never = dict.fromkeys(AT_ONCE, lambda *_: pytest.fail("it was computed again"))
    with monkeypatch.context() as patched:
        patched.setattr(label, "AT_ONCE", never)
        made = Labels(root, identity, corpus)
        for group in OF_NO_MODEL:
            made.compute(group, None)
            assert made.has(group)
            assert made.read([group]).equals(labels.read([group]))
        with pytest.raises(pytest.fail.Exception):
            made.compute("templates", None)  # hangs on the tokenizer
        for other in (replace(corpus, tokens=np.roll(corpus.tokens, 1, 0)), replace(corpus, k=corpus.k - 1)):
            with pytest.raises(pytest.fail.Exception):
                Labels(root, replace(identity, name="third", fingerprint="third"), other).compute("rouge", None)
    for path in root.glob("labels/*/*/rouge.parquet"):
        path.write_bytes(path.read_bytes()[:-100])  # damaged ones are nobody's
    fresh = Labels(root, replace(identity, name="fourth", fingerprint="fourth"), corpus)
    fresh.compute("rouge", None)
    assert fresh.read(["rouge"]).equals(labels.read(["rouge"]))


def test_each_row_is_read_once_in_blocks_of_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(label, "BLOCK_ROWS", 4)
    model, made = reader(), Labels(tmp_path, reader().identity, few(10))
    made.compute("memorized", model)
    assert model.read == [3, 1, 3, 1, 2]
    table = made.read(["memorized"])
    assert table.columns == ["sequence_id", "memorized", "confidence", "prefix_logprob", "suffix_logprob"]
    assert table["sequence_id"].to_list() == list(range(100, 110))
    assert table["memorized"].to_list() == [True, False] * 5
    assert table["suffix_logprob"].to_list() == [row - 3 for row in range(10)]
    assert not (made.folder / ".degrees").exists()
    assert made.missing(["memorized", "rouge"]) == ["rouge"]


def test_blocks_are_one_account_of_how_far_it_is(tmp_path, monkeypatch):
    class Heard(Watcher):
        def step(self, what, done, total, ordinal=False):
            told.append((what, done, total))

    monkeypatch.setattr(label, "BLOCK_ROWS", 40)
    told, lm = [], outspoken()
    corpus = Corpus("made", np.arange(130), half_its_own_words(lm, 130)[0], 32, None)
    made = Labels(tmp_path, lm.identity, corpus)
    with watched(Heard()):
        made.compute("memorized", lm)
        made.compute("near", lm)
    for what in ("reading sequences", "continuing sequences"):
        counts = [done for name, done, total in told if name == what and total == 130]
        assert counts == sorted(counts)
        assert {0, 40, 80, 120} <= set(counts)
        assert len(set(counts)) > 4
    assert len({name for name, *_ in told}) == 2
    assert ("reading sequences", 130, 130) in told


def test_text_is_looked_at_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "TEXT_ROWS", 2)
    model = reader("abab", "1, 2, 3, 4", "prose", "7 7 7 7 ", "9 8 7 6")
    made = Labels(tmp_path, model.identity, few(5))
    made.compute("templates", model)
    assert model.read == [2, 2, 1]
    assert made.read(["templates"])["is_repeating"].to_list() == [True, False, False, True, False]
    assert made.read(["templates"])["is_incrementing"].to_list() == [False, True, False, False, True]


def test_a_folder_that_was_removed_is_made_again(tmp_path):
    model, made = reader("\\usepackage{a}", "b"), Labels(tmp_path, reader().identity, few(2), LabelConfig("usepackage"))
    assert made.folder.exists()
    shutil.rmtree(tmp_path / "labels")
    with made.turn("code") as missing:
        assert missing
    shutil.rmtree(tmp_path / "labels")
    made.compute("code", model)
    shutil.rmtree(made.folder.parent)
    made.compute("memorized", model)
    with made.turn("memorized") as missing:
        assert not missing
    made.compute("code", model)
    assert made.read(["memorized", "code"])["is_code"].to_list() == [True, False]


@pytest.mark.parametrize(
    ("given", "group", "taken"),
    [
        (["memorized"], "memorized", ["memorized", "confidence", "prefix_logprob", "suffix_logprob"]),
        (["duplicates"], "duplicates", ["duplicates"]),
        (["is_repeating", "is_incrementing"], "templates", ["is_repeating", "is_incrementing"]),
        (["is_repeating"], "templates", None),
        (["is_incrementing", "duplicates"], "memorized", None),
        (["is_incrementing", "duplicates"], "rouge", None),
    ],
)
def test_which_columns_a_corpus_brings(given, group, taken, tmp_path):
    brought = few(3, given={name: np.array([1, 0, 1], bool) for name in given})
    made = Labels(tmp_path, reader().identity, brought)
    columns = made.given(group)
    assert (columns and list(columns)) == taken
    assert made.asks(group) == (None if taken or group == "rouge" else {"memorized": "lm", "templates": "tokenizer"}[group])
    if taken:
        made.compute(group, None)
        assert made.read([group]).columns == ["sequence_id", *taken]
        assert made.read([group])[taken[0]].cast(bool).to_list() == [True, False, True]
        assert all(made.read([group])[name].is_nan().all() for name in taken if "prob" in name or name == "confidence")


def test_what_the_corpus_says_is_judged_where_it_says_anything(tmp_path):
    pl.DataFrame({"text": ["\\usepackage{a}", None, "", "left out", None]}).write_parquet(tmp_path / "texts.parquet")
    texts = Texts((tmp_path / "texts.parquet",), np.array([True, True, True, False, True]), "text")
    model = reader("zero", "\\usepackage{b}", "two", "")
    for read, answers in (("tokens", [False, True, False, False]), ("corpus", [True, True, False, False])):
        made = Labels(tmp_path, model.identity, few(4, texts=texts), LabelConfig("usepackage", code_text=read))
        made.compute("code", model)
        assert made.read(["code"])["is_code"].to_list() == answers
    assert made.texts(np.array([3, 2, 1]), model) == ["", "", "\\usepackage{b}"]
    silent = Labels(tmp_path, model.identity, few(4), LabelConfig("usepackage", code_text="corpus"))
    assert silent.texts(np.array([2, 0]), model) == ["two", "zero"]


def test_code_is_looked_for_where_it_is_asked_for(tmp_path):
    model = reader("\\usepackage{a}", "b", "c")
    made = Labels(tmp_path, model.identity, few(3), LabelConfig("usepackage"))
    assert made.code().to_list() == [None] * 3
    made.detect_code(np.zeros(0, np.int64), model)
    assert model.read == []
    assert made.read(["code"])["is_code"].to_list() == [None] * 3
    for rows, known in (([2], [None, None, False]), ([0], [True, None, False])):
        made.detect_code(np.array(rows), model)
        assert made.read(["code"])["is_code"].to_list() == known
    assert model.read == [1, 1]
    assert made.path("code").name == "code-usepackage.parquet"


def test_a_file_is_what_it_was_made_from(tmp_path):
    """Not of another model, not of other sequences; whoever wants a damaged one gets it made again, and the damaged one is set aside."""
    one, other = (Labels(tmp_path, reader(fingerprint=name).identity, few(3)) for name in ("one", "other"))
    one.compute("rouge", None)
    assert one.has("rouge")
    assert not other.has("rouge")
    assert one.folder != other.folder
    table, origin = read_label_file(str(one.path("rouge")))
    assert table.columns == ["rouge_l", "rouge_3"]
    assert json.loads(origin) == one.identity == {"corpus": few(3).fingerprint, "k": 3, "llm": "one"}
    assert Labels(tmp_path, reader(fingerprint="one").identity, replace(few(3), k=2)).missing(["rouge"]) == ["rouge"]
    one.path("rouge").write_bytes(b"damaged")
    with pytest.warns(DamageWarning, match="moved to"):
        assert one.missing(["rouge"]) == ["rouge"]
    assert not one.path("rouge").exists()


def test_labels_are_kept_for_what_was_asked(tmp_path):
    made = Labels(tmp_path, reader().identity, few(2), LabelConfig("usepackage", code_model="words", code_text="corpus"), ending="_open")
    origins = {group: json.loads(made.made_from(group)) for group in ("memorized", "duplicates", "code")}
    assert origins["memorized"] == origins["duplicates"] == made.identity
    assert origins["code"] == {**made.identity, "code": "usepackage", "code_model": "words", "code_text": "corpus"}
    usual = Labels(tmp_path, reader().identity, few(2), LabelConfig("usepackage"))
    assert json.loads(usual.made_from("code")) == {**made.identity, "code": "usepackage", "code_model": None}
    assert [made.path(group).name for group in ("memorized", "duplicates", "rouge")] == [
        "memorized_open.parquet",
        "duplicates.parquet",
        "rouge.parquet",
    ]
    made.compute("memorized", reader())
    assert [each.missing(["memorized"]) for each in (made, usual)] == [[], ["memorized"]]


def test_what_another_model_was_told_is_taken_over(tmp_path, monkeypatch):
    one, other, third = (Labels(tmp_path, reader(fingerprint=name).identity, few(rows)) for name, rows in (("a", 3), ("b", 3), ("c", 4)))
    one.compute("rouge", None)
    never = {"rouge": lambda *_: pytest.fail("it was computed again")}
    monkeypatch.setattr(label, "AT_ONCE", never)
    other.compute("rouge", None)
    assert other.has("rouge")
    assert other.read(["rouge"]).equals(one.read(["rouge"]))
    with pytest.raises(pytest.fail.Exception):
        third.compute("rouge", None)
    with pytest.raises(KeyError):
        one.compute("templates", None)
