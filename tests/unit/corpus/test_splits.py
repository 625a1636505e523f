import os

import forks
import pytest
from conftest import refusal
from huggingface_hub import constants
from semantic_filters_maker import SPLITS, config, make_semantic_filters, rows
from settings_maker import raw
from stand_in_hub import opened

from memgrid.config.schema import CorpusConfig
from memgrid.corpus.published import load_published
from memgrid.corpus.splits import HUB, fetch_splits, split_names

DATASET = "hf://datasets/usvsnsp/semantic-filters"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_semantic_filters(tmp_path_factory.mktemp("dataset"), 400)


@pytest.mark.parametrize(
    "layout",
    ["data/{}-00000-of-00001-0f1e2d.parquet", "{}-00000-of-00001.parquet", "{}.parquet", "{}/part-7.parquet", "data/{}/0000.parquet"],
)
def test_every_layout_of_files_gives_the_same_corpus(dataset, tmp_path, layout):
    for split in SPLITS:
        path = tmp_path / layout.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(dataset / "data" / f"{split}-00000-of-00001.parquet")
    assert load_published(config(tmp_path)).fingerprint == load_published(config(dataset)).fingerprint


def test_numbered_files_come_in_their_order(tmp_path):
    for number in (2, 0, 1):
        rows([number * 2, number * 2 + 1]).write_parquet(tmp_path / f"one-{number:05d}-of-00003.parquet")
    assert load_published(config(tmp_path, ["one"])).sequence_id.tolist() == [0, 1, 2, 3, 4, 5]


def test_names_that_only_begin_alike_are_another_split(tmp_path):
    rows([1]).write_parquet(tmp_path / "memories_deduped_1b-00000-of-00001.parquet")
    rows([2]).write_parquet(tmp_path / "memories_deduped_1b.63000-00000-of-00001.parquet")
    rows([3]).write_parquet(tmp_path / "other_memories_deduped_1b.parquet")
    assert load_published(config(tmp_path, ["memories_deduped_1b"])).sequence_id.tolist() == [1]


def test_names_are_no_patterns(tmp_path):
    rows([1]).write_parquet(tmp_path / "a1.parquet")
    rows([2]).write_parquet(tmp_path / "a[1].parquet")
    assert load_published(config(tmp_path, ["a[1]"])).sequence_id.tolist() == [2]


def test_a_split_without_files_is_told_with_what_is_there(dataset, tmp_path):
    sentence = refusal(load_published, config(dataset, ["memories_deduped_70m"]))
    assert "no file of the split 'memories_deduped_70m'" in sentence
    assert "data/memories_deduped_12b-00000-of-00001.parquet, data/pile_deduped_12b-00000-of-00001.parquet: set corpus.splits" in sentence
    assert "no parquet file at all" in refusal(load_published, config(tmp_path))
    for number in range(9):
        (tmp_path / f"x{number}.parquet").touch()
    assert "x5.parquet and 3 more" in refusal(load_published, config(tmp_path))


def test_a_split_with_some_of_its_files_is_refused(tmp_path):
    rows([1]).write_parquet(tmp_path / "one-00000-of-00002.parquet")
    assert "1 of the 2 files of the split 'one'" in refusal(load_published, config(tmp_path, ["one"]))


def composed(*overrides):
    corpus = raw("corpus=semantic_filters", *overrides).corpus
    return CorpusConfig(name=corpus.name, path=corpus.path, kind=corpus.kind, splits=list(corpus.splits))


def test_the_llm_names_the_splits(dataset):
    named = composed("llm.semantic_filters=deduped_12b", f"corpus.path={dataset}")
    assert tuple(named.splits) == SPLITS
    assert len(load_published(named).tokens) > 380
    unknown = composed("llm=toy")
    assert HUB.fullmatch(unknown.path)
    for stage in (load_published, fetch_splits):
        assert "this llm has no split in semantic-filters" in refusal(stage, unknown)


# The hub: not there, not reachable, and a small one of our own.


def test_what_is_not_in_the_cache_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert "run once with stages=[fetch]" in refusal(load_published, config(DATASET))
    assert "names no dataset" in refusal(load_published, config("hf://usvsnsp/semantic-filters"))


def test_fetching_offline_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set: unset it" in refusal(fetch_splits, config(DATASET))


def test_fetching_a_folder_only_checks_it(dataset):
    assert fetch_splits(config(dataset)) == dataset
    assert "no file of the split 'none'" in refusal(fetch_splits, config(dataset, ["none"]))


ASK = """
import sys
from memgrid.config.schema import CorpusConfig
from memgrid.errors import UserError
from memgrid.corpus.splits import fetch_splits
from memgrid.corpus.published import load_published

stage, path, *splits = sys.argv[1:]
config = CorpusConfig(name="paper", path=path, kind="semantic_filters", splits=splits)
try:
    if stage == "fetch":
        fetch_splits(config)
    print(load_published(config).fingerprint)
except UserError as error:
    print("refused", error)
"""


def ask(endpoint, cache, *arguments):
    """Fetch or load in a new process, since huggingface_hub reads its environment once; returns what it prints."""
    told = {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HUB_DISABLE_XET": "1",
    }
    process = forks.run(["-c", ASK, *arguments], env=os.environ | told, light=True)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


@pytest.fixture
def hub(dataset):
    files = {path.relative_to(dataset).as_posix(): path.read_bytes() for path in dataset.rglob("*.parquet")}
    with opened({"datasets/a/b": files}) as server:
        yield server


def test_fetched_once_then_loaded_without_the_hub(dataset, hub, tmp_path):
    assert "stages=[fetch]" in ask(hub.endpoint, tmp_path, "load", "hf://datasets/a/b", SPLITS[0])
    assert not hub.asked
    expected = load_published(config(dataset, SPLITS[:1])).fingerprint
    assert ask(hub.endpoint, tmp_path, "fetch", "hf://datasets/a/b@main", SPLITS[0]) == expected
    assert hub.downloads() == {("datasets/a/b", f"data/{SPLITS[0]}-00000-of-00001.parquet"): 1}, "only the wanted split is downloaded"
    nowhere = "http://127.0.0.1:9"
    assert ask(nowhere, tmp_path, "load", "hf://datasets/a/b", SPLITS[0]) == expected
    assert "stages=[fetch]" in ask(nowhere, tmp_path, "load", "hf://datasets/a/b", SPLITS[1])
    assert "refused corpus.path=hf://datasets/a/b cannot be fetched because" in ask(
        nowhere, tmp_path, "fetch", "hf://datasets/a/b", SPLITS[1]
    )


def test_what_the_hub_does_not_have(hub, tmp_path):
    assert "the hub has no such dataset" in ask(hub.endpoint, tmp_path, "fetch", "hf://datasets/a/none", SPLITS[0])
    assert "has no" in ask(hub.endpoint, tmp_path, "fetch", "hf://datasets/a/b@other", SPLITS[0])
    assert "no file of the split 'none'" in ask(hub.endpoint, tmp_path, "fetch", "hf://datasets/a/b", "none")


# Steps of the training, and the other data set's names.


def test_the_step_stands_in_the_names_of_splits(tmp_path):
    asked = config(tmp_path, ["memories_deduped_12b.step63000"])
    assert split_names(asked) == split_names(config(tmp_path, ["memories_deduped_12b.63000"])) == ["memories_deduped_12b.63000"]
    rows([5, 6]).write_parquet(tmp_path / "memories_deduped_12b.63000-00000-of-00001.parquet")
    rows([7]).write_parquet(tmp_path / "memories_deduped_12b.6300-00000-of-00001.parquet")
    assert load_published(asked).sequence_id.tolist() == [5, 6]
    assert "set llm.revision=step63000" in refusal(split_names, config(tmp_path, ["memories_deduped_12b.None"]))
    assert "no file of the split 'memories_deduped_12b.main'" in refusal(load_published, config(tmp_path, ["memories_deduped_12b.main"]))


def composed_as(*overrides):
    return CorpusConfig(**{key: list(value) if key == "splits" else value for key, value in raw(*overrides).corpus.items()})


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (("corpus=memorized_evals", "llm=pythia-12b-deduped"), ["deduped.12b"]),
        (("corpus=memorized_evals", "llm=pythia-1.4b"), ["duped.1.4b"]),
        (("corpus=memorized_evals", "llm=pythia-70m", "corpus.splits=[duped.70m,duped.12b]"), ["duped.70m", "duped.12b"]),
        (("corpus=semantic_filters_steps", "llm=pythia-12b", "llm.revision=step23000"), ["memories_duped_12b.23000"]),
        (("corpus=semantic_filters_steps", "llm=pythia-1.4b-deduped", "llm.revision=step83000"), ["memories_deduped_1.4b.83000"]),
    ],
)
def test_the_llm_and_its_revision_name_the_splits(overrides, names):
    asked = composed_as(*overrides)
    assert split_names(asked) == names
    assert HUB.fullmatch(asked.path)


def test_steps_need_a_revision():
    assert "set llm.revision=step63000" in refusal(split_names, composed_as("corpus=semantic_filters_steps", "llm=pythia-12b"))


@pytest.mark.parametrize("kind", ["memorized_evals", "semantic_filters_steps"])
def test_other_models_have_no_split_there(kind):
    assert "this llm has no split in semantic-filters" in refusal(split_names, composed_as(f"corpus={kind}", "llm=toy"))
