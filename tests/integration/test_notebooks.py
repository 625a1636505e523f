"""The notebooks run offline on a root with one plain run and on one with everything; what is missing is a sentence with its command."""

import ast
import itertools
import json
import shutil
import sys
from pathlib import Path

import forks
import nbformat
import pytest
from conftest import made_once, memgrid_here
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# Figures and sentences about what is missing: after `label,extract,train`, and after all stages, with all labels.
SHOWN = {"1_taxonomies": ((5, 1), (5, 1)), "2_confusion_and_flow": ((2, 1), (3, 0)), "3_attention": ((2, 0), (2, 0))}
SHOWN |= {"4_where_it_decides": ((0, 9), (9, 0)), "5_degrees": ((3, 1), (4, 0))}


@pytest.fixture(scope="session")
def whole(caused, tmp_path_factory, quick):
    """A root in which the run of `caused` is done, and labels say how memorized each sequence is, to a reference too. To read from only."""

    def make(root):
        shutil.copytree(caused, root, ignore=shutil.ignore_patterns(".lock"), symlinks=True, dirs_exist_ok=True)
        for taxonomy in ("counterfactual", "recite"):
            memgrid_here(*quick, f"root={root}", f"taxonomy={taxonomy}", "stages=[label]")

    return made_once("whole", make, tmp_path_factory)


@pytest.fixture(scope="module")
def kernel():
    """A kernel for all, one after the other: to start one takes longer than most notebooks do. It is forked, as other processes are."""
    client = NotebookClient(nbformat.v4.new_notebook(), timeout=240, resources={"metadata": {"path": str(NOTEBOOKS[0].parent)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[:] = [sys.executable, forks.__file__, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    with client.setup_kernel():
        yield client.km


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("root", ["done", "whole"])
def test_a_notebook_runs_to_its_end(path, root, kernel, request):
    notebook = nbformat.read(path, as_version=4)
    fresh = f"%reset -f\nimport os\nos.environ['MEMGRID_ROOT'] = {str(request.getfixturevalue(root))!r}\ndel os"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(fresh))
    NotebookClient(notebook, km=kernel, timeout=240).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    sentences = [line for output in outputs for line in output.get("text", "").splitlines() if "`python -m memgrid.run" in line]
    assert (len(figures), len(sentences)) == SHOWN[path.stem][root == "whole"]
    assert all(len(figure) > 5000 for figure in figures)
    assert not [output for output in outputs if output["output_type"] == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_stands_on_the_face_alone(path):
    cells = json.loads(path.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not isinstance(node, ast.ImportFrom)
            assert set(names) <= {"os", "memgrid", "polars"}
    for before, cell in itertools.pairwise(cells):
        if ".draw(" in "".join(cell["source"]):
            assert before["cell_type"] == "markdown", "a sentence before each figure"


def test_notebooks_are_stored_without_outputs():
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None
