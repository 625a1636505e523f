"""Whether two extractions of the same samples are the same, on any processor."""

import numpy as np

from memgrid.store.shard import Maps
from memgrid.store.writer import arrays


def assert_same_maps(one: Maps, other: Maps, aligned: bool = True) -> None:
    """Bit for bit, if heads are `aligned`, 16 numbers wide or a multiple of that, so that each row begins at a multiple of 64 bytes.

    A math library may add in another order where a row begins elsewhere, and where it begins is then a matter of its place in a batch:
    equal ids and tokens, attention equal up to one float16 step, confidence up to 1e-5 of itself, and how probable tokens are up to 1e-3.
    """
    if aligned:
        for mine, its in zip(arrays(one), arrays(other), strict=True):
            assert mine.tobytes() == its.tobytes()
    np.testing.assert_array_equal(one.sequence_id, other.sequence_id)
    np.testing.assert_array_equal(one.decoded, other.decoded)
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-5)
    assert one.measured.keys() == other.measured.keys()
    for name, values in one.measured.items():
        np.testing.assert_allclose(values, other.measured[name], rtol=1e-3, atol=1e-5)
    assert one.pools.keys() == other.pools.keys()
    for pool, maps in one.pools.items():
        # The bits of numbers that are not negative are in the order of the numbers.
        steps = np.abs(maps.view(np.int16).astype(np.int32) - other.pools[pool].view(np.int16))
        assert steps.max(initial=0) <= 1, f"{pool}: {steps.max()} float16 steps"
