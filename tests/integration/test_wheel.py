"""A built wheel carries configuration, model and corpus, and runs in an environment of its own."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_built_wheel_runs_in_a_fresh_environment(tmp_path, done_copy, quick):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"memgrid/conf/run.yaml", "memgrid/conf/taxonomy/rasy.yaml", "memgrid/assets/toy/model.safetensors", "memgrid/py.typed"} <= names
    fresh = tmp_path / "fresh"
    venv.create(fresh, with_pip=True)
    subprocess.run([fresh / "bin/pip", "install", "--quiet", "--no-deps", wheel], check=True, capture_output=True)
    # Dependencies come from this environment: what is tested is the wheel, not the package index.
    (site,) = (fresh / "lib").glob("python*/site-packages")
    dependencies = next(path for path in map(Path, sys.path) if path.name == "site-packages" and (path / "torch").is_dir())
    (site / "dependencies.pth").write_text(str(dependencies))
    for command in ([fresh / "bin/memgrid"], [fresh / "bin/python", "-m", "memgrid.run"]):
        process = subprocess.run([*command, *quick, f"root={done_copy}"], capture_output=True, text=True, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert "min-F1" in process.stdout
    where = subprocess.run(
        [fresh / "bin/python", "-c", "import memgrid; print(memgrid.__file__)"], capture_output=True, text=True, cwd=tmp_path
    )
    assert str(fresh) in where.stdout
