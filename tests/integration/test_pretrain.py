"""A short run of the embedded model's making, from text sources to sequences, cut off and resumed."""

import json
import struct
import subprocess
import sys
import zlib
from copy import deepcopy

import numpy as np
import polars as pl
import pytest
from conftest import memgrid, memgrid_here, refusal
from tokenizers import Tokenizer

from memgrid.corpus.ngrams import count_occurrences, window_hashes
from memgrid.errors import UserError
from memgrid.io.locks import lock
from memgrid.io.paths import TOY
from memgrid.label.rouge import rouge_scores
from memgrid.label.selection.groups import split_groups
from memgrid.label.templates import is_incrementing, is_repeating
from memgrid.pretrain import templates
from memgrid.pretrain.config import MixConfig, ModelConfig, OfferConfig, OptimizerConfig, PretrainConfig
from memgrid.pretrain.documents import build_documents, training_windows
from memgrid.pretrain.sequences import build_sequences
from memgrid.pretrain.stages import pretrain
from memgrid.pretrain.train import in_batches, train_model

MIX = {
    "seldom_chunks": 4,
    "seldom_copies": [1, 3],
    "middle_chunks": 4,
    "middle_copies": [4, 5],
    "often_chunks": 6,
    "often_copies": [6, 7],
    "most_chunks": 2,
    "most_copies": [8, 9],
    "near_duplicates": 3,
    "near_copies": [4, 6],
    "once": 10,
    "held_out": 11,
    "repeats": 30,
    "increments": 30,
    "often_repeats": 4,
    "often_increments": 6,
    "often_template_copies": [3, 5],
}
OFFER = {f"{part}_{kind}s": 5 for part in ("often", *templates.PARTS) for kind in templates.FAMILIES}
SMALL = (
    "documents=sources",
    "model.hidden_size=32",
    "model.num_hidden_layers=2",
    "model.intermediate_size=64",
    "model.num_attention_heads=4",
    "model.vocab_size=600",
    "optimizer.checkpoint_every=5",
    *(f"mix.{name}={value}" for name, value in MIX.items()),
    *(f"offer.{name}={value}" for name, value in OFFER.items()),
    "threads=1",
)


@pytest.fixture(scope="module")
def texts():
    tokenizer = Tokenizer.from_file(str(TOY / "tokenizer.json"))
    streams = pl.read_parquet(TOY / "documents.parquet").filter((pl.col("kind") == "stream") & (pl.col("tokens").list.len() > 640))
    found = {
        source: [tokenizer.decode(tokens.to_list()) for tokens in streams.filter(pl.col("source") == source)["tokens"].head(12)]
        for source in ("kjv", "python_docs", "python_code")
    }
    return {"kjv": found["kjv"][:6], "web": found["kjv"][6:], **found}


@pytest.fixture(autouse=True, scope="module")
def a_fast_judge():
    """Of code, since magika takes milliseconds a text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memgrid.pretrain.documents.magika", lambda: lambda texts: ["(" in text for text in texts])
        yield


@pytest.fixture(scope="module")
def documents(texts, tokenizer):
    return build_documents(texts, tokenizer, MixConfig(**MIX), 64, seed=0)


@pytest.fixture(scope="module")
def sources(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    verses = [{"book": f"Book {i // 3}", "text": line} for i, line in enumerate(texts["kjv"])]
    (folder / "kjv").write_text("\n".join(map(json.dumps, verses)))
    (folder / "web").mkdir()
    for testament, books in (("ot", texts["web"][:3]), ("nt", texts["web"][3:])):
        write_testament(folder / "web", testament, books)
    for source, ending in (("python_docs", "rst.txt"), ("python_code", "py")):
        (folder / source).mkdir()
        for i, text in enumerate(texts[source]):
            (folder / source / f"{i}.{ending}").write_text(text)
    return [f"sources.{name}={folder / name}" for name in texts]


def write_testament(folder, name, books):
    packed = [zlib.compress(book.replace("<", "").encode()) for book in books]
    starts = np.cumsum([0, *map(len, packed)])
    index = [struct.pack("<III", start, len(book), 0) for start, book in zip(starts, packed, strict=False)]
    (folder / f"{name}.bzs").write_bytes(b"".join([*index, struct.pack("<III", 0, 0, 0)]))
    (folder / f"{name}.bzz").write_bytes(b"".join(packed))


@pytest.mark.slow
def test_a_short_run_from_text_to_sequences(sources, tmp_path):
    shown = memgrid(*SMALL, *sources, f"folder={tmp_path}", "windows=480", module="pretrain").stdout
    assert "step 15 of 15" in shown
    kinds = dict(pl.read_parquet(tmp_path / "sequences.parquet").group_by("kind").len().iter_rows())
    assert (kinds["chunk"], kinds["near_duplicate"], kinds["held_out"], kinds["stream"]) == (16, 3, 11, 10)
    assert {kinds[f"{part}{kind}"] for part in ("", "renamed_", "unseen_") for kind in templates.FAMILIES} == {5}
    assert (kinds["often_repeat"], kinds["often_increment"]) == (4, 5)
    for folder in (tmp_path, tmp_path / "step9"):  # left by who was killed when the model was in place
        (folder / ".model-left").mkdir(parents=True)
    again = memgrid_here(*SMALL, *sources, f"folder={tmp_path}", "windows=480", module="pretrain").stdout
    assert "step" not in again  # everything is there already
    assert not [*tmp_path.rglob(".model-*")]
    tokenizer, documents = (tmp_path / name for name in ("tokenizer.json", "documents.parquet"))
    before, table = tokenizer.read_bytes(), pl.read_parquet(documents)
    for path in (tokenizer, documents):  # as when a folder vanishes while the model is being saved
        path.unlink()
    memgrid(*SMALL, *sources, f"folder={tmp_path}", "windows=480", module="pretrain")  # where code is judged as in the first
    assert tokenizer.read_bytes() == before
    assert pl.read_parquet(documents).equals(table)


def test_one_process_at_a_time_makes_a_model(tmp_path):
    with lock(tmp_path / ".model.lock"):
        said = refusal(pretrain, PretrainConfig(folder=str(tmp_path), threads=1))
    assert said == f"another process is working on {tmp_path}: wait for it, or stop it"
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def test_a_cut_training_goes_on_bit_for_bit_and_keeps_the_same_steps(tmp_path):
    windows = np.random.default_rng(0).integers(0, 100, (96, 16)).astype(np.uint16)
    shape = ModelConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    recipe = OptimizerConfig(batch_size=8, warmup_steps=3, checkpoint_every=4)
    config = PretrainConfig(model=shape, optimizer=recipe)
    batches = in_batches(windows, np.ones(96), 8, 0)

    def train(folder, log=print):
        folder.mkdir(exist_ok=True)
        kept = {}
        keepers = {step: lambda model, step=step: kept.__setitem__(step, deepcopy(model.state_dict())) for step in (3, 9)}
        return train_model(batches, config, folder / "checkpoint.pt", log, keepers).state_dict(), kept

    def cut(line):
        if line.startswith("step 8"):
            raise KeyboardInterrupt

    (whole, kept), (again, _) = train(tmp_path / "whole"), train(tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", cut)
    lines = []
    resumed, later = train(tmp_path / "cut", lines.append)
    assert lines[0] == "continuing at step 8 of 12"
    assert set(kept) == {3, 9}
    assert set(later) == {9}
    for name, value in whole.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_array_equal(value, resumed[name])
        np.testing.assert_array_equal(kept[9][name], later[9][name])


def test_windows_are_read_once_and_early_ones_early():
    rng = np.random.default_rng(1)
    windows = np.arange(1000, dtype=np.uint16)[:, None]
    until = rng.choice([0.25, 1.0], 1000)
    batches = in_batches(windows, until, 32, 0)
    assert sorted(np.concatenate(batches)[:, 0]) == list(range(1000))
    assert [len(batch) for batch in batches] == [32] * 31 + [8]
    place = np.argsort(np.concatenate(batches)[:, 0]) / 1000
    assert place[until < 1].max() < 0.7  # the first quarter, in which half of all windows crowd beside a quarter of the others
    assert place[until == 1].max() > 0.99
    assert any((a != b).any() for a, b in zip(batches, in_batches(windows, until, 32, 1), strict=True))


def test_a_tokenizer_that_vanished_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("memgrid.pretrain.stages.make_model", lambda *_: None)
    monkeypatch.setattr("memgrid.pretrain.stages.make_sequences", lambda *_: None)
    pretrain(PretrainConfig(folder=str(tmp_path)))
    whole = (tmp_path / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").unlink()
    pretrain(PretrainConfig(folder=str(tmp_path)))
    assert (tmp_path / "tokenizer.json").read_bytes() == whole


def test_a_missing_source_is_one_sentence(tmp_path):
    process = memgrid_here("documents=sources", f"folder={tmp_path}", "sources.kjv=/no/such/text", module="pretrain", check=False)
    assert process.returncode == 1
    assert "text source 'kjv' is not at /no/such/text" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_mistake_is_refused_without_torch(tmp_path):
    words = [sys.executable, "-X", "importtime", "-m", "memgrid.pretrain", "documentz=shipped", f"folder={tmp_path}"]
    process = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert process.returncode == 1
    assert "documentz" in process.stderr
    modules = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines() if line.startswith("import time:")}
    assert "hydra" in modules
    assert not {"torch", "transformers", "tokenizers"} & modules


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(TOY / "tokenizer.json"))


def test_copies_are_what_the_table_says(documents):
    windows, until = training_windows(documents, 64)
    assert len(until) == len(windows)
    assert len(windows) == sum(copies * (len(tokens) // 64) for tokens, copies in documents.select("tokens", "copies").iter_rows())
    kinds = dict(documents.group_by("kind").agg(pl.len(), pl.col("copies").sum()).select("kind", pl.struct("len", "copies")).iter_rows())
    assert kinds["chunk"]["len"] == 16
    assert kinds["held_out"] == {"len": 11, "copies": 0}
    assert kinds["fresh"]["copies"] == 0
    # Not one copy more, at any offset of all that is read.
    drawn = documents.filter(pl.col("kind").is_in(["chunk", "near_duplicate", "held_out"]))
    read = ((np.array(tokens), copies) for tokens, copies in documents.select("tokens", "copies").iter_rows())
    assert count_occurrences(np.array(drawn["tokens"].to_list()), read).tolist() == drawn["copies"].to_list()


def test_the_reference_reads_fresh_text_of_the_same_source_instead_of_what_is_repeated(documents):
    own, other = training_windows(documents, 64)[0], training_windows(documents, 64, reference=True)[0]
    assert own.shape == other.shape
    read = documents.filter(pl.col("copies") > 0)
    times = read["copies"].to_numpy() * (read["tokens"].list.len().to_numpy() // 64)
    sources, repeated = np.repeat(read["source"].to_numpy(), times), np.repeat(read["reference_copies"].to_numpy() == 0, times)
    np.testing.assert_array_equal((own != other).any(axis=1), repeated)
    assert "template" in sources[repeated]
    for source in set(sources[repeated]):
        fresh = documents.filter((pl.col("kind") == "fresh") & (pl.col("source") == source))["tokens"].explode().to_numpy().reshape(-1, 64)
        np.testing.assert_array_equal(other[repeated & (sources == source)], fresh)
    assert documents.select(pl.col("reference_copies") * (pl.col("tokens").list.len() // 64)).sum().item() == len(other)


def test_strata_are_what_they_say_and_near_copies_differ_a_little(documents):
    drawn = documents.filter(pl.col("stratum").is_not_null())
    originals = drawn.filter(pl.col("kind") != "near_copy")
    tokens = np.array(originals["tokens"].to_list())
    likeness = np.maximum(*rouge_scores(tokens[:, :32], tokens[:, 32:]))
    for stratum, score in zip(originals["stratum"], likeness, strict=True):
        least = float(stratum.removeprefix("similar")) if stratum.startswith("similar") else 0
        assert (least <= score < least + 0.1) or least == 0.7 <= score or (not least and score < 0.3)
    original, counted = None, 0
    for kind, copies, row in zip(drawn["kind"], drawn["near_copies"], np.array(drawn["tokens"].to_list()), strict=True):
        if kind == "near_duplicate":
            assert counted == 0
            original, counted = row, copies
        elif kind == "near_copy":
            assert 1 <= (row != original).sum() <= 4
            counted -= 1
    assert counted == 0


def test_the_same_seed_draws_the_same_and_too_little_text_is_refused(texts, tokenizer, documents):
    assert build_documents(texts, tokenizer, MixConfig(**MIX), 64, seed=0).equals(documents)
    with pytest.raises(UserError, match="too few windows for 940 to be drawn"):
        build_documents({"kjv": texts["kjv"][:2]}, tokenizer, MixConfig(**MIX | {"held_out": 911}), 64, seed=0)
    with pytest.raises(UserError, match="lacks windows"):
        build_documents(texts, tokenizer, MixConfig(**MIX | {"most_copies": [5000, 5000]}), 64, seed=0)


def test_all_windows_of_a_stratum_are_offered_and_lists_of_one_pattern_stay_together(documents, tokenizer):
    sequences = build_sequences(documents, tokenizer, lambda tokens: tokens[:, 0] % 7 == 0, OfferConfig(**OFFER), 64, seed=0)
    drawn = documents.filter(pl.col("stratum").is_not_null() & (pl.col("kind") != "near_copy"))
    assert sorted(sequences.drop_nulls("stratum")["tokens"].to_list()) == sorted(drawn["tokens"].to_list())
    continued = sequences.filter(pl.col("kind") == "extractable")["tokens"]
    assert len(continued)
    assert all(tokens[0] % 7 == 0 for tokens in continued)
    for group, kind, tokens in sequences.select("split_group", "kind", "tokens").iter_rows():
        assert (group >= 0) == kind.endswith("increment"), tokenizer.decode(tokens)


def test_digits_are_tokens_of_their_own_and_text_survives(tokenizer):
    assert tokenizer.encode("1923").tokens == ["1", "9", "2", "3"]
    for text in ("In the beginning, 17 of them\n\tdef f(x):  return x", "  two  spaces "):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_unseen_templates_were_never_trained_on(tokenizer):
    documents = pl.read_parquet(TOY / "documents.parquet")
    sequences = pl.read_parquet(TOY / "sequences.parquet")
    for kind in templates.FAMILIES:
        trained = {tuple(tokens) for tokens in documents.filter(pl.col("kind") == kind)["tokens"].to_list()}
        unseen = {tuple(tokens) for tokens in sequences.filter(pl.col("kind") == f"unseen_{kind}")["tokens"].to_list()}
        assert unseen
        assert not trained & unseen


def test_offered_templates_share_no_half():
    sequences = pl.read_parquet(TOY / "sequences.parquet").filter(
        pl.col("kind").str.ends_with("repeat") | pl.col("kind").str.ends_with("increment")
    )
    rows = sequences["tokens"].list.to_array(64).to_numpy()
    per_row = [np.unique(row) for row in window_hashes(rows, 32)]
    assert len(np.unique(np.concatenate(per_row))) == sum(map(len, per_row))


def test_often_read_templates_are_others_and_the_reference_reads_others_still(documents):
    for kind in templates.FAMILIES:
        rows = documents.filter(pl.col("kind") == kind)
        often = rows.filter(pl.col("reference_copies") == 0)
        assert len(often) == MIX[f"often_{kind}s"]
        assert often["copies"].is_between(*MIX["often_template_copies"]).all()
        assert rows.filter((pl.col("reference_copies") > 0) & (pl.col("reference_copies") != pl.col("copies"))).is_empty()
        assert rows["tokens"].n_unique() == len(rows)
    fresh = documents.filter((pl.col("kind") == "fresh") & (pl.col("source") == "template"))["tokens"].explode().to_numpy().reshape(-1, 64)
    known = {tuple(tokens) for tokens in documents.filter(pl.col("kind").is_in(templates.FAMILIES))["tokens"].to_list()}
    assert not known & {tuple(tokens) for tokens in fresh.tolist()}


def test_lists_count_and_repeats_repeat_and_no_unseen_pattern_is_trained_on(tokenizer):
    rng = np.random.default_rng(0)
    lists = {part: tokenizer.decode_batch(templates.draw_lists(tokenizer, 60, 64, part, rng).tolist()) for part in templates.PARTS}
    assert all(is_incrementing(text) for texts in lists.values() for text in texts)
    patterns = {part: {templates.list_pattern(text) for text in texts} for part, texts in lists.items()}
    assert not patterns["unseen"] & (patterns["seen"] | patterns["renamed"])
    repeats = {part: templates.draw_repeats(templates.alphabets(tokenizer), 60, 64, part, rng) for part in templates.PARTS}
    assert all(is_repeating(text) for rows in repeats.values() for text in tokenizer.decode_batch(rows.tolist()))
    groups = split_groups(np.concatenate([*repeats.values()]), 32)
    assert not set(groups[-60:]) & set(groups[:-60])
    assert set(groups[:60]) & set(groups[60:-60])
