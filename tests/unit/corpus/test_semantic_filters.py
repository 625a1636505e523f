import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import refusal
from huggingface_hub import constants
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_filters_maker import SPLITS, make_semantic_filters

from memgrid.config.schema import CorpusConfig
from memgrid.config.validate import register
from memgrid.corpus.published import FORMATS
from memgrid.corpus.published import load_published as load_semantic_filters
from memgrid.corpus.splits import HUB
from memgrid.corpus.splits import fetch_splits as fetch_semantic_filters
from memgrid.io.paths import CONF
from memgrid.label.rouge import rouge_scores

DATASET = "hf://datasets/usvsnsp/semantic-filters"


def config(path, splits=SPLITS, **settings):
    return CorpusConfig(name="paper", path=str(path), kind="semantic_filters", splits=list(splits), **settings)


def rows(ids, **columns):
    count = len(ids)
    usual = {
        "sequence_id": ids,
        "tokens": [[index] * 64 for index in range(count)],
        "memorization_score": [1.0] * count,
        "sequence_duplicates": list(range(count)),
        "is_repeating": [False] * count,
        "is_incrementing": [True] * count,
    }
    return pl.DataFrame(usual | columns)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_semantic_filters(tmp_path_factory.mktemp("dataset"), 2000)


def test_rows_and_labels_are_the_files(dataset):
    corpus = load_semantic_filters(config(dataset))
    parts = [pl.read_parquet(dataset / "data" / f"{split}-00000-of-00001.parquet", columns=list(FORMATS["semantic_filters"].columns)) for split in SPLITS]
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
    assert (corpus.tokens.dtype, corpus.sequence_id.dtype, corpus.documents_path) == (np.int32, np.int64, None)


@pytest.mark.parametrize(
    "layout",
    ["data/{}-00000-of-00001-0f1e2d.parquet", "{}-00000-of-00001.parquet", "{}.parquet", "{}/part-7.parquet", "data/{}/0000.parquet"],
)
def test_every_layout_of_files_gives_the_same_corpus(dataset, tmp_path, layout):
    for split in SPLITS:
        path = tmp_path / layout.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(dataset / "data" / f"{split}-00000-of-00001.parquet")
    assert load_semantic_filters(config(tmp_path)).fingerprint == load_semantic_filters(config(dataset)).fingerprint


def test_numbered_files_come_in_their_order(tmp_path):
    for number in (2, 0, 1):
        rows([number * 2, number * 2 + 1]).write_parquet(tmp_path / f"one-{number:05d}-of-00003.parquet")
    assert load_semantic_filters(config(tmp_path, ["one"])).sequence_id.tolist() == [0, 1, 2, 3, 4, 5]


def test_names_that_only_begin_alike_are_another_split(tmp_path):
    rows([1]).write_parquet(tmp_path / "memories_deduped_1b-00000-of-00001.parquet")
    rows([2]).write_parquet(tmp_path / "memories_deduped_1b.63000-00000-of-00001.parquet")
    rows([3]).write_parquet(tmp_path / "other_memories_deduped_1b.parquet")
    assert load_semantic_filters(config(tmp_path, ["memories_deduped_1b"])).sequence_id.tolist() == [1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=3))
def test_of_rows_with_the_same_id_the_first_stays(tmp_path_factory, splits):
    folder = tmp_path_factory.mktemp("splits")
    seen = {}
    for number, ids in enumerate(splits):
        places = [100 * number + row for row in range(len(ids))]
        rows(ids, sequence_duplicates=places).write_parquet(folder / f"s{number}.parquet")
        for sequence_id, place in zip(ids, places, strict=True):
            seen.setdefault(sequence_id, place)
    corpus = load_semantic_filters(config(folder, [f"s{number}" for number in range(len(splits))]))
    assert dict(zip(corpus.sequence_id.tolist(), corpus.given["duplicates"].tolist(), strict=True)) == seen
    assert corpus.sequence_id.tolist() == list(seen)
    assert len(corpus.tokens) == len(seen)


def test_names_are_no_patterns(tmp_path):
    rows([1]).write_parquet(tmp_path / "a1.parquet")
    rows([2]).write_parquet(tmp_path / "a[1].parquet")
    assert load_semantic_filters(config(tmp_path, ["a[1]"])).sequence_id.tolist() == [2]


def test_only_needed_columns_are_asked_for(tmp_path):
    rows([1, 2]).write_parquet(tmp_path / "one.parquet")
    assert len(load_semantic_filters(config(tmp_path, ["one"])).tokens) == 2


def test_the_fingerprint_follows_the_labels(tmp_path):
    digests = set()
    for score in (1.0, 0.5):
        rows([1, 2], memorization_score=[1.0, score]).write_parquet(tmp_path / "one.parquet")
        digests.add(load_semantic_filters(config(tmp_path, ["one"])).fingerprint)
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (rows([1]).drop("memorization_score"), ["lacks the column 'memorization_score' (numbers)", "it has sequence_id, tokens"]),
        (rows([1], tokens=["a"]), ["column 'tokens'", "must hold lists of integers, not String"]),
        (rows([1], tokens=[[0.5] * 64]), ["must hold lists of integers, not List(Float64)"]),
        (rows([1], is_repeating=[1]), ["column 'is_repeating'", "must hold booleans, not Int64"]),
        (rows([1], tokens=[[1] * 63]), ["corpus.length=64 tokens", "63 to 63 tokens"]),
        (rows([1], tokens=[[1] * 63 + [None]]), ["column 'tokens'", "null within a list"]),
        (rows([1], tokens=[[1] * 63 + [2**40]]), ["too large", str(2**40)]),
        (rows([1]).clear(), ["no rows"]),
    ],
)
def test_wrong_files_get_one_sentence(tmp_path, made, words):
    made.write_parquet(tmp_path / "one.parquet")
    sentence = refusal(load_semantic_filters, config(tmp_path, ["one"]))
    assert all(word in sentence for word in [*words, str(tmp_path / "one.parquet")]), sentence


@pytest.mark.parametrize("column", FORMATS["semantic_filters"].columns)
def test_a_null_is_named_with_its_column_and_file(tmp_path, column):
    made = rows([1, 2])
    made.with_columns(pl.when(pl.int_range(2) > 0).then(pl.col(column)).alias(column)).write_parquet(tmp_path / "one.parquet")
    assert f"column {column!r} of {tmp_path / 'one.parquet'} has 1 nulls" in refusal(load_semantic_filters, config(tmp_path, ["one"]))


@pytest.mark.parametrize("damage", [slice(4, 400), slice(None), slice(-8, None)])
def test_damaged_parquet_is_named(tmp_path, damage):
    rows([1, 2]).write_parquet(tmp_path / "one.parquet")
    content = bytearray((tmp_path / "one.parquet").read_bytes())
    content[damage] = bytes(len(content[damage]))
    (tmp_path / "one.parquet").write_bytes(content)
    sentence = refusal(load_semantic_filters, config(tmp_path, ["one"]))
    assert "cannot be read as parquet" in sentence
    assert "one.parquet" in sentence


def test_a_split_without_files_is_told_with_what_is_there(dataset, tmp_path):
    sentence = refusal(load_semantic_filters, config(dataset, ["memories_deduped_70m"]))
    assert "no file of the split 'memories_deduped_70m'" in sentence
    assert "data/memories_deduped_12b-00000-of-00001.parquet, data/pile_deduped_12b-00000-of-00001.parquet: set corpus.splits" in sentence
    assert "no parquet file at all" in refusal(load_semantic_filters, config(tmp_path))
    for number in range(9):
        (tmp_path / f"x{number}.parquet").touch()
    assert "x5.parquet and 3 more" in refusal(load_semantic_filters, config(tmp_path))


def test_a_split_with_some_of_its_files_is_refused(tmp_path):
    rows([1]).write_parquet(tmp_path / "one-00000-of-00002.parquet")
    assert "1 of the 2 files of the split 'one'" in refusal(load_semantic_filters, config(tmp_path, ["one"]))


def test_settings_that_cannot_be(dataset, tmp_path):
    assert "corpus.k=16" in refusal(load_semantic_filters, config(dataset, k=16))
    assert "corpus.length=48" in refusal(load_semantic_filters, config(dataset, length=48))
    assert "corpus.splits is empty" in refusal(load_semantic_filters, config(dataset, []))
    assert "nowhere is no folder" in refusal(load_semantic_filters, config(tmp_path / "nowhere"))
    assert "corpus.path=None is no folder" in refusal(load_semantic_filters, CorpusConfig(name="a", path=None, splits=["a"]))


def composed(*overrides):
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        corpus = compose("run", overrides=["corpus=semantic_filters", *overrides]).corpus
    return CorpusConfig(name=corpus.name, path=corpus.path, kind=corpus.kind, splits=list(corpus.splits))


def test_the_llm_names_the_splits(dataset):
    named = composed("llm.semantic_filters=deduped_12b", f"corpus.path={dataset}")
    assert tuple(named.splits) == SPLITS
    assert len(load_semantic_filters(named).tokens) > 1900
    unknown = composed("llm=toy")
    assert HUB.fullmatch(unknown.path)
    for stage in (load_semantic_filters, fetch_semantic_filters):
        assert "this llm has no split in semantic-filters" in refusal(stage, unknown)


# The hub: not there, not reachable, and a small one of our own.


def test_what_is_not_in_the_cache_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert "run once with stages=[fetch]" in refusal(load_semantic_filters, config(DATASET))
    assert "names no dataset" in refusal(load_semantic_filters, config("hf://usvsnsp/semantic-filters"))


def test_fetching_offline_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set: unset it" in refusal(fetch_semantic_filters, config(DATASET))


def test_fetching_a_folder_only_checks_it(dataset):
    assert fetch_semantic_filters(config(dataset)) == dataset
    assert "no file of the split 'none'" in refusal(fetch_semantic_filters, config(dataset, ["none"]))


ASK = """
import sys
from memgrid.config.schema import CorpusConfig
from memgrid.errors import UserError
from memgrid.corpus.splits import fetch_splits as fetch_semantic_filters
from memgrid.corpus.published import load_published as load_semantic_filters

stage, path, *splits = sys.argv[1:]
config = CorpusConfig(name="paper", path=path, kind="semantic_filters", splits=splits)
try:
    if stage == "fetch":
        fetch_semantic_filters(config)
    print(load_semantic_filters(config).fingerprint)
except UserError as error:
    print("refused", error)
"""


def ask(endpoint, cache, *arguments):
    """Fetch or load in a new process, since huggingface_hub reads its environment once; returns what it prints."""
    told = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", ASK, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | told, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


class SmallHub(BaseHTTPRequestHandler):
    """Answers like the hub for the dataset a/b, with the files of `folder`."""

    folder: Path
    asked: list[str]
    commit = "0123456789" * 4

    def do_GET(self):
        path = self.path.split("?")[0]
        names = sorted(found.relative_to(self.folder).as_posix() for found in self.folder.rglob("*.parquet"))
        if re.fullmatch(r"/api/datasets/a/b(/revision/main)?", path):
            self.answer(json.dumps({"id": "a/b", "sha": self.commit, "siblings": [{"rfilename": name} for name in names]}).encode())
        elif path == f"/api/datasets/a/b/tree/{self.commit}":
            self.answer(json.dumps([{"type": "file", "path": name, "size": 1, "oid": name} for name in names]).encode())
        elif path.startswith("/datasets/a/b/resolve/"):
            name = path.split("/resolve/")[1].split("/", 1)[1]
            self.asked.append(name)
            self.answer((self.folder / name).read_bytes(), ETag=f'"{name.replace("/", "-")}"')
        else:
            self.answer(b"{}", 404, **{"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self):
        self.do_GET()

    def answer(self, content, status=200, **headers):
        self.send_response(status)
        for key, value in {"Content-Length": len(content), "X-Repo-Commit": self.commit, **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(dataset):
    handler = type("Handler", (SmallHub,), {"folder": dataset, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    server.server_close()


def test_fetched_once_then_loaded_without_the_hub(dataset, hub, tmp_path):
    endpoint, asked = hub
    assert "stages=[fetch]" in ask(endpoint, tmp_path, "load", "hf://datasets/a/b", SPLITS[0])
    assert not asked
    expected = load_semantic_filters(config(dataset, SPLITS[:1])).fingerprint
    assert ask(endpoint, tmp_path, "fetch", "hf://datasets/a/b@main", SPLITS[0]) == expected
    assert set(asked) == {f"data/{SPLITS[0]}-00000-of-00001.parquet"}, "only the wanted split is downloaded"
    nowhere = "http://127.0.0.1:9"
    assert ask(nowhere, tmp_path, "load", "hf://datasets/a/b", SPLITS[0]) == expected
    assert "stages=[fetch]" in ask(nowhere, tmp_path, "load", "hf://datasets/a/b", SPLITS[1])
    assert "refused corpus.path=hf://datasets/a/b cannot be fetched because" in ask(
        nowhere, tmp_path, "fetch", "hf://datasets/a/b", SPLITS[1]
    )


def test_what_the_hub_does_not_have(hub, tmp_path):
    assert "the hub has no such dataset" in ask(hub[0], tmp_path, "fetch", "hf://datasets/a/none", SPLITS[0])
    assert "has no" in ask(hub[0], tmp_path, "fetch", "hf://datasets/a/b@other", SPLITS[0])
    assert "no file of the split 'none'" in ask(hub[0], tmp_path, "fetch", "hf://datasets/a/b", "none")


# The invented rows.


def test_the_invented_rows_look_like_the_real_ones(tmp_path):
    corpus = load_semantic_filters(config(make_semantic_filters(tmp_path, 10_000)))
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
    prints = [load_semantic_filters(config(folder)).fingerprint for folder in made]
    assert prints[0] == prints[1] != prints[2]
