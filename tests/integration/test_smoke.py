"""The smoke experiment on the small corpus, then what a user does with it: status, report."""

import json
import shutil

import polars as pl
import pytest
from conftest import memgrid

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(done, quick, tmp_path_factory):
    """A root in which `experiment=smoke` is finished; labels and attention are those of `done`, as far as they go."""
    root = tmp_path_factory.mktemp("smoke")
    for name in ("labels", "attention"):
        shutil.copytree(done / name, root / name)
    process = memgrid("-m", "experiment=smoke", *quick, "cnn.epochs=1", f"root={root}")
    return root, process


def test_every_cell_is_done_and_equal_ones_are_trained_once(smoke):
    root, process = smoke
    found = [json.loads(path.read_text()) for path in root.glob("runs/toy/*/*/metrics.json")]
    assert sorted(one["settings"]["taxonomy"]["name"] for one in found) == ["rasy"] * 3 + ["recite"] * 2 + ["recollect"] * 2
    assert sum(one["same_as"] is not None for one in found) == 2
    assert process.stdout.count("train    1 network,") == 5
    status = memgrid(f"root={root}", module="status").stdout
    assert "7 runs below" in status
    assert "failed" not in status


def test_the_report_has_all_that_it_promises(smoke):
    root, _ = smoke
    shown = memgrid(f"root={root}", module="report").stdout
    assert "7 finished runs" in shown
    report = root / "report"
    page = (report / "index.html").read_text()
    for words in ("Taxonomies ranked by min-F1", "The ROUGE threshold ρ", "Confusion matrices", "From prashanth to rasy", "Controls"):
        assert words in page
    assert "= also: Non-Memo, Recollect[44], Others" in page
    assert page.count("<img") >= 7
    for name in ("ranking", "rho", "confusion", "flow-toy-mini", "attention-toy", "protocols", "controls", "panel"):
        assert (report / "figures" / f"{name}.png").stat().st_size > 5000
        assert (report / "figures" / f"{name}.pdf").exists()
    assert pl.read_csv(report / "rho.csv").height == 3
