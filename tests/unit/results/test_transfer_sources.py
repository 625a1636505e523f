"""Which runs `transfer.from` names, and what is said of those whose networks cannot be tried."""

import dataclasses
import os
from contextlib import chdir

import pytest
from conftest import refusal
from runs_maker import Run, begin, finish
from settings_maker import composed

from memgrid.config.derive import sources
from memgrid.results.transfers.sources import find_sources


@pytest.fixture
def root(tmp_path):
    """A root with finished runs of two seeds and of another taxonomy, and one that is not finished."""
    for run in (Run(tmp_path, "m", seed=1), Run(tmp_path, "m", seed=2), Run(tmp_path, "m", "prashanth")):
        finish(run)
    begin(Run(tmp_path, "m", seed=3))
    return tmp_path


def asks(root, *names):
    """A run of the root that asks for sources."""
    return dataclasses.replace(composed("stages=[transfer]", "transfer.from=x", f"root={root}"), transfer={"from": list(names)})


def found(root, *names, own="nowhere"):
    return [path.name for path in find_sources(asks(root, *names), root / own).folders]


def test_one_and_a_list_are_typed_alike():
    assert sources(composed("transfer.from=a/b")) == ["a/b"]
    assert sources(composed("transfer.from=[a,b,a]")) == ["a", "b"]
    assert sources(composed("transfer.from='*/rasy/*'")) == ["*/rasy/*"]
    assert sources(composed("transfer.from=null")) == sources(composed()) == []


def test_a_folder_is_found_from_here_from_the_root_and_below_its_runs(root):
    folder = Run(root, "m", seed=1).folder
    for name in (folder, folder.relative_to(root), folder.relative_to(root / "runs"), f"{folder}{os.sep}"):
        assert found(root, str(name)) == [folder.name]
    with chdir(folder.parent):
        assert found(root, folder.name) == [folder.name]


def test_one_run_by_two_names_is_tried_once(root):
    folder = Run(root, "m", seed=1).folder
    assert found(root, str(folder), str(folder.relative_to(root))) == [folder.name]


def test_a_pattern_means_the_other_finished_runs_that_fit(root):
    own = Run(root, "m", seed=1)
    all_found = find_sources(asks(root, "m/*/*"), own.folder)
    assert [path.name for path in all_found.folders] == [Run(root, "m", seed=2).folder.name]
    assert not all_found.by_name
    (path,) = all_found.passed_over
    assert path.parent.name == "prashanth"
    assert all_found.passed_over[path].startswith("has the classes Non-Memo, Recite, Reconstruct, Recollect, and this run Non-Memo, Guess")
    # Named by itself, a run is a source of its own.
    assert found(root, str(own.folder), own=own.folder) == [own.folder.name]


def test_what_cannot_be_tried_is_one_sentence_each(root):
    unfinished, other = Run(root, "m", seed=3).folder, Run(root, "m", "prashanth").folder
    longer = Run(root, "m", seed=4)
    longer.settings["corpus"] = {**longer.settings["corpus"], "k": 50, "length": 100}
    finish(longer)
    for name, words in (
        ("m/rasy/none", ["transfer.from=m/rasy/none is no folder of a run", str(root / "runs"), "`memgrid status` lists them"]),
        (str(unfinished), [f"transfer.from={unfinished} holds no finished run", "start that run first"]),
        (str(other), [f"transfer.from={other} has the classes Non-Memo, Recite", "name a run with the same"]),
        (str(longer.folder), ["has corpus.length=100 tokens, and this run 64", "name a run with as many"]),
        ("m/prash*/*", ["transfer.from=m/prash*/* matches no other finished run with the classes", "(1 match that have others)"]),
        ("none/*", ["transfer.from=none/* matches no other finished run", "finish one first"]),
    ):
        said = refusal(find_sources, asks(root, name), root)
        assert all(word in said for word in words), said


def test_a_source_whose_result_is_damaged_is_named(root):
    path = Run(root, "m", seed=1).folder / "metrics.json"
    path.write_text("{")
    assert refusal(find_sources, asks(root, str(path.parent)), root).startswith(
        f"transfer.from: {path.parent}: its metrics.json is damaged"
    )
