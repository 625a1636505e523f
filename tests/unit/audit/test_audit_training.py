"""When the trigger fires, and which checkpoints a training goes on from."""

import numpy as np
import pytest
import torch

from memgrid.audit.config import AuditConfig, DefenceConfig, ModelConfig
from memgrid.audit.data.dataset import Dataset
from memgrid.audit.data.population import Population
from memgrid.audit.shadow.networks import hidden
from memgrid.audit.shadow.training import STATE, ShadowModel, Trigger, belongs


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
    assert belongs({"audit": content}, "a", "answers") is kept
    assert not belongs({}, "a", "answers")


def test_a_checkpoint_without_weights_is_not_used_where_they_are_to_be_kept():
    assert not belongs({"audit": {**STATE_OF_MODEL, "weights": {}}}, "a", "weights")
    assert belongs({"audit": {**STATE_OF_MODEL, "weights": {"start": {}}}}, "a", "weights")


def shadow_model(**defence):
    """One on ten random images."""
    images = np.random.default_rng(0).normal(size=(10, 1, 4, 4)).astype(np.float32)
    labels = np.arange(10) % 2
    data = Dataset("some", images, labels, images[:2], labels[:2], 2)
    members = np.ones((2, 10), bool)
    members[0, 7:] = False
    run = AuditConfig()
    run.model = ModelConfig("mlp", "mlp", width=6, epochs=1)
    run.predictors.directions = 20
    run.defence = DefenceConfig(**defence)
    return ShadowModel(run, 0, Population(images, labels, labels, np.zeros(10, np.uint8), members), data, "")


@pytest.mark.parametrize(
    ("defence", "expected"),
    [
        ({"slope": 2.0}, [6.0, 0.0, 0.0]),
        ({"slope": 2.0, "offset": 1.5}, [9.0, 2.0, 0.0]),
        ({"slope": 2.0, "offset": -1.0}, [4.0, 0.0, 0.0]),
        ({"slope": 2.0, "offset": 1.5, "relative": True}, [63.0, 14.0, 0.0]),
        ({"offset": 1.5, "relative": True}, [0.0, 0.0, 0.0]),
    ],
)
def test_noise_is_for_those_of_low_psmi(defence, expected):
    """PSMI of -3, .5 and unknown, in a layer whose norm over the root of its width is 7."""
    noise = shadow_model(**defence).defence(torch.tensor([-3.0, 0.5, torch.nan]), 7.0)
    np.testing.assert_allclose(noise.numpy(), expected)


def test_noise_in_units_of_the_layer_is_in_those_of_its_mean_norm():
    shadow = shadow_model(slope=1.0)
    h, logits = hidden(shadow.network, shadow.images[:7])
    assert shadow.predict("start") == pytest.approx(np.linalg.norm(h.numpy(), axis=1).mean() / np.sqrt(6))
    assert shadow.right == pytest.approx((logits.argmax(1).numpy() == np.arange(7) % 2).mean())
