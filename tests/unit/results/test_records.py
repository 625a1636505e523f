"""Marks: what counts as done, and what is told of it."""

from dataclasses import replace

import pytest
from hydra import compose, initialize_config_dir

from memgrid.config.validate import register, typed
from memgrid.errors import UserError
from memgrid.io.paths import CONF
from memgrid.results.findings import mean_curves, randomised, said
from memgrid.results.records import delta_path, is_done, read_mark, refuse_rivals, undone, write_mark

SANITY = {
    "A": {"delta": {"0": 1.0, "1": 0.5, "10": 0.3}, "decisiveness": {"0": 1.0, "1": 0.2, "10": 0.0}},
    "B": {"delta": {"0": 1.0, "1": 0.7, "10": 0.5}, "decisiveness": {"0": 1.0, "1": 0.4, "10": -0.2}},
}
CLASSES = [{"class": name, "layer": 2, "layers": 6, "layer_share": 40.4} for name in "AB"]
LOCATED = {"samples": "9 eval samples per class", "classes": CLASSES, "sanity": SANITY}


@pytest.fixture
def run():
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("run", overrides=["stages=[label,extract,train,localize,intervene]"]))


@pytest.fixture
def folder(run, tmp_path):
    """A run's folder after both stages."""
    delta_path(run, tmp_path).touch()
    (tmp_path / "intervene.parquet").touch()
    write_mark(run, tmp_path, "localize", "abc", LOCATED)
    write_mark(run, tmp_path, "intervene", "abc", {"verdict": [{"sentence": "A is so", "attended_sentence": None}]})
    return tmp_path


def test_what_is_done_is_not_missing(run, folder):
    assert undone(run, folder) == []
    assert undone(replace(run, stages=["train"]), folder / "nowhere") == []
    assert undone(run, folder / "nowhere") == ["localize", "intervene"]


def test_other_settings_are_not_done(run, folder):
    run.intervene.percent = [1.0]
    assert undone(run, folder) == ["intervene"]
    run.localize.samples = 5
    assert undone(run, folder) == ["localize", "intervene"]
    run.localize.samples, run.localize.method = None, "gradient"
    assert undone(run, folder) == ["localize", "intervene"]


def test_an_intervention_from_other_maps_is_not_done(run, folder):
    write_mark(run, folder, "localize", "def", LOCATED)
    assert undone(run, folder) == ["intervene"]


@pytest.mark.parametrize(("name", "left"), [("localize-guided.h5", {"localize"}), ("intervene.parquet", {"intervene"})])
def test_a_mark_without_its_file_is_none(name, left, run, folder):
    (folder / name).unlink()
    assert set(undone(run, folder)) == left


def test_a_damaged_mark_is_none(run, folder):
    for content in ("", "[]", "{}", '{"method": "guided"}'):
        (folder / "intervene.json").write_text(content)
        assert read_mark(folder / "intervene.json") is None
        assert not is_done(run, folder, "intervene")


def test_what_is_told(run, folder):
    first, second, third = said(run, folder)
    assert first == "Most of Δ (guided, 9 eval samples per class) lies for A in layer 2 of 6 (40 %), B in layer 2 of 6 (40 %)."
    assert "correlate with these by -0.10 (D, by the networks alone) and by 0.40 (Δ, which keeps the attention)" in second
    assert third == "A is so."
    assert said(replace(run, stages=["intervene"]), folder) == ["A is so."]
    assert said(replace(run, stages=["train"]), folder) == []
    assert randomised({"sanity": {}}) == []


def test_curves_are_means_over_classes():
    delta, decisive = mean_curves(SANITY).values()
    assert delta == pytest.approx({0: 1.0, 1: 0.6, 10: 0.4})
    assert decisive == pytest.approx({0: 1.0, 1: 0.3, 10: -0.1})


def test_a_sweep_over_what_a_run_keeps_once_is_refused(run, tmp_path):
    few = replace(run, intervene=replace(run.intervene, heads=1))
    with pytest.raises(UserError, match=r"^intervene.heads=None and intervene.heads=1 of the same run cannot be swept over: \S+ holds"):
        refuse_rivals([run, few], lambda _: tmp_path)
    gradient = replace(run, localize=replace(run.localize, method="gradient"))
    with pytest.raises(UserError, match=r"^localize.method=guided and localize.method=gradient of the same run"):
        refuse_rivals([run, gradient], lambda _: tmp_path)
    refuse_rivals([replace(one, stages=["localize"]) for one in (run, few, gradient)], lambda _: tmp_path)
    refuse_rivals([run, replace(few, seed=1)], lambda one: tmp_path / str(one.seed))
