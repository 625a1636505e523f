"""A built wheel carries configuration, model, corpus and Hydra's plugins, and runs in an environment of its own; what may be missing."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import forks
import pytest
from conftest import refusal

from memgrid.config.schema import LLMConfig
from memgrid.lm.load import load_language_model

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_built_wheel_runs_in_a_fresh_environment(tmp_path, done_copy, quick):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"memgrid/conf/run.yaml", "memgrid/conf/taxonomy/rasy.yaml", "memgrid/assets/toy/model.safetensors", "memgrid/py.typed"} <= names
    assert "hydra_plugins/memgrid.py" in names
    assert "hydra_plugins/__init__.py" not in names  # the namespace is shared with other plugins
    fresh = tmp_path / "fresh"
    venv.create(fresh, with_pip=True)
    subprocess.run([fresh / "bin/pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)
    # Dependencies come from this environment: what is tested is the wheel, not the package index.
    (site,) = (fresh / "lib").glob("python*/site-packages")
    dependencies = next(path for path in map(Path, sys.path) if path.name == "site-packages" and (path / "torch").is_dir())
    (site / "dependencies.pth").write_text(str(dependencies))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # nothing of the checkout
    starts = {"min-F1": ([fresh / "bin/memgrid"], [fresh / "bin/python", "-m", "memgrid.run"])}
    starts["1 of 1 runs are done"] = ([fresh / "bin/memgrid", "-m", "hydra/launcher=local"],)
    for told, commands in starts.items():
        for command in commands:
            process = subprocess.run([*command, *quick, f"root={done_copy}"], capture_output=True, text=True, cwd=tmp_path, env=env)
            assert process.returncode == 0, process.stderr
            assert told in process.stdout
    where = "import memgrid, hydra_plugins.memgrid; print(memgrid.__file__, hydra_plugins.memgrid.__file__)"
    process = subprocess.run([fresh / "bin/python", "-c", where], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert process.stdout.count(str(fresh)) == 2


LACKING = """
import runpy, sys
sys.modules.update(dict.fromkeys(("wandb", "accelerate")))  # as if they were not installed
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def without_wandb(*arguments, start=forks.run):
    return start(["-c", LACKING, "memgrid.run", *arguments])


def as_a_user(words):
    """In an interpreter of its own, so that every library sees as it is imported what is missing."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_a_run_needs_neither_wandb_nor_accelerate(extracted, quick):
    usual = [word for word in quick if word != "wandb=off"]
    process = without_wandb(*usual, "control.members=0", "cnn.epochs=1", f"root={extracted}", start=as_a_user)
    assert process.returncode == 0, process.stderr
    assert "min-F1" in process.stdout
    sentence = "memgrid: nothing is recorded for wandb, for wandb is not installed: pip install wandb, or choose wandb=off\n"
    assert process.stderr == sentence
    process = without_wandb(*usual, "control.members=0", "cnn.epochs=1", "wandb=online", f"root={extracted}", "force=true")
    assert process.returncode == 1
    assert process.stderr == "memgrid: wandb.mode=online, but wandb is not installed: pip install wandb, or choose wandb=off\n"


def test_layers_over_several_gpus_need_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    sentence = refusal(load_language_model, LLMConfig(name="toy", path=None, device_map="auto"))
    assert sentence == "llm.device_map=auto needs accelerate: pip install accelerate, or leave llm.device_map out"
