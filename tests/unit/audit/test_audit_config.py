"""The settings of an audit: what is refused, what they name, and who trains which model."""

import re
from functools import cache
from pathlib import Path

import pytest
from conftest import refusal
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import ConfigCompositionException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from memgrid import audit
from memgrid.audit.config import HARDWARE, NOT_IN_NAME, STAGES, VIEWS, AuditConfig, models_to_train, typed
from memgrid.audit.folder import attack_folder, audit_folder
from memgrid.audit.sweep import Audits
from memgrid.errors import UserError
from memgrid.io.paths import CONF, PACKAGE

GROUPS = ("dataset", "canary", "membership", "model", "predictors", "attack")


@cache
def raw(*overrides):
    """What Hydra composes; that takes a fifth of a second."""
    ConfigStore.instance().store(name="audit_schema", node=AuditConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("audit", overrides=list(overrides))


def composed(*overrides):
    """As Hydra composes it, with files of groups from Hydra and single keys merged into them."""
    files = [override for override in overrides if override.split("=")[0] in GROUPS]
    return typed(OmegaConf.merge(raw(*files), OmegaConf.from_dotlist([override for override in overrides if override not in files])))


def files_of(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def leaves(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


KEYS = sorted(leaves(OmegaConf.to_container(OmegaConf.structured(AuditConfig))))


def test_the_defaults_are_valid():
    run = composed()
    assert (run.dataset.name, run.canary.name, run.membership.name, run.model.name) == ("digits", "mixed", "canaries", "mlp")
    assert run.shadows == 32
    assert (run.predictors.window, run.predictors.share) == (500, 0.05)
    assert run.stages == list(STAGES) == ["prepare", "train", "attack", "report"]


@pytest.mark.parametrize("given", [f"{group}={name}" for group in GROUPS for name in files_of(group)])
def test_every_file_of_every_group_is_valid(given):
    fitting = {"dataset=cifar10": ["dataset.path=x"], "dataset=attention": ["dataset.path=x", "canary=clean"]}
    fitting |= {"dataset=arrays": ["dataset.path=x"], "model=module": ["model.target=x:y"]}
    group, name = given.split("=")
    assert getattr(composed(given, *fitting.get(given, [])), group).name == name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("dataset.kind=svhn", ["dataset.kind=svhn", "digits or mnist5k or cifar10 or arrays or attention"]),
        ("dataset.augment=cutout", ["dataset.augment=cutout", "none or shift or flip_shift"]),
        ("dataset.samples=11", ["dataset.samples=11", "12"]),
        ("dataset.name=a/b", ["dataset.name=a/b"]),
        ("dataset=cifar10", ["dataset.path", "cifar-10-batches-py"]),
        ("dataset=attention canary=clean", ["dataset.path", "memgrid.run"]),
        ("dataset=attention dataset.path=x", ["canary.name=mixed", "dataset=attention", "canary=clean"]),
        ("dataset=attention dataset.path=x canary=ood", ["canary.name=ood", "dataset=attention", "canary=clean"]),
        ("dataset=attention dataset.path=x canary=blank", ["canary.name=blank", "dataset=attention", "canary=clean"]),
        ("dataset=attention dataset.path=x canary=clean dataset.augment=shift", ["dataset.augment=shift", "leave the others out"]),
        ("dataset=attention dataset.path=x canary=clean dataset.views=shift", ["dataset.views=shift", "leave the others out"]),
        ("dataset=attention dataset.path=x canary=clean dataset.mean=[0.5]", ["cannot be moved or scaled"]),
        ("dataset=attention dataset.path=x canary=clean dataset.deviation=[0.5]", ["cannot be moved or scaled"]),
        ("dataset.path=x", ["dataset.path=x is not read"]),
        ("dataset=arrays", ["dataset.path", "numpy.savez"]),
        ("dataset.views=rotate", ["dataset.views=rotate", "none or shift or flip_shift"]),
        ("dataset.mean=[2]", ["dataset.mean=2.0", "0 to 1"]),
        ("dataset.deviation=[0]", ["dataset.deviation=0.0"]),
        ("dataset.fill=white", ["dataset.fill=white", "mean or black"]),
        ("canary.name=poison", ["canary.name=poison", "clean or label_noise or ood or ood_matched or blank or duplicated or mixed"]),
        ("canary.copies=0", ["canary.copies=0"]),
        ("canary.count=1", ["canary.count=1", "2"]),
        ("membership.name=some", ["membership.name=some", "canaries or all"]),
        ("model.kind=vit", ["model.kind=vit", "mlp or small_cnn or wrn16_4 or wrn16_4_paper or attention_cnn or module"]),
        ("model=module", ["model.target=None", "package.module:function"]),
        ("model.target=a:b", ["model.target=a:b", "model=mlp", "no other model reads it"]),
        ("model.name=../up", ["model.name=../up"]),
        ("model.optimizer=lion", ["model.optimizer=lion", "sgd or adamw"]),
        ("model.width=0", ["model.width=0"]),
        ("model.epochs=0", ["model.epochs=0"]),
        ("model.batch_size=0", ["model.batch_size=0"]),
        ("model.checkpoint_epochs=0", ["model.checkpoint_epochs=0"]),
        ("model.learning_rate=0", ["model.learning_rate=0"]),
        ("model.learning_rate=nan", ["model.learning_rate=nan"]),
        ("model.momentum=1", ["model.momentum=1"]),
        ("model.weight_decay=-1", ["model.weight_decay=-1"]),
        ("predictors.window=0", ["predictors.window=0"]),
        ("predictors.share=1.1", ["predictors.share=1.1"]),
        ("predictors.share=nan", ["predictors.share=nan"]),
        ("predictors.directions=0", ["predictors.directions=0", "auto"]),
        ("predictors.directions=many", ["predictors.directions=many", "auto"]),
        ("predictors.directions=true", ["predictors.directions=True", "auto"]),
        ("predictors.directions=1.5", ["predictors.directions=1.5", "auto"]),
        ("predictors.floor=-0.1", ["predictors.floor=-0.1"]),
        ("attack.name=rmia", ["attack.name=rmia", "hinge or logit"]),
        ("attack.views=0", ["attack.views=0"]),
        ("attack.views=10", ["attack.views=10", "dataset.views=shift has 9"]),
        ("attack.views=2 dataset.views=none", ["attack.views=2", "dataset.views=none has 1"]),
        ("attack.density=cauchy", ["attack.density=cauchy", "normal or student"]),
        ("attack.variance=some", ["attack.variance=some", "own or shared or auto"]),
        ("attack.ddof=2", ["attack.ddof=2", "0 to 1"]),
        ("attack.least_deviation=0", ["attack.least_deviation=0"]),
        ("attack.average=sum", ["attack.average=sum", "models or pooled"]),
        ("keep=all", ["keep=all", "answers or weights"]),
        ("attack.eta=[]", ["attack.eta=[]"]),
        ("attack.eta=[4,6,4]", ["attack.eta=[4.0,6.0,4.0]", "once"]),
        ("attack.eta=[4,nan]", ["attack.eta=[4.0,nan]"]),
        ("attack.eta=[inf]", ["attack.eta=[inf]"]),
        ("attack.fpr=[]", ["attack.fpr=[]"]),
        ("attack.fpr=[0.1,0]", ["attack.fpr=[0.1,0.0]", "between 0 and 1"]),
        ("attack.fpr=[1]", ["attack.fpr=[1.0]", "between 0 and 1"]),
        ("attack.fpr=[0.1,0.1]", ["attack.fpr=[0.1,0.1]", "once"]),
        ("defence.slope=-1", ["defence.slope=-1"]),
        ("trainer.accelerator=tpu", ["trainer.accelerator=tpu", "cpu or gpu or auto"]),
        ("trainer.precision=int4", ["trainer.precision=int4"]),
        ("trainer.threads=-1", ["trainer.threads=-1"]),
        ("wandb.mode=maybe", ["wandb.mode=maybe"]),
        ("shadows=2", ["shadows=2", "4"]),
        ("shadows=31", ["shadows=31", "odd", "32"]),
        ("shadow=32", ["shadow=32", "shadows=32", "0 to 31"]),
        ("shadow=-1", ["shadow=-1", "shadows=32"]),
        ("part=1", ["part=1", "parts=1"]),
        ("part=-1 parts=2", ["part=-1", "parts=2"]),
        ("parts=0", ["parts=0"]),
        ("parts=33", ["parts=33", "shadows=32"]),
        ("stages=[bake]", ["stages=[bake]", "prepare, train, attack, report"]),
        ("stages=[]", ["stages=[]"]),
        ("seed=-1", ["seed=-1"]),
    ],
)
def test_bad_values_get_one_sentence(given, words):
    sentence = refusal(composed, *given.split())
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("given", ["shadowz=3", "model.depth=16", "+model.depth=16", "shadows=many", "canary=unheard_of", "seed=null"])
def test_hydra_refuses_unknown_keys_types_and_files(given):
    with pytest.raises((ConfigCompositionException, UserError)):
        typed(raw(given))


def test_a_key_that_nobody_knows_is_named():
    assert "model.depth" in refusal(typed, raw("+model.depth=16"))


def test_keys_merged_are_keys_composed():
    given = ("model.drops=[3,4]", "attack.eta=[4,9]", "shadows=8", "dataset.samples=70", "predictors.share=0.1")
    assert composed("canary=ood", *given) == typed(raw("canary=ood", *given))


@pytest.mark.parametrize("views", VIEWS)
def test_as_many_views_as_there_are_are_allowed(views):
    assert composed(f"dataset.views={views}", f"attack.views={VIEWS[views]}").attack.views == VIEWS[views]


@pytest.mark.parametrize("given", [1, 4000, "auto"])
def test_directions_are_a_number_or_as_many_as_it_needs(given):
    assert composed(f"predictors.directions={given}").predictors.directions == given


@pytest.mark.parametrize(("canary", "read"), [("ood", True), ("ood_matched", True), ("mixed", True), ("clean", False), ("blank", False)])
def test_images_of_ones_own_decide_where_they_are_read(canary, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usual, given, whole = (
        audit_folder(composed(f"canary={canary}", *more)).path for more in ([], ["canary.path=x"], [f"canary.path={tmp_path}/x"])
    )
    assert (usual != given) is read
    assert given == whole


def test_every_key_is_read_somewhere():
    rooms = [path for path in Path(audit.__file__).parent.rglob("*.py") if path.name != "config.py"]
    source = "\n".join(path.read_text() for path in (*rooms, PACKAGE / "train" / "trainer.py", PACKAGE / "tracking" / "log.py"))
    for key in KEYS:
        last = key.split(".")[-1]
        assert re.search(rf"\.{re.escape(key)}\b", source) or re.search(rf"\.{last}\b", source), f"no module reads {key}"


@pytest.mark.parametrize("path", [CONF / "audit.yaml", *(CONF / group / f"{name}.yaml" for group in GROUPS for name in files_of(group))])
def test_every_key_of_a_file_is_one_of_the_schema(path):
    prefix = "" if path.name == "audit.yaml" else f"{path.parent.name}."
    keys = {
        key
        for key in leaves(OmegaConf.to_container(OmegaConf.load(path), resolve=False), prefix)
        if not key.startswith(("hydra.", "defaults"))
    }
    assert keys
    assert keys <= set(KEYS)


def test_group_files_set_every_key_of_their_group():
    for group in GROUPS:
        expected = {key.removeprefix(f"{group}.") for key in KEYS if key.startswith(f"{group}.")}
        for name in files_of(group):
            assert set(OmegaConf.load(CONF / group / f"{name}.yaml")) == expected, f"{group}/{name}"


CHANGES = {
    "dataset.name": "other",
    "dataset.kind": "digits",
    "dataset.path": "elsewhere",
    "dataset.samples": "700",
    "dataset.augment": "flip_shift",
    "dataset.views": "flip_shift",
    "dataset.mean": "[0.5]",
    "dataset.deviation": "[0.5]",
    "dataset.fill": "black",
    "canary.name": "ood",
    "canary.count": "299",
    "canary.path": "elsewhere",
    "canary.copies": "2",
    "membership.name": "all",
    "model.name": "other",
    "model.kind": "small_cnn",
    "model.target": "package.module:function",
    "model.width": "64",
    "model.epochs": "29",
    "model.batch_size": "32",
    "model.optimizer": "adamw",
    "model.learning_rate": "0.05",
    "model.momentum": "0.8",
    "model.weight_decay": "0",
    "model.drops": "[20]",
    "predictors.name": "other",
    "predictors.window": "400",
    "predictors.share": "0.1",
    "predictors.directions": "999",
    "predictors.floor": "0.01",
    "attack.name": "logit",
    "attack.views": "2",
    "attack.density": "normal",
    "attack.variance": "own",
    "attack.ddof": "0",
    "attack.least_deviation": "0.01",
    "attack.calibrated": "false",
    "attack.average": "pooled",
    "attack.eta": "[4]",
    "attack.fpr": "[0.1]",
    "defence.slope": "1",
    "defence.offset": "0.5",
    "defence.relative": "true",
    "trainer.accelerator": "auto",
    "trainer.precision": "bf16-mixed",
    "trainer.channels_last": "false",
    "shadows": "30",
    "seed": "1",
}
SAME = {
    "root": "elsewhere",
    "force": "true",
    "stages": "[train]",
    "shadow": "3",
    "part": "1",
    "parts": "3",
    "keep": "weights",
    "tracking.name": "csv",
    "wandb.mode": "online",
    "wandb.project": "other",
    "wandb.entity": "somebody",
    "trainer.threads": "4",
    "trainer.progress": "false",
    "model.checkpoint_epochs": "5",
}


def test_of_every_setting_it_is_known_whether_it_decides_a_result():
    assert set(CHANGES) | set(SAME) == set(KEYS)
    assert not set(CHANGES) & set(SAME)
    listed = NOT_IN_NAME | {f"{group}.{key}" for group, keys in HARDWARE.items() for key in keys}
    assert {key for key in KEYS if key in listed or key.split(".")[0] in listed} == set(SAME)


@pytest.mark.parametrize("key", CHANGES)
def test_every_setting_that_decides_a_result_changes_the_folder(key):
    base = ["dataset=mnist5k"] + (["model=module", "model.target=x:y"] if key == "model.target" else [])
    (usual, attacked), (changed, attacked_too) = (
        (audit_folder(run).path, attack_folder(run).path) for run in (composed(*base), composed(*base, f"{key}={CHANGES[key]}"))
    )
    assert attacked != attacked_too
    assert (usual == changed) is key.startswith("attack.")


@pytest.mark.parametrize("key", SAME)
def test_what_cannot_change_a_result_does_not_change_the_name(key):
    base = ["parts=2"] if key == "part" else []
    usual, changed = (audit_folder(composed(*overrides)).path for overrides in (base, [*base, f"{key}={SAME[key]}"]))
    assert usual.parts[1:] == changed.parts[1:]
    assert (usual == changed) is (key != "root")


def test_the_folder_is_named_by_what_one_looks_for():
    folder = audit_folder(composed("root=here", "seed=5", "shadows=8", "membership=all", "canary=ood")).path
    assert folder.parts[:4] == ("here", "audits", "digits", "mlp")
    assert re.fullmatch(r"ood-all-8-seed5-[0-9a-f]{10}", folder.name)


@settings(max_examples=60)
@given(half=st.integers(2, 60), draw=st.data())
def test_parts_share_the_models_out_evenly(half, draw):
    parts = draw.draw(st.integers(1, 2 * half))
    shares = [models_to_train(AuditConfig(shadows=2 * half, part=part, parts=parts)) for part in range(parts)]
    assert sorted(number for share in shares for number in share) == list(range(2 * half))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert min(map(len, shares)) >= 1


def test_a_single_model_is_wanted_by_its_number():
    shares = [models_to_train(composed("shadows=6", f"shadow={number}")) for number in range(6)]
    assert shares == [[number] for number in range(6)]


def test_every_piece_of_a_sweep_has_a_name_and_a_folder_of_its_own():
    kind = Audits()
    pieces = [composed("shadows=6", *given) for given in ((), ("parts=2", "part=0"), ("parts=2", "part=1"), ("shadow=0",), ("shadow=1",))]
    assert len({kind.folder(run) for run in pieces}) == len({kind.name(run) for run in pieces}) == len(pieces)
    assert len({kind.shared(run) for run in pieces}) == len(pieces)
    assert not any(kind.busy(run) or kind.done(run) for run in pieces)


def test_the_same_folder_of_data_typed_in_two_ways_is_the_same_audit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative, absolute = (composed("dataset=cifar10", f"dataset.path={path}", f"root={tmp_path}") for path in ("cifar", tmp_path / "cifar"))
    assert audit_folder(relative) == audit_folder(absolute)
