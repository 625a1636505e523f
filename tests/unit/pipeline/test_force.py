"""What `force` has done again: the stages that it names, and nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import refusal
from hypothesis import given
from hypothesis import strategies as st
from settings_maker import composed

from memgrid.config.derive import forced
from memgrid.config.schema import FORCIBLE, OWN_STAGES, STAGES
from memgrid.pipeline.inputs import Renewed
from memgrid.pipeline.sweep import Runs, result_of
from memgrid.results.folder import RunFolder
from memgrid.run import clear

USUAL = ("label", "extract", "train")
LATER = ("localize", "intervene", "transfer")


@pytest.mark.parametrize(
    ("stages", "force", "again"),
    [
        (USUAL, "false", ()),
        (USUAL, "true", ("train",)),
        ((*USUAL, *LATER[:2]), "true", ("train", "localize", "intervene")),
        (("intervene",), "true", ("intervene",)),
        (("label",), "true", ("label",)),
        (("label", "extract"), "true", ("label", "extract")),
        (("plan",), "true", ()),
        (USUAL, "label", ("label",)),
        (USUAL, "[label]", ("label",)),
        (USUAL, "[label,train]", ("label", "train")),
        (USUAL, "[]", ()),
    ],
)
def test_true_means_what_is_the_runs_own_and_what_is_shared_is_named(stages, force, again):
    run = composed(f"stages=[{','.join(stages)}]", f"force={force}", *(["transfer.from=x"] if "transfer" in stages else []))
    assert forced(run) == again


@given(st.lists(st.sampled_from(FORCIBLE), unique=True, min_size=1))
def test_every_stage_that_is_named_is_done_again(stages):
    run = replace(composed(), stages=list(STAGES), force=stages)
    assert forced(run) == tuple(stages)
    assert (result_of(run) is None) == bool(stages)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("force=[lable]",), "force=[lable] is neither true nor false, nor names stages: use some of label, extract, train, localize, "),
        (("force=[lable]",), "(did you mean label?)"),
        (("force=yes",), "force=yes is neither true nor false"),
        (("force=null",), "force=None is neither true nor false"),
        (("force=1",), "force=1 is neither true nor false"),
        (("force=[plan]",), "force=[plan] is neither true nor false, nor names stages"),
        (("force=[localize]",), "force=[localize] is to do localize again, and stages=[label,extract,train] does not do it at all: add it"),
    ],
)
def test_what_cannot_be_done_again_is_refused(words, told):
    assert told in refusal(composed, *words)


@pytest.mark.parametrize("stage", FORCIBLE)
def test_a_stage_that_is_done_again_loses_its_own_files_alone(stage, tmp_path):
    run = replace(composed(f"root={tmp_path}"), stages=[*USUAL, *LATER], force=[stage])
    folder = RunFolder.of(run)
    of_stage = {later: folder.stage_files(run, later) for later in LATER}
    of_stage["train"] = [folder.metrics, folder.checkpoint, folder.samples, folder.epochs]
    for path in [folder.lock_file, *(path for files in of_stage.values() for path in files)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    clear(run, folder)
    assert folder.lock_file.exists()
    for other, files in of_stage.items():
        gone = stage in ("train", other)  # what comes after a training was made from it
        assert [path.exists() for path in files] == [not gone] * len(files), other
    assert set(OWN_STAGES) <= set(FORCIBLE)


def test_of_runs_that_share_what_is_made_anew_only_the_first_makes_it_so(tmp_path):
    gone, renewed = [], Renewed()
    labels = SimpleNamespace(path=lambda group: tmp_path / group, forget=gone.append)
    assert renewed.forget(labels, ("memorized", "duplicates"))
    assert renewed.forget(labels, ("memorized", "rouge"))
    assert not renewed.forget(labels, ("memorized", "rouge"))
    assert gone == ["memorized", "duplicates", "rouge"]
    store, other = SimpleNamespace(folder=tmp_path / "a"), SimpleNamespace(folder=tmp_path / "b")
    assert renewed.stale(store, np.array([1, 2])) == [1, 2]
    assert renewed.stale(store, np.array([2, 3])) == [3]
    assert renewed.stale(other, np.array([2, 3])) == [2, 3]


@pytest.mark.parametrize(
    ("force", "first", "second", "together"),
    [
        ("true", "seed=1", "seed=2", False),
        ("[train]", "seed=1", "seed=2", False),
        ("[label,train]", "seed=1", "seed=2", True),
        ("[extract,train]", "seed=1", "taxonomy=recite", True),
        ("[label,train]", "llm=toy", "llm=tiny_random", False),
    ],
)
def test_no_job_takes_from_another_what_both_read(force, first, second, together):
    one, other = (Runs().shared(composed(f"force={force}", word)) for word in (first, second))
    assert (one == other) == together


def test_parts_are_jobs_of_their_own_unless_labels_are_made_anew():
    for force, together in (("[extract]", False), ("true", True)):
        one, other = (Runs().shared(composed("stages=[label,extract]", f"force={force}", "parts=2", f"part={part}")) for part in (0, 1))
        assert (one == other) == together
