import zlib
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import scored
from models_maker import half_its_own_words, outspoken
from same_maps import assert_same_maps

from memgrid.config.names import MODEL
from memgrid.config.schema import ExtractConfig
from memgrid.corpus.corpus import Corpus
from memgrid.errors import StoreError
from memgrid.io.display import watched
from memgrid.lm.scores.scores import joined, zlib_bytes
from memgrid.store.extract import arranged, decode, extract, extract_batch, filled, open_store, score_and_extract
from memgrid.store.shard import MEASURED, Maps
from memgrid.store.store import Store, store_folder
from memgrid.store.writer import arrays


@pytest.fixture(scope="module")
def lm():
    return outspoken()


@pytest.fixture(scope="module")
def corpus(lm):
    """As many sequences that end as the model would end them as others."""
    ids = np.sort(np.random.default_rng(0).permutation(1000)[:400]).astype(np.int64)
    return Corpus("made", ids, half_its_own_words(lm, 400)[0], 32, None)


def in_batches_of(size, lm, length=64):
    """The same model, which reads so many sequences at a time: it fills up smaller batches, and of a few would read more than there are."""
    return replace(lm, batch_tokens=length * size)


@pytest.fixture(scope="module")
def truth(lm, corpus):
    memorized, confidence = scored(lm, corpus)
    assert memorized.sum() == 200
    return memorized, confidence


def test_decoded_is_prefix_and_continuation(embedded, toy_lm, judged):
    toy_lm = in_batches_of(12, toy_lm)
    corpus, (memorized, confidence) = embedded, judged
    rows = np.array([*np.flatnonzero(memorized)[:5], *np.flatnonzero(~memorized)[:5]])
    decoded = decode(toy_lm, corpus, rows, memorized)
    np.testing.assert_array_equal(decoded[:5], corpus.tokens[rows[:5]])
    np.testing.assert_array_equal(decoded[:, :32], corpus.prefix[rows])
    assert (decoded[5:, 32:] != corpus.suffix[rows[5:]]).any(1).all()
    # Whatever was decoded, reading it again finds it to be the model's own continuation, and how sure the model is.
    again = toy_lm.score(decoded, 32)
    assert again.memorized.all()
    made, disputed = extract_batch(toy_lm, corpus, rows, memorized, confidence)
    np.testing.assert_allclose(again.confidence, made.confidence, rtol=1e-4)
    assert disputed == 0
    # To the last bit: what the labels say of memorized ones, and of the others the pass whose attention is kept, not the decoding.
    read, _ = toy_lm.score_and_pool(filled(decoded, toy_lm.batch_size(64)), 32)
    np.testing.assert_array_equal(made.confidence, [*confidence[rows[:5]], *read.suffix_probability[5:10]])


def test_only_missing_ids_are_extracted(corpus, lm, truth, tmp_path):
    store = open_store(tmp_path, corpus, lm.identity)
    ids = corpus.sequence_id[::7]
    assert extract(store, lm, corpus, ids[:20], *truth, ExtractConfig(shard_samples=8)) == 20
    assert extract(store, lm, corpus, ids[:30], *truth, ExtractConfig(shard_samples=8)) == 10
    assert extract(store, lm, corpus, ids[:30], *truth, ExtractConfig()) == 0
    maps = store.read(ids[:30])
    rows = np.flatnonzero(np.isin(corpus.sequence_id, ids[:30]))
    np.testing.assert_array_equal(maps.sequence_id, ids[:30])
    np.testing.assert_array_equal(maps.decoded[:, :32], corpus.prefix[rows])


def test_what_is_not_memorized_can_be_read_with_its_true_suffix(corpus, lm, truth, tmp_path):
    memorized = truth[0]
    rows = np.sort(np.concatenate([np.flatnonzero(memorized)[:12], np.flatnonzero(~memorized)[:12]]))
    ids, foreign = corpus.sequence_id[rows], ~memorized[rows]
    usual, other = (open_store(tmp_path, corpus, lm.identity, decoded=read) for read in ("continuation", "suffix"))
    for store, read in ((usual, "continuation"), (other, "suffix")):
        assert extract(store, lm, corpus, ids, *truth, ExtractConfig(), read) == len(ids)
    own, true = usual.read(ids), other.read(ids)
    np.testing.assert_array_equal(true.decoded, corpus.tokens[rows])
    expected = lm.pooled_maps(corpus.tokens[rows])
    for pool, maps in true.pools.items():
        np.testing.assert_allclose(maps.astype(float), expected[pool].astype(float), atol=1e-3)
        same = np.abs(maps.astype(float) - own.pools[pool]).max((1, 2)) < 1e-3
        np.testing.assert_array_equal(same, ~foreign)  # memorized sequences are the same in both
    # How sure the model was of the true suffix, not of its own words: memorized ones agree.
    scores = lm.score(corpus.tokens[rows], corpus.k)
    np.testing.assert_allclose(true.confidence, scores.suffix_probability, rtol=1e-4)
    np.testing.assert_allclose(true.confidence[~foreign], own.confidence[~foreign], rtol=1e-4)
    assert (np.abs(true.confidence - own.confidence)[foreign] > 1e-3).all()


def test_a_store_takes_no_shards_of_the_other_kind(corpus, lm, truth, tmp_path):
    usual, other = (open_store(tmp_path, corpus, lm.identity, decoded=read) for read in ("continuation", "suffix"))
    assert (usual.folder.name, other.folder.name) == ("made", "made@suffix")
    extract(usual, lm, corpus, corpus.sequence_id[:4], *truth, ExtractConfig())
    other.folder.mkdir(exist_ok=True)
    (shard,) = usual.folder.glob("*.h5")
    shard.rename(other.folder / shard.name)
    with pytest.raises(StoreError, match="made@suffix"):
        other.ids()


def test_a_store_belongs_to_a_fingerprint_whatever_the_model_is_called(corpus, lm, truth, tmp_path):
    """Also one of an earlier version, which says so by its shards alone."""
    first = open_store(tmp_path, corpus, lm.identity)
    extract(first, lm, corpus, corpus.sequence_id[:4], *truth, ExtractConfig())
    (first.folder / MODEL).unlink()
    others = [replace(lm.identity, fingerprint="another", revision="step1", checkpoint=name) for name in ("step1", "step2")]
    kept = [open_store(tmp_path, corpus, identity) for identity in others]
    assert {store.folder.parent.name for store in kept} == {"tiny@step1"}
    assert [store.identity.revision for store in kept] == ["step1", "step1"]
    again = open_store(tmp_path, corpus, replace(lm.identity, revision="main", checkpoint="main"))
    assert (again.folder, again.identity, again.ids().tolist()) == (first.folder, first.identity, sorted(corpus.sequence_id[:4]))
    assert store_folder(tmp_path, "tiny", "made", "continuation", lm.identity.fingerprint) == first.folder
    assert store_folder(tmp_path, "tiny", "made", "continuation", "another") == kept[0].folder
    assert store_folder(tmp_path, "tiny", "made", "continuation", None) == first.folder


@pytest.fixture(scope="module")
def wide():
    """One layer as wide as those of the embedded model: enough for a processor to compute other batches in another order."""
    shape = {"vocab_size": 2048, "hidden_size": 256, "num_attention_heads": 8, "intermediate_size": 1024}
    return outspoken(**shape, num_hidden_layers=1, initializer_range=0.1)


@pytest.mark.parametrize(("size", "length"), [(5, 64), (8, 64), (8, 40)])
def test_a_sample_does_not_depend_on_what_it_is_read_with(wide, size, length):
    tokens, known = half_its_own_words(wide, 60, length=length)
    corpus, rng = Corpus("made", np.arange(60), tokens, 32, None), np.random.default_rng(0)
    lm, judged = in_batches_of(size, wide, length), scored(wide, corpus)
    np.testing.assert_array_equal(np.flatnonzero(judged[0]), known)
    rows = np.sort(rng.permutation(len(corpus.tokens))[: 3 * size])
    expected = None
    for _ in range(3):
        order = rng.permutation(len(rows))
        found = [extract_batch(lm, corpus, rows[part], *judged)[0] for part in np.array_split(order, rng.integers(3, 8))]
        ids, read, sure, most, mean, *more = (np.concatenate(parts)[np.argsort(order)] for parts in zip(*map(arrays, found), strict=True))
        maps = Maps(ids, read, sure, {"max": most, "mean": mean}, *more)
        expected = expected or maps
        assert_same_maps(maps, expected)


@pytest.mark.parametrize(("width", "threads"), [(16, 1), (16, 2), (8, 1)])
def test_interrupted_at_random_places_it_ends_as_undisturbed(corpus, width, threads, tmp_path, monkeypatch):
    """Memorized and not, with what an earlier run has left: each start finds something else missing."""
    usual_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        interrupt_at_random_places(corpus, width, tmp_path, monkeypatch, aligned=width % 16 == 0 and threads == 1)
    finally:
        torch.set_num_threads(usual_threads)


def interrupt_at_random_places(corpus, width, tmp_path, monkeypatch, aligned):
    lm, rng = replace(outspoken(num_attention_heads=32 // width), batch_tokens=64 * 8), np.random.default_rng(1)
    truth = scored(lm, corpus)
    ids = np.sort(rng.permutation(corpus.sequence_id)[:60])
    stores = {name: open_store(tmp_path / name, corpus, lm.identity) for name in ("whole", "cut")}
    for store in stores.values():
        extract(store, lm, corpus, ids[::4], *truth, ExtractConfig(shard_samples=8))
    extract(stores["whole"], lm, corpus, ids, *truth, ExtractConfig(shard_samples=8))
    starts = 1
    while True:
        left = int(rng.integers(0, 3))

        def write(store, maps, usual=Store.write):
            nonlocal left
            if left == 0:
                raise StoreError("no room")
            left -= 1
            return usual(store, maps)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", write)
            try:
                extract(stores["cut"], lm, corpus, ids, *truth, ExtractConfig(shard_samples=int(rng.integers(3, 12))))
                break
            except StoreError:
                starts += 1
    assert starts > 3
    assert_same_maps(stores["whole"].read(ids, measured=True), stores["cut"].read(ids, measured=True), aligned)


def test_only_the_last_batches_are_not_full(corpus, truth):
    rows = np.arange(150)
    order, full = arranged(rows, truth[0], 16)
    assert sorted(order.tolist()) == rows.tolist()
    kinds = truth[0][order]
    assert full == sum(count - count % 16 for count in (kinds.sum(), (~kinds).sum()))
    assert all(len(set(kinds[start : start + 16])) == 1 for start in range(0, full, 16))
    assert len(order) - full < 32


def test_labelling_can_keep_the_attention_in_the_same_pass(corpus, lm, truth, tmp_path):
    fused, apart = (open_store(tmp_path / name, corpus, lm.identity) for name in ("fused", "apart"))
    told, half = [], len(corpus.tokens) // 2
    heard = Mock(step=lambda what, done, total, **_: told.append((done, total)))
    with watched(heard):
        parts = [score_and_extract(fused, lm, corpus, ExtractConfig(shard_samples=50), rows) for rows in (slice(half), slice(half, None))]
    assert {(0, len(corpus.tokens)), (half, len(corpus.tokens)), (len(corpus.tokens),) * 2} <= set(told)
    assert told == sorted(told)
    scores = joined([*parts[0], *parts[1]])
    np.testing.assert_array_equal(scores.memorized, truth[0])
    np.testing.assert_allclose(scores.confidence, truth[1], rtol=1e-4)
    known = np.sort(corpus.sequence_id[truth[0]])
    np.testing.assert_array_equal(fused.ids(), known)
    extract(apart, lm, corpus, known, *truth, ExtractConfig())
    one, other = (store.read(known, measured=True) for store in (fused, apart))
    for pool in ("mean", "max"):
        np.testing.assert_array_equal(one.pools[pool], other.pools[pool])
    for name in MEASURED:
        np.testing.assert_allclose(one.measured[name], other.measured[name], rtol=1e-3, atol=1e-5)


def test_how_probable_what_is_decoded_is_and_how_long_for_zlib(embedded, toy_lm, judged, tmp_path):
    """Of the model's own words where a sequence is not memorized; the length by hand."""
    toy_lm = in_batches_of(4, toy_lm)
    corpus, (memorized, confidence) = embedded, judged
    rows = np.array([*np.flatnonzero(memorized)[:3], *np.flatnonzero(~memorized)[:3]])
    store = open_store(tmp_path, corpus, toy_lm.identity)
    extract(store, toy_lm, corpus, corpus.sequence_id[rows], memorized, confidence, ExtractConfig())
    read = store.read(corpus.sequence_id[rows], (), measured=True)
    with torch.inference_mode():
        logits = toy_lm.model(torch.from_numpy(read.decoded.astype(np.int64))).logits
    expected = logits[:, :-1].log_softmax(-1).gather(-1, torch.from_numpy(read.decoded.astype(np.int64))[:, 1:, None])[..., 0]
    np.testing.assert_allclose(read.logprob[:, 1:], expected, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(np.exp(read.logprob[:, 32:].astype(float)).mean(1), read.confidence, rtol=1e-3)
    assert read.zlib.tolist() == [len(zlib.compress(toy_lm.tokenizer.decode(tokens).encode())) for tokens in read.decoded]


def test_lengths_for_zlib_by_hand():
    """Two bytes of header, four of a sum, and what deflate makes of it: one character is a literal, a hundred are a repeat."""
    assert zlib_bytes(["", "a"]).tolist() == [8, 9]
    one, same, other = zlib_bytes(["a", "a" * 100, "".join(map(chr, range(32, 132)))]).tolist()
    assert one < same < 15 < 90 < other
    assert zlib_bytes(["é", "\ud800"]).tolist() == [10, 11]  # UTF-8, of half a pair too


def test_a_full_disk_is_one_sentence_and_a_restart_finishes(corpus, lm, truth, tmp_path, monkeypatch):
    store = open_store(tmp_path, corpus, lm.identity)
    written = []

    def full(maps):
        if written:
            raise StoreError(f"{tmp_path} has no room left")
        written.append(len(maps.sequence_id))
        return Store.write(store, maps)

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(StoreError, match="no room"):
        extract(store, lm, corpus, corpus.sequence_id[:100], *truth, ExtractConfig(shard_samples=32))
    monkeypatch.undo()
    assert extract(store, lm, corpus, corpus.sequence_id[:100], *truth, ExtractConfig(shard_samples=32)) == 100 - written[0]
