"""When a run is finished, and need not be done again."""

import json
import shutil
from dataclasses import replace

import pytest
from conftest import refusal
from runs_maker import Run, composed, finish, rewrite
from safetensors.torch import load_file, save_file

from memgrid.config.names import run_folder
from memgrid.io.paths import TOY
from memgrid.launch.workspace import Workspace
from memgrid.pipeline.context import RunContext
from memgrid.pipeline.sweep import result_of


@pytest.fixture
def finished(tmp_path):
    """A finished run of a model in a folder of the user's own, as its settings."""
    model = tmp_path / "model"
    model.mkdir()
    for path in TOY.iterdir():
        if path.suffix in (".json", ".safetensors"):
            shutil.copy(path, model)
    overrides = ("llm=hf", "llm.name=own", f"llm.path={model}", "stages=[train]")
    run = replace(composed(overrides), root=str(tmp_path / "root"))
    folder = finish(Run(run.root, llm="own", overrides=overrides))
    assert folder == run_folder(run)
    identity = RunContext(run, Workspace()).identity
    rewrite(folder, origin={"corpus": "made up", "llm": identity.fingerprint})
    return run


def test_a_finished_run_is_not_taken_for_one_of_other_weights(finished, tmp_path):
    assert result_of(finished) is not None
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    sentence = refusal(result_of, finished)
    assert f"llm.path={tmp_path / 'model'} holds other weights than when this run was finished" in sentence
    assert result_of(replace(finished, force=True)) is None


@pytest.mark.parametrize("gone", ["model", "model/model.safetensors"])
def test_a_result_outlives_its_weights(finished, tmp_path, gone):
    path = tmp_path / gone
    shutil.rmtree(path) if path.is_dir() else path.write_bytes(b"")
    assert result_of(finished) is not None


def test_a_result_of_a_version_that_noted_no_origin_is_taken(finished):
    path = run_folder(finished) / "metrics.json"
    content = json.loads(path.read_text())
    rewrite(run_folder(finished), origin=None)
    assert json.loads(path.read_text())["origin"] is None != content["origin"]
    assert result_of(finished) is not None
