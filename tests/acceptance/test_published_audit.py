"""The sibling's published run on CIFAR-10, whole, on a made-up folder in the real format; by day with a narrow network."""

import json
import pickle

import h5py
import numpy as np
import pytest
from conftest import NIGHT, memgrid_here
from omegaconf import OmegaConf
from published_audit import TABLE

from memgrid.audit.data.cifar import CIFAR_FILES
from memgrid.config.overrides import flat

pytestmark = pytest.mark.slow
# What a folder of 100 images and a test can bear.
SMALL = {"shadows": 4, "model.epochs": 2, "model.drops": [1], "canary.count": 20, "trainer.accelerator": "cpu"}
SMALL |= {} if NIGHT else {"model.width": 1}


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """Six batches of 20 images as the authors write them, and 20 images of another domain."""
    folder, rng = tmp_path_factory.mktemp("cifar-10-batches-py"), np.random.default_rng(0)
    classes = rng.integers(0, 256, (10, 3, 4, 4))
    for name in CIFAR_FILES:
        labels = rng.permutation(np.arange(20) % 10).tolist()
        images = 0.7 * np.kron(classes[labels], np.ones((1, 1, 8, 8))) + rng.integers(0, 77, (20, 3, 32, 32))
        content = {b"labels": labels, b"data": images.astype(np.uint8).reshape(20, -1), b"filenames": [b"x.png"] * 20}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    np.save(folder / "imagenet.npy", rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def audits(cifar, tmp_path_factory):
    """Both audits of the published run: root."""
    root = tmp_path_factory.mktemp("published")
    small = [f"{key}={str(value).replace(' ', '')}" for key, value in SMALL.items()]
    given = (f"dataset.path={cifar}", f"canary.path={cifar}/imagenet.npy", f"root={root}", "wandb=off", "trainer.progress=false", *small)
    memgrid_here("experiment=cifar10_paper", "-m", "canary=ood,clean", *given, module="audit")
    return root


def test_the_settings_on_disk_are_the_published_ones(audits):
    folders = sorted(audits.glob("audits/cifar10/wrn16_4_paper/*"))
    assert [folder.name.split("-")[0] for folder in folders] == ["clean", "ood"]
    for folder in folders:
        own = flat(OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
        assert {key: own[key] for key in TABLE} == TABLE | SMALL


def test_models_leave_what_the_published_attack_needs(audits):
    for path in audits.rglob("shadow-*.h5"):
        with h5py.File(path) as file:
            assert file["logits"].shape == (18, 20, 10)
            assert file["curve"].shape == (2, 3)
    assert len(list(audits.rglob("shadow-*.h5"))) == 8


def test_the_result_is_that_of_the_published_attack(audits):
    for path in audits.rglob("metrics.json"):
        metrics = json.loads(path.read_text())
        with h5py.File(path.parent / "attack.h5") as file:
            assert file["scores"].shape == (18, 4, 20)
            np.testing.assert_array_equal(file["ratio"][()], file["likelihood"][()])  # nothing is calibrated
        pooled = [row for row in metrics["predictions"] if row["positives_in_all"] > 0]
        assert all(row["auc_pooled"] is not None or row["positives_in_all"] in (10, 40) for row in pooled)
        page = (path.parent / "report" / "index.html").read_text()
        assert "differs from the published one" in page  # in how small it is
        assert "model.epochs" in page
        assert "attack.density" not in page
    clean = next(audits.glob("audits/*/*/clean-*/attack-*/report/index.html")).read_text()
    assert "of the audit beside this one" in clean
