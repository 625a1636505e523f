"""Records of stages: what counts as done, and what is told of it."""

import json
from dataclasses import replace

import pytest
from settings_maker import composed

from memgrid import __version__
from memgrid.errors import UserError
from memgrid.results.findings import mean_curves, randomization_sentences, stage_sentences
from memgrid.results.folder import RunFolder
from memgrid.results.records import (
    ClassRegions,
    ClassVerdict,
    InterveneRecord,
    LocalizeRecord,
    RandomizationCurves,
    refuse_rivals,
    stage_settings,
)

CURVES = {
    "A": RandomizationCurves({0: 1.0, 1: 0.5, 10: 0.3}, {0: 1.0, 1: 0.2, 10: 0.0}),
    "B": RandomizationCurves({0: 1.0, 1: 0.7, 10: 0.5}, {0: 1.0, 1: 0.4, 10: -0.2}),
}
CLASSES = [ClassRegions(name, 9, 6, 2, 40.4, 30.0, 30.0, 40.0, 5.0, [10.0] * 6) for name in "AB"]
VERDICTS = [ClassVerdict("A", 9, [], ["A is so"])]


def located(run, inputs):
    return LocalizeRecord(run.localize.method, stage_settings(run, "localize"), inputs, "9 eval samples per class", CLASSES, CURVES)


@pytest.fixture
def run():
    return composed("stages=[label,extract,train,localize,intervene]")


@pytest.fixture
def folder(run, tmp_path):
    """A run's folder after both stages."""
    folder = RunFolder(tmp_path)
    folder.decision_maps("guided").touch()
    folder.intervention.touch()
    folder.intervention_units.touch()
    folder.write_record(located(run, "abc"))
    folder.write_record(InterveneRecord("guided", stage_settings(run, "intervene"), "abc", VERDICTS))
    return folder


def test_what_is_done_is_not_missing(run, folder):
    nowhere = RunFolder(folder.path / "nowhere")
    assert folder.undone(run) == []
    assert nowhere.undone(replace(run, stages=["train"])) == []
    assert nowhere.undone(run) == ["localize", "intervene"]


def test_other_settings_are_not_done(run, folder):
    run.intervene.percent = [1.0]
    assert folder.undone(run) == ["intervene"]
    run.localize.samples = 5
    assert folder.undone(run) == ["localize", "intervene"]
    run.localize.samples, run.localize.method = None, "gradient"
    assert folder.undone(run) == ["localize", "intervene"]


def test_an_intervention_from_other_maps_is_not_done(run, folder):
    folder.write_record(located(run, "def"))
    assert folder.undone(run) == ["intervene"]


@pytest.mark.parametrize(
    ("name", "left"),
    [("localize-guided.h5", {"localize"}), ("intervene.parquet", {"intervene"}), ("intervene-units.parquet", {"intervene"})],
)
def test_a_record_without_its_file_is_none(name, left, run, folder):
    (folder.path / name).unlink()
    assert set(folder.undone(run)) == left


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "its intervene.json is damaged: do the stage intervene again"),
        ("[]", "its intervene.json is damaged: do the stage intervene again"),
        ("{}", "another version of memgrid wrote it (its intervene.json has no method): do the stage intervene again"),
        ('{"method": "guided", "memgrid": "9"}', "version 9 of memgrid wrote it (its intervene.json has no settings): do the stage"),
        (
            '{"method": "guided", "settings": {}, "inputs": "a", "verdict": [{"class": 1}]}',
            "another version of memgrid wrote it (its intervene.json holds something else under verdict.0.class)",
        ),
    ],
)
def test_a_record_of_no_use_is_a_sentence_and_the_stage_is_not_done(content, sentence, run, folder):
    folder.intervention_record.write_text(content)
    with pytest.raises(UserError) as refusal:
        folder.intervene_record()
    assert str(refusal.value).startswith(f"{folder.path}: {sentence}")
    assert folder.undone(run) == ["intervene"]


def test_records_come_back_as_they_were_written(run, folder):
    assert replace(folder.localize_record("guided"), memgrid="") == located(run, "abc")
    assert folder.intervene_record().memgrid == __version__
    assert folder.intervene_record().verdicts == VERDICTS
    assert folder.localize_record("gradient") is None
    plain = json.loads(folder.decision_record("guided").read_text())
    assert plain["sanity"]["A"]["delta"] == {"0": 1.0, "1": 0.5, "10": 0.3}  # the names in the files stay
    assert plain["classes"][0]["class"] == "A"
    assert json.loads(folder.intervention_record.read_text())["verdict"][0]["class"] == "A"


def test_what_is_told(run, folder):
    first, second, third = stage_sentences(run, folder)
    assert first == "Most of Δ (guided, 9 eval samples per class) lies for A in layer 2 of 6 (40 %), B in layer 2 of 6 (40 %)."
    assert "correlate with these by -0.10 (D, by the networks alone) and by 0.40 (Δ, which keeps the attention)" in second
    assert third == "A is so."
    assert stage_sentences(replace(run, stages=["intervene"]), folder) == ["A is so."]
    assert stage_sentences(replace(run, stages=["train"]), folder) == []
    assert randomization_sentences(replace(located(run, "abc"), randomization_test={})) == []


def test_curves_are_means_over_classes():
    delta, decisive = mean_curves(CURVES).values()
    assert delta == pytest.approx({0: 1.0, 1: 0.6, 10: 0.4})
    assert decisive == pytest.approx({0: 1.0, 1: 0.3, 10: -0.1})


def test_a_sweep_over_what_a_run_keeps_once_is_refused(run, tmp_path):
    few = replace(run, intervene=replace(run.intervene, heads=1))
    with pytest.raises(UserError, match=r"^intervene.heads=None and intervene.heads=1 of the same run cannot be swept over: \S+ holds"):
        refuse_rivals([run, few], RunFolder(tmp_path).record_path)
    gradient = replace(run, localize=replace(run.localize, method="gradient"))
    with pytest.raises(UserError, match=r"^localize.method=guided and localize.method=gradient of the same run"):
        refuse_rivals([run, gradient], RunFolder(tmp_path).record_path)
    refuse_rivals([replace(rival, stages=["localize"]) for rival in (run, few, gradient)], RunFolder(tmp_path).record_path)
    refuse_rivals([run, replace(few, seed=1)], lambda rival, stage: RunFolder(tmp_path / str(rival.seed)).record_path(rival, stage))
