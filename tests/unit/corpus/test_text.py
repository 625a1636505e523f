import gzip
import io
import itertools
import json
import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from memgrid.config.schema import CorpusConfig
from memgrid.corpus import text
from memgrid.corpus.corpus import load_corpus
from memgrid.corpus.documents import text_files
from memgrid.corpus.ngrams import count_occurrences
from memgrid.corpus.text import digest, pieces, prepare_text, tokenize
from memgrid.errors import UserError
from memgrid.io import files
from memgrid.io.paths import TOY

WORDS = "the cat sat on a mat and then it counted one two three four five six seven eight nine ten"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TOY)


@pytest.fixture(scope="module")
def prose(tokenizer):
    """Real text, 300,000 characters."""
    table = pl.read_parquet(TOY / "documents.parquet", columns=["tokens"]).head(120)
    return "".join(tokenizer.decode(tokens) for tokens in table["tokens"].to_list())[:300_000]


def config(path, length=8, **settings):
    return CorpusConfig(name="mine", path=str(path), kind="text", length=length, k=length // 2, **settings)


def tables(folder):
    return [pl.read_parquet(folder / name) for name in ("documents.parquet", "sequences.parquet")]


def ids_of(tokenizer, document):
    return tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]


documents_strategy = st.lists(st.sampled_from(["", "a", WORDS, WORDS[:60], WORDS[4:]]) | st.text("ab é\n\t한<|>", max_size=60), max_size=12)


@settings(max_examples=60)
@given(documents_strategy, st.integers(2, 7))
def test_documents_and_sequences_are_what_they_are_defined_to_be(tmp_path_factory, tokenizer, documents, length):
    folder = tmp_path_factory.mktemp("text")
    pl.DataFrame({"text": documents}, schema={"text": pl.String}).write_parquet(folder / "mine.parquet")
    tokens = {document: tuple(ids_of(tokenizer, document)) for document in documents}
    cuts = [ids[start : start + length] for ids in tokens.values() for start in range(0, len(ids) - length + 1, length)]
    if not cuts:
        assert "no document of corpus.length" in refusal(prepare_text, config(folder, length), tokenizer, folder / "out")
        return
    place = prepare_text(config(folder, length), tokenizer, folder / "out")
    table, sequences = tables(place)
    copies = Counter(documents)
    assert list(zip(map(tuple, table["tokens"].to_list()), table["copies"].to_list(), strict=True)) == [
        (ids, copies[document]) for document, ids in tokens.items() if ids
    ]
    assert list(map(tuple, sequences["tokens"].to_list())) == list(dict.fromkeys(cuts))
    assert sequences["sequence_id"].to_list() == list(range(len(sequences)))
    corpus = load_corpus(config(place, length))
    counted = count_occurrences(corpus.tokens, corpus.documents())
    in_its_place = Counter()
    for document, ids in tokens.items():
        for start in range(0, len(ids) - length + 1, length):
            in_its_place[ids[start : start + length]] += copies[document]
    assert all(count >= in_its_place[tuple(row)] >= 1 for row, count in zip(corpus.tokens.tolist(), counted, strict=True))


def test_types_are_those_of_tables(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text(WORDS)
    table, sequences = tables(prepare_text(config(tmp_path), tokenizer, tmp_path / "out"))
    assert dict(table.schema) == {"tokens": pl.List(pl.Int32), "copies": pl.Int64}
    assert dict(sequences.schema) == {"sequence_id": pl.Int64, "tokens": pl.List(pl.Int32)}


def test_all_kinds_of_files_hold_the_same_documents(tmp_path, tokenizer):
    documents = [WORDS, f"{WORDS} é\r\n", WORDS, "\n\nshort"]
    kinds = ("txt", "jsonl", "gz", "zst", "parquet")
    for name in kinds:
        (tmp_path / name).mkdir()
    for number, document in enumerate(documents):
        (tmp_path / "txt" / f"{number}.txt").write_bytes(document.encode())
    lines = [json.dumps({"id": 1, "body": document}, ensure_ascii=number % 2 == 0) for number, document in enumerate(documents)]
    (tmp_path / "jsonl" / "a.JSONL").write_text("\n \n".join(lines))
    (tmp_path / "gz" / "a.jsonl.gz").write_bytes(b"".join(gzip.compress(f"{line}\n".encode(), mtime=0) for line in lines))
    table = pl.DataFrame({"id": 1, "body": documents})
    table.lazy().sink_ndjson(tmp_path / "zst" / "a.jsonl.zst", compression="zstd")
    table.write_parquet(tmp_path / "parquet" / "a.parquet")
    made = [tables(prepare_text(config(tmp_path / name, column="body"), tokenizer, tmp_path / "out")) for name in kinds]
    assert all(left.equals(right) for other in made[1:] for left, right in zip(made[0], other, strict=True))
    assert made[0][0]["copies"].to_list() == [2, 1, 1]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_says_how_often_the_model_has_read_a_document(tmp_path, tokenizer, kind):
    """Hubble's data: inserted 0 to 256 times, which decides duplicates, and cut into sequences whatever it says."""
    table = pl.DataFrame({"text": [WORDS, f"{WORDS}!", f"{WORDS}?", WORDS], "duplicates": [4, 0, 256, 1], "meta": "{}"})
    table.write_parquet(tmp_path / "a.parquet") if kind == "parquet" else table.write_ndjson(tmp_path / "a.jsonl")
    place = prepare_text(config(tmp_path, copies="duplicates"), tokenizer, tmp_path / "out")
    assert tables(place)[0]["copies"].to_list() == [5, 0, 256]
    corpus = load_corpus(config(place))
    counted = count_occurrences(corpus.tokens, corpus.documents())
    assert counted.max() == 261
    last = np.array(ids_of(tokenizer, f"{WORDS}!")[-8:])
    assert not counted[(corpus.tokens == last).all(1)].any()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"text": "a"}', ["line 1 of", "no whole number in 'duplicates'"]),
        ("a.jsonl", b'{"text": "a", "duplicates": true}', ["no whole number in 'duplicates'"]),
        ("a.jsonl", b'{"text": "a", "duplicates": -1}', ["line 1 of", "has -1 in 'duplicates'"]),
    ],
)
def test_wrong_copies_get_one_sentence(tmp_path, tokenizer, name, content, words):
    (tmp_path / name).write_bytes(content)
    sentence = refusal(prepare_text, config(tmp_path, copies="duplicates"), tokenizer, tmp_path / "out")
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("columns", [{"text": ["a"]}, {"text": ["a"], "duplicates": ["4"]}, {"text": ["a"], "duplicates": [-4]}])
def test_a_table_without_its_copies_gets_one_sentence(tmp_path, tokenizer, columns):
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    assert "'duplicates'" in refusal(prepare_text, config(tmp_path, copies="duplicates"), tokenizer, tmp_path / "out")


def test_a_data_set_is_read_by_its_splits(tmp_path, tokenizer):
    (tmp_path / "data").mkdir()
    for split, copies in (("train", 16), ("test", 0), ("other", 1)):
        table = pl.DataFrame({"text": [f"{split} {WORDS}"], "duplicates": [copies]})
        table.write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    asked = config(tmp_path, copies="duplicates", splits=["train", "test"])
    assert tables(prepare_text(asked, tokenizer, tmp_path / "out"))[0]["copies"].to_list() == [16, 0]
    hub = config("hf://datasets/allegrolab/passages_wikipedia")
    assert "say which of its splits to read" in refusal(prepare_text, hub, tokenizer, tmp_path / "out")


def test_files_are_found_below_the_folder_and_come_sorted(tmp_path, tokenizer):
    for name in ("b.txt", "a/z.txt", "a/a.txt", ".git/c.txt", "a/.d.txt", "out/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name} {WORDS}")
    (tmp_path / "notes.md").write_text("no text for us")
    found = text_files(config(tmp_path), tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/a.txt", "a/z.txt", "b.txt"]
    table, _ = tables(prepare_text(config(tmp_path), tokenizer, tmp_path / "out"))
    assert [tokenizer.decode(tokens)[:5] for tokens in table["tokens"].to_list()] == ["a/a.t", "a/z.t", "b.txt"]
    table, _ = tables(prepare_text(config(tmp_path / "b.txt"), tokenizer, tmp_path / "out"))
    assert len(table) == 1


def test_a_byte_order_mark_is_no_text(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text(WORDS, encoding="utf-8-sig")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": WORDS}), encoding="utf-8-sig")
    table, _ = tables(prepare_text(config(tmp_path), tokenizer, tmp_path / "out"))
    assert table["copies"].to_list() == [2]


# Long documents are tokenized in pieces.


def once(*documents):
    return [(document, 1) for document in documents]


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_pieces_do_not_change_the_tokens(monkeypatch, tokenizer, prose, size):
    monkeypatch.setattr(text, "PIECE_CHARACTERS", size)
    monkeypatch.setattr(text, "BATCH_CHARACTERS", 20 * size)
    part = prose[: 2000 * min(size, 20)]
    made = tokenize([(part, 1), (WORDS, 3), (part, 2), (WORDS[:9], 0)], tokenizer)
    assert len(list(pieces(part, tokenizer))) > 5
    np.testing.assert_array_equal(made.tokens[: made.ends[0]], ids_of(tokenizer, part))
    np.testing.assert_array_equal(made.tokens[made.ends[0] : made.ends[1]], ids_of(tokenizer, WORDS))
    assert made.copies.tolist() == [3, 3, 0]


@pytest.mark.parametrize("part", ["if a:\n    b = 1  # two  spaces\n\n\n    c", "a \n b\n\tc \n\n d  e", "one\r\ntwo   \n three"])
def test_pieces_do_not_change_white_space(monkeypatch, tokenizer, part):
    monkeypatch.setattr(text, "PIECE_CHARACTERS", 1)
    part = part * 20
    np.testing.assert_array_equal(tokenize(once(part), tokenizer).tokens, ids_of(tokenizer, part))


def llama(model):
    """As sentencepiece in Llama 2 and Mistral: a sign before the text, and no words."""
    model.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def gemma(model):
    """No sign before the text, and no words: tokens can go from one word into the next."""
    model.normalizer = normalizers.Replace(" ", "▁")


def metaspace(model):
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")


def always(model):
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")


def bert(model):
    model.normalizer = normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()


def words(model):
    model.pre_tokenizer = pre_tokenizers.Whitespace()


def gpt(model):
    model.normalizer = normalizers.NFKC()
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def prefixed(model):
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def stripped(model):
    model.normalizer = normalizers.Strip()
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")


KINDS = [
    *((setting, "bpe") for setting in (llama, gemma, metaspace, always, gpt, prefixed, stripped)),
    *((setting, "unigram") for setting in (llama, metaspace, always, gemma)),
    *((setting, "wordpiece") for setting in (bert, words)),
]


@pytest.fixture(scope="module")
def trained(prose):
    """Tiny tokenizers of every kind, trained on a little prose."""
    cached = {}

    def make(setting, algorithm):
        if (setting, algorithm) not in cached:
            signs = {"special_tokens": ["<unk>", "<s>"], "show_progress": False}
            model, trainer = {
                "bpe": (models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=300, max_token_length=8, **signs)),
                "unigram": (models.Unigram(), trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", **signs)),
                "wordpiece": (models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer(vocab_size=300, **signs)),
            }[algorithm]
            made = Tokenizer(model)
            setting(made)
            made.train_from_iterator([prose[start : start + 120] for start in range(0, 12_000, 120)], trainer)
            cached[setting, algorithm] = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>")
        return cached[setting, algorithm]

    return make


@pytest.mark.parametrize(("setting", "algorithm"), KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_seams_are_proven_for_every_kind_of_tokenizer(trained, prose, setting, algorithm, data):
    """Whatever the tokenizer: the tokens are those of the whole text."""
    fragment = st.builds(lambda at, size: prose[at : at + size], st.integers(0, 50_000), st.integers(1, 700))
    odd = st.text(" \n\ta한éＡ<s>▁", max_size=30)
    rhythm = st.builds(lambda unit, times: unit * times, st.sampled_from(["a ", "of the ", "aa", " a\n", "x▁ y "]), st.integers(1, 300))
    document = "".join(data.draw(st.lists(st.one_of(fragment, odd, rhythm), min_size=1, max_size=6)))
    made = trained(setting, algorithm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PIECE_CHARACTERS", data.draw(st.sampled_from([1, 30, 300])))
        patch.setattr(text, "SEAM_CHARACTERS", data.draw(st.sampled_from([64, 512])))
        found = tokenize(once(document), made).tokens
    assert found.tolist() == ids_of(made, document)


@pytest.mark.parametrize(("setting", "whole"), [(llama, True), (gpt, False), (metaspace, False)])
def test_only_where_seams_hold_is_a_document_taken_apart(monkeypatch, trained, setting, whole):
    monkeypatch.setattr(text, "PIECE_CHARACTERS", 20)
    document = f"{WORDS} " * 5
    assert (len(list(pieces(document, trained(setting, "bpe")))) == 1) is whole


def test_nothing_is_added_nor_cut_nor_warned_of(monkeypatch, caplog, prose):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    special = AutoTokenizer.from_pretrained(TOY)
    plain = ids_of(special, prose[:2000])
    special.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    special.model_max_length = 8
    assert special(WORDS, verbose=False)["input_ids"][0] == 0
    assert tokenize(once(prose[:2000]), special).tokens.tolist() == plain
    assert not caplog.records


@settings(max_examples=100)
@given(st.text(" \n\ta한", max_size=60), st.integers(1, 9))
def test_pieces_are_the_text(tokenizer, given_text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PIECE_CHARACTERS", size)
        found = list(pieces(given_text, tokenizer))
        assert "".join(found) == given_text
        assert all(len(piece) >= size for piece in found[:-1])


# Prepared once, whole or not at all.


class Unasked:
    """A tokenizer that must not be needed again."""

    def __init__(self, tokenizer):
        self.backend_tokenizer = tokenizer.backend_tokenizer

    def __call__(self, *arguments, **settings):
        raise AssertionError("prepared twice")


def test_a_second_call_returns_at_once(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text(WORDS)
    first = prepare_text(config(tmp_path), tokenizer, tmp_path / "out")
    (tmp_path / "a.txt").rename(tmp_path / "renamed.txt")
    assert prepare_text(config(tmp_path), Unasked(tokenizer), tmp_path / "out") == first


def test_the_folder_follows_everything_that_decides_the_result(tmp_path, tokenizer):
    def named(settings=None, tokenizer=tokenizer, content=WORDS, suffix="txt"):
        for old in tmp_path.iterdir():
            old.unlink()
        (tmp_path / f"a.{suffix}").write_text(content)
        changed = config(tmp_path, **(settings or {}))
        return digest(text_files(changed, tmp_path / "out"), tokenizer, changed)

    usual = named()
    other = AutoTokenizer.from_pretrained(TOY)
    other.add_tokens(["counted"])
    line = json.dumps({"text": WORDS})
    names = [
        usual,
        named({"length": 4}),
        named({"column": "body"}),
        named({"copies": "duplicates"}),
        named(tokenizer=other),
        named(content=WORDS + " "),
        named(content=line),
    ]
    names.append(named(content=line, suffix="jsonl"))
    assert len(set(names)) == len(names)
    padding = AutoTokenizer.from_pretrained(TOY)
    padding.backend_tokenizer.enable_padding()
    padding.backend_tokenizer.enable_truncation(5)
    assert named(tokenizer=padding) == usual, "what a call sets and the next one resets"
    assert prepare_text(config(tmp_path), padding, tmp_path / "out").name == usual


def test_a_tokenizer_without_a_backend_is_known_by_its_vocabulary(tmp_path):
    class Slow:
        def __init__(self, vocabulary):
            self.vocabulary = vocabulary

        def get_vocab(self):
            return self.vocabulary

    (tmp_path / "a.txt").write_text(WORDS)
    vocabularies = ({"a": 0, "b": 1}, {"b": 1, "a": 0}, {"a": 1, "b": 0})
    one, same, other = (digest([tmp_path / "a.txt"], Slow(vocabulary), config(tmp_path)) for vocabulary in vocabularies)
    assert one == same != other


class Killed(BaseException):
    """Nothing catches it."""


@pytest.mark.parametrize("turn", [1, 2])
@pytest.mark.parametrize("where", ["write", "rename"])
def test_a_kill_leaves_nothing_half_written(tmp_path, monkeypatch, tokenizer, prose, where, turn):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(prose[:20_000])
    undisturbed = prepare_text(config(tmp_path / "in"), tokenizer, tmp_path / "other")
    owner, name = (files, "fill") if where == "write" else (os, "rename")
    real, calls = getattr(owner, name), itertools.count(1)

    def stop(*arguments, **settings):
        if next(calls) < turn:
            return real(*arguments, **settings)
        if where == "write":
            real(arguments[0], arguments[1][:100])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop)
        with pytest.raises(Killed):
            prepare_text(config(tmp_path / "in"), tokenizer, tmp_path / "out")
    place = tmp_path / "out" / undisturbed.name
    assert not (place / "sequences.parquet").exists()
    assert prepare_text(config(tmp_path / "in"), tokenizer, tmp_path / "out") == place
    for name in ("documents.parquet", "sequences.parquet"):
        assert (place / name).read_bytes() == (undisturbed / name).read_bytes()


# What users can get wrong.


def zst(line):
    """A line of JSON as a .zst file."""
    buffer = io.BytesIO()
    pl.DataFrame([json.loads(line)]).write_ndjson(buffer, compression="zstd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"caf\xe9 au lait", ["a.txt is not UTF-8 text", "byte 3 is wrong"]),
        ("a.txt", WORDS.encode("utf-16"), ["byte 0 is wrong", "convert it to UTF-8"]),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', ["a.jsonl is not UTF-8 text", "byte 24 is wrong"]),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": ', ["line 3 of", "is not JSON (Expecting value)"]),
        ("a.jsonl", b"[" * 100_000, ["line 1 of", "is not JSON"]),
        ("a.jsonl", b'["text"]', ["line 1 of", 'holds no JSON object: write {"text": "..."}']),
        ("a.jsonl", b'{"body": "a", "id": 3}', ["line 1 of", "no string in 'text', but body (str), id (int): set corpus.column"]),
        ("a.jsonl", b'{"text": null}', ["no string in 'text', but text (NoneType)"]),
        ("a.jsonl", b"{}", ["no string in 'text', but no key"]),
        ("a.jsonl", b'{"text": "\\ud83d"}', ["line 1 of", "half a character", "'text'"]),
        ("a.txt", b"too short", ["no document of corpus.length=8 tokens"]),
        ("a.jsonl", b"", ["no document of corpus.length=8 tokens"]),
        ("a.jsonl.gz", b"no gzip", ["a.jsonl.gz cannot be unpacked (Not a gzipped file"]),
        (
            "a.jsonl.gz",
            gzip.compress(json.dumps({"text": WORDS * 99}).encode(), mtime=0)[:60],
            ["a.jsonl.gz cannot be unpacked", "copy it again"],
        ),
        ("a.jsonl.gz", gzip.compress(b'{"text": "\xff"}', mtime=0), ["a.jsonl.gz is not UTF-8 text", "byte 10 is wrong"]),
        ("a.jsonl.zst", zst('{"text": "a"}')[:-4], ["a.jsonl.zst cannot be unpacked", "copy it again"]),
        ("a.jsonl.zst", b"\xff\xfe{}", ["a.jsonl.zst is not UTF-8 text"]),
        ("a.jsonl.zst", zst('{"body": "a"}'), ["line 1 of", "no string in 'text'"]),
        ("a.pdf", b"%PDF", ["has no file in .txt, .jsonl, .jsonl.gz, .jsonl.zst, .parquet, but 1 .pdf"]),
        ("Makefile", b"all:", ["but 1 Makefile"]),
        ("a.parquet", b"PAR", ["a.parquet cannot be read as parquet"]),
    ],
)
def test_wrong_files_get_one_sentence(tmp_path, tokenizer, name, content, words):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        sentence = refusal(prepare_text, config(path), tokenizer, tmp_path / "out")
        assert all(word in sentence for word in words), sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"body": ["a"], "id": [1]}, "lacks the column 'text' .strings.; it has body, id: set corpus.column"),
        ({"text": [1]}, "column 'text' of .* must hold strings, not Int64: set corpus.column"),
        ({"text": ["a", None]}, "column 'text' of .*a.parquet has 1 nulls"),
    ],
)
def test_wrong_tables_get_one_sentence(tmp_path, tokenizer, columns, words):
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=words):
        prepare_text(config(tmp_path), tokenizer, tmp_path / "out")


def test_missing_paths_get_one_sentence(tmp_path, tokenizer):
    assert "nowhere does not exist" in refusal(prepare_text, config(tmp_path / "nowhere"), tokenizer, tmp_path)
    assert "corpus.path=None does not exist" in refusal(prepare_text, CorpusConfig(name="mine", path=None), tokenizer, tmp_path)
    assert "but nothing" in refusal(prepare_text, config(tmp_path), tokenizer, tmp_path / "out")


def test_unreadable_files_are_named(tmp_path, monkeypatch, tokenizer):
    def refuse(path, *arguments):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.txt").write_text(WORDS)
    monkeypatch.setattr(Path, "open", refuse)
    assert "a.txt cannot be read (Permission denied)" in refusal(prepare_text, config(tmp_path), tokenizer, tmp_path / "out")
