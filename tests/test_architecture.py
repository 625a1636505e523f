"""The house: imports go one way, modules stay small, every config key does something."""

import ast
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from memgrid.config import register, typed
from memgrid.naming import run_folder
from memgrid.schema import CONF, PACKAGE

# Each room may import only from rooms before it.
ORDER = [
    "taxonomy",
    "schema",
    "config",
    "naming",
    "job",
    "results",
    "marks",
    "hub",
    "corpus",
    "semantic_filters",
    "ngrams",
    "rouge",
    "templates",
    "attention",
    "progress",
    "lm",
    "text",
    "judges",
    "label",
    "select",
    "shard",
    "store",
    "deltas",
    "archive",
    "claims",
    "extract",
    "cnn",
    "metrics",
    "data",
    "classifier",
    "baselines",
    "plan",
    "dashboard",
    "wandb_files",
    "tracking",
    "trainer",
    "train",
    "twins",
    "effect",
    "positions",
    "masking",
    "intervene",
    "attribution",
    "localize",
    "figures",
    "dose_figures",
    "delta_figures",
    "decisions",
    "charts",
    "comparison_figures",
    "cells",
    "tables",
    "comparison",
    "cause_tables",
    "status",
    "page",
    "sections",
    "contrast",
    "evidence",
    "causality",
    "report",
    "cell",
    "stages",
    "works",
    "runs",
    "sweep",
    "watch",
    "outcomes",
    "launcher",
    "app",
    "run",
]

# The same within memgrid.audit, which may import every room above, and which none of them imports.
AUDIT = [
    "config",
    "data",
    "population",
    "predictors",
    "lira",
    "networks",
    "files",
    "shadow",
    "evaluation",
    "figures",
    "report",
    "stages",
    "sweep",
    "run",
]

# All others start without it: what the command line and the report import must be quick.
WITH_TORCH = {
    "attention",
    "lm",
    "cnn",
    "data",
    "classifier",
    "plan",
    "tracking",
    "trainer",
    "train",
    "job",
    "masking",
    "intervene",
    "attribution",
    "localize",
    "decisions",
}


def modules(folder=PACKAGE):
    return sorted(path for path in folder.glob("*.py") if path.stem.strip("_") == path.stem)


def audit_rooms(path: Path) -> set[str]:
    """The rooms of memgrid.audit that one of them imports."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    inside = [
        node.module.split(".")[2:] or [alias.name for alias in node.names]
        for node in nodes
        if f"{node.module}.".startswith("memgrid.audit.")
    ]
    return {name for names in inside for name in names}


def imported_rooms(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    # A command line behind `if __name__ == "__main__"` is nobody's import: it may lie in a later room.
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'")]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("memgrid"):
            names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
            found |= set(names) - {"__version__"}
    return found


def test_every_room_is_in_the_order():
    assert sorted(ORDER) == [path.stem for path in modules()]


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_imports_go_one_way(path):
    allowed = set(ORDER[: ORDER.index(path.stem)])
    assert imported_rooms(path) <= allowed, f"{path.stem} imports {imported_rooms(path) - allowed}, which comes after it"


@pytest.mark.parametrize("path", modules(PACKAGE / "audit"), ids=lambda path: path.stem)
def test_imports_within_the_audit_go_one_way(path):
    allowed = set(AUDIT[: AUDIT.index(path.stem)])
    assert audit_rooms(path) <= allowed, f"{path.stem} imports {audit_rooms(path) - allowed}, which comes after it"
    assert imported_rooms(path) - {"audit"} <= set(ORDER)


@pytest.mark.parametrize("room", [room for room in ORDER if room not in WITH_TORCH])
def test_rooms_without_torch(room):
    tree = ast.parse((PACKAGE / f"{room}.py").read_text())
    names = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not names & {"torch", "transformers", "pytorch_lightning"}


@pytest.mark.parametrize("path", [*modules(), *modules(PACKAGE / "audit")], ids=lambda path: f"{path.parent.stem}-{path.stem}")
def test_modules_stay_small(path):
    assert len(path.read_text().splitlines()) <= 330


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
    source = "\n".join(path.read_text() for path in modules())
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
