"""The house: its limits hold (`python -m benchmarks.house`), every config key does something."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks import house
from memgrid.config.names import run_folder
from memgrid.config.validate import register, typed
from memgrid.io.paths import CONF, PACKAGE

REPOSITORY = PACKAGE.parent
TOO_LONG_YET = {"sections", "train_model", "train", "psmi"}  # functions; nothing may be added


@pytest.fixture(scope="module")
def numbers():
    return {number.name: number for number in house.count(REPOSITORY)}


def test_the_limits_of_the_house_hold(numbers):
    assert [number for name, number in numbers.items() if "function" not in name and not number.holds] == []


def test_functions_stay_short():
    functions = [(size, name) for path in PACKAGE.rglob("*.py") for size, name in house.functions(path)]
    assert {name for size, name in functions if size > house.MOST_FUNCTION_LINES} <= TOO_LONG_YET


def test_the_layers_are_those_that_the_linter_holds(numbers):
    """What is counted by hand is what import-linter asks for, so that a broken contract is seen here too."""
    assert numbers["imports against the layers"].value == 0
    names = set().union(*house.layers(REPOSITORY))
    assert names >= {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}


def leaves(config, prefix=""):
    for key, value in config.items():
        if OmegaConf.is_dict(value):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_key_of_run_yaml_is_read_somewhere():
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        keys = [key for key, _ in leaves(compose("run"))]
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    for key in keys:
        if not key.startswith("taxonomy.classes."):
            assert f".{key}" in source or f".{key.split('.')[-1]}" in source, f"no module reads {key}"


CHANGES = {
    "delta": "7",
    "rho": "0.3",
    "rouge": "l",
    "seed": "3",
    "select.train_per_class": "77",
    "select.eval_per_class": "66",
    "select.min_train_per_class": "9",
    "select.min_eval_per_class": "9",
    "select.leak_free": "false",
    "select.non_memorized": "matched",
    "select.decoded": "suffix",
    "cnn.kind": "linear",
    "cnn.kernel_size": "5",
    "cnn.features": "3",
    "cnn.pooling": "max",
    "cnn.scale": "raw",
    "cnn.dropout": "0.1",
    "cnn.epochs": "2",
    "cnn.batch_size": "4",
    "cnn.learning_rate": "0.01",
    "cnn.weight_decay": "0.01",
    "control.members": "0",
    "trainer.precision": "bf16-mixed",
    "trainer.channels_last": "false",
    "trainer.accelerator": "auto",
    "llm.dtype": "bfloat16",
    "corpus.k": "16",
    "taxonomy": "prashanth",
    "compat": "paper",
    "label.code": "usepackage",
    "label.code_model": "some/model",
}


@pytest.mark.parametrize("key", CHANGES)
def test_every_setting_that_decides_a_result_changes_the_run_folder(key):
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        # A taxonomy that reads every threshold, or the changed feature: elsewhere it changes nothing, and the name says so.
        base = ["taxonomy=code_recite" if key.startswith("label.") else "taxonomy=guess_recite"]
        overrides = (base, [one for one in base if not one.startswith(f"{key}=")] + [f"{key}={CHANGES[key]}"])
        usual, changed = (run_folder(typed(compose("run", overrides=given))) for given in overrides)
    assert usual != changed


@pytest.mark.parametrize(
    "given",
    [
        "delta=7",
        "label.code=usepackage",
        "root=/elsewhere",
        "stages=[label]",
        "force=true",
        "trainer.threads=1",
        "wandb=off",
        "llm.batch_tokens=640",
        "localize.method=gradient",
        "intervene.percent=[5]",
    ],
)
def test_what_cannot_change_a_result_does_not_change_the_name(given):
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        usual, changed = (run_folder(typed(compose("run", overrides=overrides))) for overrides in ([], [given]))
    assert usual.name == changed.name
