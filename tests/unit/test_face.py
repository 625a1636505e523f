"""The face: what `memgrid.runs` and `memgrid.open_run` give is what the run's files hold, and what is missing is told with its command."""

import subprocess
import sys

import pytest
from conftest import refusal

import memgrid


def test_the_face_is_lazy():
    heavy = ["numpy", "polars", "torch", "h5py", "hydra", "omegaconf", "transformers", "matplotlib", "rich"]
    code = f"""import sys, memgrid
assert memgrid.__version__
loaded = set(sys.modules) & set({heavy})
assert not loaded, loaded
assert set(memgrid.__all__) <= set(dir(memgrid))
memgrid.runs
assert "torch" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_lists_those_that_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'run_all': use .*open_run, runs"):
        _ = memgrid.run_all
    for name in memgrid.__all__:
        assert getattr(memgrid, name) is not None


def test_a_root_without_runs_names_the_command(tmp_path):
    assert f"`python -m memgrid.run root={tmp_path}`" in refusal(memgrid.runs, tmp_path)
