"""When the trigger fires, and which checkpoints a training goes on from."""

import numpy as np
import pytest

from memgrid.audit.shadow.training import STATE, Trigger, belongs


def test_the_trigger_fires_once_when_the_median_falls():
    trigger = Trigger(window=4, share=0.5)
    fired = [trigger.fires(np.array(losses)) for losses in ([8.0, 8.0], [8.0, 8.0], [8.0, 3.0], [3.0, 3.0], [0.0, 0.0])]
    assert fired == [False, False, False, True, False]


@pytest.mark.parametrize("cut", range(4))
def test_a_trigger_goes_on_from_its_state(cut):
    batches = np.random.default_rng(0).exponential(1, (12, 5)) * np.linspace(2, 0.1, 12)[:, None]
    whole, begun, resumed = (Trigger(window=20, share=0.4) for _ in range(3))
    expected = [whole.fires(batch) for batch in batches]
    for batch in batches[: 3 * cut]:
        begun.fires(batch)
    resumed.restore(begun.state())
    assert sum(expected) == 1
    assert [resumed.fires(batch) for batch in batches[3 * cut :]] == expected[3 * cut :]


STATE_OF_MODEL = {**dict.fromkeys(STATE), "identity": "a", "trigger": {}}


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (STATE_OF_MODEL, True),
        ({**STATE_OF_MODEL, "identity": "b"}, False),
        ({key: value for key, value in STATE_OF_MODEL.items() if key != "predictors"}, False),  # of another version
    ],
)
def test_only_a_checkpoint_of_these_data_and_this_version_is_used(content, kept):
    assert belongs({"audit": content}, "a") is kept
    assert not belongs({}, "a")
