from functools import partial
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from conftest import refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_filters_maker import SPLITS, config, make_semantic_filters, rows

from memgrid.config.schema import CorpusConfig
from memgrid.corpus import corpus as module
from memgrid.corpus import published
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.parquet import read_parts
from memgrid.corpus.published import FORMATS, load_published
from memgrid.label.rouge import rouge_scores


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_semantic_filters(tmp_path_factory.mktemp("dataset"), 2000)


def test_rows_and_labels_are_the_files(dataset):
    corpus = load_published(config(dataset))
    parts = [
        pl.read_parquet(dataset / "data" / f"{split}-00000-of-00001.parquet", columns=list(FORMATS["semantic_filters"].columns))
        for split in SPLITS
    ]
    expected = pl.concat(parts).unique("sequence_id", keep="first", maintain_order=True)
    assert len(expected) < sum(map(len, parts)) == 2000
    np.testing.assert_array_equal(corpus.sequence_id, expected["sequence_id"])
    np.testing.assert_array_equal(corpus.tokens, expected["tokens"].to_list())
    np.testing.assert_array_equal(corpus.given["memorized"], expected["memorization_score"] == 1)
    np.testing.assert_array_equal(corpus.given["duplicates"], expected["sequence_duplicates"])
    for name in ("is_repeating", "is_incrementing"):
        np.testing.assert_array_equal(corpus.given[name], expected[name])
    types = {name: str(column.dtype) for name, column in corpus.given.items()}
    assert types == {"memorized": "bool", "duplicates": "int64", "is_repeating": "bool", "is_incrementing": "bool"}
    assert (corpus.tokens.dtype, corpus.sequence_id.dtype, corpus.documents_path) == (np.uint16, np.int64, None)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=3))
def test_of_rows_with_the_same_id_the_first_stays(tmp_path_factory, splits):
    folder = tmp_path_factory.mktemp("splits")
    seen = {}
    for number, ids in enumerate(splits):
        places = [100 * number + row for row in range(len(ids))]
        rows(ids, sequence_duplicates=places).write_parquet(folder / f"s{number}.parquet")
        for sequence_id, place in zip(ids, places, strict=True):
            seen.setdefault(sequence_id, place)
    corpus = load_published(config(folder, [f"s{number}" for number in range(len(splits))]))
    assert dict(zip(corpus.sequence_id.tolist(), corpus.given["duplicates"].tolist(), strict=True)) == seen
    assert corpus.sequence_id.tolist() == list(seen)
    assert len(corpus.tokens) == len(seen)


def test_only_needed_columns_are_asked_for(tmp_path):
    rows([1, 2]).write_parquet(tmp_path / "one.parquet")
    assert len(load_published(config(tmp_path, ["one"])).tokens) == 2


def test_the_fingerprint_follows_the_labels(tmp_path):
    digests = set()
    for score in (1.0, 0.5):
        rows([1, 2], memorization_score=[1.0, score]).write_parquet(tmp_path / "one.parquet")
        digests.add(load_published(config(tmp_path, ["one"])).fingerprint)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (rows([1]).drop("memorization_score"), ["lacks the column 'memorization_score' (numbers)", "it has sequence_id, tokens"]),
        (rows([1], tokens=["a"]), ["column 'tokens'", "must hold lists of integers, not String"]),
        (rows([1], tokens=[[0.5] * 64]), ["must hold lists of integers, not List(Float64)"]),
        (rows([1], is_repeating=[1]), ["column 'is_repeating'", "must hold booleans, not Int64"]),
        (rows([1], tokens=[[1] * 63]), ["corpus.length=64 tokens", "63 to 63 tokens"]),
        (rows([1], tokens=[[1] * 63 + [None]]), ["no rows without a null"]),
        (rows([1], tokens=[[1] * 63 + [2**40]]), ["too large", str(2**40)]),
        (rows([1]).clear(), ["no rows"]),
    ],
)
def test_wrong_files_get_one_sentence(tmp_path, made, words):
    made.write_parquet(tmp_path / "one.parquet")
    sentence = refusal(load_published, config(tmp_path, ["one"]))
    assert all(word in sentence for word in [*words, str(tmp_path / "one.parquet")]), sentence


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([None, None, "within", *FORMATS["semantic_filters"].columns])), max_size=16),
    st.data(),
)
def test_rows_with_a_null_are_left_out_and_counted(tmp_path_factory, made, data):
    """Whatever the files, the row groups and the parts in which they are read: of complete rows with the same id the first stays."""
    folder, expected, seen, nulls = tmp_path_factory.mktemp("nulls"), [], set(), 0
    cuts = sorted(data.draw(st.lists(st.integers(0, len(made)), max_size=3)))
    records = []
    for place, (sequence_id, lack) in enumerate(made):
        record = {name: column[0] for name, column in rows([sequence_id], sequence_duplicates=[place]).to_dict(as_series=False).items()}
        record["tokens"] = [place % 7] * 63 + [None if lack == "within" else place]
        records.append({**record, lack: None} if lack not in (None, "within") else record)
        if lack is not None:
            nulls += 1
        elif sequence_id not in seen:
            seen.add(sequence_id)
            expected.append((sequence_id, place))
    for number, (start, end) in enumerate(pairwise([0, *cuts, len(made)])):
        part = pl.DataFrame(records[start:end], schema=rows([1]).schema)
        part.write_parquet(folder / f"one-{number:05d}-of-{len(cuts) + 1:05d}.parquet", row_group_size=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "read_parts", partial(read_parts, rows=data.draw(st.integers(1, 9))))
        patch.setattr(published, "BLOCK_ROWS", 4)
        if not expected:
            assert "no rows" in refusal(load_published, config(folder, ["one"]))
            return
        corpus = load_published(config(folder, ["one"]))
    assert corpus.left_out == nulls
    assert list(zip(corpus.sequence_id.tolist(), corpus.given["duplicates"].tolist(), strict=True)) == expected
    assert corpus.tokens[:, -1].tolist() == [place for _, place in expected]


def test_token_ids_take_four_bytes_where_two_are_too_few(tmp_path):
    for number, last in enumerate((1, 65_535, 65_536, 2**31 - 1)):
        rows([number], tokens=[[7] * 63 + [last]]).write_parquet(tmp_path / f"s{number}.parquet")
    narrow, wide = (load_published(config(tmp_path, [f"s{number}" for number in numbers])) for numbers in (range(2), range(4)))
    assert (narrow.tokens.dtype, wide.tokens.dtype) == (np.uint16, np.int32)
    assert wide.tokens[:, -1].tolist() == [1, 65_535, 65_536, 2**31 - 1]
    both = [Corpus("c", narrow.sequence_id, tokens, 32, None) for tokens in (narrow.tokens, narrow.tokens.astype(np.int32))]
    assert both[0].fingerprint == both[1].fingerprint, "the bytes in memory are nobody's business"
    assert (narrow.token_range, wide.token_range) == ((1, 65_535), (1, 2**31 - 1))


@settings(max_examples=25)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=25), st.lists(st.integers(0, 30), max_size=12), st.integers(1, 9))
def test_the_texts_are_those_of_the_rows(tmp_path_factory, ids, asked, part):
    folder = tmp_path_factory.mktemp("texts")
    texts = [None if place % 5 == 4 else f"text {place}" for place in range(len(ids))]
    whole = rows(ids, text=texts, is_repeating=[None if place % 7 == 6 else False for place in range(len(ids))])
    whole.head(4).write_parquet(folder / "a.parquet")
    whole.slice(4).write_parquet(folder / "b.parquet")
    corpus = load_published(config(folder, ["a"] if len(ids) < 5 else ["a", "b"]))
    wanted = np.array(asked, np.int64) % len(corpus.sequence_id)
    places = corpus.tokens[:, 0].tolist()  # each row's tokens are its place
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read_parts", partial(read_parts, rows=part))
        assert corpus.texts.of(wanted) == [texts[places[row]] for row in wanted]


def test_a_dataset_without_its_text_is_refused_when_it_is_asked_for(tmp_path):
    rows([1]).write_parquet(tmp_path / "one.parquet")
    corpus = load_published(config(tmp_path, ["one"]))
    assert "lacks the column 'text' (strings)" in refusal(corpus.texts.of, np.array([0]))


def evals(ids, **columns):
    """Rows of EleutherAI/pythia-memorized-evals."""
    return pl.DataFrame({"index": ids, "tokens": [[one] * 64 for one in ids], "__index_level_0__": ids} | columns)


def test_what_only_other_models_memorized_is_not_memorized(tmp_path):
    evals([3, 1]).write_parquet(tmp_path / "deduped.12b-00000-of-00001-1234abcd.parquet")
    evals([1, 9]).write_parquet(tmp_path / "deduped.70m-00000-of-00001-1234abcd.parquet")
    evals([1]).write_parquet(tmp_path / "deduped.12b.23000-00000-of-00001-1234abcd.parquet")
    asked = config(tmp_path, ["deduped_12b", "deduped_70m"], kind="memorized_evals")
    corpus = load_published(asked)
    assert corpus.sequence_id.tolist() == [3, 1, 9]
    assert corpus.given.keys() == {"memorized"}
    assert corpus.given["memorized"].tolist() == [True, True, False]
    assert corpus.texts is None
    assert corpus.tokens[:, 0].tolist() == [3, 1, 9]
    early = load_published(config(tmp_path, ["deduped.12b.step23000"], kind="memorized_evals"))
    assert early.sequence_id.tolist() == [1]
    assert "mixes deduped and duped" in refusal(load_published, config(tmp_path, ["deduped.12b", "duped.12b"], kind="memorized_evals"))


@pytest.mark.parametrize("damage", [slice(4, 400), slice(None), slice(-8, None)])
def test_damaged_parquet_is_named(tmp_path, damage):
    rows([1, 2]).write_parquet(tmp_path / "one.parquet")
    content = bytearray((tmp_path / "one.parquet").read_bytes())
    content[damage] = bytes(len(content[damage]))
    (tmp_path / "one.parquet").write_bytes(content)
    sentence = refusal(load_published, config(tmp_path, ["one"]))
    assert "cannot be read as parquet" in sentence
    assert "one.parquet" in sentence


def test_settings_that_cannot_be(dataset, tmp_path):
    assert "corpus.k=16" in refusal(load_published, config(dataset, k=16))
    assert "corpus.length=48" in refusal(load_published, config(dataset, length=48))
    assert "corpus.splits is empty" in refusal(load_published, config(dataset, []))
    assert "nowhere is no folder" in refusal(load_published, config(tmp_path / "nowhere"))
    assert "corpus.path=None is no folder" in refusal(load_published, CorpusConfig(name="a", path=None, splits=["a"]))


# The invented rows.


def test_the_invented_rows_look_like_the_real_ones(tmp_path):
    corpus = load_published(config(make_semantic_filters(tmp_path, 10_000)))
    memories = np.arange(len(corpus.tokens)) < 4000
    memorized, duplicates = corpus.given["memorized"], corpus.given["duplicates"]
    assert memorized[memories].all()
    assert 0.002 < memorized[~memories].mean() < 0.02
    assert duplicates.max() > 1e5
    assert np.median(duplicates[~memories]) < 2
    assert 0.12 < corpus.given["is_repeating"][memories].mean() < 0.18
    assert 0.06 < corpus.given["is_incrementing"][memories].mean() < 0.10
    assert 0 <= corpus.tokens.min() < corpus.tokens.max() < 50_000
    rouge_l, _ = rouge_scores(corpus.tokens[memories, :32], corpus.tokens[memories, 32:])
    assert np.histogram(rouge_l, bins=10, range=(0, 1))[0].min() > 20
    assert 10 < 4000 - len(np.unique(corpus.tokens[memories], axis=0)) < 200


def test_the_invented_rows_follow_the_seed(tmp_path):
    made = [make_semantic_filters(tmp_path / name, 500, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    prints = [load_published(config(folder)).fingerprint for folder in made]
    assert prints[0] == prints[1] != prints[2]
