"""`python -m memgrid.audit` as a user starts it: the result, its order over seeds, kills, parts, damage, and refusals."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import forks
import h5py
import numpy as np
import polars as pl
import pytest
import torch
from audits_maker import (
    NO_PAGE,
    TINY,
    area,
    assert_same_audit,
    audit,
    contents,
    folder_of,
    kept_settings,
    metrics_of,
    results_of,
    undisturbed_audit,
)
from conftest import made_once, memgrid, memgrid_here
from filelock import FileLock

from memgrid.audit import context as context_module
from memgrid.audit import measurement, stages
from memgrid.audit.data.population import KINDS
from memgrid.audit.shadow.arrays import read_arrays, write_arrays
from memgrid.audit.sweep import Audits
from memgrid.errors import UserError
from memgrid.tracking.sync import unsynced

SMALL = ("shadows=8", "model.epochs=12", "predictors.directions=200", "canary.count=240", "wandb=off", "trainer.progress=false")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Three audits of small models with other seeds: root by seed."""

    def make(root):
        for seed in range(3):
            audit(root / str(seed), *SMALL, NO_PAGE, f"seed={seed}")

    root = made_once("audit-seeds", make, tmp_path_factory)
    return [root / str(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return undisturbed_audit(tmp_path_factory)


@pytest.mark.slow
def test_canaries_of_another_domain_are_predicted_best_by_psmi(seeds):
    ood = [{name: area(metrics_of(root), "is an OOD canary", "trigger", name) for name in ("psmi", "loss", "gap")} for root in seeds]
    mean = {name: np.mean([areas[name] for areas in ood]) for name in ood[0]}
    assert mean["psmi"] > 0.95
    assert mean["psmi"] > mean["loss"] + 0.01
    assert mean["loss"] > mean["gap"] + 0.002
    assert min(areas["psmi"] for areas in ood) > 0.92


@pytest.mark.slow
def test_psmi_knows_before_training_what_the_loss_does_not(seeds):
    start = [{name: area(metrics_of(root), "is an OOD canary", "start", name) for name in ("psmi", "loss", "gap")} for root in seeds]
    assert np.mean([areas["psmi"] for areas in start]) > 0.9
    assert np.mean([areas["loss"] for areas in start]) < 0.6
    assert np.mean([areas["gap"] for areas in start]) < 0.6


@pytest.mark.slow
def test_mislabelled_canaries_are_memorized_and_clean_ones_are_not(seeds):
    for root in seeds:
        rows = {row["samples"]: row for row in metrics_of(root)["attack"]}
        assert rows["label_noise"]["median_ratio"] > rows["clean"]["median_ratio"] + 3
        assert rows["label_noise"]["auc"] > 0.9 > 0.7 > rows["clean"]["auc"]
        assert rows["all audited"]["auc"] > 0.75


@pytest.mark.slow
def test_the_trigger_fires_early_in_every_model(seeds):
    for root in seeds:
        metrics = metrics_of(root)
        assert all(0 < step < metrics["steps"] / 3 for step in metrics["triggers"])
        assert metrics["accuracy"] > 0.9


def test_files_hold_what_their_documentation_says(undisturbed):
    folder = folder_of(undisturbed)
    with h5py.File(folder / "population.h5") as file:
        members, kind = file["members"][()], file["kind"][()]
    assert (members[:, kind > 0].sum(0) == 2).all()
    assert members[:, kind == 0].all()
    assert np.bincount(kind, minlength=len(KINDS))[1:].tolist() == [100, 100, 100, 0, 0]
    for number in range(4):
        with h5py.File(folder / "shadows" / f"shadow-{number:04}.h5") as file:
            assert (file["members"][()] == members[number]).all()
            assert file["logits"].shape == (9, 300, 10)
            assert (np.isfinite(file["trigger/psmi"][()]) == members[number]).all()
            assert file["curve"].shape == (6, 3)
            assert 0.5 < file["curve"][-1, 2] == pytest.approx(file.attrs["accuracy"])
            assert file.attrs["trigger"] > 0
    with h5py.File(results_of(undisturbed) / "attack.h5") as file:
        assert (np.isfinite(file["ratio"][()]) == (kind > 0)).all()
    assert not list(folder.rglob("*.ckpt"))
    assert not list(folder.rglob("failed.json"))


def test_the_page_has_every_figure_and_table(undisturbed):
    report = results_of(undisturbed) / "report"
    page = (report / "index.html").read_text()
    for name in ("rocs", "eta", "moments", "kinds", "samples", "attack"):
        assert (report / "figures" / f"{name}.png").stat().st_size > 5000
        assert f"figures/{name}.pdf" in page
        assert (report / "figures" / f"{name}.pdf").is_file()
    for name in ("predictions", "attack", "below-zero", "samples"):
        assert pl.read_csv(report / f"{name}.csv").height >= 4
        assert f"{name}.csv" in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?https?:""", page)


def test_a_finished_audit_is_not_done_again(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with ExitStack() as others:  # it is read without a lock, and nothing is written: it may be another user's
        assert len([others.enter_context(FileLock(path)) for path in tmp_path.rglob(".lock")]) == 5
        shown = audit(tmp_path, *TINY).stdout
    assert "4 shadow models: 0 trained" in shown
    assert "Is an OOD canary: PSMI predicts best" in shown
    assert re.search(r"\d % at 0\.1 %, \d+ % at 1 %, \d+ % at 5 %", " ".join(shown.split()))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert_same_audit(tmp_path, undisturbed)


def test_models_one_by_one_equal_all_at_once(undisturbed, tmp_path):
    shown = audit(tmp_path, *TINY, NO_PAGE, "-m", "shadow=range(0,4)").stdout
    assert shown.count("attack   waits for") == 3
    assert_same_audit(tmp_path, undisturbed)


def test_parts_equal_the_whole(undisturbed, tmp_path):
    first = audit(tmp_path, *TINY, NO_PAGE, "part=0", "parts=3").stdout
    assert "2 shadow models: 2 trained" in first
    assert "waits for 2 of 4 shadow models" in first
    audit(tmp_path, *TINY, NO_PAGE, "-m", "part=1,2", "parts=3")
    assert_same_audit(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_process_for_each_part_equals_the_whole(undisturbed, tmp_path):
    given = ("-m", "hydra/launcher=local", "hydra.launcher.at_once=2", "part=0,1", "parts=2", f"root={tmp_path}")
    shown = memgrid(*TINY, *given, module="audit", env=forks.WARM).stdout
    assert shown.count(": done") == 2
    assert_same_audit(tmp_path, undisturbed)
    assert "2 of 2 runs are done" in memgrid(*TINY, *given, module="audit").stdout


def test_force_trains_again_to_the_same_end(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    assert "4 shadow models: 4 trained" in audit(tmp_path, *TINY, NO_PAGE, "force=true").stdout
    assert_same_audit(tmp_path, undisturbed)


def test_a_damaged_file_is_made_anew(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    folder = folder_of(tmp_path)
    path = folder / "shadows" / "shadow-0002.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    process = audit(tmp_path, *TINY, NO_PAGE)
    assert "shadow-0002.h5 is damaged" in process.stderr
    assert "4 shadow models: 1 trained" in process.stdout
    assert_same_audit(tmp_path, undisturbed)


CUT_OFF = """
import os, signal, sys
from memgrid.audit.shadow import training as shadow
ended = shadow.ShadowModel.on_train_epoch_end

def end_or_die(self):
    ended(self)
    if self.number == 1 and self.current_epoch == 4:
        os.kill(os.getpid(), signal.SIGKILL)

shadow.ShadowModel.on_train_epoch_end = end_or_die
sys.argv[0] = "memgrid.audit"
from memgrid.audit.run import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [(), ("defence.slope=1", "predictors.share=0.5"), ("model=small_cnn", "dataset.augment=shift", "model.drops=[2]")]
)
def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_end(more, tmp_path):
    given = (*TINY, *more, NO_PAGE, "model.checkpoint_epochs=2")
    killed = forks.run(["-c", CUT_OFF, *given, f"root={tmp_path / 'killed'}"])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = folder_of(tmp_path / "killed")
    assert [path.name for path in sorted((folder / "shadows").glob("*.h5"))] == ["shadow-0000.h5"]
    assert (folder / "shadows" / "shadow-0001" / "last.ckpt").is_file()
    assert "4 shadow models: 3 trained" in audit(tmp_path / "killed", *given).stdout
    audit(tmp_path / "whole", *given)
    assert_same_audit(tmp_path / "killed", tmp_path / "whole")
    left = folder / "shadows" / "shadow-0002" / "last.ckpt"
    left.touch()  # by who was killed after the model's file was in place
    audit(tmp_path / "killed", *given)
    assert not left.exists()


@pytest.mark.slow
def test_killed_anywhere_it_ends_the_same(undisturbed, tmp_path):
    for seconds in (1, 2, 3.5):
        process = forks.Started(["-m", "memgrid.audit", *TINY, NO_PAGE, f"root={tmp_path}"])
        time.sleep(seconds)
        process.kill()
        process.wait()
    audit(tmp_path, *TINY, NO_PAGE)
    assert_same_audit(tmp_path, undisturbed)


@pytest.mark.slow
def test_noise_for_those_at_risk_makes_the_attack_weaker(tmp_path):
    given = ("shadows=6", "model.epochs=12", "predictors.directions=200", "wandb=off", "canary=label_noise", "canary.count=150", NO_PAGE)
    for slope in (0, 4):
        audit(tmp_path / str(slope), *given, f"defence.slope={slope}")
    plain, defended = (metrics_of(tmp_path / str(slope))["attack"][0] for slope in (0, 4))
    assert defended["auc"] < plain["auc"] - 0.05
    assert defended["median_ratio"] < plain["median_ratio"]


def test_a_trigger_that_never_fires_is_told_and_stops_nothing(tmp_path):
    shown = audit(tmp_path, *TINY, "predictors.window=5000", "model.epochs=2").stdout
    assert "The trigger fired in none of 4 models" in shown
    assert area(metrics_of(tmp_path), "Λ ≥ 4", "trigger", "psmi") is None
    assert "AUC at the end" in shown
    assert "so all is said of the end" in shown
    assert all(row["models"] for row in metrics_of(tmp_path)["below_zero"] if row["question"] == "is an OOD canary")
    attack = (results_of(tmp_path) / "report" / "attack.md").read_text()
    assert f"| {metrics_of(tmp_path)['attack'][0]['auc']:.2f} |" in attack
    assert "| auc |" in attack
    assert "accuracy (%)" in attack
    assert (results_of(tmp_path) / "report" / "index.html").is_file()


def test_every_sample_can_be_audited(tmp_path):
    audit(tmp_path, *TINY, "membership=all", "canary=clean")
    assert metrics_of(tmp_path)["audited"] == 1498
    assert {row["samples"] for row in metrics_of(tmp_path)["attack"]} == {"all audited", "ordinary", "clean"}


@pytest.mark.slow
def test_other_data_and_networks(tmp_path):
    given = ("shadows=4", "model.epochs=2", "predictors.directions=50", "wandb=off", "canary.count=60")
    more = ("dataset=mnist5k", "model=small_cnn", "dataset.samples=600", "attack.views=5", "attack=logit", "predictors=precise")
    audit(tmp_path, *given, *more)
    with h5py.File(results_of(tmp_path) / "attack.h5") as file:
        assert file["scores"].shape == (5, 4, 60)
    assert metrics_of(tmp_path)["settings"]["attack"]["name"] == "logit"


@pytest.mark.slow
def test_the_attention_of_a_run_is_audited(done, tmp_path):
    run = sorted(done.glob("runs/*/*/*/metrics.json"))[0].parent
    given = ("dataset=attention", f"dataset.path={run}", "model=attention_cnn", "canary=label_noise", "canary.count=40")
    audit(tmp_path, *TINY, *given, "model.epochs=3")
    samples = pl.read_parquet(run / "samples.parquet")
    assert metrics_of(tmp_path)["data"]["samples"] == samples.filter(side="train").height
    with h5py.File(folder_of(tmp_path) / "population.h5") as file:
        kind, truth, labels = (file[name][()] for name in ("kind", "truth", "labels"))
    assert (truth == samples.filter(side="train")["label"].to_numpy()).all()
    assert ((truth != labels) == (kind == KINDS.index("label_noise"))).all()


def test_an_audit_leaves_one_wandb_run(tmp_path):
    audit(tmp_path, *(word for word in TINY if word != "wandb=off"), "wandb=offline")
    (path,) = tmp_path.glob("audits/*/*/*/*/wandb/offline-run-*/run-*.wandb")
    assert path.name == f"run-{results_of(tmp_path).name.rsplit('-', 1)[-1]}.wandb"
    assert unsynced(tmp_path) == {results_of(tmp_path): [path]}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("shadows=7",), "shadows=7 is odd"),
        (("shadow=40",), "shadow=40 is none of shadows=32"),
        (("canary.count=5000",), "canary.count=5000 is more than the 1498 samples"),
        (("attack.views=10",), "attack.views=10 is too many: dataset.views=shift has 9"),
        (("dataset=arrays", "dataset.path=/nowhere"), "dataset.path=/nowhere does not exist: give a file of your own"),
        (("model=module", "model.target=no.such.place:network"), "model.target=no.such.place:network does not make a network"),
        (("canary=ood", "canary.path=/nowhere"), "canary.path=/nowhere does not exist"),
        (("experiment=causal",), "experiment=causal is for another command"),
        (("model=attention_cnn",), "model=attention_cnn does not fit dataset=digits"),
        (("dataset=cifar10",), "dataset.path is not set"),
        (
            ("dataset=attention", "dataset.path=/nowhere", "canary=clean"),
            "dataset.path=/nowhere does not exist: give the folder of a finished run",
        ),
        (("dataset=attention", "dataset.path=/nowhere"), "does not fit dataset=attention, which has no images of another domain"),
        (("hydra/launcher=local",), "add -m"),
        (("modell=mlp",), "modell"),
        (("shadows=4", "canary.count=2"), "shadows=4 with canary.count=2 are too few"),
        (("trainer=gpu",), "trainer.accelerator=gpu, but torch sees no GPU"),
        (("dataset.path=/nowhere",), "dataset.path=/nowhere is not read"),
        (("shadow=0", "part=1", "parts=2"), "shadow=0 and parts=2 cannot both say"),
        (("trainer.threads=0",), "trainer.threads=0 is out of range"),
        (("model.drops=[-1]",), "model.drops=-1 is too small"),
        (("stages=[train,atack]",), "atack is no stage"),
    ],
)
def test_bad_input_gets_one_sentence_before_anything_is_trained(given, sentence, tmp_path):
    process = audit(tmp_path, *given, check=False)
    assert process.returncode == 1
    assert sentence in process.stderr
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith("memgrid: ")
    assert not list(tmp_path.rglob("*.h5"))


@pytest.mark.parametrize("word", ["dataset=digitz", "shadows=7"])
def test_a_mistake_is_refused_without_torch(word, tmp_path):
    words = [sys.executable, "-X", "importtime", "-m", "memgrid.audit", word, f"root={tmp_path}"]
    process = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert process.returncode == 1
    assert word in process.stderr.splitlines()[-1]
    modules = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines() if line.startswith("import time:")}
    assert "memgrid.audit.run" in modules
    assert not {"torch", "pytorch_lightning", "transformers", "sklearn", "matplotlib", "h5py"} & modules


@pytest.mark.parametrize("given", [("model.learning_rate=90",), ("defence.slope=100000", "predictors.share=0.9")])
def test_a_network_that_diverges_is_named(given, tmp_path):
    process = audit(tmp_path, *TINY, *given, check=False)
    assert process.returncode == 1
    assert "memgrid: shadow=0 has diverged: lower model.learning_rate=" in process.stderr
    assert given[0] in process.stderr
    assert not list(tmp_path.rglob("shadow-*.h5"))


def test_force_replaces_the_population_of_other_data(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    path = folder_of(tmp_path) / "population.h5"
    write_arrays(path, "other data", {}, {"labels": np.zeros(3, np.int64)})
    process = audit(tmp_path, *TINY, check=False)
    assert "was made from other data" in process.stderr
    assert "start with force=true" in process.stderr
    audit(tmp_path, *TINY, NO_PAGE, "force=true")
    assert_same_audit(tmp_path, undisturbed)


def test_another_attack_on_the_same_models_trains_nothing(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    before = metrics_of(tmp_path)
    shown = audit(tmp_path, *TINY, "attack=logit", "attack.eta=[2]").stdout
    assert "4 shadow models: 0 trained" in shown
    assert "Λ ≥ 2" in shown
    results = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("audits/*/*/*/attack-*/metrics.json"))]
    assert [result["settings"]["attack"]["name"] for result in results] == ["hinge", "logit"]
    assert results[0] == before


@pytest.mark.parametrize("name", ["attack.h5", "metrics.json"])
def test_a_damaged_result_is_made_anew_without_training(name, undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    (results_of(tmp_path) / name).write_text("{}")
    assert "0 trained" in audit(tmp_path, *TINY, NO_PAGE).stdout
    assert_same_audit(tmp_path, undisturbed)


def test_results_of_other_models_are_not_taken_for_those_of_these(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    path = folder_of(tmp_path) / "shadows" / "shadow-0001.h5"
    with h5py.File(path) as file:
        identity = file.attrs["identity"].decode()
    numbers, arrays = read_arrays(path, identity)
    write_arrays(path, identity, numbers, {**arrays, "logits": arrays["logits"][..., ::-1]})
    run = replace(kept_settings(tmp_path), root=str(tmp_path))
    assert not Audits().done(run)
    shown = audit(tmp_path, *TINY, "stages=[report]").stdout
    assert "the attack on these models has not been made" in shown
    assert "Λ of 300 samples" in audit(tmp_path, *TINY).stdout
    assert Audits().done(run)
    assert metrics_of(tmp_path)["attack"] != metrics_of(undisturbed)["attack"]


def test_force_removes_nothing_where_it_cannot_train(undisturbed, tmp_path, monkeypatch):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    assert audit(tmp_path, *TINY, "force=true", "trainer=gpu", check=False).returncode == 1
    with monkeypatch.context() as context:
        context.setattr(context_module, "load_dataset", lambda config: (_ for _ in ()).throw(UserError("the disk is not there")))
        assert "the disk is not there" in audit(tmp_path, *TINY, "force=true", check=False).stderr
    audit(tmp_path, *TINY, "force=true", "stages=[report]")
    audit(tmp_path, *TINY, "force=true", "stages=[prepare]")
    assert_same_audit(tmp_path, undisturbed)


def test_force_for_one_model_leaves_the_attack_to_others(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    shown = audit(tmp_path, *TINY, "force=true", "-m", "shadow=0,1").stdout
    assert shown.count("1 shadow models: 1 trained") == 2
    assert shown.count("left to a start without force=true") == 2
    audit(tmp_path, *TINY, NO_PAGE)
    assert_same_audit(tmp_path, undisturbed)


def test_a_checkpoint_that_is_damaged_or_of_other_data_is_not_used(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    folder = folder_of(tmp_path) / "shadows"
    for number, content in enumerate((b"no checkpoint", None)):
        (folder / f"shadow-{number:04}.h5").unlink()
        checkpoint = folder / f"shadow-{number:04}" / "last.ckpt"
        if content is None:
            torch.save({"audit": {"identity": "other data"}}, checkpoint)
        else:
            checkpoint.write_bytes(content)
    process = audit(tmp_path, *TINY, NO_PAGE)
    assert "last.ckpt is damaged" in process.stderr
    assert "4 shadow models: 2 trained" in process.stdout
    assert_same_audit(tmp_path, undisturbed)


def test_a_page_that_is_missing_is_drawn(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "audits", tmp_path / "audits")
    page = results_of(tmp_path) / "report" / "index.html"
    audit(tmp_path, *TINY)
    drawn = page.stat().st_mtime_ns
    page.unlink()
    given = ("-m", "hydra/launcher=local", "part=0,1", "parts=2", f"root={tmp_path}")
    assert "1 of 2 runs" not in memgrid(*TINY, *given, module="audit", env=forks.WARM).stdout
    assert page.stat().st_mtime_ns > drawn


def test_weights_are_brought_back_to_where_the_images_are(tmp_path, monkeypatch):
    """Lightning calls cpu() when a training has ended, which on a GPU would part the weights from the images."""
    from memgrid.audit.shadow import training as shadow

    calls, predict, move = [], shadow.ShadowModel.predict, shadow.ShadowModel.to
    monkeypatch.setattr(shadow.ShadowModel, "cpu", lambda self: calls.append("taken away") or self)
    monkeypatch.setattr(shadow.ShadowModel, "to", lambda self, *where: calls.append("brought back") or move(self, *where))
    monkeypatch.setattr(shadow.ShadowModel, "predict", lambda self, moment: calls.append(moment) or predict(self, moment))
    audit(tmp_path, *TINY, "model.epochs=1", "predictors.window=100000", "shadow=0")
    assert calls[-3:] == ["taken away", "brought back", "end"]


def test_a_sweep_with_one_bad_model_starts_nothing(tmp_path):
    process = audit(tmp_path, *TINY, "-m", "shadow=range(0,5)", check=False)
    assert process.returncode == 1
    assert "shadow=4 is none of shadows=4" in process.stderr
    assert "nothing was started" in process.stderr
    assert not list(tmp_path.rglob("*.h5"))


def test_a_failed_model_is_named_by_the_attack(tmp_path, monkeypatch):
    train = stages.train_shadow

    def fails(config, number, *others):
        if number == 2:
            raise RuntimeError("the fan has stopped")
        return train(config, number, *others)

    monkeypatch.setattr(stages, "train_shadow", fails)
    process = audit(tmp_path, *TINY, NO_PAGE, "-m", "shadow=range(0,4)", check=False)
    assert process.returncode == 1
    assert "shadow-0002 failed: RuntimeError: the fan has stopped" in process.stdout
    monkeypatch.undo()
    shown = " ".join(memgrid_here(f"root={tmp_path}", module="status").stdout.split())
    assert "1 audit below" in shown
    assert "3 of 4 shadow models; shadow-0002: RuntimeError: the fan has stopped" in shown
    assert "waits for" not in audit(tmp_path, *TINY, NO_PAGE).stdout
    assert not list(tmp_path.rglob("failed.json"))
    (line,) = [line for line in memgrid_here(f"root={tmp_path}", module="status").stdout.splitlines() if line.split()[:1] == ["done"]]
    assert line.split()[1] == "1"


def test_the_accuracy_on_members_is_that_of_the_trained_models(undisturbed):
    arrays = contents(undisturbed)
    labels = arrays["population.h5", "labels"]
    files = [name for name, array_name in arrays if array_name == "logits"]
    audited = arrays["population.h5", "kind"] > 0
    members = [arrays[name, "members"][audited] for name in files]
    right = [(arrays[name, "logits"][0].argmax(1) == labels[audited])[own].mean() for name, own in zip(files, members, strict=True)]
    assert len(right) == 4
    # On all members, of which canaries are the hard ones; the last epoch's answers are given while it still learns.
    curves = [arrays[name, "curve"][-1, 1] for name in files]
    assert np.mean(right) < metrics_of(undisturbed)["train_accuracy"] == pytest.approx(np.mean(curves), abs=0.05)


def test_a_model_without_members_is_refused(tmp_path):
    given = ("shadows=4", "canary=clean", "dataset.samples=12", "canary.count=10", "seed=129", "wandb=off")
    process = audit(tmp_path, *given, check=False)
    assert process.returncode == 1
    assert "would be trained on nothing: of the 10 samples of dataset 'digits' 10 are audited" in process.stderr
    assert process.stderr.count("\n") == 1


def test_an_audit_that_wandb_refused_is_recorded_by_the_next_start(tmp_path, monkeypatch):
    def refuses(*_):
        raise UserError("wandb=online could not start a run")

    monkeypatch.setattr(measurement, "record", refuses)
    assert "wandb=online could not start" in audit(tmp_path, *TINY, NO_PAGE, check=False).stderr
    assert not list(tmp_path.rglob("metrics.json"))
    records = []
    monkeypatch.setattr(measurement, "record", lambda *arguments: records.append(arguments))
    assert "4 shadow models: 0 trained" in audit(tmp_path, *TINY, NO_PAGE).stdout
    assert len(records) == 1
    assert (results_of(tmp_path) / "metrics.json").exists()
