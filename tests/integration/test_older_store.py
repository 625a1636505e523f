"""A run whose attention was extracted by an earlier version, which kept less: what is not known is left out, and nothing fails."""

from conftest import memgrid_here
from older_shards import make_older

from memgrid.report.__main__ import PAIR
from memgrid.report.report import gather
from memgrid.results.folder import BASELINES

LATER = {"min_k", "zlib", "probabilities"}


def test_baselines_that_need_more_than_it_kept_are_unknown(done_copy, quick):
    for path in (done_copy / "attention").rglob("*.h5"):
        make_older(path)
    told = memgrid_here(*quick, f"root={done_copy}", "wandb=off", "force=true").stdout
    assert "0 extracted" in told
    report = gather(done_copy, done_copy / "report", PAIR)
    (found,) = report.runs
    assert list(found.result.baselines) == list(BASELINES)
    assert {name for name, scores in found.result.baselines.items() if scores is None} == LATER
    (controls,) = report.tables["controls"].to_dicts()
    assert {name for name in BASELINES if controls[f"{name}_min_f1"] is None} == LATER
    added = report.tables["added"]
    assert all(added[name].null_count() == (added.height if name in LATER else 0) for name in BASELINES)
