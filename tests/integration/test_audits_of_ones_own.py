"""What the published run needs and what a user brings: weights, views, data, networks and images of one's own, samples with names."""

import shutil
import sys

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from audits_maker import NO_PAGE, TINY, audit, contents, folder_of, metrics_of, results_of, undisturbed_audit

from memgrid.audit.attack.evaluation import DIRECTIONS
from memgrid.audit.context import open_audit
from memgrid.audit.shadow.networks import hidden
from memgrid.audit.shadow.training import MOMENTS
from memgrid.errors import UserError

FEW = (*TINY, "canary.count=60", "dataset.samples=400")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return undisturbed_audit(tmp_path_factory)


def stamps(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("shadow-*.h5")}


def test_another_number_of_views_trains_nothing(tmp_path):
    audit(tmp_path, *FEW, NO_PAGE)
    before = stamps(tmp_path)
    for views in (3, 9):
        assert "4 shadow models: 0 trained" in audit(tmp_path, *FEW, f"attack.views={views}", NO_PAGE).stdout
    assert stamps(tmp_path) == before
    scores = {}
    for path in tmp_path.rglob("attack.h5"):
        with h5py.File(path) as file:
            scores[len(file["scores"])] = file["scores"][()]
    assert sorted(scores) == [1, 3, 9]
    np.testing.assert_array_equal(scores[9][:3], scores[3])
    np.testing.assert_array_equal(scores[3][:1], scores[1])
    assert (scores[9][0] != scores[9][5]).any()


def test_weights_that_are_kept_give_the_answers_that_are_kept(tmp_path):
    audit(tmp_path, *FEW, "keep=weights", "stages=[prepare,train]")
    seen = open_audit(folder_of(tmp_path))
    images, audited = torch.from_numpy(seen.population.images), seen.population.audited
    with h5py.File(folder_of(tmp_path) / "shadows" / "shadow-0002.h5") as file:
        logits, members = file["logits"][0], file["members"][()]
        losses = {moment: file[f"{moment}/loss"][()] for moment in ("start", "trigger", "end")}
    np.testing.assert_allclose(hidden(seen.network(2), images)[1].numpy()[audited], logits, rtol=1e-4, atol=1e-4)
    labels = torch.from_numpy(seen.population.labels)
    for moment, kept in losses.items():
        own = torch.nn.functional.cross_entropy(hidden(seen.network(2, moment), images)[1], labels, reduction="none").numpy()
        np.testing.assert_allclose(own[members], kept[members], rtol=1e-3, atol=1e-4)


def test_weights_that_were_not_kept_are_trained_for_and_change_nothing(tmp_path):
    audit(tmp_path, *FEW, NO_PAGE)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"shadow=1 has no weights at its end .*keep=weights"):
        open_audit(folder_of(tmp_path)).network(1)
    assert "4 shadow models: 4 trained" in audit(tmp_path, *FEW, "keep=weights", NO_PAGE).stdout
    after = contents(tmp_path)
    assert {key for key in after if not key[0].startswith("weights-")} == set(before)
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array)
    assert "4 shadow models: 0 trained" in audit(tmp_path, *FEW, "keep=weights", NO_PAGE).stdout
    (folder_of(tmp_path) / "shadows" / "weights-0003.h5").write_bytes(b"damaged")
    process = audit(tmp_path, *FEW, "keep=weights", NO_PAGE)
    assert "weights-0003.h5 is damaged" in process.stderr
    assert "4 shadow models: 1 trained" in process.stdout


def test_samples_have_names(undisturbed):
    rows = pl.read_csv(results_of(undisturbed) / "report" / "samples.csv")
    with h5py.File(folder_of(undisturbed) / "population.h5") as file:
        labels, truth, kind, members = (file[name][()] for name in ("labels", "truth", "kind", "members"))
    with h5py.File(results_of(undisturbed) / "attack.h5") as file:
        ratio = file["ratio"][()]
    assert sorted(rows["id"]) == np.flatnonzero(kind > 0).tolist()
    assert rows["lambda"].is_sorted(descending=True)
    for row in rows.head(20).iter_rows(named=True):
        at = row["id"]
        assert (row["label"], row["truth"], row["members"]) == (labels[at], truth[at], 2)
        assert row["lambda"] == pytest.approx(ratio[members[:, at], at].mean())
    page = (results_of(undisturbed) / "report" / "index.html").read_text()
    assert "figures/samples.pdf" in page
    assert f"{rows['id'][0]}" in page
    assert "Where this audit differs from the published one" in page


NETWORK = """
from torch import nn


class Own(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(features, 24), nn.ReLU())
        self.head = nn.Linear(24, classes)


def own(shape, classes):
    return Own(shape[0] * shape[1] * shape[2], classes)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A file of arrays, and a network of one's own, in the folder of the start."""
    rng = np.random.default_rng(0)
    y = np.arange(320) % 4
    x = rng.normal(size=(320, 12)) + 1.5 * rng.normal(size=(4, 12))[y]
    np.savez(tmp_path / "own.npz", x=x[:240], y=y[:240], x_test=x[240:], y_test=y[240:])
    (tmp_path / "my_networks.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("my_networks", None)


def test_a_classifier_of_ones_own_on_data_of_ones_own(mine, monkeypatch):
    given = (
        "dataset=arrays",
        "dataset.path=own.npz",
        "model=module",
        "model.target=my_networks:own",
        "canary=label_noise",
        "canary.count=40",
    )
    audit(mine, *TINY, *given, "model.epochs=15")
    metrics = metrics_of(mine)
    assert (metrics["data"]["samples"], metrics["audited"]) == (240, 40)
    assert metrics["accuracy"] > 0.6
    rows = pl.read_csv(results_of(mine) / "report" / "samples.csv")
    assert (rows["label"] != rows["truth"]).all()
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir("/")
        assert len(open_audit(folder_of(mine)).trained()) == 4  # also from another folder than that of the start
    page = (results_of(mine) / "report" / "index.html").read_text()
    assert "figures/samples.pdf" not in page  # rows of features are no pictures
    assert "The most memorized samples" in page


def test_images_of_ones_own_are_the_canaries_and_others_are_another_audit(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "own.npy", images)
    given = (*FEW, "canary=ood", "canary.count=60", f"canary.path={tmp_path}/own.npy", NO_PAGE)
    audit(tmp_path, *given)
    seen = open_audit(folder_of(tmp_path))
    found = seen.data.scale.undo(seen.population.images[seen.population.out_of_domain])[:, 0]
    np.testing.assert_allclose(found, images / 255, atol=1e-6)
    assert metrics_of(tmp_path)["predictions"][-1]["question"] == "is an OOD canary"
    np.save(tmp_path / "own.npy", images[::-1])
    process = audit(tmp_path, *given, check=False)
    assert process.returncode == 1
    assert "was made from other data" in process.stderr


@pytest.mark.parametrize("canary", ["ood_matched", "blank", "duplicated"])
def test_other_kinds_of_canaries(tmp_path, canary):
    audit(tmp_path, *FEW, f"canary={canary}", NO_PAGE)
    kind = "clean" if canary == "duplicated" else canary
    assert [row["samples"] for row in metrics_of(tmp_path)["attack"]] == ["all audited", kind]


def test_copies_are_memorized_more(tmp_path):
    shares = {}
    for copies in (1, 16):
        root = tmp_path / str(copies)
        audit(
            root,
            "shadows=8",
            "wandb=off",
            "predictors.directions=50",  # nothing is predicted here
            "trainer.progress=false",
            "canary=duplicated",
            f"canary.copies={copies}",
            "model.epochs=12",
            NO_PAGE,
        )
        shares[copies] = metrics_of(root)["attack"][0]["auc"]
    assert shares[16] > shares[1] + 0.02


def test_the_two_audits_of_the_published_run_meet_on_one_page(tmp_path):
    given = (*FEW, NO_PAGE)
    audit(tmp_path, *given, "canary=ood", "canary.count=60")
    audit(tmp_path, *FEW, "canary=clean", "canary.count=60")
    (page,) = tmp_path.rglob("index.html")
    assert page.parents[2].name.startswith("clean-")
    assert "Thin lines: for canaries out of domain, of the audit beside this one." in page.read_text()
    alone = tmp_path / "alone"
    audit(alone, *given, "canary=ood", "seed=1")  # another draw of canaries and members: no companion
    audit(alone, *FEW, "canary=clean", "canary.count=60")
    (page,) = alone.rglob("index.html")
    assert "Thin lines" not in page.read_text()


def test_an_experiment_of_runs_is_none_of_audits(tmp_path):
    process = audit(tmp_path, "experiment=causal", check=False)
    assert process.returncode == 1
    assert process.stderr.count("\n") == 1


def test_an_audit_is_opened_where_it_lies(undisturbed, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere"
    shutil.copytree(undisturbed / "audits", moved / "audits")
    monkeypatch.chdir(moved)
    audit_of = open_audit(folder_of(moved).relative_to(moved))
    assert audit_of.folder.path == folder_of(moved)
    evidence = audit_of.evidence_of(audit_of.attacked(), audit_of.trained())
    assert set(evidence.predictors) == {(moment, name) for moment in MOMENTS for name in DIRECTIONS}
    with pytest.raises(UserError, match="holds no audit"):
        open_audit(tmp_path)
    (folder_of(moved) / "config.yaml").write_text("dataset: [")
    with pytest.raises(UserError):
        open_audit(folder_of(moved))
