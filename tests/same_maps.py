"""Whether two extractions of the same samples are the same, on any processor."""

import numpy as np

from memgrid.store.shard import Maps


def assert_same_maps(one: Maps, other: Maps) -> None:
    """Equal ids and tokens; attention equal up to one float16 step, and confidence up to 1e-5 of itself.

    A math library may add in another order where a row begins at another place in memory, which is another place in a batch.
    """
    np.testing.assert_array_equal(one.sequence_id, other.sequence_id)
    np.testing.assert_array_equal(one.decoded, other.decoded)
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-5)
    assert one.pools.keys() == other.pools.keys()
    for pool, maps in one.pools.items():
        # The bits of numbers that are not negative are in the order of the numbers.
        steps = np.abs(maps.view(np.int16).astype(np.int32) - other.pools[pool].view(np.int16))
        assert steps.max(initial=0) <= 1, f"{pool}: {steps.max()} float16 steps"
