"""What a run is called stays: finished runs are found by their names."""

import json
from dataclasses import asdict

import pytest
from omegaconf import OmegaConf
from runs_maker import composed

from memgrid.config.names import run_folder, settings

EARLIER = ("cnn.epochs=10", "cnn.dropout=0.25", "cnn.schedule=constant")  # what the default was


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (EARLIER, "rho0.5-both-seed0-e23e725aca"),
        ((*EARLIER, "select.non_memorized=any", "select.decoded=continuation"), "rho0.5-both-seed0-e23e725aca"),
    ],
)
def test_settings_that_came_later_do_not_rename_older_runs(overrides, name):
    run = composed(overrides)
    assert run_folder(run).name == name
    assert not {"non_memorized", "decoded"} & set(settings(run)["select"])


def test_hard_negatives_are_in_the_name():
    given = [(), ("select.non_memorized=matched",), ("select.decoded=suffix",), ("select.non_memorized=matched", "select.decoded=suffix")]
    assert len({run_folder(composed(overrides)).name for overrides in given}) == 4


TEXT = ("llm=hf", "llm.name=x", "llm.path=y", "corpus=text", "corpus.name=z", "corpus.path=w")


@pytest.mark.parametrize("given", [(), ("llm=tiny_random", "cnn=paper", "compat=paper", "rho=1"), TEXT])
def test_settings_have_the_types_of_the_schema(given):
    """A threshold typed as 1 is 1.0 in them, and so the same run."""
    run = composed(given)
    assert json.dumps(asdict(run)) == json.dumps(OmegaConf.to_container(OmegaConf.structured(run)))
