"""The packing that the store promises, against numpy's and torch's own."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from memgrid.lm.triangle import Triangle

LENGTHS = st.integers(1, 96)


@given(LENGTHS)
def test_the_order_is_that_of_numpy_and_torch(length):
    triangle = Triangle(length)
    np.testing.assert_array_equal((triangle.queries, triangle.keys), np.tril_indices(length))
    np.testing.assert_array_equal((triangle.queries, triangle.keys), torch.tril_indices(length, length).numpy())
    assert len(triangle) == len(triangle.queries) == triangle.mask.sum()
    assert triangle.queries.dtype == triangle.keys.dtype == triangle.flat.dtype == triangle.source.dtype == np.int64


@given(LENGTHS, st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_packing_and_unpacking_are_each_others_inverse(length, axes, seed):
    triangle, random = Triangle(length), np.random.default_rng(seed)
    packed = random.random((*random.integers(1, 4, axes), len(triangle)), np.float32)
    square = triangle.unpack(packed)
    assert square.dtype == packed.dtype
    np.testing.assert_array_equal(triangle.pack(square), packed)
    np.testing.assert_array_equal(square, np.tril(square))
    full = random.random((*packed.shape[:-1], length, length))
    np.testing.assert_array_equal(triangle.unpack(triangle.pack(full)), np.tril(full))
    np.testing.assert_array_equal(triangle.pack(full), full.reshape(*packed.shape[:-1], -1)[..., triangle.flat])


@given(LENGTHS, st.data())
def test_a_position_is_a_query_and_a_key(length, data):
    triangle = Triangle(length)
    position = data.draw(st.integers(0, len(triangle) - 1))
    query, key = triangle.queries[position], triangle.keys[position]
    assert 0 <= key <= query < length
    assert triangle.number(query, key) == position == triangle.source[query * length + key]


@given(LENGTHS)
def test_above_the_diagonal_is_what_one_says(length):
    triangle = Triangle(length)
    square = triangle.unpack(np.zeros(len(triangle)), above=np.nan)
    np.testing.assert_array_equal(np.isnan(square), ~triangle.mask)
    np.testing.assert_array_equal(triangle.source.reshape(length, length) == len(triangle), ~triangle.mask)


def test_the_stores_promise():
    assert len(Triangle(64)) == 2080
