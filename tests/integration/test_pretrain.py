"""A short run of the embedded model's making, from text sources to sequences, cut off and resumed."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from conftest import memgrid, memgrid_here
from tokenizers import Tokenizer

from memgrid.corpus.ngrams import window_hashes
from memgrid.io.paths import TOY
from memgrid.pretrain import templates
from memgrid.pretrain.config import MixConfig, ModelConfig, OptimizerConfig, PretrainConfig
from memgrid.pretrain.documents import build_documents, training_windows
from memgrid.pretrain.stages import pretrain
from memgrid.pretrain.train import train_model

SMALL = (
    "documents=sources",
    "model.hidden_size=32",
    "model.num_hidden_layers=2",
    "model.intermediate_size=64",
    "model.num_attention_heads=4",
    "model.vocab_size=600",
    "optimizer.compile=false",
    "optimizer.checkpoint_every=5",
    "mix.recalled_chunks=6",
    "mix.negative_chunks=4",
    "mix.held_out=10",
    "mix.repeats=30",
    "mix.increments=30",
    "offer={stream: 20, seen_repeats: 5, unseen_repeats: 5, seen_increments: 5, unseen_increments: 5}",
    "threads=1",
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    tokenizer = Tokenizer.from_file(str(TOY / "tokenizer.json"))
    streams = pl.read_parquet(TOY / "documents.parquet").filter(pl.col("kind") == "stream")
    texts = {
        source: [tokenizer.decode(t.to_list()) for t in streams.filter(pl.col("source") == source)["tokens"].head(12)]
        for source in streams["source"].unique()
    }
    verses = [{"book": f"Book {i // 3}", "text": line} for i, line in enumerate(texts["kjv"])]
    (folder / "kjv.jsonl").write_text("\n".join(map(json.dumps, verses)))
    for source, ending in (("python_docs", "rst.txt"), ("python_code", "py")):
        (folder / source).mkdir()
        for i, text in enumerate(texts[source]):
            (folder / source / f"{i}.{ending}").write_text(text)
    return [
        f"sources.{name}={folder / path}"
        for name, path in (("kjv", "kjv.jsonl"), ("python_docs", "python_docs"), ("python_code", "python_code"))
    ]


@pytest.mark.slow
def test_a_short_run_from_text_to_sequences(sources, tmp_path):
    shown = memgrid(*SMALL, *sources, f"folder={tmp_path}", "windows=480", module="pretrain").stdout
    assert "step 15 of 15" in shown
    kinds = dict(pl.read_parquet(tmp_path / "sequences.parquet").group_by("kind").len().iter_rows())
    assert kinds["chunk"] == 10
    assert kinds["held_out"] == 10
    assert kinds["unseen_repeat"] == kinds["repeat"] == 5
    again = memgrid_here(*SMALL, *sources, f"folder={tmp_path}", "windows=480", module="pretrain").stdout
    assert "step" not in again  # everything is there already


def test_a_cut_training_goes_on_bit_for_bit(tmp_path):
    windows = np.random.default_rng(0).integers(0, 100, (96, 16)).astype(np.uint16)
    shape = ModelConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    recipe = OptimizerConfig(batch_size=8, warmup_steps=3, checkpoint_every=4, compile=False)

    def train(folder, log=print):
        folder.mkdir(exist_ok=True)
        return train_model(windows, shape, recipe, 0, folder / "checkpoint.pt", log).state_dict()

    def cut(line):
        if line.startswith("step 8"):
            raise KeyboardInterrupt

    whole, again = train(tmp_path / "whole"), train(tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", cut)
    lines = []
    resumed = train(tmp_path / "cut", lines.append)
    assert lines[0] == "continuing at step 8 of 12"
    for name, value in whole.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_array_equal(value, resumed[name])


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


def test_copies_are_what_the_table_says(tokenizer):
    texts = {"prose": ["the quick brown fox jumps over the lazy dog and runs away " * 60 + str(i) for i in range(9)]}
    mix = MixConfig(recalled_chunks=5, negative_chunks=3, held_out=4, repeats=20, increments=20)
    documents = build_documents(texts, tokenizer, mix, 64, seed=0)
    windows = training_windows(documents, 64)
    assert len(windows) == sum(copies * (len(tokens) // 64) for tokens, copies in documents.select("tokens", "copies").iter_rows())
    assert documents.filter(pl.col("kind") == "chunk").height == 8
    assert documents.filter(pl.col("kind") == "held_out")["copies"].sum() == 0
    assert build_documents(texts, tokenizer, mix, 64, seed=0).equals(documents)


def test_digits_are_tokens_of_their_own_and_text_survives(tokenizer):
    assert tokenizer.encode("1923").tokens == ["1", "9", "2", "3"]
    for text in ("In the beginning, 17 of them\n\tdef f(x):  return x", "  two  spaces "):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_unseen_templates_were_never_trained_on(tokenizer):
    documents = pl.read_parquet(TOY / "documents.parquet")
    sequences = pl.read_parquet(TOY / "sequences.parquet")
    for kind in ("repeat", "increment"):
        trained = {tuple(tokens) for tokens in documents.filter(pl.col("kind") == kind)["tokens"].to_list()}
        unseen = {tuple(tokens) for tokens in sequences.filter(pl.col("kind") == f"unseen_{kind}")["tokens"].to_list()}
        assert unseen
        assert not trained & unseen


def test_offered_templates_share_no_half(tokenizer):
    kinds = ("repeat", "unseen_repeat", "increment", "unseen_increment")
    rows = pl.read_parquet(TOY / "sequences.parquet").filter(pl.col("kind").is_in(kinds))["tokens"].list.to_array(64).to_numpy()
    per_row = [np.unique(row) for row in window_hashes(rows, 32)]
    assert len(np.unique(np.concatenate(per_row))) == sum(map(len, per_row))


def test_lists_count_and_repeats_repeat(tokenizer):
    rng = np.random.default_rng(0)
    for row in templates.draw_lists(tokenizer, 10, 64, False, rng):
        numbers = [int(part) for part in tokenizer.decode(row.tolist()).split(", ")[:-1]]
        assert len(set(np.diff(numbers))) == 1
    for row in templates.draw_repeats(templates.repeat_alphabet(tokenizer), 10, 64, False, rng):
        assert len(set(row)) in (2, 3, 4)
