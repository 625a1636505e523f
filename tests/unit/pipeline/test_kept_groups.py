"""Near-duplicates survive an intervention together: one of each group is read."""

import polars as pl

from memgrid.pipeline.causes import alone


def test_one_of_each_group_of_a_class_is_left():
    samples = pl.DataFrame({"sequence_id": range(7), "label": [0, 0, 1, 1, 1, 0, 1], "group": [5, 5, 5, 8, 8, 9, 7]})
    assert alone(samples)["sequence_id"].to_list() == [0, 2, 3, 5, 6]


def test_a_run_that_knows_no_groups_keeps_all():
    samples = pl.DataFrame({"sequence_id": [1, 2], "label": [0, 0]})
    assert alone(samples).equals(samples)
