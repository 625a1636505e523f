import hashlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.config.schema import CorpusConfig
from memgrid.corpus import corpus as module
from memgrid.corpus.corpus import Corpus, load_corpus
from memgrid.corpus.parquet import read_table
from memgrid.errors import UserError
from memgrid.io.paths import TOY


def table(**columns):
    return pl.DataFrame({"sequence_id": [1, 2], "tokens": [list(range(64)), list(range(1, 65))], **columns})


def load(folder):
    return load_corpus(CorpusConfig(name="mine", path=str(folder)))


def test_the_embedded_corpus_loads():
    corpus = load_corpus(CorpusConfig(name="toy", path=None))
    assert corpus.tokens.shape == (len(corpus.sequence_id), 64)
    assert corpus.prefix.shape[1] == corpus.suffix.shape[1] == 32
    assert sum(len(tokens) * copies for tokens, copies in corpus.documents()) > 10_000_000


def test_the_embedded_files_are_small():
    assert sum(path.stat().st_size for path in TOY.parent.rglob("*")) <= 64e6


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (table().drop("tokens"), "lacks the column 'tokens'"),
        (table().drop("sequence_id"), "lacks the column 'sequence_id'"),
        (table(tokens=["a", "b"]), "must hold lists of integers"),
        (table(sequence_id=["a", "b"]), "must hold integers"),
        (table(tokens=[[1] * 63, [2] * 63]), "63 to 63 tokens"),
        (table(tokens=[[1] * 64, [2] * 60]), "60 to 64 tokens"),
        (table(sequence_id=[1, 1]), "twice"),
        (table().head(0), "no rows"),
        (table(sequence_id=[1, None]), "column 'sequence_id' of .* has 1 nulls"),
        (table(tokens=[list(range(64)), None]), "column 'tokens' of .* has 1 nulls"),
        (table(tokens=[list(range(64)), [None] * 64]), "null within a list"),
        (table(tokens=[list(range(64)), [2**31] * 64]), "too large: .*2147483648"),
    ],
)
def test_wrong_tables_get_one_sentence(tmp_path, made, words):
    made.write_parquet(tmp_path / "sequences.parquet")
    with pytest.raises(UserError, match=words) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(UserError, match="no file"):
        load(tmp_path / "nowhere")
    (tmp_path / "sequences.parquet").write_text("not parquet at all")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        load(tmp_path)


def test_groups_that_stay_together_are_read_where_they_are_brought(tmp_path):
    table().write_parquet(tmp_path / "sequences.parquet")
    plain = load(tmp_path)
    table().with_columns(split_group=pl.Series([3, -1])).write_parquet(tmp_path / "sequences.parquet")
    grouped = load(tmp_path)
    assert plain.together is None
    assert grouped.together.tolist() == [3, -1]
    assert grouped.fingerprint != plain.fingerprint


def test_damaged_rows_are_named(tmp_path):
    table().write_parquet(tmp_path / "sequences.parquet")
    content = bytearray((tmp_path / "sequences.parquet").read_bytes())
    content[4:200] = bytes(196)
    (tmp_path / "sequences.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"sequences.parquet cannot be read as parquet") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_wrong_documents_are_refused_at_once(tmp_path):
    table().write_parquet(tmp_path / "sequences.parquet")
    pl.DataFrame({"tokens": [[1]]}).write_parquet(tmp_path / "documents.parquet")
    with pytest.raises(UserError, match=r"documents.parquet lacks the column 'copies'"):
        load(tmp_path)


def test_a_folder_whose_name_is_a_pattern(tmp_path):
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    table().write_parquet(folder / "sequences.parquet")
    assert len(load(folder).tokens) == 2


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=3, max_size=3), min_size=1, max_size=9), st.sampled_from(["list", "array"]))
def test_tokens_are_read_as_they_were_written(tmp_path_factory, rows, stored):
    folder = tmp_path_factory.mktemp("tokens")
    dtype = pl.List(pl.UInt32) if stored == "list" else pl.Array(pl.Int64, 3)
    ids = [7 * row - 10 for row in range(len(rows))]
    made = pl.DataFrame({"sequence_id": ids, "tokens": pl.Series(rows, dtype=dtype)})
    made.write_parquet(folder / "sequences.parquet", row_group_size=2)
    corpus = load_corpus(CorpusConfig(name="mine", path=str(folder), k=1, length=3))
    assert corpus.tokens.tolist() == rows
    assert corpus.sequence_id.tolist() == ids
    assert (corpus.tokens.dtype, corpus.sequence_id.dtype) == (np.int32, np.int64)
    assert [corpus.tokens[corpus.rows_of(np.array([one]))[0]].tolist() for one in ids] == rows


def test_only_the_wanted_columns_are_read(tmp_path):
    table(text=["a", "b"]).write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", {"text": "strings"}).columns == ["text"]
    with pytest.raises(UserError, match=r"lacks the column 'body'.*: look elsewhere"):
        read_table(tmp_path / "t.parquet", {"body": "strings"}, ": look elsewhere")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.lists(st.integers(0, 2**31 - 1), max_size=9), st.integers(0, 3)), max_size=20), st.data())
def test_documents_come_as_they_were_written_whatever_the_parts(tmp_path_factory, documents, data):
    folder = tmp_path_factory.mktemp("documents")
    table().write_parquet(folder / "sequences.parquet")
    schema = {"tokens": pl.List(pl.Int64), "copies": pl.Int32}
    pl.DataFrame(documents, schema=schema, orient="row").write_parquet(folder / "documents.parquet", row_group_size=3)
    corpus = load(folder)
    expected = [(tokens, copies) for tokens, copies in documents if tokens and copies]
    cut = data.draw(st.integers(0, len(documents)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_TOKENS", data.draw(st.integers(1, 40)))
        patch.setattr(module, "FIRST_ROWS", data.draw(st.integers(1, 5)))
        made = list(corpus.documents())
        halves = [*corpus.documents(slice(cut)), *corpus.documents(slice(cut, None))]
    assert all(tokens.dtype == np.int32 for tokens, _ in made)
    for found in (made, halves):
        assert [(tokens.tolist(), copies) for tokens, copies in found] == expected


@pytest.mark.parametrize(
    ("tokens", "copies", "words"),
    [
        ([[1], None], [1, 1], "column 'tokens' of .* has 1 nulls"),
        ([[1], [2, None]], [1, 1], "column 'tokens' of .* has a null within a list"),
        ([[1], [2, 2**31 + 5]], [1, 1], "too large: .*2147483653"),
        ([[1], [2, -7]], [1, 1], "column 'tokens' of .* has -7, which is no token id"),
        ([[1], []], [1, None], "column 'copies' of .* has 1 nulls"),
        ([[1], [2]], [1, -3], "column 'copies' of .* has -3: say how often"),
    ],
)
def test_wrong_documents_get_one_sentence(tmp_path, tokens, copies, words):
    table().write_parquet(tmp_path / "sequences.parquet")
    pl.DataFrame({"tokens": tokens, "copies": copies}).write_parquet(tmp_path / "documents.parquet")
    with pytest.raises(UserError, match=words) as caught:
        list(load(tmp_path).documents())
    assert "\n" not in str(caught.value)
    assert "documents.parquet" in str(caught.value)
    assert ". " not in str(caught.value)


def test_long_documents_are_read_few_at_a_time(tmp_path, monkeypatch):
    table().write_parquet(tmp_path / "sequences.parquet")
    pl.DataFrame({"tokens": [[1] * 1000] * 400, "copies": 1}).write_parquet(tmp_path / "documents.parquet")
    monkeypatch.setattr(module, "PART_TOKENS", 8000)
    monkeypatch.setattr(module, "FIRST_ROWS", 4)
    parts = list(module.document_parts(load(tmp_path).documents_path, 0, 400))
    assert [len(part) for part in parts[:3]] == [4, 8, 8]
    assert sum(map(len, parts)) == 400


def test_documents_are_asked_for_only_when_needed(tmp_path):
    table().write_parquet(tmp_path / "sequences.parquet")
    corpus = load(tmp_path)
    with pytest.raises(UserError, match="has no documents"):
        list(corpus.documents())


def test_the_fingerprint_follows_the_tokens(tmp_path):
    table().write_parquet(tmp_path / "sequences.parquet")
    first = load(tmp_path).fingerprint
    table(tokens=[list(range(64)), list(range(2, 66))]).write_parquet(tmp_path / "sequences.parquet")
    assert load(tmp_path).fingerprint != first


def test_fingerprints_stay_what_they_were():
    ids, tokens = np.arange(3), np.arange(12, dtype=np.int32).reshape(3, 4)
    expected = hashlib.sha256(ids.tobytes() + tokens.tobytes()).hexdigest()[:16]
    assert Corpus("c", ids, tokens, 2, None).fingerprint == Corpus("c", ids, tokens, 2, None, {}).fingerprint == expected
    assert Corpus("c", ids, np.asfortranarray(tokens), 2, None).fingerprint == expected


def test_the_fingerprint_follows_the_given_labels():
    ids, tokens, flags = np.arange(3), np.zeros((3, 4), np.int32), np.array([True, False, True])
    labels = [{}, {"memorized": flags}, {"memorized": ~flags}, {"is_repeating": flags}, {"memorized": flags, "is_repeating": flags}]
    prints = [Corpus("c", ids, tokens, 2, None, one).fingerprint for one in labels]
    assert len(set(prints)) == len(labels)
    assert Corpus("c", ids, tokens, 2, None, dict(reversed(labels[-1].items()))).fingerprint == prints[-1], "the order of the dict"


def test_a_document_is_named_by_a_few_words_of_its_other_columns(tmp_path):
    path = tmp_path / "documents.parquet"
    pl.DataFrame({"tokens": [[1], [2]], "copies": [1, 1], "id": [7, 8], "text": ["short", "long " * 1000]}).write_parquet(path)
    corpus = Corpus("c", np.zeros(1, np.int64), np.zeros((1, 64), np.int32), 32, path)
    assert corpus.name_of(0) == "row 0 of documents.parquet (id 7, text short)"
    assert corpus.name_of(1).startswith("row 1 of documents.parquet (id 8, text long long")
    assert len(corpus.name_of(1)) < 150
