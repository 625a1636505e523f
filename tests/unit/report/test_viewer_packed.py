"""Maps in few bytes: how far off what the page reads is."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from memgrid.report.viewer.packed import ERROR, SIGNED_ERROR, base64_size, pack, packed_probabilities

SHARES = arrays.arrays(np.float16, (2, 3, 10), elements=st.floats(0, 1, width=16))
DIFFERENCES = arrays.arrays(np.float32, (2, 10), elements=st.floats(-1, 1, width=32))


@given(SHARES)
def test_a_value_is_off_by_no_more_than_is_said(maps):
    packed = pack(maps)
    scales = np.asarray(maps, float).max(-1)
    assert np.allclose(packed.scales, scales, rtol=1e-4)
    assert (np.abs(packed.values() - maps) <= ERROR * scales[..., None] + 1e-12).all()


@given(DIFFERENCES)
def test_a_difference_is_off_by_no_more_than_is_said(maps):
    scales = np.abs(maps.astype(float)).max(-1)
    assert (np.abs(pack(maps, signed=True).values() - maps) <= SIGNED_ERROR * scales[..., None] + 1e-12).all()


def test_small_values_are_told_from_nothing():
    values = pack(np.array([1, 1e-4, 1e-5, 0]))
    assert values.values() == pytest.approx([1, (3 / 255) ** 2, (1 / 255) ** 2, 0])
    assert values.codes[-1] == 0


def test_signs_are_kept():
    assert np.sign(pack(np.array([-0.5, 0, 0.5]), signed=True).values()).tolist() == [-1, 0, 1]
    assert pack(np.zeros((2, 4)), signed=True).values().tolist() == np.zeros((2, 4)).tolist()


def test_the_page_finds_map_after_map():
    maps = np.arange(12, dtype=float).reshape(2, 2, 3)
    plain = pack(maps).plain()
    codes = np.frombuffer(base64.b64decode(plain["codes"]), np.uint8).reshape(4, 3)
    assert plain["scales"] == [2, 5, 8, 11]
    assert codes[:, -1].tolist() == [255] * 4
    assert len(plain["codes"]) == base64_size(12)


def test_probabilities_are_ten_thousandths():
    coded = base64.b64decode(packed_probabilities(np.array([[0.25, 0.12345], [1, 0]])))
    assert np.frombuffer(coded, "<u2").tolist() == [2500, 1234, 10000, 0]
