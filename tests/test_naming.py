"""What a run is called stays: finished runs are found by their names."""

import pytest
from runs_maker import composed

from memgrid.naming import run_folder, settings


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ((), "rho0.5-both-seed0-e23e725aca"),
        (("select.non_memorized=any", "select.decoded=continuation"), "rho0.5-both-seed0-e23e725aca"),
    ],
)
def test_settings_that_came_later_do_not_rename_older_runs(overrides, name):
    run = composed(overrides)
    assert run_folder(run).name == name
    assert not {"non_memorized", "decoded"} & set(settings(run)["select"])


def test_hard_negatives_are_in_the_name():
    given = [(), ("select.non_memorized=matched",), ("select.decoded=suffix",), ("select.non_memorized=matched", "select.decoded=suffix")]
    assert len({run_folder(composed(overrides)).name for overrides in given}) == 4
