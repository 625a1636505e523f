"""Counting in documents with several processes, and in an index of infini-gram, against counting in one; and what is refused."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from conftest import refusal
from index_maker import make_index

from memgrid.config.schema import LabelConfig, RunConfig
from memgrid.config.validate import validate_counts
from memgrid.corpus import counting
from memgrid.corpus.corpus import Corpus
from memgrid.corpus.counting import Index, answer_of, count_duplicates, count_exactly, find_in_process, passages_in_documents
from memgrid.errors import UserError
from memgrid.io.paths import TOY

LENGTH = 64


def corpus_of(folder: Path, documents, sequences, row_group_size: int = 16) -> Corpus:
    """A corpus with these documents, written in small row groups, and these sequences."""
    tokens, copies = ([document[place] for document in documents] for place in (0, 1))
    table = pl.DataFrame({"tokens": pl.Series([part.tolist() for part in tokens], dtype=pl.List(pl.Int32)), "copies": copies})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "documents.parquet"
    table.with_columns(name=pl.format("d{}", pl.int_range(pl.len()))).write_parquet(path, row_group_size=row_group_size)
    sequences = np.asarray(sequences, np.int32)
    return Corpus("made", np.arange(len(sequences)), sequences, 2, path)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> tuple[Corpus, LabelConfig]:
    """A part of the embedded corpus, some documents of which have many copies, and an index of the same text."""
    table = pl.read_parquet(TOY / "documents.parquet").filter(pl.col("copies") > 0)
    table = pl.concat([table.head(80), table.filter(pl.col("copies") > 20).head(30), table.sort("copies").head(20)])
    documents = [(tokens.to_numpy(), copies) for tokens, copies in zip(table["tokens"], table["copies"], strict=True)]
    sequences = np.array(pl.read_parquet(TOY / "sequences.parquet")["tokens"].to_list()[:1500])
    folder = tmp_path_factory.mktemp("embedded")
    index = make_index(folder / "index", documents)
    return corpus_of(folder, documents, sequences), LabelConfig(counts="infini_gram", index=str(index))


def awkward(seed: int, top: int) -> tuple[list[tuple[np.ndarray, int]], np.ndarray]:
    """Documents of few different tokens, some shorter than a sequence, some in no copy, and sequences that overlap each other in them."""
    rng = np.random.default_rng(seed)
    alphabet = np.array([0, 1, top])
    documents = [(alphabet[rng.integers(0, 3, rng.integers(0, 30))], int(rng.integers(0, 4))) for _ in range(40)]
    documents += [(np.full(25, top), 2), (np.array([top] * 4), 1), (np.array([], np.int64), 5)]
    return documents, np.concatenate([alphabet[rng.integers(0, 3, (60, 4))], np.full((2, 4), top), [[0, 0, 0, 0]]])


def test_an_index_counts_what_the_documents_hold(embedded):
    corpus, config = embedded
    exact = count_exactly(corpus)
    assert (exact > 0).sum() > 20
    assert exact.max() > 20
    np.testing.assert_array_equal(count_duplicates(corpus, config), exact)


@pytest.mark.parametrize(("width", "shards"), [(2, 1), (4, 2)])
def test_an_index_of_awkward_documents_counts_the_same(tmp_path, width, shards):
    """Overlaps, the seams between documents, the highest token that fits, and an index in several parts."""
    documents, sequences = awkward(width, 2 ** (8 * width) // 2**8 - 3 if width == 4 else 2**16 - 2)
    corpus = corpus_of(tmp_path, documents, sequences)
    config = LabelConfig(counts="infini_gram", index=str(make_index(tmp_path / "index", documents, width, shards)))
    assert (Index.of(config).width, Index.of(config).shards) == (width, shards)
    np.testing.assert_array_equal(count_duplicates(corpus, config), count_exactly(corpus))


def test_several_processes_count_the_same(tmp_path):
    documents, sequences = awkward(7, 2)
    corpus = corpus_of(tmp_path, documents, sequences, row_group_size=3)
    alone = count_exactly(corpus)
    assert alone.max() > 10
    np.testing.assert_array_equal(count_exactly(corpus, processes=2), alone)
    damaged = corpus_of(tmp_path, [*documents, (np.array([1, -3]), 1)], sequences)
    assert refusal(count_exactly, damaged, 2) == refusal(count_exactly, damaged)


def test_small_documents_are_not_worth_another_process(embedded, monkeypatch):
    monkeypatch.setattr(counting, "sum_of", lambda *_: pytest.fail("another process was started"))
    count_exactly(embedded[0])
    count_exactly(embedded[0], processes=1)


def test_what_a_process_says(tmp_path, embedded):
    """Its shares one by one, then its numbers; a mistake in the documents; nothing, if it was killed."""
    documents, sequences = awkward(1, 2)
    corpus = corpus_of(tmp_path, documents, sequences)
    np.save(tmp_path / "tokens.npy", corpus.tokens)
    rows = len(documents)

    def said(corpus, shares):
        here, there = multiprocessing.Pipe(duplex=False)
        find_in_process(corpus, tmp_path / "tokens.npy", shares, there)
        there.close()
        return here

    pipe = said(corpus, [slice(0, 5), slice(5, rows)])
    assert [answer_of(pipe, None) for _ in range(2)] == [None, None]
    wanted = counting.Wanted(corpus.tokens)
    np.testing.assert_array_equal(wanted.counts(answer_of(pipe, None)), count_exactly(corpus))
    gone = SimpleNamespace(join=lambda: None, exitcode=-9)
    assert "ended with status -9: it may have been short of memory" in refusal(answer_of, pipe, gone)
    (tmp_path / "documents.parquet").write_bytes(b"PAR1 cut off")
    assert "cannot be read as parquet" in refusal(answer_of, said(corpus, [slice(0, 5)]), gone)
    with pytest.raises(RuntimeError, match="TypeError"):
        answer_of(said(replace(corpus, documents_path=3), [slice(0, 5)]), gone)


def spoiled(folder: Path, index: str, spoil) -> LabelConfig:
    """A copy of an index of which something is changed."""
    copy = Path(shutil.copytree(index, folder / "copy"))
    spoil(copy)
    return LabelConfig(counts="infini_gram", index=str(copy))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "table.0").unlink(), "it lacks table.0"),
        (lambda folder: shutil.rmtree(folder), "it lacks tokenized.0"),
        (lambda folder: (folder / "tokenized.0").rename(folder / "tokenized.1"), "it lacks tokenized.0"),
        (lambda folder: (folder / "table.0").write_bytes(b"123456"), "is damaged, the sizes of its files do not fit each other"),
        (lambda folder: (folder / "table.0").write_bytes(b""), "is damaged"),
        (lambda folder: (folder / "tokenized.0").write_bytes((folder / "tokenized.0").read_bytes()[:-2]), "is damaged"),
    ],
)
def test_half_an_index_is_refused(embedded, tmp_path, spoil, told):
    sentence = refusal(Index.of, spoiled(tmp_path, embedded[1].index, spoil))
    assert told in sentence
    assert str(tmp_path / "copy") in sentence


def test_an_index_of_other_text_or_another_tokenizer_is_refused(embedded):
    index = Index.of(embedded[1])
    assert "has none of the 3 sequences: it must have been built" in refusal(index.count, np.arange(192).reshape(3, 64) + 2000)
    assert "tokens of 2 bytes, which token 65535 does not fit" in refusal(index.count, np.full((1, 64), 65535))
    assert "token 70000 does not fit" in refusal(index.passages, np.full(64, 70000), 1, 1)


def test_an_index_is_known_by_what_its_files_hold(embedded, tmp_path):
    digest = counting.Index.of(embedded[1]).digest()
    other = spoiled(tmp_path, embedded[1].index, lambda folder: None)
    assert counting.Index.of(other).digest() == digest  # wherever it lies
    path = Path(str(other.index)) / "tokenized.0"
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x02")
    assert counting.Index.of(other).digest() != digest


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"counts": "infini_gram"}, "name its folder with label.index=<folder>"),
        ({"index": "/x"}, "label.index=/x is not read by label.counts=exact"),
    ],
)
def test_an_index_is_asked_for_and_named(given, told):
    assert told in refusal(validate_counts, LabelConfig(**given))


def test_without_the_package_it_is_told(monkeypatch):
    monkeypatch.setattr("memgrid.config.validate.find_spec", lambda name: None)
    assert "pip install 'memgrid[infini-gram]'" in refusal(validate_counts, LabelConfig(counts="infini_gram", index="/x"))
    validate_counts(RunConfig().label)


def test_passages_are_those_that_are_counted(embedded):
    """In the documents and in the index: as many, with the same tokens around them, and never beyond a document."""
    corpus, config = embedded
    exact = count_exactly(corpus)
    for row in [*np.argsort(exact)[-3:], int(np.flatnonzero(exact == 0)[0])]:
        total, told = passages_in_documents(corpus, corpus.tokens[row], 10**6, 5)
        assert total == exact[row] == sum(one.copies for one in told)
        in_index, there = Index.of(config).passages(corpus.tokens[row], 10**6, 5)
        assert in_index == total == len(there)
        around = sorted((one.before, one.after) for one in told for _ in range(one.copies))
        assert around == sorted((one.before, one.after) for one in there)
        assert len(passages_in_documents(corpus, corpus.tokens[row], 1, 5)[1]) == min(total, 1)
        assert len(Index.of(config).passages(corpus.tokens[row], 1, 5)[1]) == min(total, 1)


@pytest.mark.parametrize("seed", range(3))
def test_passages_in_awkward_documents(tmp_path, seed):
    documents, sequences = awkward(seed, 2)
    corpus = corpus_of(tmp_path, documents, sequences, row_group_size=3)
    for sequence in sequences[::6]:
        total, told = passages_in_documents(corpus, sequence, 10**6, 100)
        naive = [
            (row, at)
            for row, (tokens, copies) in enumerate(documents)
            for at in range(len(tokens) - 3)
            if copies and tokens[at : at + 4].tolist() == sequence.tolist()
        ]
        assert [one.document for one in told] == [
            f"row {row} of documents.parquet (name d{row}), token {at} of {len(documents[row][0])}" for row, at in naive
        ]
        assert [[*one.before, *sequence.tolist(), *one.after] for one in told] == [documents[row][0].tolist() for row, _ in naive]
        assert total == sum(documents[row][1] for row, _ in naive)


def test_a_corpus_without_documents_has_no_passages():
    with pytest.raises(UserError, match=r"has no documents\.parquet"):
        passages_in_documents(Corpus("bare", np.arange(1), np.zeros((1, 4), np.int32), 2, None), np.zeros(4, np.int32), 1, 1)
