"""Whose labels and attention a folder holds: every checkpoint of a name has folders of its own, and finds them again."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memgrid.config.names import (
    ATTENTION,
    LABELS,
    MODEL,
    Owner,
    called,
    checkpoint_of,
    claim_home,
    find_home,
    homes,
    owner_of_labels,
    short_name,
    step_of,
)


@dataclass(frozen=True)
class Weights:
    name: str
    fingerprint: str
    revision: str = ""
    checkpoint: str = ""


def revision(number, name="m", fingerprint=None):
    return Weights(name, fingerprint or f"{number:016x}", f"step{number}", f"step{number}")


def nobody(folder):
    return None


def written_before(root, kind, name, corpus, fingerprint):
    """What an earlier version left, which has no model.json."""
    folder = root / kind / name / corpus
    folder.mkdir(parents=True)
    metadata = {"memgrid": json.dumps({"corpus": "c", "k": 32, "llm": fingerprint})}
    pl.DataFrame({"sequence_id": [1]}).write_parquet(folder / "memorized.parquet", metadata=metadata)
    return folder


def test_the_first_weights_get_the_name_and_others_their_revision_or_path(tmp_path):
    paths = [Weights("m", f"{number}", "", f"/ckpts/{part}") for number, part in enumerate(("a/hf", "b/hf", "c/hf"))]
    wanted = [(revision(1), "m"), (revision(2), "m@step2"), (paths[0], "m@hf"), (paths[1], "m@1"), (revision(1, "n"), "n")]
    for _ in range(2):
        for weights, name in wanted:
            assert claim_home(tmp_path, LABELS, "c", weights, nobody)[0] == tmp_path / LABELS / name / "c"
    moved = replace(revision(2), fingerprint="moved")  # a branch that was moved is other weights under the same name
    assert claim_home(tmp_path, LABELS, "c", moved, nobody)[0].parent.name == "m@moved"


def test_attention_lies_under_the_name_of_its_labels(tmp_path):
    for number in (1, 2, 3):
        claim_home(tmp_path, LABELS, "c", revision(number), nobody)
    for number in (3, 2, 1):
        for corpus in ("c", "c@suffix"):
            folder, _ = claim_home(tmp_path, ATTENTION, corpus, revision(number), nobody)
            assert folder == tmp_path / ATTENTION / ("m" if number == 1 else f"m@step{number}") / corpus


def test_equal_weights_share_a_folder_that_says_so(tmp_path):
    first, owner = claim_home(tmp_path, LABELS, "c", revision(0, fingerprint="same"), nobody)
    again, both = claim_home(tmp_path, LABELS, "c", revision(1, fingerprint="same"), nobody)
    assert (first, owner.used_as, both.used_as) == (again, ("step0",), ("step0", "step1"))
    assert claim_home(tmp_path, LABELS, "c", revision(0, fingerprint="same"), nobody)[1] == both
    assert both.revision == "step0"  # what its shards say stays


def test_what_earlier_versions_wrote_is_found_and_belongs_to_its_weights(tmp_path):
    """Labels of one checkpoint and attention of another under the same name, as they could be then."""
    old = written_before(tmp_path, LABELS, "m", "c", revision(2).fingerprint)
    written_before(tmp_path, LABELS, "m", "d", revision(1).fingerprint)
    assert find_home(tmp_path / LABELS, "m", "c", revision(2).fingerprint, owner_of_labels) == (old, Owner(revision(2).fingerprint))
    assert not list(old.glob(MODEL))  # looking writes nothing
    places = {
        (number, corpus): claim_home(tmp_path, LABELS, corpus, revision(number), owner_of_labels)[0].parent.name
        for number in (1, 2)
        for corpus in "cd"
    }
    assert places == {(1, "c"): "m@step1", (2, "c"): "m", (1, "d"): "m", (2, "d"): "m@step2"}


@pytest.mark.parametrize("fault", [b"", b"{}", b"[1]", b'{"fingerprint": 1}', b"\xff\xfe"])
def test_a_damaged_mark_is_read_from_the_files_themselves(tmp_path, fault):
    folder = written_before(tmp_path, LABELS, "m", "c", revision(1).fingerprint)
    (folder / MODEL).write_bytes(fault)
    assert claim_home(tmp_path, LABELS, "c", revision(1), owner_of_labels)[0] == folder
    assert claim_home(tmp_path, LABELS, "c", revision(2), owner_of_labels)[0] != folder
    (folder / "memorized.parquet").write_bytes(fault)
    (folder / MODEL).write_bytes(fault)
    assert owner_of_labels(folder) is None


def test_processes_that_start_at_once_get_folders_of_their_own(tmp_path):
    every = [revision(number % 8) for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(lambda weights: claim_home(tmp_path, LABELS, "c", weights, nobody)[0], every))
    assert len({*zip(places, every, strict=True)}) == len(set(places)) == 8
    assert {owner.fingerprint for _, owner in homes(tmp_path / LABELS, "m", "c", nobody)} == {weights.fingerprint for weights in every}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("mn"), st.integers(0, 3), st.sampled_from(["", "a", "b", "x/a"])), max_size=12))
def test_no_two_weights_ever_share_a_folder_and_each_finds_its_own(tmp_path_factory, uses):
    root, places = tmp_path_factory.mktemp("root"), {}
    for name, weights, checkpoint in uses:
        folder, _ = claim_home(root, LABELS, "c", Weights(name, f"f{weights}", checkpoint, checkpoint), nobody)
        assert places.setdefault((name, weights), folder) == folder
    assert len(set(places.values())) == len(places)


@pytest.mark.parametrize(
    ("checkpoint", "step", "short"),
    [
        ("step1000", 1000, "step1000"),
        ("step143000", 143000, "step143000"),
        ("stage1-step1000-tokens5B", 1000, "stage1-step1000-tokens5B"),
        ("/ckpts/step2000/hf/", 2000, "hf"),
        ("runs/checkpoint-500", 500, "checkpoint-500"),
        ("iter_0005000", 5000, "iter_0005000"),
        ("global_step12k", 12000, "global_step12k"),
        ("ckpts/000400", 400, "000400"),
        ("main", None, "main"),
        ("EleutherAI/pythia-2.8b-deduped-v0", None, "pythia-2.8b-deduped-v0"),
        ("0123456789abcdef0123456789abcdef01234567", None, "0123456789"),
        ("refs/pr/12", None, "12"),
        ("", None, ""),
        ("a b/ü ß", None, "ü_ß"),
    ],
)
def test_a_checkpoint_tells_its_step_and_has_a_short_name(checkpoint, step, short):
    assert (step_of(checkpoint), short_name(checkpoint)) == (step, short)


def test_a_run_is_called_by_its_checkpoint_where_it_has_one():
    assert called({"name": "m", "revision": "step5", "path": "hub/m"}) == "m@step5"
    assert called({"name": "m", "revision": None, "path": "/ckpts/step5"}) == "m@step5"
    assert called({"name": "m", "revision": None, "path": "hub/m"}) == called({"name": "m"}) == "m"
    assert (checkpoint_of("r", "p"), checkpoint_of(None, "p"), checkpoint_of(None, None)) == ("r", "p", "")
