"""Maps of another number of layers, looked for at the same relative depth: by hand."""

import numpy as np
import pytest
import torch

from memgrid.train.transfer.depth import at_depth, weights


def test_equal_numbers_of_layers_are_the_very_same_tensor():
    packed = torch.rand(2, 10, 6).half()
    assert at_depth(packed, 6) is packed


@pytest.mark.parametrize(
    ("have", "want", "by_hand"),
    [
        (3, 2, [[1, 0, 0], [0, 0, 1]]),
        (2, 3, [[1, 0], [0.5, 0.5], [0, 1]]),
        (2, 4, [[1, 0], [2 / 3, 1 / 3], [1 / 3, 2 / 3], [0, 1]]),
        (4, 3, [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]),
        (1, 3, [[1], [1], [1]]),
        (3, 1, [[0, 1, 0]]),
        (2, 1, [[0.5, 0.5]]),
        (1, 1, [[1]]),
    ],
)
def test_weights_by_hand(have, want, by_hand):
    np.testing.assert_allclose(weights(have, want), by_hand, atol=1e-7)


@pytest.mark.parametrize("have", [2, 6, 7, 36])
@pytest.mark.parametrize("want", [1, 2, 5, 13, 36])
def test_first_meets_first_and_last_meets_last(have, want):
    mixed = weights(have, want)
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)
    assert (mixed >= 0).all()
    assert want == 1 or (mixed[0, 0], mixed[-1, -1]) == (1, 1)
    if have == want:
        assert np.array_equal(mixed, np.eye(have, dtype=np.float32))


def test_rows_of_mean_maps_still_sum_to_one():
    rows = torch.rand(3, 5, 6)  # batch, keys of one query, layers
    rows /= rows.sum(1, keepdim=True)
    assert torch.allclose(at_depth(rows.half(), 4).sum(1), torch.ones(3, 4), atol=2e-3)


def test_a_map_that_grows_with_depth_keeps_its_slope():
    packed = torch.arange(7.0).expand(1, 2, 7)
    assert torch.allclose(at_depth(packed, 4)[0, 0], torch.tensor([0.0, 2.0, 4.0, 6.0]))
    assert torch.allclose(at_depth(packed, 3)[0, 1], torch.tensor([0.0, 3.0, 6.0]))
